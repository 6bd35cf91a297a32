"""Does bfloat16 change results? Paired seeds of FlowGMM, trained in both precisions.

    python benchmarks/precision.py magic --like miniboone --recipe small --mirror ../shared/data

Each seed has the same split, initialisation, batches and dropout in both precisions; what is
compared is the accuracy and the mean log p(x) on test points, as the workflow records them.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowgmm.config import Config, Job, Run, load, read_yaml
from flowgmm.datasets import prepare
from flowgmm.files import read_tensors, write_json, write_tensors
from flowgmm.runs import run
from flowgmm.splits import draw_split

ROOT = Path(__file__).parents[1]


def make_inputs(config: Config, job: Job, folder: Path, raw: Path) -> tuple[Path, dict[int, Path]]:
    """Features, from raw files unless the workflow made them, and splits."""
    name, labels = job.run.dataset, job.run.labels
    features = ROOT / config.features_path(name)
    if not features.exists():
        features = folder / "features.safetensors"
        write_tensors(features, *prepare(config.features_spec(name), raw))
    y_train = read_tensors(features, ["y_train"])[0]["y_train"]
    splits = {}
    for seed in range(job.first, job.last + 1):
        number = config.split_index(name, labels, seed)
        spec = config.split_spec(name, labels, number)
        seeds = {f"{purpose}_seed": value for purpose, value in spec["seeds"].items()}
        splits[number] = folder / f"split-{number}.safetensors"
        split = draw_split(y_train, **spec["label_set"], **seeds)
        write_tensors(splits[number], split, {"seeds": spec["seeds"]})
    return features, splits


def scores(
    config: Config,
    job: Job,
    like: Run,
    precision: str,
    features: Path,
    splits: dict[int, Path],
    folder: Path,
    threads: int,
) -> dict[str, Any]:
    """Accuracy (percent), mean log p(x) in nats and seconds of a job's seeds, in one precision."""
    spec = config.train_spec(job) | config.method_settings(like)
    spec["params"] = {**spec["params"], "precision": precision}
    numbers = {number: splits[number] for number in set(spec["splits"])}
    record = run(spec, features, numbers, folder / precision, folder / "state", "cpu", threads)
    test = [entry["metrics"]["test"] for entry in record["runs"]]
    return {
        "accuracy": [100 * scores["accuracy"] for scores in test],
        "log_prob": [-scores["nll"] for scores in test],
        "seconds": record["timing"]["fit_s"],
    }


def main() -> None:
    """Print the paired differences; write everything to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--recipe", default="official")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--mirror", help="folder with the raw files; see config/config.yaml")
    parser.add_argument("--like", help="dataset whose hyper-parameters are taken; itself if none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="file for the results")
    args = parser.parse_args()
    settings = read_yaml(ROOT / "config" / "config.yaml") | {
        "recipe": args.recipe,
        "mirror": args.mirror,
    }
    config = load(ROOT, settings)
    runs = [
        Run(name, next(iter(config.dataset(name)["labels"])), "flowgmm")
        for name in (args.dataset, args.like or args.dataset)
    ]
    job, like = Job(runs[0], 0, args.seeds - 1), runs[1]
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = next(iter(config.features_spec(args.dataset)["files"].values()))
        raw = (Path(args.mirror or ".") / file["mirror"]).parent
        features, splits = make_inputs(config, job, folder, raw)
        found = {
            precision: scores(config, job, like, precision, features, splits, folder, args.threads)
            for precision in ("fp32", "bf16")
        }
    summary = {}
    for what in ("accuracy", "log_prob"):
        change = np.subtract(found["bf16"][what], found["fp32"][what])
        error = change.std(ddof=1) / len(change) ** 0.5
        summary[what] = {"mean_change": float(change.mean()), "standard_error": float(error)}
        print(f"{what}: {np.mean(found['fp32'][what]):.2f} in fp32; in bf16 {change.mean():+.3f}")
        print(f"  with a standard error of {error:.3f}, n = {len(change)} paired seeds")
    if args.json:
        what = {"dataset": args.dataset, "recipe": args.recipe, "like": like.dataset}
        write_json(args.json, what | {"threads": args.threads, **found, "summary": summary})


if __name__ == "__main__":
    main()
