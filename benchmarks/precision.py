"""Accuracy and likelihood in bfloat16 against float32: paired seeds of FlowGMM.

    python benchmarks/precision.py --mirror ../shared/data

Each seed has the same split, initialisation, batches and dropout in both precisions. Accuracy and
mean log p(x) on test points are compared as the workflow records them, and, point by point, the
log-dets and log p(x) of the same trained parameters.
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, chosen, make_parser, write_results, write_splits
from scipy.special import logsumexp

from flowgmm.datasets.download import download_file
from flowgmm.datasets.features import prepare_data
from flowgmm.embed.embed_data import embed_data
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.entries import as_written
from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.paths import is_embedded
from flowgmm.experiments.project import Job, Project, Run
from flowgmm.experiments.recipes import method_settings
from flowgmm.experiments.specs.data import features_spec
from flowgmm.experiments.specs.runs import train_spec
from flowgmm.experiments.train_job import train_stack
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.methods import override
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.utils.io import read_json, read_tensors, write_tensors

# Test points of each seed that are compared one by one.
N_POINTS = 2000
N_TEXTS = {"train": 20_000, "test": 5000}
# Nats per dimension: for means the last digit of Table 7, whose data have two dimensions; for the
# 99th percentile of single points ten times that.
MEAN_TOLERANCE, POINT_TOLERANCE = 0.005, 0.05


@dataclass(frozen=True)
class Case:
    """Training whose precision is a choice.

    Arguments:
        shape: Name of the kind of training.
        dataset: Origin of the points; the first label set is used.
        recipe: Origin of the hyper-parameters.
        like: Dataset whose hyper-parameters are used; None: its own.
        params: Hyper-parameters that differ from the recipe's.
    """

    shape: str
    dataset: str
    recipe: str
    like: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


# Without epochs: the official ones take days on a CPU.
SHORT = {"training": {"n_epochs": None, "n_steps": 100, "unlabelled_batch": 200}}
CASES = {
    "text": Case("text", "ag_news", "small"),
    "text_wide": Case("text, the paper's width", "ag_news", "official", params=SHORT),
    "features": Case("image features", "cifar10_efficientnet", "recommended"),
    "uci": Case("UCI", "magic", "small", like="miniboone"),
    "moons": Case("2-D, Table 7", "moons", "official"),
    "circles": Case("2-D, Table 7", "circles", "official"),
}


def make_inputs(config: Project, job: Job, folder: Path) -> tuple[Path, dict[int, Path]]:
    """Make features and splits from raw files; of texts as many as the recipe `small` has."""
    name = job.run.dataset
    features, spec = folder / "features.safetensors", features_spec(config, name)
    for file, source in spec["files"].items():
        download_file(source, folder / file, config.mirror)
    if is_embedded(config, name):
        if config.dataset(name).kind == "text":
            spec["options"] |= {"train_rows": N_TEXTS["train"], "test_rows": N_TEXTS["test"]}
            spec["rows"] = N_TEXTS
        write_tensors(features, *embed_data(spec, folder, ROOT / "results/cache/embed"))
    else:
        write_tensors(features, *prepare_data(spec, folder))
    return features, write_splits(config, job, features, folder)


def trained(
    spec: dict[str, Any],
    precision: str,
    features: Path,
    splits: dict[int, Path],
    folder: Path,
    threads: int,
) -> dict[str, Any]:
    """Train in one precision; return accuracy (percent), mean log p(x) in nats and CPU seconds."""
    spec = spec | {"params": override(spec["params"], {"training__precision": precision})}
    start = time.process_time()
    record = train_stack(
        spec, features, splits, folder / precision, folder / "state", Execution("cpu", threads)
    )
    test = [entry["metrics"]["test"] for entry in record["runs"]]
    return {
        "accuracy": [100 * scores["accuracy"] for scores in test],
        "log_prob": [-scores["nll"] for scores in test],
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def densities(model: FlowGMMClassifier, X: np.ndarray) -> dict[str, np.ndarray]:
    """Log p(x) and log|det dz/dx| of each point in nats, shape (N,)."""
    log_prob, z = model.score_samples(X), model.transform(X).astype(np.float64)
    std = model.std_.astype(np.float64)
    modelled, residual = np.split(z, [model.means_.shape[1]], axis=1)
    squared = ((modelled[:, None] - model.means_) ** 2).sum(2) / std**2
    log_norm = modelled.shape[1] * (np.log(std) + 0.5 * np.log(2 * np.pi))
    log_z = logsumexp(np.log(model.weights_) - 0.5 * squared - log_norm, axis=1)
    log_residual = -0.5 * (residual**2 + np.log(2 * np.pi)).sum(1)
    return {"log_prob": log_prob, "log_det": log_prob - log_z - log_residual}


def point_by_point(models: list[FlowGMMClassifier], X: np.ndarray) -> dict[str, dict[str, float]]:
    """Change by bfloat16 products for the same parameters, in nats per dimension."""
    changes: dict[str, list[np.ndarray]] = {"log_prob": [], "log_det": []}
    for model in models:
        exact = densities(model, X)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = densities(model, X)
        for name, change in changes.items():
            change.append((rounded[name] - exact[name]) / X.shape[1])
    if not np.any(changes["log_det"]):
        raise RuntimeError("evaluation under autocast equals fp32: it does not measure bf16")
    return {
        name: {
            "mean": float(np.mean(change)),
            "mean_abs": float(np.mean(np.abs(change))),
            "q99_abs": float(np.quantile(np.abs(change), 0.99)),
            "max_abs": float(np.max(np.abs(change))),
        }
        for name, change in changes.items()
    }


def verdict(found: dict[str, dict[str, Any]], points: dict[str, Any], width: int) -> dict[str, Any]:
    """Mean paired changes, their standard errors, and whether bf16 may be the default.

    bf16 may be the default where accuracy changes by no more than its standard error, log p(x) by
    no more than its own or the tolerance, and log-dets and log p(x) of the same parameters by no
    more than the tolerances.
    """
    summary: dict[str, Any] = {}
    for what in ("accuracy", "log_prob"):
        change = np.subtract(found["bf16"][what], found["fp32"][what])
        summary[what] = {
            "fp32": float(np.mean(found["fp32"][what])),
            "mean_change": float(change.mean()),
            "standard_error": float(change.std(ddof=1) / len(change) ** 0.5),
        }
    accuracy, log_prob = summary["accuracy"], summary["log_prob"]
    held = {
        "same_accuracy": abs(accuracy["mean_change"]) <= accuracy["standard_error"],
        "same_likelihood": abs(log_prob["mean_change"])
        <= max(log_prob["standard_error"], MEAN_TOLERANCE * width),
        "same_densities": all(
            abs(change["mean"]) <= MEAN_TOLERANCE and change["q99_abs"] <= POINT_TOLERANCE
            for change in points.values()
        ),
    }
    return summary | held | {"may_be_bf16": all(held.values())}


def compare(case: Case, n_seeds: int, settings: dict[str, Any], threads: int) -> dict[str, Any]:
    """Train a case in both precisions and compare."""
    config = load_checked(ROOT, settings | {"recipe": case.recipe})
    runs = [
        Run(name, next(iter(config.dataset(name).labels)), "flowgmm")
        for name in (case.dataset, case.like or case.dataset)
    ]
    job = Job(runs[0], 0, n_seeds - 1)
    like = as_written(method_settings(config, runs[1]))
    spec = train_spec(config, job) | like | {"tune": None}
    spec["params"] = override(spec["params"], case.params)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        features, splits = make_inputs(config, job, folder)
        found = {
            precision: trained(spec, precision, features, splits, folder, threads)
            for precision in ("fp32", "bf16")
        }
        models = FlowGMMClassifier.load_stack(folder / "fp32" / "model.safetensors")
        X = read_tensors(features, ["X_test"])[0]["X_test"]
        # Evenly spaced, since files may be sorted by class.
        points = point_by_point(models, X[:: max(1, len(X) // N_POINTS)])
    return {
        "shape": case.shape,
        "dataset": case.dataset,
        "recipe": case.recipe,
        "like": case.like,
        "params": case.params,
        "steps": models[0].n_iter_,
        "threads": threads,
        "torch": torch.__version__,
        **found,
        "per_point": points,
        "summary": verdict(found, points, X.shape[1]),
    }


def main() -> None:
    """Print the paired differences; write everything to a file."""
    parser = make_parser(__doc__, "cases")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--mirror", help="folder with the raw files; see config/config.yaml")
    parser.add_argument("--text-encoder", default="minilm", help="see config/config.yaml")
    parser.add_argument("--image-encoder", default="efficientnet_lite0")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    names = chosen(parser, args.cases, CASES)
    settings = read_yaml(ROOT / "config" / "config.yaml") | {
        "mirror": args.mirror,
        "text_encoder": args.text_encoder,
        "image_encoder": args.image_encoder,
    }
    torch.set_num_threads(args.threads)
    for name in names:
        result = compare(CASES[name], args.seeds, settings, args.threads)
        summary = result["summary"]
        for what in ("accuracy", "log_prob"):
            change = summary[what]
            print(
                f"{name} {what}: {change['fp32']:.2f} in fp32; in bf16 {change['mean_change']:+.3f}"
                f" with a standard error of {change['standard_error']:.3f}"
            )
        for what, change in result["per_point"].items():
            print(f"  {what} of a point: {change['mean_abs']:.2g} nats per dimension")
        print(f"  may be bf16: {summary['may_be_bf16']}", flush=True)
        # Other cases in the file are kept.
        earlier = read_json(args.json) if args.json and Path(args.json).exists() else {}
        write_results(args.json, earlier | {name: result})


if __name__ == "__main__":
    main()
