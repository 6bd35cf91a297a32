"""Cross-validation of a method on the labelled rows, beside simple baselines."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from flowgmm.evaluation import metrics
from flowgmm.evaluation.calibration import best_temperature, tempered
from flowgmm.utils.seeds import derive

if TYPE_CHECKING:
    from flowgmm.methods.flow_gmm import FlowGMMClassifier

__all__ = [
    "FLOWGMM",
    "HeldOut",
    "accuracy_interval",
    "baselines",
    "compare",
    "cross_validate",
    "ece",
    "paired_p_value",
    "reliability",
]

FLOWGMM = "FlowGMM"
N_FOLDS = 10
# With more labelled rows than this, one part is held out instead: a fifth, or about so many rows.
MAX_CROSS_VALIDATED = 5000

# Numbers of the folds, codes with the held-out ones set to -1, shape (S, N), and a name for the
# progress -> fitted estimators.
Fit = Callable[[np.ndarray, np.ndarray, str], "list[FlowGMMClassifier]"]


@dataclass(frozen=True)
class HeldOut:
    """Predictions for labelled rows by models that were not trained on them.

    Attributes:
        rows: Indices of the labelled rows, shape (n,).
        fold: Fold of each, shape (n,).
        log_proba: Log probabilities in nats by method, shape (n, K).
    """

    rows: np.ndarray
    fold: np.ndarray
    log_proba: dict[str, np.ndarray]

    def calibrated(self, y: np.ndarray) -> np.ndarray:
        """Log probabilities of FlowGMM, each fold with the best temperature of the others, (n, K).

        Temperatures are at least 1: on a few rows, all predicted correctly, the best one would
        give probabilities of 1.
        """
        log_proba = self.log_proba[FLOWGMM]
        result = np.empty_like(log_proba)
        # A single held-out part is split in two halves.
        parts = self.fold if self.fold.any() else np.arange(len(self.fold)) % 2
        for part in np.unique(parts):
            inside = parts == part
            t = best_temperature(y[~inside], log_proba[~inside])
            result[inside] = tempered(log_proba[inside], max(1.0, t))
        return result


def cross_validate(X: np.ndarray, codes: np.ndarray, seed: int, fit: Fit) -> HeldOut:
    """Cross-validate FlowGMM and the baselines on the same folds of the labelled rows.

    FlowGMM sees the held-out rows as unlabelled ones.

    Arguments:
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, at least 2 rows of each, -1 where unlabelled, shape (N,).
        seed: Of the folds.
        fit: Trains FlowGMM on as many folds at once as have equally many labels.
    """
    from sklearn.model_selection import StratifiedKFold

    rows = np.flatnonzero(codes >= 0)
    y = codes[rows]
    single = len(rows) > MAX_CROSS_VALIDATED
    n_folds = min(N_FOLDS, int(np.bincount(y).max()))
    if single:
        n_folds = max(5, len(rows) // MAX_CROSS_VALIDATED)
    folds = StratifiedKFold(
        n_folds, shuffle=True, random_state=derive("own data/folds", seed, "split")
    )
    fold = np.empty(len(rows), dtype=np.int64)
    with warnings.catch_warnings():
        # A class smaller than the number of folds is spread over as many as it has rows.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held) in enumerate(folds.split(rows, y)):
            fold[held] = number
    if single:
        rows, fold, n_folds = rows[fold == 0], fold[fold == 0], 1
    ys = np.repeat(codes[None], n_folds, axis=0)
    ys[fold, rows] = -1
    log_proba: dict[str, np.ndarray] = {}
    # A stack needs equal numbers of labelled points; folds differ by one at most.
    n_labelled = (ys >= 0).sum(axis=1)
    for n in np.unique(n_labelled):
        members = np.flatnonzero(n_labelled == n)
        name = f"held-out check, {len(members)} of {n_folds} folds at once"
        for k, estimator in zip(members, fit(members, ys[members], name), strict=True):
            inside = fold == k
            predicted = {
                FLOWGMM: estimator.predict_log_proba(X[rows[inside]]),
                **baselines(X, ys[k], X[rows[inside]]),
            }
            for method, values in predicted.items():
                whole = log_proba.setdefault(method, np.empty((len(rows), values.shape[1])))
                whole[inside] = values
    return HeldOut(rows, fold, log_proba)


def baselines(X: np.ndarray, codes: np.ndarray, X_new: np.ndarray) -> dict[str, np.ndarray]:
    """Fit baselines, scikit-learn's classifiers with default settings, to the labelled rows.

    Arguments:
        X: Features, standardised over all rows, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        X_new: Features to predict for, shape (M, D).

    Returns:
        Log probabilities in nats by name, shape (M, K).
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    known = codes >= 0
    classifiers = {
        "logistic regression": LogisticRegression(max_iter=1000),
        "k nearest neighbours": KNeighborsClassifier(min(5, int(known.sum()))),
        "most frequent class": DummyClassifier(strategy="prior"),
    }
    result = {}
    for name, classifier in classifiers.items():
        proba = classifier.fit(X[known], codes[known]).predict_proba(X_new)
        result[name] = np.log(np.clip(proba, 1e-12, None))
    return result


def compare(y: np.ndarray, log_proba: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Score each method, and test FlowGMM against each baseline on the same rows.

    Arguments:
        y: True classes in 0..K-1, shape (N,).
        log_proba: Log probabilities in nats by method, FlowGMM first, shape (N, K).

    Returns:
        Scores of each method, as a JSON value.
    """
    correct = {name: rows.argmax(axis=1) == y for name, rows in log_proba.items()}
    methods = []
    for name, hits in correct.items():
        low, high = accuracy_interval(int(hits.sum()), len(y))
        entry: dict[str, Any] = {
            "method": name,
            "right": int(hits.sum()),
            "accuracy": float(hits.mean()),
            "low": low,
            "high": high,
            "class_nll": metrics.class_nll(y, log_proba[name]),
            "ece": ece(y, log_proba[name]),
        }
        if name != FLOWGMM:
            ours = correct[FLOWGMM]
            p = paired_p_value(ours, hits)
            better = "better" if ours.sum() > hits.sum() else "worse"
            entry |= {
                "only_flowgmm_right": int((ours & ~hits).sum()),
                "only_this_right": int((hits & ~ours).sum()),
                "p_value": p,
                "flowgmm_is": better if p < 0.05 else "no difference shown",
            }
        methods.append(entry)
    return methods


def reliability(
    y: ArrayLike, predicted: ArrayLike, log_proba: ArrayLike, n_bins: int = 10
) -> list[dict[str, float]]:
    """Confidence and accuracy in equal-width bins of the confidence, empty ones left out.

    Arguments:
        y: True classes, shape (N,).
        predicted: Predicted classes, shape (N,).
        log_proba: Log probabilities of the classes, shape (N, K).
        n_bins: Number of bins.

    Returns:
        ``n``, mean ``confidence`` and ``accuracy`` of each bin, both in 0..1.
    """
    from scipy.special import log_softmax

    confidence = np.exp(log_softmax(log_proba, axis=1).max(axis=1))
    hit = np.asarray(y) == np.asarray(predicted)
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    return [
        {
            "n": int((bins == b).sum()),
            "confidence": float(confidence[bins == b].mean()),
            "accuracy": float(hit[bins == b].mean()),
        }
        for b in np.unique(bins)
    ]


def ece(y: np.ndarray, log_proba: np.ndarray) -> float:
    """Expected calibration error of the predicted classes, in 0..1."""
    return metrics.expected_calibration_error(y, log_proba.argmax(axis=1), log_proba)


def accuracy_interval(n_right: int, n: int) -> tuple[float, float]:
    """95 % interval of an accuracy in 0..1 from n independent points, by Wilson's method."""
    from scipy.stats import binomtest

    interval = binomtest(n_right, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def paired_p_value(right: ArrayLike, other_right: ArrayLike) -> float:
    """Two-sided exact McNemar test of equal accuracy of two methods on the same points.

    Arguments:
        right: Whether the first method is right at each point, shape (N,).
        other_right: Whether the second is, shape (N,).
    """
    from scipy.stats import binomtest

    right, other_right = np.asarray(right, bool), np.asarray(other_right, bool)
    n_first, n_second = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    if n_first + n_second == 0:
        return 1.0
    return float(binomtest(n_first, n_first + n_second).pvalue)
