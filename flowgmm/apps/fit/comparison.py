"""Comparison of methods on the same rows: scores, paired tests, and the choice of one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from flowgmm.apps.fit.methods import AUTO, COMBINED, KEYS
from flowgmm.evaluation import metrics

__all__ = ["accuracy_interval", "choose", "compare", "ece", "paired_p_value", "reliability"]

# Two methods differ if the paired test's p is below this.
LEVEL = 0.05


def choose(wanted: str, y: np.ndarray, log_proba: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """Choose the method of the model.

    Arguments:
        wanted: Value of --method. `auto`: the combination of FlowGMM and forest, unless one that
            can be saved is better on the held-out rows, by the paired test; then the best of those.
        y: True classes of the held-out rows, shape (n,).
        log_proba: Their log probabilities by method, shape (n, K).

    Returns:
        Its name, and a sentence for the user.
    """
    if wanted != AUTO:
        return KEYS[wanted], f"Model: {KEYS[wanted]}, as --method says."
    better = [
        entry
        for entry in compare(y, log_proba, COMBINED)
        if entry["method"] in KEYS.values() and entry.get("chosen_is") == "worse"
    ]
    if not better:
        return COMBINED, (f"Model: {COMBINED}, averaged; the folds do not speak against it.")
    best = max(better, key=lambda entry: entry["right"])
    return best["method"], (
        f"Model: {best['method']}, on the held-out rows better than {COMBINED} by "
        f"{100 * best['difference']:.1f} points (p {best['p_value']:.2g})."
    )


def compare(
    y: np.ndarray, log_proba: Mapping[str, np.ndarray], chosen: str
) -> list[dict[str, Any]]:
    """Score each method, and test the chosen one against each other one on the same rows.

    Arguments:
        y: True classes in 0..K-1, shape (N,).
        log_proba: Log probabilities in nats by method, shape (N, K).
        chosen: Method that the others are tested against.

    Returns:
        Scores of each method, the chosen one first, as a JSON value.
    """
    correct = {name: rows.argmax(axis=1) == y for name, rows in log_proba.items()}
    ours = correct[chosen]
    methods = []
    for name in [chosen, *(name for name in correct if name != chosen)]:
        hits = correct[name]
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
        if name != chosen:
            p = paired_p_value(ours, hits)
            better = "better" if ours.sum() > hits.sum() else "worse"
            entry |= {
                "only_chosen_right": int((ours & ~hits).sum()),
                "only_this_right": int((hits & ~ours).sum()),
                "difference": float(hits.mean() - ours.mean()),
                "p_value": p,
                "chosen_is": better if p < LEVEL else "no difference shown",
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
