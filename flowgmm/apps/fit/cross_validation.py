"""Cross-validation of a method on the labelled rows, beside simple baselines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from flowgmm.evaluation import metrics
from flowgmm.evaluation.calibration import best_temperature, tempered
from flowgmm.methods.cross_fit import FLOOR, cross_fit, hidden_labels, make_folds
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.progress import Progress
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


def cross_validate(
    estimator: "FlowGMMClassifier",
    X: np.ndarray,
    codes: np.ndarray,
    seed: int,
    progress: Progress | None = None,
) -> HeldOut:
    """Cross-validate FlowGMM and the baselines on the same folds of the labelled rows.

    FlowGMM sees the held-out rows as unlabelled ones.

    Arguments:
        estimator: FlowGMM, unfitted.
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        seed: Of the folds and the training.
        progress: Called with units done, all units, and the name of the work.

    Raises:
        UserError: If a training diverged.
    """
    fold = make_folds(codes, N_FOLDS, derive("own data/folds", seed, "split"))
    rows = np.flatnonzero(fold >= 0)
    states = [
        derive(f"own data/{k}", seed, "initialisation") for k in range(fold.max(initial=-1) + 1)
    ]
    named = progress and (lambda done, n, text: progress(done, n, f"held-out check, {text}"))
    try:
        log_proba = {FLOWGMM: cross_fit(estimator, X, codes, fold, states, progress=named)}
    except DivergedError as error:
        raise UserError(f"{error}: see --drop") from error
    n_least = int((hidden_labels(codes, fold) >= 0).sum(axis=1).min())
    for name, baseline in make_baselines(n_least).items():
        log_proba[name] = cross_fit(baseline, X, codes, fold)
    return HeldOut(rows, fold[rows], log_proba)


def make_baselines(n_labelled: int) -> dict[str, Any]:
    """Make baselines, scikit-learn's classifiers with default settings, by name.

    Arguments:
        n_labelled: Least number of labelled rows that they will be fitted to.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    return {
        "logistic regression": LogisticRegression(max_iter=1000),
        "k nearest neighbours": KNeighborsClassifier(min(5, n_labelled)),
        "most frequent class": DummyClassifier(strategy="prior"),
    }


def baselines(X: np.ndarray, codes: np.ndarray, X_new: np.ndarray) -> dict[str, np.ndarray]:
    """Fit the baselines to the labelled rows.

    Arguments:
        X: Features, standardised over all rows, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        X_new: Features to predict for, shape (M, D).

    Returns:
        Log probabilities in nats by name, shape (M, K).
    """
    known = codes >= 0
    result = {}
    for name, classifier in make_baselines(int(known.sum())).items():
        proba = classifier.fit(X[known], codes[known]).predict_proba(X_new)
        result[name] = np.log(np.maximum(proba, FLOOR))
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
