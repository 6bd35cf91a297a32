"""Label spreading of flowgmm and of scikit-learn on the same graph: time, peak memory, labels.

Both are fitted in turn, each in a process of its own, to the same MNIST pixels: a full graph with a
Gaussian kernel (`rbf`), or one of nearest neighbours (`knn`).

    OMP_NUM_THREADS=1 python benchmarks/label_spreading.py --json benchmarks/label_spreading.json
    OMP_NUM_THREADS=1 python benchmarks/label_spreading.py knn --points 100000 --sides ours \
        --repeats 1 --json benchmarks/label_spreading_100000.json
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
from memory import resident

from flowgmm.datasets.idx import read_idx
from flowgmm.files import write_json

SIDES = ("ours", "sklearn")
# Of the kernel exp(-GAMMA (1 - cos)) and its spreading; of the neighbours' graph and its.
GAMMA, RHO = 20.0, 0.5
N_NEIGHBORS, ALPHA = 16, 0.3
LIBRARIES = ("flowgmm.methods.label_spreading", "sklearn.semi_supervised")


def prepare(folder: Path, mirror: Path, n: int, n_labels: int) -> None:
    """Pixels of n images and their classes; those beyond the 60,000 are shifted by a pixel."""
    images, classes = read_idx(mirror / "mnist", "train", 10)
    images = np.concatenate([images, np.roll(images, 1, axis=3)])[:n]
    np.save(folder / "X", images.reshape(len(images), -1).astype(np.float32))
    np.save(folder / "truth", np.concatenate([classes, classes])[:n])
    known = np.random.default_rng(0).permutation(min(n, len(classes)))[:n_labels]
    y = np.full(n, -1)
    y[known] = classes[known]
    np.save(folder / "y", y)


def fit(folder: Path, graph: str, side: str) -> dict[str, Any]:
    """Seconds, seconds of processor time and MiB beyond the libraries' of one fit."""
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
        "beyond_mib": resident("VmHWM") - libraries,
        "n_iter": int(model.n_iter_),
    }


def compare(folder: Path, graph: str, sides: list[str], repeats: int) -> dict[str, Any]:
    """Fits in turn; medians and ranges of each side, ratios of neighbouring fits, agreement."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            command = [sys.executable, __file__, graph, "--inside", str(folder), "--sides", side]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[side].append(json.loads(done.stdout))
            print(graph, side, found[side][-1], flush=True)
    truth, y = np.load(folder / "truth.npy"), np.load(folder / "y.npy")
    labels = {side: np.load(folder / f"{graph}-{side}.npy") for side in sides}
    result: dict[str, Any] = {
        side: {
            name: sorted(float(fit[name]) for fit in fits)
            for name in ("seconds", "cpu_seconds", "beyond_mib", "n_iter")
        }
        | {"accuracy_unlabelled": float((labels[side] == truth)[y < 0].mean())}
        for side, fits in found.items()
    }
    if len(sides) == 2:
        ours, other = (found[side] for side in SIDES)
        for name in ("seconds", "cpu_seconds"):
            result[f"ratio_of_{name}"] = sorted(
                b[name] / a[name] for a, b in zip(ours, other, strict=True)
            )
        result["agreement"] = float((labels["ours"] == labels["sklearn"]).mean())
    return result


def main() -> None:
    """Compare the sides on each graph asked for; print a line a fit; write everything to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graphs", nargs="*", help="rbf, knn; both if none")
    parser.add_argument("--mirror", type=Path, default=Path("../shared/data"))
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(fit(Path(args.inside), args.graphs[0], args.sides[0])))
        return
    from train_step import machine  # it imports torch, which no fit needs

    before = machine(int(os.environ["OMP_NUM_THREADS"]))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args.mirror, args.points, args.labels)
        for graph in args.graphs or ("rbf", "knn"):
            results[graph] = compare(Path(folder), graph, args.sides, args.repeats)
    if args.json:
        write_json(
            args.json,
            {
                "machine": before,
                "points": args.points,
                "features": 784,
                "labels": args.labels,
                "repeats": args.repeats,
                "graphs": results,
            },
        )


if __name__ == "__main__":
    main()
