"""Make the features of a dataset that needs no encoder."""

import argparse
import json
from pathlib import Path

from flowgmm.datasets import prepare
from flowgmm.files import write_tensors
from flowgmm.script import run_script


def main(options: argparse.Namespace) -> None:
    write_tensors(options.output, *prepare(json.loads(options.spec), Path(options.raw)))


if __name__ == "__main__":
    run_script(main, "spec", "raw", "output")
