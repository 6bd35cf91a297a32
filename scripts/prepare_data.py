"""Make the features of a dataset that needs no encoder."""

import argparse
import json
from pathlib import Path

from flowgmm.datasets.features import prepare_data, raw_files
from flowgmm.experiments.job_script import run_script
from flowgmm.utils.io import write_tensors


def main(options: argparse.Namespace) -> None:
    write_tensors(options.output, *prepare_data(json.loads(options.spec), Path(options.raw)))


if __name__ == "__main__":
    run_script(
        main,
        "spec",
        "raw",
        "output",
        needs=lambda options: raw_files(json.loads(options.spec), Path(options.raw)),
        makes=lambda options: [options.output],
    )
