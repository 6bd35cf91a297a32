"""Fit one method on a block of seeds of one dataset."""

import argparse
import json
from pathlib import Path

from flowgmm.runs import run
from flowgmm.script import Progress, run_script


def main(options: argparse.Namespace) -> None:
    spec = json.loads(options.spec)
    splits = dict(zip(sorted(set(spec["splits"])), map(Path, options.splits), strict=True))
    seeds = f"seeds {spec['seeds'][0]}-{spec['seeds'][-1]}"
    run(
        spec,
        Path(options.features),
        splits,
        Path(options.out),
        Path(options.checkpoints),
        device=options.device,
        threads=int(options.threads),
        progress=Progress(f"{spec['dataset']}/{spec['labels']} {spec['method']} {seeds}"),
    )


if __name__ == "__main__":
    run_script(main, "spec", "features", "splits*", "out", "checkpoints", "device", "threads")
