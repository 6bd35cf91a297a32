"""Bring one raw file, verified, from its source or from the mirror."""

import argparse
import json
from pathlib import Path

from flowgmm.datasets.download import download_file
from flowgmm.experiments.job_script import ProgressLog, or_reason, run_script


def main(options: argparse.Namespace) -> None:
    spec, output = json.loads(options.spec), Path(options.output)
    mirror = Path(options.mirror) if options.mirror else None
    with or_reason(output, spec):
        progress = ProgressLog(f"fetch {output.name}")
        download_file(spec, output, mirror, progress, offline=options.offline == "true")


if __name__ == "__main__":
    run_script(main, "spec", "mirror", "offline", "output")
