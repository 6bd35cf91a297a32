"""Choice of hyper-parameters by accuracy on validation points, never by test points.

Classic methods choose inside their job, for each seed on its own validation points. Neural methods
train each candidate in a job of its own; the choice among them is for all seeds.
"""

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import content_hash

__all__ = [
    "Choice",
    "candidates",
    "check_validation",
    "choose_candidate",
    "choose_on_validation",
    "point_name",
]

RULE = "the highest mean accuracy on validation points; on a tie the first in the grid"


@dataclass(frozen=True)
class Choice:
    """Chosen hyper-parameters and the accuracy of every candidate.

    Arguments:
        params: The best candidate.
        curve: One ``{"params": {...}, "accuracy": float}`` per candidate, in grid order.
        budget: Cost of the choice: ``points`` (candidates), ``seconds``, ``steps`` (None where
            there are no steps) and ``validation_labels``.
    """

    params: dict[str, Any]
    curve: list[dict[str, Any]]
    budget: dict[str, Any]


def candidates(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of a grid's values; the last name varies fastest.

    Examples:
        >>> candidates({"lr": [0.1, 0.2], "n": [1]})
        [{'lr': 0.1, 'n': 1}, {'lr': 0.2, 'n': 1}]

    Raises:
        UserError: If a name has no values.
    """
    if empty := [name for name, values in grid.items() if not len(values)]:
        raise UserError(f"grid has no values for {', '.join(empty)}; give at least one each")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def point_name(candidate: Mapping[str, Any]) -> str:
    """Name of a candidate as part of a path, the same wherever it stands in a grid.

    ``lr=0.0003``, also of a part, or a hash where the values have other characters or are many.

    Examples:
        >>> point_name({"n": 1, "training__lr": 0.1})
        'lr=0.1,n=1'
    """
    named = {key.rpartition("__")[2]: value for key, value in candidate.items()}
    name = ",".join(f"{key}={_plain(value)}" for key, value in sorted(named.items()))
    safe = re.fullmatch(r"[A-Za-z0-9_.=,+-]{1,100}", name)
    return name if safe else content_hash(candidate)[:16]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def check_validation(y_val: np.ndarray) -> None:
    """Make sure that there are validation points, all of them labelled.

    Raises:
        UserError: If there are none, or one has no label.
    """
    if not len(y_val) or np.any(np.asarray(y_val) == -1):
        raise UserError(
            f"{np.sum(np.asarray(y_val) == -1)} of {len(y_val)} validation points are unlabelled; "
            "choosing hyper-parameters needs labelled validation points"
        )


def choose_on_validation(
    make: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]],
    X: np.ndarray,
    y: np.ndarray,
    X_val: np.ndarray,
    y_val: np.ndarray,
) -> Choice:
    """Fit every combination of the grid and keep the most accurate; the first one on a tie.

    Arguments:
        make: Called with one combination as keyword arguments; returns an unfitted estimator.
        grid: Candidate values by name; the last name varies fastest.
        X: Training points, shape (N, D).
        y: Their labels, shape (N,); -1 where unlabelled.
        X_val: Validation points, shape (M, D).
        y_val: Their labels, shape (M,).

    Raises:
        UserError: If a name of the grid has no values, or validation labels are absent.
    """
    start = time.monotonic()
    combinations = candidates(grid)
    check_validation(y_val)
    curve: list[dict[str, Any]] = []
    for params in combinations:
        predicted = make(**params).fit(X, y).predict(X_val)
        curve.append({"params": params, "accuracy": float(np.mean(predicted == y_val))})
    best = max(curve, key=lambda candidate: candidate["accuracy"])
    seconds = round(time.monotonic() - start, 3)
    return Choice(best["params"], curve, _budget(len(curve), seconds, None, len(y_val)))


def choose_candidate(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Choose among candidates that were trained by jobs of their own.

    Arguments:
        results: A candidate's output of `flowgmm.experiments.tune_job.tune_candidate` each, in grid
            order.

    Returns:
        ``params`` (the chosen ones), ``tied`` (others as accurate, which come later in the grid),
        ``curve`` (per candidate: params, mean accuracy, accuracy per seed, and the reason if a
        seed failed: then it cannot be chosen), ``budget`` as in `Choice`, and the origin.

    Raises:
        UserError: If every candidate failed, or they were trained on different data or by
            different code.
    """
    first = results[0]
    place = f"{first['dataset']}/{first['labels']}, {first['method']}"
    if any(result["hashes"] != first["hashes"] for result in results):
        raise UserError(
            f"{place}: candidates were trained on different data or by different code; delete "
            "their files below tuning/ and run again"
        )
    curve = []
    for result in results:
        accuracies = [run["accuracy"] for run in result["runs"]]
        failed = next((run["reason"] for run in result["runs"] if run["status"] != "ok"), None)
        curve.append(
            {
                "params": result["candidate"],
                "accuracy": None if failed else float(np.mean(accuracies)),
                "accuracies": accuracies,
                "failed": failed,
            }
        )
    left = [candidate for candidate in curve if candidate["failed"] is None]
    if not left:
        raise UserError(
            f"{place}: every candidate of the grid failed ({curve[0]['failed']}); give `tune` in "
            f"config/recipes/{first['recipe']}.yaml other values, such as a smaller lr"
        )
    best = max(left, key=lambda candidate: candidate["accuracy"])
    return {
        **{key: first[key] for key in ("dataset", "labels", "method", "recipe", "hashes")},
        "rule": RULE,
        "params": best["params"],
        "tied": [c["params"] for c in left if c["accuracy"] == best["accuracy"] and c is not best],
        "curve": curve,
        "splits": [run["split"] for run in first["runs"]],
        "budget": _budget(
            len(results),
            round(sum(result["timing"]["wall_s"] for result in results), 3),
            sum(run["n_iter"] for result in results for run in result["runs"]),
            first["n_val"],
        ),
    }


def _budget(points: int, seconds: float, steps: int | None, labels: int) -> dict[str, Any]:
    return {"points": points, "seconds": seconds, "steps": steps, "validation_labels": labels}
