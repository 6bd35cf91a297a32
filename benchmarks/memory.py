"""Peak memory beyond the libraries' own, of embedding and of training on 60,000 x 1792 features.

Each job runs in a process of its own: its peak resident set minus the one after the imports.
`--together` runs trainings beside each other instead: private and shared memory of each.

    python benchmarks/memory.py
    OMP_NUM_THREADS=1 python benchmarks/memory.py --together
"""

import argparse
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, chosen, make_parser, resident, write_results

from flowgmm.datasets.features import make_features
from flowgmm.datasets.splits import draw_split
from flowgmm.datasets.types import Arrays
from flowgmm.embed.cache import embedded
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.project import Project, Run
from flowgmm.experiments.specs.runs import jobs_of, train_spec
from flowgmm.experiments.train_job import train_stack
from flowgmm.methods import override
from flowgmm.utils.io import read_json, sha256, write_tensors

N_TRAIN, N_TEST, WIDTH, N_CLASSES, N_LABELS = 50_000, 10_000, 1792, 10, 250
STEPS = 20
LIBRARIES = ("pandera.pandas", "safetensors.torch", "sklearn.linear_model", "torch", "torchvision")
TRAININGS = ("flowgmm", "pi_model", "rbf_label_spreading", "knn_label_spreading", "knn")
JOBS = ("embedding", *TRAININGS)
# Jobs side by side x seeds of each; networks that are small beside the features.
TOGETHER = ("1x1", "1x8", "2x1", "4x1")
SMALL_NET = {
    "flow": {"n_couplings": 2, "hidden_size": 16},
    "training": {"labelled_batch": 25, "unlabelled_batch": 100, "n_epochs": 1, "n_steps": None},
}


def rollup() -> dict[str, int]:
    """Memory of this process in MiB from /proc/self/smaps_rollup: Rss, Pss, Private_Dirty...

    Pss counts a page that j processes share as 1/j.
    """
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return {line.split()[0][:-1]: int(line.split()[1]) // 1024 for line in lines}


class Noise:
    """Stand-in for an encoder: random vectors, without a network's time."""

    width = WIDTH

    def __call__(self, items: np.ndarray) -> np.ndarray:
        """Positive numbers, as a network's features are."""
        rng = np.random.default_rng(int(items[0]))
        vectors = np.abs(rng.standard_normal((len(items), WIDTH), np.float32))
        vectors[:, 0] = 0  # a constant feature, which is dropped
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
    write_tensors(folder / "features", *make_features(spec, data, folder))


def train(folder: Path, method: str) -> None:
    """Run a job of `STEPS` steps with settings of the config, and its evaluation."""
    config: Project = load_checked(ROOT)
    job = jobs_of(config, Run("cifar10_efficientnet", str(N_LABELS), method))[0]
    spec = train_spec(config, job) | {"tune": None}
    if spec["neural"]:
        # Standardised: twice the data. Few steps: memory is the same in each.
        spec["preprocess"] = "standardise"
        steps = {"training": {"n_epochs": None, "n_steps": STEPS}}
        spec["params"] = override(spec["params"], steps)
    n_seeds = len(spec["seeds"])
    splits = {number: folder / f"split-{number}" for number in spec["splits"]}
    train_stack(spec, folder / "features", splits, folder / "out", folder / "checkpoints")
    print(f"{method}: {n_seeds} seeds", file=sys.stderr)


def train_beside(folder: Path, name: str, n_jobs: int, n_seeds: int, preprocess: str) -> None:
    """Train; print the memory after the imports, and after the steps, while all jobs wait."""
    config: Project = load_checked(ROOT)
    job = jobs_of(config, Run("cifar10_efficientnet", str(N_LABELS), "flowgmm"))[0]
    spec = train_spec(config, job) | {"tune": None, "preprocess": preprocess}
    spec |= {"seeds": list(range(n_seeds)), "random_states": list(range(n_seeds))}
    spec |= {"splits": [0] * n_seeds}
    # One epoch reads every point once.
    spec["params"] = override(spec["params"], SMALL_NET)
    before = rollup()

    def wait(word: str) -> None:
        (folder / f"{name}.{word}").touch()
        while len(list(folder.glob(f"*.{word}"))) < n_jobs:
            time.sleep(0.05)

    def log(step: int, n_steps: int, text: str) -> None:
        if step == n_steps:
            wait("trained")
            print(json.dumps({"before": before, "trained": rollup()}), flush=True)
            wait("measured")

    given = folder / "features", {0: folder / "split-0"}
    train_stack(spec, *given, folder / name, folder / f"{name}-checkpoint", Execution(progress=log))


def beside(folder: Path, n_jobs: int, n_seeds: int, preprocess: str) -> dict[str, list[int]]:
    """Measure MiB beyond the libraries' of each of the jobs that train at the same time."""
    for path in folder.glob("job-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    jobs = []
    for i in range(n_jobs):
        job = json.dumps([f"job-{i}", n_jobs, n_seeds, preprocess])
        command = [sys.executable, __file__, "--inside", str(folder), "--beside", job]
        jobs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    found = [json.loads(job.communicate()[0]) for job in jobs]
    if any(job.returncode for job in jobs):
        raise RuntimeError("a job failed")

    return {
        "pss_mib": [job["trained"]["Pss"] - job["before"]["Pss"] for job in found],
        "private_dirty_mib": [
            job["trained"]["Private_Dirty"] - job["before"]["Private_Dirty"] for job in found
        ],
    }


def prepare(folder: Path) -> None:
    """Write the features and splits that the trainings read."""
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
        meta = {"dataset": "cifar10_efficientnet", "labels": str(N_LABELS), "split": number}
        meta |= {"seeds": {}, "features_sha256": sha256(folder / "features")}
        write_tensors(folder / f"split-{number}", split, meta)


def measure(job: Callable[[], None]) -> dict[str, int]:
    """Measure MiB after the imports, and the peak beyond them."""
    for library in LIBRARIES:
        importlib.import_module(library)
    libraries = resident("VmRSS")
    job()
    beyond = round(resident("VmHWM") - libraries)
    return {"libraries_mib": round(libraries), "beyond_mib": beyond}


def main() -> None:
    """Measure every job asked for; print a line each; write everything to a file."""
    parser = make_parser(__doc__, "jobs")
    parser.add_argument("--together", nargs="*", help="JOBSxSEEDS side by side instead: 2x1")
    parser.add_argument("--preprocess", default="standardise", help="with --together")
    parser.add_argument("--add", action="store_true", help="to the results in the file")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--beside", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.beside:
        measure(lambda: train_beside(Path(args.inside), *args.beside))
        return
    if args.inside:
        folder, (name,) = Path(args.inside), args.jobs
        job = (lambda: embed(folder)) if name == "embedding" else (lambda: train(folder, name))
        print(json.dumps(measure(job)))
        return
    results: dict[str, Any] = read_json(args.json)["jobs"] if args.add else {}
    if args.together is not None:
        with tempfile.TemporaryDirectory() as scratch:
            prepare(Path(scratch))
            for size in args.together or TOGETHER:
                n_jobs, n_seeds = map(int, size.split("x"))
                results[size] = beside(Path(scratch), n_jobs, n_seeds, args.preprocess)
                print(f"{size}: {results[size]}", flush=True)
    for name in () if args.together is not None else chosen(parser, args.jobs, JOBS):
        with tempfile.TemporaryDirectory() as folder:
            if name != "embedding":
                prepare(Path(folder))
            command = [sys.executable, __file__, "--inside", folder, name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[name] = json.loads(done.stdout)
            print(f"{name}: {results[name]['beyond_mib']} MiB beyond the libraries'", flush=True)
    write_results(args.json, {"shape": [N_TRAIN + N_TEST, WIDTH], "jobs": results})


if __name__ == "__main__":
    main()
