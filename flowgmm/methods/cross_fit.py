"""Cross-fitting: predictions for labelled points by models that did not see their labels."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold

from flowgmm.methods.base import StackedEstimator
from flowgmm.methods.labels import encode_labels
from flowgmm.methods.stack import fit_stack
from flowgmm.utils.errors import DivergedError
from flowgmm.utils.progress import Progress, with_text

__all__ = ["FLOOR", "LOG_FLOOR", "cross_fit", "hidden_labels", "make_folds", "seen_when_held_out"]

# With more labelled points than this, one part is held out instead: a fifth, or about so many.
MAX_CROSS_VALIDATED = 5000
# Most folds where a class has a single label. Held out it is unknown: its fold is another training
# problem, which no stack shares.
FOLDS_OF_SINGLES = 5
# Probability of a class that a model does not know, or gives none.
FLOOR = 1e-12
LOG_FLOOR = float(np.log(FLOOR))


def make_folds(codes: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Divide the labelled points into folds with alike shares of the classes.

    There are at most as many folds as the largest class has labels; at most 5 where a class has a
    single label. With more than 5000 labels there is one fold, a fifth of them or about 5000.

    Arguments:
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        n_folds: Number of folds, 2 or more.
        seed: Seed of the division.

    Returns:
        Fold of each point, -1 where it is never held out, shape (N,). All are -1 where each class
        has at most one label.
    """
    fold = np.full(len(codes), -1)
    rows = np.flatnonzero(codes >= 0)
    counts = np.bincount(codes[rows], minlength=1)
    single = len(rows) > MAX_CROSS_VALIDATED
    n_folds = min(n_folds, int(counts.max()))
    if (counts == 1).any():
        n_folds = min(n_folds, FOLDS_OF_SINGLES)
    if single:
        n_folds = max(5, len(rows) // MAX_CROSS_VALIDATED)
    if n_folds < 2:
        return fold
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class smaller than the number of folds is spread over as many as it has points.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held) in enumerate(folds.split(rows, codes[rows])):
            if number == 0 or not single:
                fold[rows[held]] = number
    return fold


def hidden_labels(y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Labels that are left in each fold: y with the fold's own set to -1, shape (S, N).

    Arguments:
        y: Classes or codes, -1 where unlabelled, shape (N,).
        fold: From `make_folds`, shape (N,).
    """
    if y.dtype.kind in "US":
        y = y.astype(object)
    numbers = np.arange(fold.max(initial=-1) + 1)
    return np.where(fold == numbers[:, None], -1, y)


def seen_when_held_out(codes: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Select the held-out points whose class the other folds have, too, shape (n,).

    Arguments:
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        fold: From `make_folds`, shape (N,).
    """
    rows = np.flatnonzero(fold >= 0)
    ys = hidden_labels(codes, fold)
    return np.array([(ys[fold[row]] == codes[row]).any() for row in rows], dtype=bool)


def cross_fit(
    estimator: Any,
    X: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    random_states: Sequence[Any] | None = None,
    semi_supervised: bool = False,
    progress: Progress | None = None,
) -> np.ndarray:
    """Predict every held-out point by a model that was fitted without its fold's labels.

    Arguments:
        estimator: Unfitted classifier. A neural one sees held-out points as unlabelled ones, and
            folds with equally many labels of the same classes train as one stack.
        X: Points, shape (N, D).
        y: Classes of any type, -1 where unlabelled, shape (N,).
        fold: Fold of each point, from 0 on, -1 where it is never held out, shape (N,).
        random_states: `random_state` of each fold; None: the estimator's own.
        semi_supervised: Whether an estimator that is not neural gets the unlabelled points, marked
            -1; else it gets the labelled ones alone.
        progress: Called with units done, all units, and the folds in training, of a
            neural estimator.

    Returns:
        Log probabilities in nats of the n held-out points in order, shape (n, K). A class that a
        fold does not know has `LOG_FLOOR`, and so has one without probability.

    Raises:
        DivergedError: If a training diverged.
    """
    classes, codes = encode_labels(y)
    rows = np.flatnonzero(fold >= 0)
    ys, left = hidden_labels(y, fold), hidden_labels(codes, fold)
    states = [None] * len(ys) if random_states is None else random_states
    models = [
        clone(estimator) if state is None else clone(estimator).set_params(random_state=state)
        for state in states
    ]
    groups: dict[tuple[int, ...], list[int]] = {}
    for k, known in enumerate(left >= 0):
        # A stack needs equally many labels and the same classes; folds differ by one at most.
        groups.setdefault((known.sum(), *np.unique(codes[known])), []).append(k)
    log_proba = np.full((len(rows), len(classes)), LOG_FLOOR)
    for (_, *present), members in sorted(groups.items()):
        if len(present) == 1:
            log_proba[np.ix_(np.isin(fold[rows], members), np.array(present))] = 0.0
            continue
        fitted = [models[k] for k in members]
        if isinstance(estimator, StackedEstimator):
            text = f"{len(members)} of {len(ys)} folds at once"
            _fit_stack(fitted, X, ys[members], with_text(progress, text))
        for k, model in zip(members, fitted, strict=True):
            if not isinstance(estimator, StackedEstimator):
                known = np.full(len(X), True) if semi_supervised else left[k] >= 0
                model.fit(X[known], ys[k][known])
            inside = fold[rows] == k
            log_proba[np.ix_(inside, np.array(present))] = _log_proba(model, X[rows[inside]])
    return log_proba


def _fit_stack(models: list[Any], X: np.ndarray, ys: np.ndarray, progress: Progress | None) -> None:
    fit_stack(models, X, ys, progress=progress)
    for model in models:
        if model.failure_ is not None:
            raise DivergedError(
                f"{type(model).__name__} {model.failure_}; standardise the columns, or leave out "
                "those with extreme values"
            )


def _log_proba(model: Any, X: np.ndarray) -> np.ndarray:
    if isinstance(model, StackedEstimator):
        log_proba: np.ndarray = model.predict_log_proba(X)
        return log_proba
    return np.log(np.maximum(model.predict_proba(X), FLOOR))
