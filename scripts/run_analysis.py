"""Run an analysis of trained image models."""

import argparse
import json
import sys
from pathlib import Path

from flowgmm.experiments.analysis_job import leave_out_absent, run_analysis
from flowgmm.experiments.job_script import run_script


def main(options: argparse.Namespace) -> None:
    features = [Path(path) for path in options.features]
    spec, features = leave_out_absent(json.loads(options.spec), features)
    result = run_analysis(
        spec,
        [Path(path) for path in options.records],
        [Path(path) for path in options.splits],
        features,
        Path(options.output),
        options.device,
    )
    # A failed seed is a result, which figure and overview show; the job itself has not failed.
    for role, seeds in result["failed"].items():
        for seed, why in seeds.items():
            print(f"{spec['name']}: seed {seed} of {role} left out: {why}", file=sys.stderr)


if __name__ == "__main__":
    run_script(
        main,
        "spec",
        "records*",
        "splits*",
        "features*",
        "output",
        "device",
        needs=lambda options: options.records,
        makes=lambda options: [options.output, Path(options.output).with_suffix(".safetensors")],
    )
