"""Growth of cost: CPU seconds and peak memory against the sizes of data, model and stack.

    python benchmarks/growth.py --json benchmarks/growth.json
    python benchmarks/growth.py --json benchmarks/growth.json --figure docs/figures/growth.png

Every measurement is a process of its own, forked once the libraries are imported, on one thread;
sizes come in random order, round by round, so that other load falls on all. Exponents are least
squares on logarithms. With `--figure` nothing is measured: the picture is drawn from the file.
"""

import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, make_parser, plain_likelihood, quartiles, resident, write_results
from scipy.stats import linregress, t
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from flowgmm.methods.classic import self_training
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.label_spreading import KNNLabelSpreading, RBFLabelSpreading
from flowgmm.methods.stack import fit_stack
from flowgmm.reporting.plot_style import COLOURS, STYLE
from flowgmm.utils.io import atomic_path, read_json

N_LABELLED, N_PREDICTED = 256, 1000
PLANNING = Path(__file__).parent / "planning.json"


@dataclass(frozen=True)
class Size:
    """Size of a problem.

    Arguments:
        points: Training points, `N_LABELLED` of them labelled; all of them where a method takes
            labelled points only.
        features: D.
        classes: K.
        seeds: Trainings in one stack.
    """

    points: int
    features: int = 32
    classes: int = 4
    seeds: int = 1


@dataclass(frozen=True)
class Curve:
    """Cost of a method against one of the sizes; the others are those of `base`."""

    method: str
    axis: str
    values: tuple[int, ...]
    base: Size

    def sizes(self) -> list[Size]:
        """List the problems to measure."""
        return [replace(self.base, **{self.axis: value}) for value in self.values]


def flowgmm(X: np.ndarray, y: np.ndarray, size: Size) -> dict[str, float]:
    """Train one epoch in batches of 250; return the seconds per step."""
    ticks: list[tuple[int, float]] = []
    estimators = [
        FlowGMMClassifier(
            **plain_likelihood(
                {"n_couplings": 4, "hidden_size": 64},
                {"n_steps": None, "n_epochs": 1, "unlabelled_batch": 250},
            ),
            device="cpu",
            random_state=seed,
        )
        for seed in range(size.seeds)
    ]
    fit_stack(
        estimators,
        X,
        np.tile(y, (size.seeds, 1)),
        progress=lambda step, *_: ticks.append((step, time.process_time())),
    )
    (first, start), (last, end) = ticks[len(ticks) // 8], ticks[-1]  # without the warm-up
    return {"step_seconds": (end - start) / (last - first)}


def classic(make: Callable[[], Any], labelled_only: bool = False) -> Callable[..., dict[str, Any]]:
    """Make a function that fits, and predicts `N_PREDICTED` points."""

    def run(X: np.ndarray, y: np.ndarray, size: Size) -> dict[str, float]:
        if labelled_only:
            y = np.arange(len(X)) % size.classes
        make().fit(X, y).predict(X[:N_PREDICTED])
        return {}

    return run


# Hyper-parameters are the config's.
METHODS: dict[str, tuple[str, Callable[..., dict[str, float]]]] = {
    "flowgmm": ("FlowGMM, an epoch", flowgmm),
    "rbf_label_spreading": (
        "RBF label spreading",
        classic(lambda: RBFLabelSpreading(n_unlabelled=10**9)),
    ),
    "knn_label_spreading": (
        "kNN label spreading",
        classic(lambda: KNNLabelSpreading(n_unlabelled=10**9)),
    ),
    "knn": ("k nearest neighbours", classic(lambda: KNeighborsClassifier(10), True)),
    "logistic_regression": (
        "Logistic regression",
        classic(lambda: LogisticRegression(max_iter=100), True),
    ),
    "self_training": ("Self-training", classic(lambda: self_training(C=0.1))),
}
CLASSIC = tuple(name for name in METHODS if name != "flowgmm")
AXES = {"points": "points", "features": "features D", "classes": "classes K", "seeds": "seeds"}

THOUSANDS = {
    "flowgmm": (4, 8, 16, 32, 64, 128),
    "rbf_label_spreading": (0.5, 1, 2, 4, 8),
    "knn_label_spreading": (1, 2, 4, 8, 16, 32),
    "knn": (1, 4, 16, 64),
    "logistic_regression": (1, 4, 16, 64),
    "self_training": (1, 4, 16, 64),
}
CURVES = [
    *(
        Curve(method, "points", tuple(int(1000 * n) for n in thousands), Size(0))
        for method, thousands in THOUSANDS.items()
    ),
    *(
        Curve(method, axis, values, Size(4000 if method == "flowgmm" else 2000))
        for axis, values in (("features", (16, 64, 256, 1024)), ("classes", (2, 8, 32, 128)))
        for method in METHODS
    ),
    Curve("flowgmm", "seeds", (1, 2, 4, 8, 16), Size(4000)),
]


def make_data(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Draw a Gaussian per class, centres at distance 4 from 0: X (N, D) and y (N,)."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((size.points, size.features), np.float32)
    centres = rng.standard_normal((size.classes, size.features), np.float32)
    centres *= 4 / np.linalg.norm(centres, axis=1, keepdims=True)
    truth = np.arange(size.points) % size.classes
    X += centres[truth]
    return X, np.where(np.arange(size.points) < N_LABELLED, truth, -1)


def measure(task: tuple[str, Size]) -> dict[str, float]:
    """Measure CPU seconds and peak MiB beyond the libraries' of a method, data included."""
    method, size = task
    call = METHODS[method][1]
    torch.set_num_threads(1)
    with threadpool_limits(1):
        small = Size(300)  # so that the libraries' pages are touched
        call(*make_data(small), small)
        before = resident("VmRSS")
        X, y = make_data(size)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        start = time.process_time()
        found = call(X, y, size)
        seconds = time.process_time() - start
    # Above zero, for the logarithm.
    return {"cpu_seconds": seconds, "mib": max(0.1, resident("VmHWM") - before), **found}


def exponent(sizes: np.ndarray, costs: np.ndarray) -> dict[str, float]:
    """Slope of log cost over log size, with its 95 % interval; shape (n_sizes, n_repeats)."""
    fit = linregress(np.log(sizes).repeat(costs.shape[1]), np.log(costs).ravel())
    half = t.ppf(0.975, costs.size - 2) * fit.stderr
    return {"slope": fit.slope, "low": fit.slope - half, "high": fit.slope + half}


def summarise(curve: Curve, found: list[list[dict[str, float]]]) -> dict[str, Any]:
    """Quartiles by size, exponents over all sizes and over the largest three."""
    sizes = np.array(curve.values, float)
    quantities = {}
    for name in found[0][0]:
        costs = np.array([[repeat[name] for repeat in repeats] for repeats in found])
        quantities[name] = {
            **quartiles(costs, axis=1),
            "exponent": exponent(sizes, costs),
            "exponent_of_largest": exponent(sizes[-3:], costs[-3:]),
        }
    return {
        "method": curve.method,
        "axis": curve.axis,
        "sizes": list(curve.values),
        "base": {k: v for k, v in asdict(curve.base).items() if k != curve.axis},
        **quantities,
    }


def measure_all(repeats: int) -> dict[str, Any]:
    """Measure all curves, each size `repeats` times."""
    before = machine(1)
    tasks = sorted({(curve.method, size) for curve in CURVES for size in curve.sizes()}, key=repr)
    found: dict[tuple[str, Size], list[dict[str, float]]] = defaultdict(list)
    rng = np.random.default_rng(0)
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for repeat in range(repeats):
            order = [tasks[i] for i in rng.permutation(len(tasks))]
            for task, result in zip(order, pool.map(measure, order, chunksize=1), strict=True):
                found[task].append(result)
            print(f"round {repeat + 1} of {repeats}", flush=True)
    curves = [
        summarise(curve, [found[curve.method, size] for size in curve.sizes()]) for curve in CURVES
    ]
    return {"machine": before, "repeats": repeats, "labelled": N_LABELLED, "curves": curves}


def draw(results: dict[str, Any], path: str) -> None:
    """Draw a grid of panels: FlowGMM above, classic methods below; CPU seconds, then memory."""
    import matplotlib.pyplot as plt

    curves = {(curve["method"], curve["axis"]): curve for curve in results["curves"]}
    colours = dict(zip(METHODS, COLOURS, strict=True))
    small = {"font.size": 9, "axes.titlesize": 10, "xtick.labelsize": 8, "ytick.labelsize": 8}
    with plt.rc_context(STYLE | small):
        figure, grid = plt.subplots(4, 4, figsize=(11, 10.5), layout="constrained")
        for column, (axis, label) in enumerate(AXES.items()):
            seconds = ["cpu_seconds", "step_seconds"] if axis == "points" else ["step_seconds"]
            rows = ((("flowgmm",), seconds), (("flowgmm",), ["mib"]))
            if axis != "seeds":
                rows += ((CLASSIC, ["cpu_seconds"]), (CLASSIC, ["mib"]))
            for panel, (methods, names) in zip(grid[:, column], rows, strict=False):
                for method in methods:
                    for name in names:
                        plot(panel, curves[method, axis], name, colours[method])
                finish(panel, label)
        for row, (what, unit) in enumerate(
            (
                ("FlowGMM", "CPU seconds"),
                ("FlowGMM", "MiB beyond the libraries'"),
                ("classic methods", "CPU seconds, fit and predict"),
                ("classic methods", "MiB beyond the libraries'"),
            )
        ):
            grid[row, 0].set_ylabel(f"{what}\n{unit}")
        for panel in grid[2:, 3]:
            panel.axis("off")
        if PLANNING.exists():
            draw_dry_run(grid[2, 3], read_json(PLANNING)["single"])
        lines = [
            plt.Line2D([], [], color=colours[name], marker=MARKS[name], label=METHODS[name][0])
            for name in METHODS
        ]
        dashed = plt.Line2D([], [], color=colours["flowgmm"], ls="--", label="FlowGMM, a step")
        linear = plt.Line2D([], [], color="0.8", label="slope 1")
        handles = [lines[0], dashed, *lines[1:], linear]
        grid[3, 3].legend(handles=handles, loc="center", frameon=False)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            figure.savefig(part, format="png", dpi=110)


def draw_dry_run(panel: Any, found: dict[str, Any]) -> None:
    """Plot CPU seconds of Snakemake's dry run against jobs, beside a bare workflow."""
    panel.axis("on")
    for name, prefix, colour in (("plans", "", "black"), ("floors", "floor_", "0.5")):
        jobs, seconds = zip(*((run["jobs"], run["cpu_s"]) for run in found[name]), strict=True)
        power = f"{found[prefix + 'exponent']:.2f}" + (", a bare workflow" if prefix else "")
        panel.plot(jobs, seconds, color=colour, marker="o", markersize=4, label=power)
    finish(panel, "jobs")
    # The bare workflows have one job more, which does not show.
    sizes = [run["jobs"] for run in found["plans"]]
    panel.set_xticks(sizes, [f"{size / 1000:.2g}k" for size in sizes])
    panel.set_title("CPU seconds of Snakemake's dry run", fontsize=9)


MARKS = dict(zip(METHODS, "os^vDP", strict=True))


def plot(panel: Any, curve: dict[str, Any], name: str, colour: str) -> None:
    """Plot a curve with its quartiles; its exponent is the label."""
    found, power = curve[name], curve[name]["exponent"]
    half = (power["high"] - power["low"]) / 2
    median = np.array(found["median"])
    panel.errorbar(
        curve["sizes"],
        median,
        yerr=[median - found["q25"], found["q75"] - median],
        color=colour,
        marker=MARKS.get(curve["method"], "o"),
        markersize=4,
        linestyle="--" if name == "step_seconds" else "-",
        label=f"{power['slope']:z.2f} ± {half:.2f}",
    )


def finish(panel: Any, label: str) -> None:
    """Set logarithmic axes of at least a decade, a grey line of slope 1, room for the exponents."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    handles, labels = panel.get_legend_handles_labels()
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    sizes = sorted({float(x) for line in panel.lines for x in line.get_xdata()})
    costs = np.concatenate([line.get_ydata() for line in panel.lines]).astype(float)
    middle = np.sqrt(costs.min() * costs.max())
    low, high = min(costs.min(), middle / 3) / 1.5, max(costs.max(), middle * 3) * 1.5
    panel.plot(sizes, low * np.array(sizes) / sizes[0], color="0.8", zorder=0)
    panel.set_ylim(low, high * (high / low) ** (0.1 + 0.1 * len(labels)))
    panel.set_xticks(sizes, [f"{x / 1000:g}k" if x % 1000 == 0 else f"{x:g}" for x in sizes])
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 100 else (1,)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.minorticks_off()
    panel.set_xlabel(label)
    panel.legend(handles, labels, loc="upper left", frameon=False, fontsize=8, handlelength=2)


def main() -> None:
    """Measure and write a file, or draw the figure from the file."""
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each size")
    parser.add_argument("--figure", help="picture to make from that file, instead of measuring")
    args = parser.parse_args()
    if args.json is None:
        parser.error("expected --json FILE")
    if args.figure:
        draw(read_json(args.json), args.figure)
        return
    results = measure_all(args.repeats)
    for curve in results["curves"]:
        for name in ("cpu_seconds", "step_seconds", "mib"):
            if name in curve:
                found = curve[name]["exponent"]
                print(
                    f"{curve['method']} {name} ~ {curve['axis']}^{found['slope']:z.2f}"
                    f" ({found['low']:.2f}..{found['high']:.2f}),"
                    f" largest {curve[name]['exponent_of_largest']['slope']:.2f}:"
                    f" {curve[name]['median'][0]:.3g} to {curve[name]['median'][-1]:.3g}"
                )
    write_results(args.json, results)


if __name__ == "__main__":
    main()
