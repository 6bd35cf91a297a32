"""Choice of hyper-parameters by accuracy on validation points; test points have no way in."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgmm.errors import UserError

__all__ = ["Choice", "choose_on_validation"]


@dataclass(frozen=True)
class Choice:
    """The chosen hyper-parameters and how every candidate did.

    Arguments:
        params: The best candidate.
        curve: One ``{"params": {...}, "accuracy": float}`` per candidate, in grid order.
    """

    params: dict[str, Any]
    curve: list[dict[str, Any]]


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
    if empty := [name for name, values in grid.items() if not len(values)]:
        raise UserError(f"grid has no values for {', '.join(empty)}; give at least one each")
    if not len(y_val) or np.any(np.asarray(y_val) == -1):
        raise UserError(
            f"{np.sum(np.asarray(y_val) == -1)} of {len(y_val)} validation points are unlabelled; "
            "choosing hyper-parameters needs labelled validation points"
        )
    curve: list[dict[str, Any]] = []
    for values in itertools.product(*grid.values()):
        params = dict(zip(grid, values, strict=True))
        predicted = make(**params).fit(X, y).predict(X_val)
        curve.append({"params": params, "accuracy": float(np.mean(predicted == y_val))})
    best = max(curve, key=lambda candidate: candidate["accuracy"])
    return Choice(params=best["params"], curve=curve)
