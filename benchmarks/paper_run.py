"""Seconds of a stacked training of FlowGMM on AG-News at a recipe, its hyper-parameters and size.

Random numbers stand for the features: only time and memory are looked at. With `--share` less than
1 the first steps alone are made, and the whole is that many times longer.

    python benchmarks/paper_run.py --device cuda --json benchmarks/paper_run.json
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train_step import PRECISIONS, machine

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import Job, Run
from flowgmm.experiments.specs.runs import train_spec
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.utils.io import write_json

ROOT = Path(__file__).parents[1]
RUN = Run("ag_news", "200", "flowgmm")
# Of AG-News: training texts, BERT's width, classes, labelled texts.
N, D, K, N_LABELS = 120_000, 768, 4, 200


def parameters(recipe: str) -> dict[str, Any]:
    """What the workflow hands to the estimator."""
    config = load_checked(ROOT, read_yaml(ROOT / "config" / "config.yaml") | {"recipe": recipe})
    spec = train_spec(config, Job(RUN, 0, 0))
    params = spec["params"] | {"preprocess": spec["preprocess"]}
    return {k: N_LABELS if v == "n_labels" else v for k, v in params.items()}


def main() -> None:
    """Train, print a line, write a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="fp32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", help="file for the results")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    X = np.tanh(rng.normal(size=(N, D))).astype(np.float32)
    y = np.full(N, -1)
    y[:N_LABELS] = np.arange(N_LABELS) % K
    params = parameters(args.recipe) | {"precision": args.precision, "device": args.device}
    models = [FlowGMMClassifier(**params, random_state=s) for s in range(args.seeds)]
    looks: list[tuple[int, int, float]] = []
    start = time.perf_counter()

    def look(step: int, n_steps: int, text: str) -> None:
        looks.append((step, n_steps, time.perf_counter() - start))

    FlowGMMClassifier.fit_stack(
        models, X, np.tile(y, (args.seeds, 1)), share=args.share, progress=look
    )
    step, n_steps, seconds = looks[-1]
    # Without the first look, whose steps set up libraries and record.
    per_step = (seconds - looks[0][2]) / (step - looks[0][0]) if len(looks) > 1 else math.nan
    found = {
        "machine": machine(torch.get_num_threads(), args.device),
        "recipe": args.recipe,
        "precision": args.precision,
        "n_seeds": args.seeds,
        "steps": step,
        "n_steps": n_steps,
        "seconds": seconds,
        "seconds_per_step": per_step,
        "gpu_peak_mib": torch.cuda.max_memory_allocated() // 2**20 if args.device != "cpu" else 0,
    }
    print(
        f"{args.seeds} seeds, {args.precision}: {step} of {n_steps} steps in {seconds:.0f} s, "
        f"{1e3 * per_step:.2f} ms a step: {per_step * n_steps / 60:.1f} minutes in all"
    )
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
