"""Choose among the trained candidates of a grid."""

import argparse
import json

from flowgmm.experiments.job_script import run_script
from flowgmm.experiments.tuning import choose_candidate
from flowgmm.utils.io import read_json, write_json


def main(options: argparse.Namespace) -> None:
    choice = choose_candidate([read_json(point) for point in options.points])
    write_json(options.output, choice | {"spec": json.loads(options.spec)})


if __name__ == "__main__":
    run_script(
        main,
        "spec",
        "points*",
        "output",
        needs=lambda options: options.points,
        makes=lambda options: [options.output],
    )
