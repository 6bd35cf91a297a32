"""Peak memory beyond the libraries' own, of embedding and of training on 60,000 x 1792 features.

Each job runs in a process of its own: its largest resident set minus the one after the imports.
`--together` looks at trainings beside each other instead: what each has of the features for itself,
and what it shares.

    python benchmarks/memory.py --json benchmarks/memory.json
    OMP_NUM_THREADS=1 python benchmarks/memory.py --together --json benchmarks/memory_together.json
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

from flowgmm.datasets.features import make_features
from flowgmm.datasets.splits import draw_split
from flowgmm.datasets.types import Arrays
from flowgmm.embed.cache import embedded
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.project import Project, Run
from flowgmm.experiments.specs.runs import jobs_of, train_spec
from flowgmm.experiments.train_job import train_stack
from flowgmm.utils.io import read_json, sha256, write_json, write_tensors

N_TRAIN, N_TEST, WIDTH, N_CLASSES, N_LABELS = 50_000, 10_000, 1792, 10, 250
STEPS = 20
LIBRARIES = ("pandera.pandas", "safetensors.torch", "sklearn.linear_model", "torch", "torchvision")
TRAININGS = ("flowgmm", "pi_model", "rbf_label_spreading", "knn_label_spreading", "knn")
JOBS = ("embedding", *TRAININGS)


# Jobs side by side, and seeds of each; nets so small that they do not hide the features.
TOGETHER = ("1x1", "1x8", "2x1", "4x1")
SMALL_NET = {"n_couplings": 2, "hidden_size": 16, "labelled_batch": 25, "unlabelled_batch": 100}


def resident(name: str) -> int:
    """VmRSS (now) or VmHWM (largest so far) of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024


def rollup() -> dict[str, int]:
    """This process's memory in MiB as /proc/self/smaps_rollup has it: Rss, Pss, Private_Dirty...

    Pss counts a page that several processes have in parts.
    """
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return {line.split()[0][:-1]: int(line.split()[1]) // 1024 for line in lines}


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
    write_tensors(folder / "features", *make_features(spec, data, folder))


def train(folder: Path, method: str) -> None:
    """A job of `STEPS` steps, with settings of the config, and its evaluation."""
    root = Path(__file__).parents[1]
    config: Project = load_checked(root)
    job = jobs_of(config, Run("cifar10_efficientnet", str(N_LABELS), method))[0]
    spec = train_spec(config, job) | {"tune": None}
    if spec["neural"]:
        # Standardised: twice the data. Few steps: memory is the same in each.
        spec["preprocess"] = "standardise"
        spec["params"] = spec["params"] | {"n_epochs": None, "n_steps": STEPS}
    n_seeds = len(spec["seeds"])
    splits = {number: folder / f"split-{number}" for number in spec["splits"]}
    train_stack(spec, folder / "features", splits, folder / "out", folder / "checkpoints")
    print(f"{method}: {n_seeds} seeds", file=sys.stderr)


def train_beside(folder: Path, name: str, n_jobs: int, n_seeds: int, preprocess: str) -> None:
    """Train; print the memory after the imports, and after the steps, while all jobs are there."""
    config: Project = load_checked(Path(__file__).parents[1])
    job = jobs_of(config, Run("cifar10_efficientnet", str(N_LABELS), "flowgmm"))[0]
    spec = train_spec(config, job) | {"tune": None, "preprocess": preprocess}
    spec |= {"seeds": list(range(n_seeds)), "random_states": list(range(n_seeds))}
    spec |= {"splits": [0] * n_seeds}
    # Every point is read once.
    spec["params"] |= SMALL_NET | {"n_epochs": 1, "n_steps": None}
    before = rollup()

    def wait(word: str) -> None:
        (folder / f"{name}.{word}").touch()
        while len(list(folder.glob(f"*.{word}"))) < n_jobs:
            time.sleep(0.05)

    def look(step: int, n_steps: int, text: str) -> None:
        if step == n_steps:
            wait("trained")
            print(json.dumps({"before": before, "trained": rollup()}), flush=True)
            wait("measured")

    given = folder / "features", {0: folder / "split-0"}
    train_stack(
        spec, *given, folder / name, folder / f"{name}-checkpoint", Execution(progress=look)
    )


def beside(folder: Path, n_jobs: int, n_seeds: int, preprocess: str) -> dict[str, list[int]]:
    """MiB beyond the libraries', of each of the jobs that train at the same time."""
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
        meta = {"dataset": "cifar10_efficientnet", "labels": str(N_LABELS), "split": number}
        meta |= {"seeds": {}, "features_sha256": sha256(folder / "features")}
        write_tensors(folder / f"split-{number}", split, meta)


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
    for name in () if args.together is not None else args.jobs or JOBS:
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
