"""Fit one method on a block of seeds of one dataset."""

import argparse
import json
import sys
from pathlib import Path

from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.job_script import ProgressLog, keep_freed_memory, run_script
from flowgmm.experiments.train_job import output_files, train_stack


def main(options: argparse.Namespace) -> None:
    keep_freed_memory()
    spec = json.loads(options.spec)
    splits = dict(zip(sorted(set(spec["splits"])), map(Path, options.splits), strict=True))
    name = f"{spec['dataset']}/{spec['labels']} {spec['method']}"
    # Also in the record; here for whoever reads the log (D2: std is not 1 everywhere).
    print(f"{name}: {json.dumps(spec['params'])}", file=sys.stderr)
    record = train_stack(
        spec,
        Path(options.features),
        splits,
        Path(options.out),
        Path(options.checkpoints),
        Execution(
            options.device,
            int(options.threads),
            ProgressLog(f"{name} seeds {spec['seeds'][0]}-{spec['seeds'][-1]}"),
        ),
        choice=Path(options.choice[0]) if options.choice else None,
    )
    # A failed seed is a result, which the tables show; the job itself has not failed.
    for entry in record["runs"]:
        if entry["tuned"]:
            print(f"{name} seed {entry['seed']} tuned: {entry['tuned']}", file=sys.stderr)
        if entry["status"] != "ok":
            print(f"{name} seed {entry['seed']} failed: {entry['reason']}", file=sys.stderr)


if __name__ == "__main__":
    options = ("spec", "features", "splits*", "choice*", "out", "checkpoints", "device", "threads")
    run_script(
        main,
        *options,
        needs=lambda options: [options.features, *options.splits, *options.choice],
        makes=lambda options: output_files(json.loads(options.spec), Path(options.out)),
    )
