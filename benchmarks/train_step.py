"""Seconds per training step of FlowGMM: the stacked model against the literal one.

Both train in turn, a few steps each, in one process, so that other load falls on both; the
machine's own rate of matrix products, in the stacked model's precision, is measured in between. A
step is timed as a job makes it, freed memory kept: batches, dropout, loss, gradients, clipping,
optimizer.

    python benchmarks/train_step.py

With `--device cuda` both train on a GPU, the stacked model's steps as CUDA graphs unless `--eager`.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from common import (
    PRECISIONS,
    chosen,
    machine,
    make_parser,
    plain_likelihood,
    quartiles,
    seconds_of,
    write_results,
)

from flowgmm.experiments.job_script import keep_freed_memory
from flowgmm.flows.reference.realnvp import ReferenceFlowGMM
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.stack import fit_stack
from flowgmm.training import loop as train
from flowgmm.training.divergence import N_EVALUATIONS

# Blocks of steps before the first that counts: memory is allocated and pages are touched.
WARM_UP = 5
# Steps of a turn on a GPU, where reading the clock waits for all launches.
GPU_BLOCK = 20
# Side of the matrices whose product shows the machine's rate: on a CPU, on a GPU.
PRODUCT_SIDE = (1024, 8192)
DTYPES = dict(zip(PRECISIONS, (torch.float32, torch.bfloat16, torch.float64), strict=True))


@dataclass(frozen=True)
class Shape:
    """A training step of the paper's experiments.

    Arguments:
        title: Name of the data.
        n_features: D.
        n_classes: K.
        n_couplings: L.
        hidden_size: h.
        n_labelled: Labelled points per step.
        n_unlabelled: Unlabelled points per step.
        n_seeds: Seeds in the stack; the literal model always trains one.
        block: Steps of a turn: more of a small model, so that its parameters stay in the caches as
            in a training of its own.
        dropout, clip_norm, optimizer: Those of the official code (spec 1.7, 2).
    """

    title: str
    n_features: int
    n_classes: int
    n_couplings: int
    hidden_size: int
    n_labelled: int
    n_unlabelled: int
    n_seeds: int = 1
    block: int = 1
    dropout: float = 0.5
    clip_norm: float | None = 100.0
    optimizer: str = "adamw"

    @property
    def products(self) -> int:
        """Floating-point operations of the matrix products that a step needs, one seed.

        Forward, gradient of the weights, gradient of the input; conditioners on half-vectors.
        """
        per_coupling = (1.5 * self.n_features + self.hidden_size) * self.hidden_size
        n_points = self.n_labelled + self.n_unlabelled
        return int(3 * 2 * n_points * self.n_couplings * per_coupling)


PLAIN: dict[str, Any] = {"block": 20, "dropout": 0.0, "clip_norm": None, "optimizer": "adam"}
SHAPES = {
    "2d": Shape("2-D data", 2, 2, 5, 512, 10, 10, **PLAIN),
    "2d_stack": Shape("2-D data, 5 seeds stacked", 2, 2, 5, 512, 10, 10, n_seeds=5, **PLAIN),
    "2d_stack_20": Shape("2-D data, 20 seeds stacked", 2, 2, 5, 512, 10, 10, n_seeds=20, **PLAIN),
    "text": Shape("AG-News features", 768, 4, 7, 1024, 200, 200),
    "uci": Shape("MiniBooNE", 43, 2, 10, 256, 20, 2000),
    "uci_stack": Shape("MiniBooNE, 4 seeds stacked", 43, 2, 10, 256, 20, 2000, n_seeds=4),
    "uci_stack_16": Shape("MiniBooNE, 16 seeds stacked", 43, 2, 10, 256, 20, 2000, n_seeds=16),
    "features": Shape("CIFAR-10 features", 1792, 10, 7, 1024, 200, 200),
}


def make_data(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Make three batches of random points, `n_labelled` of them with a class."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3 * shape.n_unlabelled, shape.n_features)).astype(np.float32)
    y = np.full(len(X), -1)
    y[: shape.n_labelled] = np.arange(shape.n_labelled) % shape.n_classes
    return X, y


def literal_step(
    shape: Shape, X: np.ndarray, y: np.ndarray, device: str = "cpu"
) -> Callable[[], None]:
    """Make a function that makes one training step of the literal model."""
    torch.manual_seed(0)
    means = torch.randn(shape.n_classes, shape.n_features, device=device)
    model = ReferenceFlowGMM(
        shape.n_couplings,
        shape.hidden_size,
        means,
        torch.ones(shape.n_classes, device=device),
        torch.full((shape.n_classes,), 1 / shape.n_classes, device=device),
        dropout=shape.dropout,
    ).to(device)
    make = torch.optim.AdamW if shape.optimizer == "adamw" else torch.optim.Adam
    optimizer = make(model.parameters(), lr=1e-3, weight_decay=1e-5)
    points, codes = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    labelled, classes = points[codes >= 0], codes[codes >= 0]

    def step() -> None:
        unlabelled = points[torch.randperm(len(points), device=device)[: shape.n_unlabelled]]
        optimizer.zero_grad()
        model.loss(labelled, classes, unlabelled, 1.0).backward()
        if shape.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), shape.clip_norm)
        optimizer.step()

    return step


def measure(
    shape: Shape, precision: str, repeats: int, device: str = "cpu", compiled: bool = False
) -> dict[str, np.ndarray]:
    """Measure seconds of a step of both models (mean of a block) and of a product, in turn."""
    X, y = make_data(shape)
    on_gpu = device != "cpu"
    block = max(shape.block, GPU_BLOCK) if on_gpu else shape.block
    literal = literal_step(shape, X, y, device)
    side = PRODUCT_SIDE[on_gpu]
    square = torch.randn(side, side, dtype=DTYPES[precision], device=device)
    seconds: dict[str, list[float]] = {"stacked": [], "literal": [], "product": []}

    def timed(name: str, function: Callable[[], Any], times: int) -> None:
        seconds[name].append(seconds_of(function, times, device))

    last = time.perf_counter()

    def between_blocks(step: int, n_steps: int, text: str) -> None:
        nonlocal last
        seconds["stacked"].append((time.perf_counter() - last) / block)
        timed("literal", literal, block)
        timed("product", lambda: square @ square, GPU_BLOCK if on_gpu else 1)
        last = time.perf_counter()

    estimators = [
        FlowGMMClassifier(
            **plain_likelihood(
                {
                    "n_couplings": shape.n_couplings,
                    "hidden_size": shape.hidden_size,
                    "dropout": shape.dropout,
                },
                {
                    "n_steps": N_EVALUATIONS * block,
                    "unlabelled_batch": shape.n_unlabelled,
                    "optimizer": shape.optimizer,
                    "clip_norm": shape.clip_norm,
                    "precision": precision,
                    "compile": compiled,
                },
            ),
            device=device,
            random_state=s,
        )
        for s in range(shape.n_seeds)
    ]
    ys = np.tile(y, (shape.n_seeds, 1))
    share = (repeats + WARM_UP) / N_EVALUATIONS
    fit_stack(estimators, X, ys, share=share, progress=between_blocks)
    return {name: np.array(values[WARM_UP:]) for name, values in seconds.items()}


def summarise(shape: Shape, seconds: dict[str, np.ndarray], side: int) -> dict[str, Any]:
    """Quartiles of seconds, ratios of neighbouring blocks and shares of the product rate."""
    rate = 2 * side**3 / seconds["product"]
    values = {
        "stacked_seconds": seconds["stacked"],
        "literal_seconds": seconds["literal"],
        "speed_up_per_seed": shape.n_seeds * seconds["literal"] / seconds["stacked"],
        "product_rate_gflops": rate / 1e9,
        "share_of_product_rate": shape.n_seeds * shape.products / seconds["stacked"] / rate,
        "literal_share_of_product_rate": shape.products / seconds["literal"] / rate,
    }
    return {name: quartiles(v) for name, v in values.items()}


def main() -> None:
    """Measure the shapes asked for; print a line each; write everything to a file."""
    parser = make_parser(__doc__, "shapes")
    parser.add_argument("--repeats", type=int, default=60, help="blocks of steps that count")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--eager", action="store_true", help="on a GPU: no CUDA graphs")
    parser.add_argument("--compile", action="store_true", help="the flow by torch.compile")
    args = parser.parse_args()
    if not 1 <= args.repeats <= N_EVALUATIONS - WARM_UP:
        parser.error(f"--repeats must be in 1..{N_EVALUATIONS - WARM_UP}, got {args.repeats}")
    names = chosen(parser, args.shapes, SHAPES)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    if args.eager:
        train.capturer = lambda device: None
    results: dict[str, Any] = {
        "machine": machine(args.threads, args.device),
        "cuda_graphs": args.device != "cpu" and not args.eager,
        "compiled": args.compile,
        "precision": args.precision,
        "repeats": args.repeats,
        "shapes": {},
    }
    for name in names:
        shape = SHAPES[name]
        summary = summarise(
            shape,
            measure(shape, args.precision, args.repeats, args.device, args.compile),
            PRODUCT_SIDE[args.device != "cpu"],
        )
        results["shapes"][name] = asdict(shape) | summary
        ratio, share = summary["speed_up_per_seed"], summary["share_of_product_rate"]
        print(
            f"{name} stacked {1e3 * summary['stacked_seconds']['median']:.2f} ms "
            f"literal {1e3 * summary['literal_seconds']['median']:.2f} ms "
            f"per seed {ratio['median']:.2f} x ({ratio['q25']:.2f}..{ratio['q75']:.2f}) "
            f"{100 * share['median']:.0f} % of the product rate",
            flush=True,
        )
    write_results(args.json, results)


if __name__ == "__main__":
    main()
