"""Label spreading of flowgmm and of scikit-learn on the same graph: time, peak memory, labels.

Both are fitted in turn, each in a process of its own, to the same MNIST pixels: a full graph with a
Gaussian kernel (`rbf`), or one of nearest neighbours (`knn`).

    OMP_NUM_THREADS=1 python benchmarks/label_spreading.py
    OMP_NUM_THREADS=1 python benchmarks/label_spreading.py knn --points 100000 --sides ours \
        --repeats 1
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import MIRROR, chosen, machine, make_parser, resident, write_results

from flowgmm.datasets.loaders.idx import read_idx
from flowgmm.utils.io import read_json

SIDES = ("ours", "sklearn")
# Kernel exp(-GAMMA (1 - cos)) and its spreading; graph of neighbours and its spreading.
GAMMA, RHO = 20.0, 0.5
N_NEIGHBORS, ALPHA = 16, 0.3
LIBRARIES = ("flowgmm.methods.label_spreading", "sklearn.semi_supervised")


def prepare(folder: Path, mirror: Path, n: int, n_labels: int) -> None:
    """Write pixels of n images and their classes; images beyond 60,000 are shifted by a pixel."""
    images, classes = read_idx(mirror / "mnist", "train", 10)
    images = np.concatenate([images, np.roll(images, 1, axis=3)])[:n]
    np.save(folder / "X", images.reshape(len(images), -1).astype(np.float32))
    np.save(folder / "truth", np.concatenate([classes, classes])[:n])
    known = np.random.default_rng(0).permutation(min(n, len(classes)))[:n_labels]
    y = np.full(n, -1)
    y[known] = classes[known]
    np.save(folder / "y", y)


def fit(folder: Path, graph: str, side: str) -> dict[str, Any]:
    """Measure one fit: wall and CPU seconds, MiB beyond the libraries'."""
    for library in LIBRARIES:
        importlib.import_module(library)
    from sklearn.semi_supervised import LabelSpreading

    from flowgmm.methods.label_spreading import KNNLabelSpreading, RBFLabelSpreading

    libraries = resident("VmRSS")
    X, y = np.load(folder / "X.npy"), np.load(folder / "y.npy")
    n = len(X)
    wall, cpu = time.perf_counter(), time.process_time()
    if side == "ours" and graph == "rbf":
        model = RBFLabelSpreading(gamma=GAMMA, rho=RHO, n_unlabelled=n).fit(X, y)
    elif side == "ours":
        model = KNNLabelSpreading(n_neighbors=N_NEIGHBORS, alpha=ALPHA, n_unlabelled=n).fit(X, y)
    else:
        # On unit vectors the squared distance is 2 (1 - cos).
        unit = X.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        options = {"kernel": graph, "gamma": GAMMA / 2, "n_neighbors": N_NEIGHBORS}
        alpha = 1 / (1 + RHO) if graph == "rbf" else ALPHA
        model = LabelSpreading(**options, alpha=alpha).fit(unit, y)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(folder / f"{graph}-{side}", model.transduction_)
    return {
        "seconds": wall,
        "cpu_seconds": cpu,
        "beyond_mib": round(resident("VmHWM") - libraries),
        "n_iter": int(model.n_iter_),
    }


def compare(folder: Path, graph: str, sides: list[str], repeats: int) -> dict[str, list[Any]]:
    """Fit each side in turn; count the labels on which both agree."""
    truth, y = np.load(folder / "truth.npy"), np.load(folder / "y.npy")
    found: dict[str, list[Any]] = {side: [] for side in sides}
    agreement = []
    for _ in range(repeats):
        labels = []
        for side in sides:
            command = [sys.executable, __file__, graph, "--inside", str(folder), "--sides", side]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            labels.append(np.load(folder / f"{graph}-{side}.npy"))
            accuracy = float((labels[-1] == truth)[y < 0].mean())
            found[side].append(json.loads(done.stdout) | {"accuracy_unlabelled": accuracy})
            print(graph, side, found[side][-1], flush=True)
        agreement.append(float((labels[0] == labels[-1]).mean()))
    return found | {"agreement": agreement}


def summarise(found: dict[str, list[Any]]) -> dict[str, Any]:
    """Median, minimum and maximum of each number and of the ratios of neighbouring fits."""
    summary: dict[str, Any] = {}
    for side in set(found) & set(SIDES):
        for name in found[side][0]:
            summary[f"{side}_{name}"] = spread([float(fit[name]) for fit in found[side]])
    if set(SIDES) <= set(found):
        for name in ("seconds", "cpu_seconds"):
            pairs = zip(found["ours"], found["sklearn"], strict=True)
            summary[f"ratio_of_{name}"] = spread([b[name] / a[name] for a, b in pairs])
    return summary


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"least": min(values), "median": float(np.median(values)), "most": max(values)}


def main() -> None:
    """Compare the sides on each graph asked for; print a line a fit; write everything to a file."""
    parser = make_parser(__doc__, "graphs")
    parser.add_argument("--mirror", type=Path, default=MIRROR)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--add", action="store_true", help="to the fits in the file")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(fit(Path(args.inside), args.graphs[0], args.sides[0])))
        return
    graphs = chosen(parser, args.graphs, ("rbf", "knn"))
    before = machine(int(os.environ["OMP_NUM_THREADS"]))
    earlier = read_json(args.json)["fits"] if args.add else {}
    fits = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args.mirror, args.points, args.labels)
        for graph in graphs:
            new = compare(Path(folder), graph, args.sides, args.repeats)
            fits[graph] = {name: earlier.get(graph, {}).get(name, []) + new[name] for name in new}
    fits = earlier | fits
    header = {"machine": before, "points": args.points, "features": 784, "labels": args.labels}
    summary = {graph: summarise(found) for graph, found in fits.items()}
    write_results(args.json, header | {"fits": fits, "summary": summary})


if __name__ == "__main__":
    main()
