"""Bring one raw file, verified, from its source or from the mirror."""

import argparse
import json
from pathlib import Path

from flowgmm.datasets.download import download_file
from flowgmm.experiments.job_script import ProgressLog, run_script


def main(options: argparse.Namespace) -> None:
    mirror = Path(options.mirror) if options.mirror else None
    output = Path(options.output)
    download_file(
        json.loads(options.spec),
        output,
        mirror,
        ProgressLog(f"fetch {output.name}"),
        offline=options.offline == "true",
    )


if __name__ == "__main__":
    run_script(main, "spec", "mirror", "offline", "output")
