"""Bring the files of an encoder from the model hub or from torchvision."""

import argparse
from pathlib import Path

from flowgmm.embed.fetch import download_encoder
from flowgmm.experiments.job_script import ProgressLog, or_reason, run_script


def main(options: argparse.Namespace) -> None:
    output = Path(options.output)
    with or_reason(output, {"encoder": options.encoder}):
        download_encoder(options.encoder, output, ProgressLog(f"fetch {options.encoder}"))


if __name__ == "__main__":
    run_script(main, "encoder", "output")
