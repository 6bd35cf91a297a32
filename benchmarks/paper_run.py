"""Seconds of a stacked training of FlowGMM on AG-News at a recipe, its hyper-parameters and size.

Features are random numbers: only time and memory are measured. With `--share` less than 1 only the
first steps are made, and the whole training is that many times longer.

    python benchmarks/paper_run.py --device cuda
"""

import time
from typing import Any

import numpy as np
import torch
from common import PRECISIONS, ROOT, machine, make_parser, write_results

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import Job, Run
from flowgmm.experiments.specs.runs import train_spec
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.methods import build, override
from flowgmm.methods.stack import fit_stack

RUN = Run("ag_news", "200", "flowgmm")
# AG-News: training texts, BERT's width, classes, labelled texts.
ESTIMATOR = "flowgmm.methods.flow_gmm.FlowGMMClassifier"
N, D, K, N_LABELS = 120_000, 768, 4, 200


def parameters(recipe: str) -> dict[str, Any]:
    """Return the parameters that the workflow gives to the estimator."""
    config = load_checked(ROOT, read_yaml(ROOT / "config" / "config.yaml") | {"recipe": recipe})
    spec = train_spec(config, Job(RUN, 0, 0))
    params = spec["params"] | {"preprocess": spec["preprocess"]}
    if params["training"]["unlabelled_batch"] == "n_labels":
        params = override(params, {"training__unlabelled_batch": N_LABELS})
    return params


def main() -> None:
    """Train, print a line, write a file."""
    parser = make_parser(__doc__)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    X = np.tanh(rng.normal(size=(N, D))).astype(np.float32)
    y = np.full(N, -1)
    y[:N_LABELS] = np.arange(N_LABELS) % K
    params = override(parameters(args.recipe), {"training__precision": args.precision})
    params |= {"device": args.device}
    models = [build(ESTIMATOR, params, random_state=s) for s in range(args.seeds)]
    logged: list[tuple[int, int, float]] = []
    start = time.perf_counter()

    def log(step: int, n_steps: int, text: str) -> None:
        logged.append((step, n_steps, time.perf_counter() - start))

    ys = np.tile(y, (args.seeds, 1))
    fit_stack(models, X, ys, share=args.share, progress=log)
    step, n_steps, seconds = logged[-1]
    # Without the steps before the first log, which set up libraries and record the graph.
    (first, _, begun), several = logged[0], len(logged) > 1
    per_step = (seconds - begun) / (step - first) if several else seconds / step
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
    write_results(args.json, found)


if __name__ == "__main__":
    main()
