"""Record of a job: predictions, metrics, identity and environment of its seeds."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.evaluation import metrics
from flowgmm.evaluation.calibration import best_temperature, tempered
from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.provenance import environment
from flowgmm.experiments.task import Task, part_rows
from flowgmm.methods.parts import Training
from flowgmm.training.hardware import find_device, find_precision
from flowgmm.utils.errors import DivergedError
from flowgmm.utils.io import content_hash

__all__ = ["identity", "make_entry", "predict", "run_keys", "truth_of", "used_environment"]

# Test points once a temperature is fitted to the validation points (spec 1.8).
TEMPERED = "test_tempered"


def run_keys(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a spec that identify the run."""
    return {key: spec[key] for key in ("dataset", "labels", "method", "recipe", "seeds")}


def identity(spec: Mapping[str, Any], hashes: Mapping[str, Any], execution: Execution) -> str:
    """Hash of everything on which the bits of a training are known to depend.

    Computed without torch, whose import takes seconds, unless the precision is `auto`: a job that
    is cached does not need it.
    """
    device, threads = execution.device, execution.threads
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    # A requeued job may get another of a node's GPUs; only that it gets none makes a difference.
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    gpus = _gpus() if spec["neural"] and device != "cpu" and not hidden else []
    capability = os.environ.get("ATEN_CPU_CAPABILITY")
    machine = [device if gpus else "cpu", gpus, capability, simd.get("found", [])]
    stack = {
        "versions": environment()["versions"],
        "machine": machine,
        "threads": threads,
        "precision": _precision(spec, execution),
    }
    return content_hash({"spec": spec, "hashes": hashes, "stack": stack})


def _gpus() -> list[str]:
    """Models of this machine's GPUs, from NVIDIA's driver; empty without a driver."""
    files = Path("/proc/driver/nvidia/gpus").glob("*/information")
    lines = [line for path in sorted(files) for line in path.read_text().splitlines()]
    return [line for line in lines if line.startswith("Model:")]


def _precision(spec: Mapping[str, Any], execution: Execution) -> str | None:
    """Precision of a training's products; None for a method without a training."""
    if (training := spec["params"].get("training")) is None:
        return None
    name = str(training.get("precision", Training().precision))
    if name != "auto":
        return name
    # Methods that are fitted seed by seed train on the CPU.
    device = find_device(execution.device).type if spec["neural"] else "cpu"
    return find_precision(name, device)


def predict(
    spec: Mapping[str, Any],
    data: Mapping[str, np.ndarray],
    tasks: Sequence[Task],
    fitted: Sequence[tuple[Any, Any]],
    n_classes: int,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Predict all parts to evaluate with the estimator of each seed.

    Arguments:
        spec: Spec of the job.
        data: ``X_train`` and, where evaluated, ``X_test``.
        tasks: A task per seed.
        fitted: Per seed the fitted estimator, and its notes.
        n_classes: Number K of classes.

    Returns:
        Predicted classes by part, shape (S, n), -1 for a failed seed; and per seed and part the
        predicted classes, log probabilities, shape (n, K), log densities or None, and their lower
        bounds or None.
    """
    # Tempering moves no prediction.
    parts = [part for part in spec["evaluate"] if part != TEMPERED]
    predictions: dict[str, list[np.ndarray]] = {part: [] for part in parts}
    outcomes = []
    for task, (estimator, _) in zip(tasks, fitted, strict=True):
        outcome = {}
        for part in parts:
            X = _points(task, data, part)
            if getattr(estimator, "failure_", None) is not None:
                predictions[part].append(np.full(len(X), -1, np.int16))
                continue
            log_proba = _log_proba(estimator, X, n_classes)
            predicted = log_proba.argmax(axis=1).astype(np.int16)
            density = estimator.score_samples(X) if hasattr(estimator, "score_samples") else None
            predictions[part].append(predicted)
            bound = estimator.bound(X) if hasattr(estimator, "bound") else None
            outcome[part] = (predicted, log_proba, density, bound)
        outcomes.append(outcome)
    return {part: np.stack(rows) for part, rows in predictions.items()}, outcomes


def _points(task: Task, data: Mapping[str, np.ndarray], part: str) -> np.ndarray:
    """Points of a part to evaluate."""
    return data["X_test"] if part == "test" else data["X_train"][part_rows(task, part)]


def truth_of(task: Task, y_train: np.ndarray, y_test: np.ndarray) -> dict[str, np.ndarray]:
    """True classes of each part."""
    return {
        "test": y_test,
        "val": task.y_val,
        "unlabelled": y_train[part_rows(task, "unlabelled")],
    }


def _log_proba(estimator: Any, X: np.ndarray, n_classes: int) -> np.ndarray:
    """Log probabilities, shape (N, K); -infinity where a probability is 0 or rounds to it.

    That is so for a class without labelled points, and often with scikit-learn's classifiers, which
    take the logarithm of `predict_proba`.
    """
    with np.errstate(divide="ignore"):
        if hasattr(estimator, "predict_log_proba"):
            found = estimator.predict_log_proba(X)
        else:
            found = np.log(estimator.predict_proba(X))
    full = np.full((len(X), n_classes), -np.inf)
    full[:, estimator.classes_] = found
    return full


def make_entry(
    spec: Mapping[str, Any],
    i: int,
    estimator: Any,
    notes: Mapping[str, Any],
    split_seeds: Mapping[str, int],
    outcome: Mapping[str, Any],
    truth: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Entry of one seed in the record.

    Arguments:
        spec: Spec of the job.
        i: Position of the seed in the job.
        estimator: The fitted estimator.
        notes: Further items of the entry: tuning, restarts.
        split_seeds: Seeds of which the split was drawn.
        outcome: Predictions of each evaluated part, from `predict`.
        truth: True classes of each part.
    """
    entry: dict[str, Any] = {
        "seed": spec["seeds"][i],
        "split": spec["splits"][i],
        "seeds": {
            # A restart replaces the one of the spec.
            "random_state": getattr(estimator, "random_state", spec["random_states"][i]),
            **split_seeds,
            # A neural estimator derives one seed per purpose from its random_state.
            **getattr(estimator, "seeds_", {}),
        },
        "history": getattr(estimator, "history_", None),
        "reason": None,
        **notes,
    }
    if resumes := getattr(estimator, "inexact_resumes_", []):
        entry["inexact_resumes"] = resumes
    n_iter = getattr(estimator, "n_iter_", None)
    if n_iter is not None:
        entry["n_iter"] = np.max(n_iter).item()
    failure = getattr(estimator, "failure_", None)
    try:
        found = {part: metrics.evaluate(truth[part], *values) for part, values in outcome.items()}
        if TEMPERED in spec["evaluate"] and outcome:
            entry["temperature"], found[TEMPERED] = _temper(outcome, truth)
    except DivergedError as error:
        failure, found = str(error), {}
    if failure is not None:
        return entry | {"status": "failed", "reason": failure, "metrics": {}}
    least = spec["collapsed_below"]
    if least and (accuracy := found["val"]["accuracy"]) < least:
        reason = f"collapsed: validation accuracy {accuracy:.1%} is below {least:.0%}"
        return entry | {"status": "failed", "reason": reason, "metrics": found}
    return entry | {"status": "ok", "metrics": found}


def _temper(
    outcome: Mapping[str, Any], truth: Mapping[str, np.ndarray]
) -> tuple[float | None, dict[str, float]]:
    """Fit a temperature to the validation points; metrics of the test points with it.

    Returns:
        None and no metrics where a true class of a validation point has probability 0, since no
        power of it is more likely.
    """
    log_proba = outcome["val"][1]
    if np.isinf(metrics.class_nll(truth["val"], log_proba)):
        return None, {}
    temperature = best_temperature(truth["val"], log_proba)
    predicted, log_proba, *_ = outcome["test"]
    return temperature, metrics.evaluate(truth["test"], predicted, tempered(log_proba, temperature))


def used_environment(spec: Mapping[str, Any], execution: Execution) -> dict[str, Any]:
    """Environment of a run; the same one, spec and data give the same bits."""
    device, threads = execution.device, execution.threads
    found = environment() | {
        "device": "cpu",
        "instructions": None,
        "threads": threads,
        "precision": _precision(spec, execution),
    }
    if spec["neural"]:
        import torch

        found["instructions"] = torch.backends.cpu.get_cpu_capability()
        if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
            found["device"] = torch.cuda.get_device_name(None if device == "auto" else device)
    return found
