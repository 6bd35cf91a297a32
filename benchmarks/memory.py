"""Peak memory beyond the libraries' own, of embedding and of training on 60,000 x 1792 features.

Each job runs in a process of its own: its largest resident set minus the one after the imports.

    python benchmarks/memory.py --json benchmarks/memory.json
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flowgmm.config import Config, Run, load
from flowgmm.datasets import Arrays, finish
from flowgmm.embed.cache import embedded
from flowgmm.files import write_json, write_tensors
from flowgmm.runs import run
from flowgmm.splits import draw_split

N_TRAIN, N_TEST, WIDTH, N_CLASSES, N_LABELS = 50_000, 10_000, 1792, 10, 250
STEPS = 20
LIBRARIES = ("pandera.pandas", "safetensors.torch", "sklearn.linear_model", "torch", "torchvision")
JOBS = ("embedding", "flowgmm", "pi_model", "logistic_regression")


def resident(name: str) -> int:
    """VmRSS (now) or VmHWM (largest so far) of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024


class Noise:
    """In an encoder's place: vectors that a network would give, without its time."""

    width = WIDTH

    def __call__(self, items: np.ndarray) -> np.ndarray:
        """Positive numbers, as a network's features are."""
        rng = np.random.default_rng(int(items[0]))
        vectors = np.abs(rng.standard_normal((len(items), WIDTH), np.float32))
        vectors[:, 0] = 0  # a dead feature, which is dropped
        return vectors


def embed(folder: Path) -> None:
    """Fill the cache, check the data, write the features file."""
    labels = {n: np.arange(n) % N_CLASSES for n in (N_TRAIN, N_TEST)}
    X_train, X_test = (
        embedded(n, folder, np.ones(n, np.int64), Noise, chunk=256, unit="images") for n in labels
    )
    classes = [str(k) for k in range(N_CLASSES)]
    data = Arrays(X_train, labels[N_TRAIN], X_test, labels[N_TEST], classes, same_scale=True)
    spec = {"dataset": "noise", "kind": "transfer", "drop_constant": True}
    write_tensors(folder / "features", *finish(spec, data, folder))


def train(folder: Path, method: str) -> None:
    """A job of `STEPS` steps, with settings of the config, and its evaluation."""
    root = Path(__file__).parents[1]
    config: Config = load(root)
    job = config.jobs(Run("cifar10_efficientnet", str(N_LABELS), method))[0]
    spec = config.train_spec(job) | {"preprocess": "standardise", "tune": None}
    if spec["neural"]:
        spec["params"] = spec["params"] | {"n_epochs": None, "n_steps": STEPS}
    n_seeds = len(spec["seeds"])
    splits = {number: folder / f"split-{number}" for number in spec["splits"]}
    run(spec, folder / "features", splits, folder / "out", folder / "checkpoints")
    print(f"{method}: {n_seeds} seeds", file=sys.stderr)


def prepare(folder: Path) -> None:
    """The features and splits that the trainings read."""
    embed(folder)
    y = np.arange(N_TRAIN) % N_CLASSES
    for number in range(3):
        split = draw_split(
            y,
            n_labels=N_LABELS,
            n_val=5000,
            stratify="balanced",
            split_seed=number,
            labels_seed=number,
        )
        write_tensors(folder / f"split-{number}", split, {"seeds": {}})


def measure(job: Callable[[], None]) -> dict[str, int]:
    """MiB after the imports, and at most."""
    for library in LIBRARIES:
        importlib.import_module(library)
    libraries = resident("VmRSS")
    job()
    return {"libraries_mib": libraries, "beyond_mib": resident("VmHWM") - libraries}


def main() -> None:
    """Measure every job asked for; print a line each; write everything to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", help=f"any of {', '.join(JOBS)}; all if none")
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        folder, (name,) = Path(args.inside), args.jobs
        job = (lambda: embed(folder)) if name == "embedding" else (lambda: train(folder, name))
        print(json.dumps(measure(job)))
        return
    results = {}
    for name in args.jobs or JOBS:
        with tempfile.TemporaryDirectory() as folder:
            if name != "embedding":
                prepare(Path(folder))
            command = [sys.executable, __file__, "--inside", folder, name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[name] = json.loads(done.stdout)
            print(f"{name}: {results[name]['beyond_mib']} MiB beyond the libraries'", flush=True)
    if args.json:
        write_json(args.json, {"shape": [N_TRAIN + N_TEST, WIDTH], "jobs": results})


if __name__ == "__main__":
    main()
