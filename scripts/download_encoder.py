"""Bring the files of an encoder from the model hub or from torchvision."""

import argparse
from pathlib import Path

from flowgmm.embed.fetch import download_encoder
from flowgmm.experiments.job_script import ProgressLog, run_script


def main(options: argparse.Namespace) -> None:
    progress = ProgressLog(f"fetch {options.encoder}")
    download_encoder(options.encoder, Path(options.output), progress)


if __name__ == "__main__":
    run_script(main, "encoder", "output")
