"""Fitting of a job's seeds: neural methods as one stack, classic ones one by one."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.experiments.task import Task
from flowgmm.methods import build
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.progress import Progress
from flowgmm.utils.seeds import derive

__all__ = ["AUTOMATIC", "Execution", "fit"]

# Restarts (spec, trap 7): their number, the share of the steps before each, and the margin below
# the accuracy of logistic regression.
MAX_RESTARTS = 3
RESTART_SHARE = 0.1
RESTART_MARGIN = 0.05


@dataclass(frozen=True)
class Execution:
    """Device and threads of a job, and its report of progress.

    Attributes:
        device: Device on which neural methods train.
        threads: Threads on a CPU.
        progress: Called with (step, n_steps, text).
    """

    device: str = "auto"
    threads: int = 1
    progress: Progress | None = None


AUTOMATIC = Execution()


def fit(
    spec: Mapping[str, Any],
    X: np.ndarray,
    tasks: Sequence[Task],
    checkpoint: Path,
    execution: Execution,
) -> list[tuple[Any, dict[str, Any]]]:
    """Fit an estimator per seed.

    Arguments:
        spec: Spec of the job.
        X: Inputs of the training part, shape (N, D) or (N, C, H, W).
        tasks: A task per seed.
        checkpoint: Folder of the checkpoint of an unfinished training.
        execution: Device, threads and progress.

    Returns:
        Per seed the fitted estimator, and notes for its entry of the record.

    Raises:
        UserError: If a parameter is out of range.
    """
    try:
        if spec["neural"]:
            return _fit_stack(spec, X, tasks, checkpoint, execution)
        return _fit_each(spec, X, tasks, execution.progress)
    except ValueError as error:  # the features are valid: estimators refuse only settings
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise UserError(
            f"{spec['dataset']}/{spec['labels']}, {spec['method']}: "
            f"{' '.join(str(error).split())}; correct config/recipes/{spec['recipe']}.yaml"
        ) from error


def _fit_stack(
    spec: Mapping[str, Any],
    X: np.ndarray,
    tasks: Sequence[Task],
    checkpoint: Path,
    execution: Execution,
) -> list[tuple[Any, dict[str, Any]]]:
    """Fit all seeds in one stacked training."""
    import torch

    from flowgmm.methods.stack import fit_stack

    torch.set_num_threads(execution.threads)
    params = {**spec["params"], "device": execution.device, "preprocess": spec["preprocess"]}
    training = params.get("training", {})
    if training.get("unlabelled_batch") == "n_labels":
        n_labels = len(tasks[0].split["labelled"])
        params["training"] = {**training, "unlabelled_batch": n_labels}
    sizes = {len(task.rows) for task in tasks}
    if len(sizes) > 1:
        raise UserError(
            f"{spec['dataset']}/{spec['labels']}: seeds with {sorted(sizes)} points cannot share "
            "a stack; set seeds_per_job: 1 in config/config.yaml"
        )

    def fit(tasks: Sequence[Task], states: Sequence[int], **options: Any) -> list[Any]:
        val = None
        if training.get("keep") == "best_val":
            rows = np.stack([task.split["val"] for task in tasks])
            val = rows, np.stack([task.y_val for task in tasks])
        estimators = [build(spec["estimator"], params, random_state=state) for state in states]
        fit_stack(
            estimators,
            X,
            np.stack([task.y for task in tasks]),
            rows=np.stack([task.rows for task in tasks]),
            val=val,
            progress=execution.progress,
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
    tasks: Sequence[Task],
    states: Sequence[int],
    fit: Callable[..., list[Any]],
) -> tuple[list[int], list[dict[str, Any]]]:
    """Restart seeds that begin poorly, with other weights and means, never another split.

    Returns:
        Per seed a random state, and the tries: validation accuracies after a tenth of the steps,
        and the required accuracy.

    Source: spec, trap 7.
    """
    least = [_logistic_accuracy(X, task) - RESTART_MARGIN for task in tasks]
    states = list(states)
    tried: list[list[float]] = [[] for _ in tasks]
    left = list(range(len(tasks)))
    for attempt in range(1, MAX_RESTARTS + 1):
        started = fit([tasks[i] for i in left], [states[i] for i in left], share=RESTART_SHARE)
        poor = []
        for i, estimator in zip(left, started, strict=True):
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


def _logistic_accuracy(X: np.ndarray, task: Task) -> float:
    """Validation accuracy of logistic regression on the labelled points."""
    from sklearn.linear_model import LogisticRegression

    known = task.y >= 0
    model = LogisticRegression(max_iter=1000).fit(X[task.rows[known]], task.y[known])
    return float((model.predict(X[task.split["val"]]) == task.y_val).mean())


def _fit_each(
    spec: Mapping[str, Any],
    X: np.ndarray,
    tasks: Sequence[Task],
    progress: Progress | None,
) -> list[tuple[Any, dict[str, Any]]]:
    """Fit seeds one by one; choose from a grid on the validation points of the seed."""
    from flowgmm.experiments.tuning import choose_on_validation

    fitted = []
    for i, (task, state) in enumerate(zip(tasks, spec["random_states"], strict=True)):
        if progress is not None:
            progress(i, len(tasks), f"fitting seed {spec['seeds'][i]}")

        def make(extra: Mapping[str, Any], state: int = state) -> Any:
            params = {**spec["params"], **extra}
            preprocess = params.pop("preprocess", spec["preprocess"])
            return build(spec["estimator"], params, preprocess, state)

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
        model = make(chosen)
        try:
            model.fit(X[task.rows], task.y)
        except DivergedError as error:  # a seed that failed, as those of a stack
            model.failure_ = str(error)
        fitted.append((model, notes))
    if progress is not None:
        progress(len(tasks), len(tasks), "fitted")
    return fitted
