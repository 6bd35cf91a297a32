"""Training job: spec, features and splits in; predictions, a record and a model out."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.experiments.fitting import AUTOMATIC, Execution, fit
from flowgmm.experiments.job_cache import run_once
from flowgmm.experiments.m1_cache import provide_m1
from flowgmm.experiments.provenance import git_state
from flowgmm.experiments.record import (
    identity,
    make_entry,
    predict,
    run_keys,
    truth_of,
    used_environment,
)
from flowgmm.experiments.task import Task, load_task
from flowgmm.methods import override
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_meta, read_tensors, sha256, write_json, write_tensors

__all__ = ["output_files", "train_stack"]


def train_stack(
    spec: Mapping[str, Any],
    features: Path,
    splits: Mapping[int, Path],
    out: Path,
    checkpoints: Path,
    execution: Execution = AUTOMATIC,
    choice: Path | None = None,
) -> dict[str, Any]:
    """Fit one method on all seeds of a job, evaluate it, and write predictions, record and model.

    Neither fitting nor tuning can see the labels of test points: they are read after the
    predictions are made. A job that another process works on is waited for, and one that has
    finished before is not done again (`flowgmm.experiments.job_cache`).

    Arguments:
        spec: From `flowgmm.experiments.specs.runs.train_spec`.
        features: Features file.
        splits: Split file by its number.
        out: Folder for ``record.json``, ``predictions.safetensors`` and, of neural methods,
            ``model.safetensors``.
        checkpoints: Folder for unfinished trainings, each under the hash of everything that
            determines it.
        execution: Device, threads and progress.
        choice: File of the candidate chosen from the grid of a neural method, from
            `flowgmm.experiments.tuning.choose_candidate`; it overrides the spec's params.

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
        chosen, hashes["choice"] = _chosen(spec, choice)
    settings = {**spec, "params": override(spec["params"], chosen.get("tuned", {}))}
    checkpoint = checkpoints / identity(settings, hashes, execution)
    given = features, str(hashes["features"])

    def make() -> None:
        data, meta = read_tensors(features, ["X_train", "y_train", "X_test"])
        tasks = [
            load_task(spec, data["y_train"], number, splits[number], given)
            for number in spec["splits"]
        ]

        fitting = time.monotonic()
        provide_m1(settings, data["X_train"], checkpoint, execution)
        fitted = fit(settings, data["X_train"], tasks, checkpoint, execution)
        fit_s = time.monotonic() - fitting

        predictions, outcomes = predict(spec, data, tasks, fitted, len(meta["classes"]))
        y_test = read_tensors(features, ["y_test"])[0]["y_test"]
        truths = [truth_of(task, data["y_train"], y_test) for task in tasks]
        entries = _entries(spec, splits, fitted, chosen, outcomes, truths)
        _write_results(out, spec, predictions, fitted)
        record = {
            **run_keys(spec),
            "spec": dict(spec),
            "hashes": hashes,
            "data": _described(spec, data["X_train"], len(y_test), tasks[0], meta),
            "runs": entries,
            "environment": used_environment(settings, execution),
            "git": git_state(),
            "timing": {"fit_s": round(fit_s, 3), "wall_s": round(time.monotonic() - start, 3)},
        }
        write_json(out / "record.json", record)

    run_once(checkpoint, output_files(spec, out), make)
    return dict(read_json(out / "record.json"))


def output_files(spec: Mapping[str, Any], out: Path) -> list[Path]:
    """The files that a training job writes.

    Arguments:
        spec: From `flowgmm.experiments.specs.runs.train_spec`.
        out: Their folder.
    """
    model = ["model.safetensors"] if spec["neural"] else []
    return [out / name for name in (*model, "predictions.safetensors", "record.json")]


def _entries(
    spec: Mapping[str, Any],
    splits: Mapping[int, Path],
    fitted: Sequence[tuple[Any, dict[str, Any]]],
    chosen: Mapping[str, Any],
    outcomes: Sequence[Mapping[str, Any]],
    truths: Sequence[Mapping[str, np.ndarray]],
) -> list[dict[str, Any]]:
    """Evaluate the seeds: an entry of the record for each."""
    split_seeds = {number: read_meta(path)["seeds"] for number, path in splits.items()}
    entries = []
    for i, (estimator, notes) in enumerate(fitted):
        drawn = split_seeds[spec["splits"][i]]
        notes = {**notes, **chosen}
        entries.append(make_entry(spec, i, estimator, notes, drawn, outcomes[i], truths[i]))
    return entries


def _write_results(
    out: Path,
    spec: Mapping[str, Any],
    predictions: dict[str, np.ndarray],
    fitted: Sequence[tuple[Any, dict[str, Any]]],
) -> None:
    """Write predictions and, of neural methods, the models."""
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / "predictions.safetensors", predictions, {"spec": dict(spec)})
    if spec["neural"]:
        estimators = [estimator for estimator, _ in fitted]
        type(estimators[0]).save_stack(out / "model.safetensors", estimators, run_keys(spec))


def _chosen(spec: Mapping[str, Any], choice: Path | None) -> tuple[dict[str, Any], str]:
    """Items of a record about the candidate chosen from a grid, and the file's sha256."""
    if choice is None:
        raise UserError(
            f"{spec['dataset']}/{spec['labels']}, {spec['method']} has a grid, but nothing was "
            "chosen from it; give the file that the rule `choose_candidate` makes"
        )
    found = read_json(choice)
    items = {"tuned": found["params"], "tuning": found["curve"], "budget": found["budget"]}
    return items, sha256(choice)


def _described(
    spec: Mapping[str, Any], X_train: np.ndarray, n_test: int, task: Task, meta: Mapping[str, Any]
) -> dict[str, Any]:
    """Description of the data in a record: origin, shape and numbers of points."""
    shape, split = list(X_train.shape[1:]), task.split
    return {
        **{key: meta[key] for key in ("classes", "notes", "not_comparable", "sources")},
        "n_features": int(np.prod(shape)),
        "image_shape": shape if len(shape) == 3 else None,
        "n_train": len(X_train),
        "n_test": n_test,
        "n_labelled": len(split["labelled"]),
        "n_unlabelled": 0 if spec["labelled_only"] else len(split["unlabelled"]),
        "n_val": len(split["val"]),
    }
