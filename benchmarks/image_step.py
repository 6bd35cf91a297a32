"""Seconds and memory of an image training step of FlowGMM-cons: our model against the literal one.

Each has a process of its own and they take turns, step by step, so that other load falls on both;
the machine's own rate of convolutions is measured between the steps. A whole step is timed: batch,
augmentation, dequantisation, both views, loss, gradients, clipping, optimizer. At the paper's size
a literal step takes most of a minute on two cores.

    python benchmarks/image_step.py --threads 2

With `--device cuda` both train on a GPU; memory is then the GPU's.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from common import (
    chosen,
    machine,
    make_convolution,
    make_parser,
    quartiles,
    resident,
    seconds_of,
    wait,
    write_results,
)
from torch.utils.flop_counter import FlopCounterMode

from flowgmm import presets
from flowgmm.experiments.job_script import keep_freed_memory
from flowgmm.flows.multiscale import ImageFlow
from flowgmm.flows.reference.multiscale import ReferenceImageFlow, ReferenceImageFlowGMM, dequantise
from flowgmm.flows.rng import Stream
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.parts import LatentMixture, MultiscaleRealNVP, Objective, Training
from flowgmm.methods.stack import fit_stack

# Steps before the first that counts: memory is allocated and pages are touched; on a GPU the fourth
# step is recorded.
WARM_UP, GPU_WARM_UP = 1, 6
N_CLASSES = 10
PADDING = 4
LABEL_WEIGHT, CONSISTENCY_WEIGHT = 3.0, 1.0
LR, WEIGHT_DECAY, CLIP_NORM = 1e-4, 5e-5, 100.0


@dataclass(frozen=True)
class Shape:
    """Images and a flow.

    Arguments:
        title: Name of the data.
        n_channels: C.
        side: H = W.
        n_filters: m.
        n_blocks: B.
        architecture: Of ours; the literal model of `squeezed`, which has none, is the paper's flow.
    """

    title: str
    n_channels: int
    side: int
    n_filters: int = 64
    n_blocks: int = 8
    architecture: str = "multi_scale"


SHAPES = {
    "mnist": Shape("MNIST", 1, 28),
    "cifar": Shape("CIFAR-10, SVHN", 3, 32),
    "small": Shape("MNIST at 14 x 14, 16 filters", 1, 14, 16, 2),
    "recommended": Shape("MNIST of the recipe recommended", 1, 28, 48, 1, "squeezed"),
}
PAPER = ("mnist", "cifar")


def make_data(shape: Shape, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the random images of a step: `batch` labelled and as many unlabelled."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (2 * batch, shape.n_channels, shape.side, shape.side), np.uint8)
    y = np.full(2 * batch, -1)
    y[:batch] = np.arange(batch) % N_CLASSES
    return X, y


def operations(shape: Shape, batch: int) -> int:
    """Count operations of a step's convolutions: two views forward, one backward (two forwards)."""
    size = (shape.n_channels, shape.side, shape.side)
    part = shape.n_filters, shape.n_blocks, Stream([0]), shape.architecture
    flow = ImageFlow(size, *part).eval()
    x = torch.full((1, 1, *size), 0.5)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        flow(x)
    return 4 * 2 * batch * counter.get_total_flops()


def make_literal(shape: Shape) -> ReferenceImageFlowGMM:
    """Make the literal model with random weights."""
    torch.manual_seed(0)
    paper = Shape(shape.title, shape.n_channels, shape.side)
    size = shape if shape.architecture == "multi_scale" else paper
    flow = ReferenceImageFlow(shape.n_channels, shape.side, size.n_filters, size.n_blocks)
    means = torch.randn(N_CLASSES, shape.n_channels * shape.side**2)
    weights = torch.full((N_CLASSES,), 1 / N_CLASSES)
    return ReferenceImageFlowGMM(flow, means, torch.ones(N_CLASSES), weights)


def train_literal(shape: Shape, args: argparse.Namespace, turn: Callable[[], None]) -> None:
    """Make steps of the literal model, one a turn; always in float32."""
    torch.set_default_device(args.device)
    X, y = (torch.from_numpy(array).to(args.device) for array in make_data(shape, args.batch))
    model = make_literal(shape)
    gains = [p for name, p in model.named_parameters() if name.endswith(("gain", "original0"))]
    in_gains = {id(p) for p in gains}
    others = [p for p in model.parameters() if id(p) not in in_gains]
    groups = [{"params": gains, "weight_decay": WEIGHT_DECAY}, {"params": others}]
    optimizer = torch.optim.Adam(groups, lr=LR)

    def view() -> torch.Tensor:
        padded = torch.nn.functional.pad(X, (PADDING,) * 4)
        corners = torch.randint(2 * PADDING + 1, (len(X), 2)).tolist()
        side = shape.side
        crops = [
            x[:, i : i + side, j : j + side] for x, (i, j) in zip(padded, corners, strict=True)
        ]
        return dequantise(torch.stack(crops), torch.rand(X.shape))

    while True:
        turn()
        optimizer.zero_grad()
        second, first = view(), view()
        model.loss(first, second, y, LABEL_WEIGHT, CONSISTENCY_WEIGHT).backward()
        for group in (gains, others):
            torch.nn.utils.clip_grad_norm_(group, CLIP_NORM)
        optimizer.step()


def make_ours(shape: Shape, args: argparse.Namespace) -> FlowGMMClassifier:
    """Make the estimator: the paper's objective, or that of the recipe `recommended`."""
    batches = {"labelled_batch": args.batch, "unlabelled_batch": args.batch}
    # Below 200 steps there is a call of `progress` after every one.
    common = {"n_steps": 190, "precision": args.precision, **batches}
    if shape.architecture == "squeezed":
        model = presets.images(device=args.device, random_state=0)
        return model.set_params(**{f"training__{key}": value for key, value in common.items()})
    return FlowGMMClassifier(
        MultiscaleRealNVP(
            n_filters=shape.n_filters,
            n_blocks=shape.n_blocks,
            zero_init=False,
            crop_padding=PADDING,
        ),
        LatentMixture(means="random", learn_means=False),
        Objective(  # (c) of the spec
            labelled_nll="mixture",
            pooled_loss=True,
            label_weight=LABEL_WEIGHT,
            consistency_weight=CONSISTENCY_WEIGHT,
            consistency_target="joint",
            balance_weight=0.0,
            labelled_in_unlabelled=False,
        ),
        Training(
            optimizer="adam",
            lr=LR,
            weight_decay=WEIGHT_DECAY,
            schedule="constant",
            clip_norm=CLIP_NORM,
            **common,
        ),
        device=args.device,
        random_state=0,
    )


def train_ours(shape: Shape, args: argparse.Namespace, turn: Callable[[], None]) -> None:
    """Make steps of `FlowGMMClassifier.fit` as a training job does, one a turn."""
    keep_freed_memory()
    X, y = make_data(shape, args.batch)
    model = make_ours(shape, args)
    turn()
    fit_stack([model], X, y[None], progress=lambda *_: turn())


def work(name: str, connection: Connection, shape: Shape, args: argparse.Namespace) -> None:
    """Wait, make a step, send its seconds and the peak memory so far; in a process of its own."""
    torch.set_num_threads(args.threads)
    torch.ones(2, requires_grad=True).sum().backward()  # imports what the first backward imports
    libraries = resident("VmRSS")
    started: float | None = None

    def memory() -> int:
        if args.device == "cpu":
            return round(resident("VmHWM") - libraries)
        return torch.cuda.max_memory_allocated() // 2**20

    def turn() -> None:
        nonlocal started
        if started is not None:
            wait(args.device)
            connection.send((time.perf_counter() - started, memory()))
        connection.recv()
        started = time.perf_counter()

    train = {"literal": train_literal, "ours": train_ours}[name]
    train(shape, args, turn)


@torch.inference_mode()
def gaussians_seconds(shape: Shape, batch: int) -> float:
    """Measure seconds of the literal model's Gaussians, evaluated once; a step does so twice."""
    model = make_literal(shape)
    z = torch.randn(2 * batch, model.means.shape[1])
    return seconds_of(lambda: model.log_prob_of_codes(z))


def measure(shape: Shape, args: argparse.Namespace) -> dict[str, Any]:
    """Measure seconds and memory of both models, and the machine's own rate in between."""
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    convolution, convolution_operations = make_convolution(
        dtype, 2 * args.batch, side=shape.side // 2, device=args.device
    )
    context = multiprocessing.get_context("spawn")
    processes, connections = [], {}
    n_convolutions = 1 if args.device == "cpu" else 100  # on a GPU launches would be measured
    warm_up = WARM_UP if args.device == "cpu" else GPU_WARM_UP
    for name in ("literal", "ours"):
        connections[name], other = context.Pipe()
        process = context.Process(target=work, args=(name, other, shape, args), daemon=True)
        process.start()
        other.close()  # so that the end of the process is the end of the pipe
        processes.append(process)
    seconds: dict[str, list[float]] = {"literal": [], "ours": [], "convolution": []}
    memory = {}
    try:
        for _ in range(warm_up + args.repeats):
            for name, connection in connections.items():
                connection.send(None)
                found, memory[name] = connection.recv()
                seconds[name].append(found)
            with torch.inference_mode():
                seconds_of(convolution, device=args.device)
                seconds["convolution"].append(seconds_of(convolution, n_convolutions, args.device))
    finally:
        for process in processes:
            process.terminate()
    literal, ours, plain = (np.array(values[warm_up:]) for values in seconds.values())
    rate, needed = convolution_operations / plain, operations(shape, args.batch)
    return {
        "operations": needed,
        "ours_seconds": quartiles(ours),
        "literal_seconds": quartiles(literal),
        "literal_gaussians_seconds": None
        if args.device != "cpu"
        else gaussians_seconds(shape, args.batch),
        "speed_up": quartiles(literal / ours),
        "convolution_rate_gflops": quartiles(rate / 1e9),
        "share_of_convolution_rate": quartiles(needed / ours / rate),
        "ours_peak_mib": memory["ours"],
        "literal_peak_mib": memory["literal"],
    }


def main() -> None:
    """Measure the shapes asked for; print a line each; write everything to a file."""
    parser = make_parser(__doc__, "shapes")
    parser.add_argument("--repeats", type=int, default=4, help="steps that count (at most 180)")
    parser.add_argument("--batch", type=int, default=32, help="labelled, and as many unlabelled")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of ours")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    if not 1 <= args.repeats <= 180:
        parser.error(f"--repeats must be in 1..180, got {args.repeats}")
    names = chosen(parser, args.shapes, SHAPES, default=PAPER)
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {
        "machine": machine(args.threads, args.device),
        "precision": args.precision,
        "repeats": args.repeats,
        "batch": 2 * args.batch,
        "shapes": {},
    }
    for name in names:
        found = measure(SHAPES[name], args)
        results["shapes"][name] = asdict(SHAPES[name]) | found
        ratio, share = found["speed_up"], found["share_of_convolution_rate"]
        print(
            f"{name}: ours {found['ours_seconds']['median']:.3f} s, {found['ours_peak_mib']} "
            f"MiB; literal {found['literal_seconds']['median']:.3f} s, "
            f"{found['literal_peak_mib']} MiB; "
            f"{ratio['median']:.2f} x ({ratio['q25']:.2f}..{ratio['q75']:.2f}); "
            f"{100 * share['median']:.0f} % of the convolution rate",
            flush=True,
        )
    write_results(args.json, results)


if __name__ == "__main__":
    main()
