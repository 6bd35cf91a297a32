"""Train one candidate of a grid and write its accuracy on validation points."""

import argparse
import json
import sys
from pathlib import Path

from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.job_script import ProgressLog, keep_freed_memory, run_script
from flowgmm.experiments.tune_job import tune_candidate


def main(options: argparse.Namespace) -> None:
    keep_freed_memory()
    spec = json.loads(options.spec)
    splits = dict(zip(sorted(set(spec["splits"])), map(Path, options.splits), strict=True))
    output = Path(options.output)
    name = f"{spec['dataset']}/{spec['labels']} {spec['method']} {output.stem}"
    print(f"{name}: {json.dumps(spec['params'])}", file=sys.stderr)
    result = tune_candidate(
        spec,
        Path(options.features),
        splits,
        output,
        Path(options.checkpoints),
        Execution(options.device, int(options.threads), ProgressLog(name)),
    )
    for entry in result["runs"]:
        found = entry["reason"] or f"validation accuracy {entry['accuracy']:.2%}"
        print(f"{name} seed {entry['seed']}: {found}", file=sys.stderr)


if __name__ == "__main__":
    options = ("spec", "features", "splits*", "output", "checkpoints", "device", "threads")
    run_script(
        main,
        *options,
        needs=lambda options: [options.features, *options.splits],
        makes=lambda options: [options.output],
    )
