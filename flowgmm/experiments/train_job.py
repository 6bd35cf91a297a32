"""One training job: spec, features and splits in; predictions, a record and a model out.

A candidate of a grid is trained by the same path; only its accuracy on validation points comes out.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.evaluation import metrics
from flowgmm.evaluation.calibration import best_temperature, tempered
from flowgmm.experiments.job_cache import once
from flowgmm.experiments.provenance import environment, git_state
from flowgmm.methods import build
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.io import (
    content_hash,
    read_json,
    read_meta,
    read_tensors,
    sha256,
    write_json,
    write_tensors,
)
from flowgmm.utils.progress import Progress
from flowgmm.utils.seeds import derive

__all__ = ["run", "tune"]

# Restarts (spec, trap 7): how often, after which share of the steps, how far below the accuracy of
# logistic regression.
MAX_RESTARTS = 3
RESTART_LOOK = 0.1
RESTART_MARGIN = 0.05
# Test points once a temperature is fitted to the validation points (spec 1.8).
TEMPERED = "test_tempered"


@dataclass(frozen=True)
class _Task:
    """All that one seed may see of the labels.

    Attributes:
        rows: Rows of the training part that it learns from, shape (n,).
        y: Their labels, -1 where hidden, shape (n,).
        split: Rows of labelled, unlabelled and validation points.
        y_val: Labels of the validation points, shape (n_val,).
    """

    rows: np.ndarray
    y: np.ndarray
    split: dict[str, np.ndarray]
    y_val: np.ndarray


def run(
    spec: Mapping[str, Any],
    features: Path,
    splits: Mapping[int, Path],
    out: Path,
    checkpoints: Path,
    device: str = "auto",
    threads: int = 1,
    progress: Progress | None = None,
    choice: Path | None = None,
) -> dict[str, Any]:
    """Fit one method on all seeds of a job, evaluate, and write what came out.

    Neither fitting nor tuning can see the labels of test points: they are read after the
    predictions are made. A job that another process works on is waited for, and one that has
    finished before is not done again (`flowgmm.experiments.job_cache`).

    Arguments:
        spec: From `flowgmm.experiments.project.Config.train_spec`.
        features: Features file.
        splits: Split file by its number.
        out: Folder for ``record.json``, ``predictions.safetensors`` and, of neural methods,
            ``model.safetensors``.
        checkpoints: Folder for unfinished trainings, each under the hash of everything that
            determines it.
        device: Where neural methods train.
        threads: Threads on a CPU.
        progress: Called with (step, n_steps, text).
        choice: What was chosen from the grid of a neural method, as
            `flowgmm.experiments.tuning.choose` made it; lies over the spec's params.

    Returns:
        The record.

    Raises:
        UserError: If an input is missing or does not fit the spec, or a parameter is out of range.
    """
    start = time.monotonic()
    chosen: dict[str, Any] = {}
    hashes = {
        "code": spec["code"],
        "features": sha256(features),
        "splits": {str(number): sha256(path) for number, path in sorted(splits.items())},
    }
    if spec["neural"] and spec["tune"]:
        if choice is None:
            raise UserError(
                f"{spec['dataset']}/{spec['labels']}, {spec['method']} has a grid, but nothing was "
                "chosen from it; give the file that the rule `choose` makes"
            )
        found = read_json(choice)
        chosen = {"tuned": found["params"], "tuning": found["curve"], "budget": found["budget"]}
        hashes["choice"] = sha256(choice)
    checkpoint = checkpoints / _identity(spec, hashes, device, threads)
    given = features, str(hashes["features"])

    def make() -> None:
        data, meta = read_tensors(features, ["X_train", "y_train", "X_test"])
        tasks = [
            _task(spec, data["y_train"], number, splits[number], given) for number in spec["splits"]
        ]

        fitting = time.monotonic()
        fitted = _fit(
            {**spec, "params": {**spec["params"], **chosen.get("tuned", {})}},
            data["X_train"],
            tasks,
            checkpoint,
            device,
            threads,
            progress,
        )
        fit_s = time.monotonic() - fitting

        predictions, outcomes = _predict(spec, data, tasks, fitted, len(meta["classes"]))
        y_test = read_tensors(features, ["y_test"])[0]["y_test"]
        split_seeds = {number: read_meta(path)["seeds"] for number, path in splits.items()}
        entries = []
        for i, (estimator, notes) in enumerate(fitted):
            truth = _truth(tasks[i], data["y_train"], y_test)
            drawn = split_seeds[spec["splits"][i]]
            entries.append(_entry(spec, i, estimator, notes | chosen, drawn, outcomes[i], truth))

        out.mkdir(parents=True, exist_ok=True)
        write_tensors(out / "predictions.safetensors", predictions, {"spec": dict(spec)})
        if spec["neural"]:
            estimators = [estimator for estimator, _ in fitted]
            type(estimators[0]).save_stack(out / "model.safetensors", estimators, _run(spec))
        first, shape = tasks[0].split, list(data["X_train"].shape[1:])
        record = {
            **_run(spec),
            "spec": dict(spec),
            "hashes": hashes,
            "data": {
                **{key: meta[key] for key in ("classes", "notes", "not_comparable", "sources")},
                "n_features": int(np.prod(shape)),
                "image_shape": shape if len(shape) == 3 else None,
                "n_train": len(data["X_train"]),
                "n_test": len(y_test),
                "n_labelled": len(first["labelled"]),
                "n_unlabelled": 0 if spec["labelled_only"] else len(first["unlabelled"]),
                "n_val": len(first["val"]),
            },
            "runs": entries,
            "environment": _environment(spec, device, threads),
            "git": git_state(),
            "timing": {
                "fit_s": round(fit_s, 3),
                "wall_s": round(time.monotonic() - start, 3),
            },
        }
        write_json(out / "record.json", record)

    outputs = [out / "predictions.safetensors", out / "record.json"]
    once(checkpoint, [*([out / "model.safetensors"] if spec["neural"] else []), *outputs], make)
    return dict(read_json(out / "record.json"))


def _run(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Which run it is."""
    return {key: spec[key] for key in ("dataset", "labels", "method", "recipe", "seeds")}


def _identity(spec: Mapping[str, Any], hashes: Mapping[str, Any], device: str, threads: int) -> str:
    """Hash of all that the bits of a training are known to depend on.

    Without torch, whose import takes seconds: a job that is taken over needs nothing else of it.
    """
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    # A requeued job may get another of a node's GPUs; only that it gets none makes a difference.
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    gpus = _gpus() if spec["neural"] and device != "cpu" and not hidden else []
    capability = os.environ.get("ATEN_CPU_CAPABILITY")
    machine = [device if gpus else "cpu", gpus, capability, simd.get("found", [])]
    stack = {"versions": environment()["versions"], "machine": machine, "threads": threads}
    return content_hash({"spec": spec, "hashes": hashes, "stack": stack})


def _gpus() -> list[str]:
    """Models of this machine's GPUs, as NVIDIA's driver tells them; empty without a driver."""
    told = Path("/proc/driver/nvidia/gpus").glob("*/information")
    lines = [line for path in sorted(told) for line in path.read_text().splitlines()]
    return [line for line in lines if line.startswith("Model:")]


def tune(
    spec: Mapping[str, Any],
    features: Path,
    splits: Mapping[int, Path],
    output: Path,
    checkpoints: Path,
    device: str = "auto",
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train one candidate of a grid and write its accuracy on validation points.

    Nothing of the test part is read, and of the labels only those of the labelled and the
    validation points: what is written is a function of these (beside the times).

    Arguments:
        spec: From `flowgmm.experiments.project.Config.tune_spec`.
        features: Features file, of which the training part is read.
        splits: Split file by its number.
        output: The file, which `flowgmm.experiments.tuning.choose` reads.
        checkpoints: As for `run`.
        device: Where the candidate trains.
        threads: Threads on a CPU.
        progress: Called with (step, n_steps, text).

    Returns:
        What was written.

    Raises:
        UserError: As for `run`, or if a validation point has no label.
    """
    from flowgmm.experiments.tuning import check_validation

    start = time.monotonic()
    data, meta = read_tensors(features, ["X_train", "y_train"])
    y_train = data.pop("y_train")
    given = features, sha256(features)
    tasks = [_task(spec, y_train, number, splits[number], given) for number in spec["splits"]]
    del y_train  # from here on there are only the labels that the tasks hold
    for task in tasks:
        check_validation(task.y_val)
    hashes = {"code": spec["code"], "seen": _digest(data["X_train"], tasks)}
    checkpoint = checkpoints / _identity(spec, hashes, device, threads)

    def make() -> None:
        fitted = _fit(spec, data["X_train"], tasks, checkpoint, device, threads, progress)
        _, outcomes = _predict(spec, data, tasks, fitted, len(meta["classes"]))
        split_seeds = {number: read_meta(path)["seeds"] for number, path in splits.items()}
        runs = []
        for i, (task, (estimator, notes)) in enumerate(zip(tasks, fitted, strict=True)):
            drawn, truth = split_seeds[spec["splits"][i]], {"val": task.y_val}
            entry = _entry(spec, i, estimator, notes, drawn, outcomes[i], truth)
            entry["accuracy"] = entry.pop("metrics").get("val", {}).get("accuracy")
            runs.append(entry)
        point = {
            **{key: spec[key] for key in ("dataset", "labels", "method", "recipe", "candidate")},
            "spec": dict(spec),
            "hashes": hashes,
            "n_val": len(np.unique(np.concatenate([task.split["val"] for task in tasks]))),
            "runs": runs,
            "environment": _environment(spec, device, threads),
            "git": git_state(),
            "timing": {"wall_s": round(time.monotonic() - start, 3)},
        }
        write_json(output, point)

    once(checkpoint, [output], make)
    return dict(read_json(output))


def _digest(X: np.ndarray, tasks: Sequence[_Task]) -> str:
    """Hexadecimal SHA-256 of all that tasks may see."""
    digest = hashlib.sha256()
    for array in (X, *(a for t in tasks for a in (t.rows, t.y, *t.split.values(), t.y_val))):
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _task(
    spec: Mapping[str, Any], y_train: np.ndarray, number: int, path: Path, given: tuple[Path, str]
) -> _Task:
    """Rows and labels of one split; labels of points that only have an input are hidden.

    Raises:
        UserError: If the file is another split, or one of other features.
    """
    split, meta = read_tensors(path, ["labelled", "unlabelled", "val"])
    expected = {"dataset": spec["dataset"], "labels": spec["labels"], "split": number}
    if found := {k: meta.get(k) for k, v in expected.items() if meta.get(k) != v}:
        raise UserError(
            f"{path} is another split: {found} instead of {expected}; delete it and run again"
        )
    features, digest = given
    if meta.get("features_sha256") != digest:
        raise UserError(
            f"{path} was drawn from other features than {features}; delete both and run again"
        )
    rows = split["labelled"]
    if not spec["labelled_only"]:
        rows = np.union1d(rows, split["unlabelled"])
    known = np.isin(rows, split["labelled"])
    return _Task(rows, np.where(known, y_train[rows], -1), split, y_train[split["val"]])


def _fit(
    spec: Mapping[str, Any],
    X: np.ndarray,
    tasks: Sequence[_Task],
    checkpoint: Path,
    device: str,
    threads: int,
    progress: Progress | None,
) -> list[tuple[Any, dict[str, Any]]]:
    """A fitted estimator per seed, and notes for its record; X are the training inputs, (N, D)."""
    try:
        if spec["neural"]:
            return _fit_stack(spec, X, tasks, checkpoint, device, threads, progress)
        return _fit_each(spec, X, tasks, progress)
    except ValueError as error:  # the features are checked: what an estimator refuses is a setting
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise UserError(
            f"{spec['dataset']}/{spec['labels']}, {spec['method']}: "
            f"{' '.join(str(error).split())}; correct config/recipes/{spec['recipe']}.yaml"
        ) from error


def _fit_stack(
    spec: Mapping[str, Any],
    X: np.ndarray,
    tasks: Sequence[_Task],
    checkpoint: Path,
    device: str,
    threads: int,
    progress: Progress | None,
) -> list[tuple[Any, dict[str, Any]]]:
    """All seeds in one stacked training."""
    import torch

    torch.set_num_threads(threads)
    params = {**spec["params"], "device": device, "preprocess": spec["preprocess"]}
    if params.get("unlabelled_batch") == "n_labels":
        params["unlabelled_batch"] = len(tasks[0].split["labelled"])
    sizes = {len(task.rows) for task in tasks}
    if len(sizes) > 1:
        raise UserError(
            f"{spec['dataset']}/{spec['labels']}: seeds with {sorted(sizes)} points cannot share "
            "a stack; set seeds_per_job: 1 in config/config.yaml"
        )

    def fit(tasks: Sequence[_Task], states: Sequence[int], **options: Any) -> list[Any]:
        val = None
        if params.get("keep") == "best_val":
            rows = np.stack([task.split["val"] for task in tasks])
            val = rows, np.stack([task.y_val for task in tasks])
        estimators = [build(spec["estimator"], params, random_state=state) for state in states]
        type(estimators[0]).fit_stack(
            estimators,
            X,
            np.stack([task.y for task in tasks]),
            rows=np.stack([task.rows for task in tasks]),
            val=val,
            progress=progress,
            **options,
        )
        return estimators

    states = spec["random_states"]
    notes: list[dict[str, Any]] = [{"tuned": None} for _ in tasks]
    if spec["restart"] == "val":
        states, restarts = _restart(X, tasks, states, fit)
        notes = [{"tuned": None, "restarts": restarted} for restarted in restarts]
    checkpoint.mkdir(parents=True, exist_ok=True)
    estimators = fit(tasks, states, checkpoint=checkpoint / "state")
    return list(zip(estimators, notes, strict=True))


def _restart(
    X: np.ndarray,
    tasks: Sequence[_Task],
    states: Sequence[int],
    fit: Callable[..., list[Any]],
) -> tuple[list[int], list[dict[str, Any]]]:
    """Other weights and means, never another split, for seeds that start poorly (spec, trap 7).

    Returns:
        A random state per seed, and what was tried: validation accuracies after a tenth of the
        steps, and the accuracy that was asked for.
    """
    least = [_logistic_accuracy(X, task) - RESTART_MARGIN for task in tasks]
    states = list(states)
    tried: list[list[float]] = [[] for _ in tasks]
    left = list(range(len(tasks)))
    for attempt in range(1, MAX_RESTARTS + 1):
        looked_at = fit([tasks[i] for i in left], [states[i] for i in left], share=RESTART_LOOK)
        poor = []
        for i, estimator in zip(left, looked_at, strict=True):
            failed = estimator.failure_ is not None
            hits = estimator.predict(X[tasks[i].split["val"]]) == tasks[i].y_val
            tried[i].append(0.0 if failed else float(hits.mean()))
            if tried[i][-1] < least[i]:
                poor.append(i)
                states[i] = derive(f"restart/{attempt}", states[i], "initialisation")
        left = poor
        if not left:
            break
    return states, [
        {"count": sum(a < bar for a in accuracies), "least": bar, "tried": accuracies}
        for accuracies, bar in zip(tried, least, strict=True)
    ]


def _logistic_accuracy(X: np.ndarray, task: _Task) -> float:
    """Validation accuracy of logistic regression on the labelled points."""
    from sklearn.linear_model import LogisticRegression

    known = task.y >= 0
    model = LogisticRegression(max_iter=1000).fit(X[task.rows[known]], task.y[known])
    return float((model.predict(X[task.split["val"]]) == task.y_val).mean())


def _fit_each(
    spec: Mapping[str, Any],
    X: np.ndarray,
    tasks: Sequence[_Task],
    progress: Progress | None,
) -> list[tuple[Any, dict[str, Any]]]:
    """Seeds one by one; hyper-parameters with a grid are chosen on the seed's validation points."""
    from flowgmm.experiments.tuning import choose_on_validation

    fitted = []
    for i, (task, state) in enumerate(zip(tasks, spec["random_states"], strict=True)):
        if progress is not None:
            progress(i, len(tasks), f"fitting seed {spec['seeds'][i]}")

        def make(extra: Mapping[str, Any], state: int = state) -> Any:
            params = {**spec["params"], **extra}
            return build(spec["estimator"], params, spec["preprocess"], state)

        notes: dict[str, Any] = {"tuned": None}
        chosen: dict[str, Any] = {}
        if spec["tune"]:
            choice = choose_on_validation(
                lambda make=make, **candidate: make({**spec["tune_with"], **candidate}),
                spec["tune"],
                X[task.rows],
                task.y,
                X[task.split["val"]],
                task.y_val,
            )
            chosen = dict(choice.params)
            notes = {"tuned": chosen, "tuning": list(choice.curve), "budget": choice.budget}
        fitted.append((make(chosen).fit(X[task.rows], task.y), notes))
    if progress is not None:
        progress(len(tasks), len(tasks), "fitted")
    return fitted


def _points(task: _Task, data: Mapping[str, np.ndarray], part: str) -> np.ndarray:
    """Points of a part to evaluate."""
    return data["X_test"] if part == "test" else data["X_train"][_part_rows(task, part)]


def _part_rows(task: _Task, part: str) -> np.ndarray:
    """Training rows of ``val`` or ``unlabelled``; labelled points never count as unlabelled."""
    if part == "val":
        return task.split["val"]
    return np.setdiff1d(task.split["unlabelled"], task.split["labelled"])


def _truth(task: _Task, y_train: np.ndarray, y_test: np.ndarray) -> dict[str, np.ndarray]:
    """True classes of each part."""
    return {
        "test": y_test,
        "val": task.y_val,
        "unlabelled": y_train[_part_rows(task, "unlabelled")],
    }


def _predict(
    spec: Mapping[str, Any],
    data: Mapping[str, np.ndarray],
    tasks: Sequence[_Task],
    fitted: Sequence[tuple[Any, Any]],
    n_classes: int,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Predicted classes, (S, n) per part, -1 for a failed seed; and what metrics need, per seed."""
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
            outcome[part] = (predicted, log_proba, density)
        outcomes.append(outcome)
    return {part: np.stack(rows) for part, rows in predictions.items()}, outcomes


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


def _entry(
    spec: Mapping[str, Any],
    i: int,
    estimator: Any,
    notes: Mapping[str, Any],
    split_seeds: Mapping[str, int],
    outcome: Mapping[str, Any],
    truth: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """One seed's part of the record."""
    entry: dict[str, Any] = {
        "seed": spec["seeds"][i],
        "split": spec["splits"][i],
        "seeds": {
            # After a restart it is not the spec's.
            "random_state": getattr(estimator, "random_state", spec["random_states"][i]),
            **split_seeds,
            # A neural estimator derives one seed per purpose from its random_state.
            **getattr(estimator, "seeds_", {}),
        },
        "history": getattr(estimator, "history_", None),
        "reason": None,
        **notes,
    }
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
    """A temperature from the validation points, and the metrics of the test points with it.

    There is none, and so are no metrics, where a true class of a validation point has probability
    0: no power of it is more likely.
    """
    log_proba = outcome["val"][1]
    if np.isinf(metrics.class_nll(truth["val"], log_proba)):
        return None, {}
    temperature = best_temperature(truth["val"], log_proba)
    predicted, log_proba, _ = outcome["test"]
    return temperature, metrics.evaluate(truth["test"], predicted, tempered(log_proba, temperature))


def _environment(spec: Mapping[str, Any], device: str, threads: int) -> dict[str, Any]:
    """What a run is made with: the same again, with the same spec and data, gives the same bits."""
    found = environment() | {"device": "cpu", "instructions": None, "threads": threads}
    if spec["neural"]:
        import torch

        found["instructions"] = torch.backends.cpu.get_cpu_capability()
        if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
            found["device"] = torch.cuda.get_device_name(None if device == "auto" else device)
    return found
