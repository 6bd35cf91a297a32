"""Tuning job: train one candidate of a grid and write its accuracy on validation points."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.experiments.fitting import AUTOMATIC, Execution, fit
from flowgmm.experiments.job_cache import run_once
from flowgmm.experiments.provenance import git_state
from flowgmm.experiments.record import identity, make_entry, predict, used_environment
from flowgmm.experiments.task import digest, load_task
from flowgmm.experiments.tuning import check_validation
from flowgmm.utils.io import read_json, read_meta, read_tensors, sha256, write_json

__all__ = ["tune_candidate"]


def tune_candidate(
    spec: Mapping[str, Any],
    features: Path,
    splits: Mapping[int, Path],
    output: Path,
    checkpoints: Path,
    execution: Execution = AUTOMATIC,
) -> dict[str, Any]:
    """Train one candidate of a grid and write its accuracy on validation points.

    Nothing of the test part is read, and of the labels only those of the labelled and the
    validation points: the output is a function of these (beside the times).

    Arguments:
        spec: From `flowgmm.experiments.specs.tuning.tune_spec`.
        features: Features file, of which the training part is read.
        splits: Split file by its number.
        output: The file, which `flowgmm.experiments.tuning.choose_candidate` reads.
        checkpoints: As for `flowgmm.experiments.train_job.train_stack`.
        execution: Device, threads and progress.

    Returns:
        Content of the file.

    Raises:
        UserError: As for `train_stack`, or if a validation point has no label.
    """
    start = time.monotonic()
    data, meta = read_tensors(features, ["X_train", "y_train"])
    y_train = data.pop("y_train")
    given = features, sha256(features)
    tasks = [load_task(spec, y_train, number, splits[number], given) for number in spec["splits"]]
    del y_train  # from here on there are only the labels that the tasks hold
    for task in tasks:
        check_validation(task.y_val)
    hashes = {"code": spec["code"], "seen": digest(data["X_train"], tasks)}
    checkpoint = checkpoints / identity(spec, hashes, execution)

    def make() -> None:
        fitted = fit(spec, data["X_train"], tasks, checkpoint, execution)
        _, outcomes = predict(spec, data, tasks, fitted, len(meta["classes"]))
        split_seeds = {number: read_meta(path)["seeds"] for number, path in splits.items()}
        runs = []
        for i, (task, (estimator, notes)) in enumerate(zip(tasks, fitted, strict=True)):
            drawn, truth = split_seeds[spec["splits"][i]], {"val": task.y_val}
            entry = make_entry(spec, i, estimator, notes, drawn, outcomes[i], truth)
            entry["accuracy"] = entry.pop("metrics").get("val", {}).get("accuracy")
            runs.append(entry)
        result = {
            **{key: spec[key] for key in ("dataset", "labels", "method", "recipe", "candidate")},
            "spec": dict(spec),
            "hashes": hashes,
            "n_val": len(np.unique(np.concatenate([task.split["val"] for task in tasks]))),
            "runs": runs,
            "environment": used_environment(spec, execution),
            "git": git_state(),
            "timing": {"wall_s": round(time.monotonic() - start, 3)},
        }
        write_json(output, result)

    run_once(checkpoint, [output], make)
    return dict(read_json(output))
