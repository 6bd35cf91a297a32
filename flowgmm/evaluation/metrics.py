"""Accuracy, likelihoods and calibration over all points at once, and summaries over runs."""

import numpy as np
from numpy.typing import ArrayLike

from flowgmm.utils.errors import DivergedError

__all__ = [
    "accuracy",
    "class_nll",
    "density_nll",
    "evaluate",
    "expected_calibration_error",
    "mad",
    "median",
    "std",
]


def accuracy(y: ArrayLike, predicted: ArrayLike) -> float:
    """Share of points whose predicted class is the true one, in 0..1.

    The mean is over points, never over batches, so a smaller last batch weighs what it should.

    Arguments:
        y: True classes, shape (N,).
        predicted: Predicted classes, shape (N,).
    """
    return float(np.mean(np.asarray(y) == np.asarray(predicted)))


def class_nll(y: ArrayLike, log_proba: ArrayLike) -> float:
    """Mean of -log p(y | x) in nats, computed in float64; infinite where a true class has p = 0.

    Arguments:
        y: True classes in 0..K-1, shape (N,).
        log_proba: Log probabilities of the classes, shape (N, K). They are normalised once more
            in float64, since float32 rows do not sum to one exactly.
    """
    rows = _normalised(log_proba)
    return float(-np.mean(rows[np.arange(len(rows)), np.asarray(y)]))


def density_nll(log_density: ArrayLike) -> float:
    """Mean of -log p(x) in nats.

    Arguments:
        log_density: Log densities in nats, shape (N,).
    """
    return float(-np.mean(np.asarray(log_density, dtype=np.float64)))


def expected_calibration_error(
    y: ArrayLike, predicted: ArrayLike, log_proba: ArrayLike, n_bins: int = 15
) -> float:
    """Mean distance between confidence and accuracy over equal-width bins of the confidence.

    The confidence is the largest class probability; bin m holds ((m-1)/M, m/M].

    Arguments:
        y: True classes, shape (N,).
        predicted: Predicted classes, shape (N,).
        log_proba: Log probabilities of the classes, shape (N, K).
        n_bins: Number of bins M.

    Source: Guo et al. (2017), On calibration of modern neural networks.
    """
    confidence = np.exp(_normalised(log_proba).max(axis=1))
    hit = np.asarray(y) == np.asarray(predicted)
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    # |B|/n * |acc(B) - conf(B)| = |sum over B of (hit - confidence)| / n
    gaps = np.bincount(bins, weights=hit - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(hit))


def evaluate(
    y: ArrayLike,
    predicted: ArrayLike,
    log_proba: ArrayLike | None = None,
    log_density: ArrayLike | None = None,
    bound: ArrayLike | None = None,
) -> dict[str, float]:
    """All metrics that the arguments allow, over the points whose class is known.

    Arguments:
        y: True classes in 0..K-1, -1 where unknown, shape (N,).
        predicted: Predicted classes, shape (N,).
        log_proba: Log probabilities of the classes, shape (N, K).
        log_density: Log densities of the points in nats, shape (N,).
        bound: Lower bounds of the log probabilities of the points in nats, shape (N,).

    Returns:
        ``n`` (points used) and, if n > 0, ``accuracy``; with `log_proba` also ``class_nll`` and
        ``ece``; with `log_density` also ``nll``; with `bound` its mean, ``bound``. An infinite
        ``class_nll`` (a method that gives a true class probability 0) is left out, since JSON has
        no infinity.

    Raises:
        DivergedError: If a log probability is NaN, or a log density or bound not finite.
    """
    y = np.asarray(y)
    known = y != -1
    result: dict[str, float] = {"n": int(known.sum())}
    if not known.any():
        return result
    n, y, predicted = result["n"], y[known], np.asarray(predicted)[known]
    result["accuracy"] = accuracy(y, predicted)
    if log_proba is not None:
        log_proba = np.asarray(log_proba)[known]
        if n_bad := int(np.isnan(log_proba).any(axis=1).sum()):
            raise DivergedError(f"class probabilities are NaN at {n_bad} of {n} points")
        if np.isfinite(nll := class_nll(y, log_proba)):
            result["class_nll"] = nll
        result["ece"] = expected_calibration_error(y, predicted, log_proba)
    if log_density is not None:
        log_density = np.asarray(log_density)[known]
        if n_bad := int((~np.isfinite(log_density)).sum()):
            raise DivergedError(f"log density is not finite at {n_bad} of {n} points")
        result["nll"] = density_nll(log_density)
    if bound is not None:
        bounds = np.asarray(bound, dtype=np.float64)[known]
        if n_bad := int((~np.isfinite(bounds)).sum()):
            raise DivergedError(f"bound of the log density is not finite at {n_bad} of {n} points")
        result["bound"] = float(bounds.mean())
    return result


def median(values: ArrayLike) -> float:
    """Median over runs; the mean of the middle two if their number is even."""
    return float(np.median(np.asarray(values, dtype=np.float64)))


def mad(values: ArrayLike) -> float:
    """Median absolute deviation from the median, without a scale factor."""
    return median(np.abs(np.asarray(values, dtype=np.float64) - median(values)))


def std(values: ArrayLike) -> float:
    """Standard deviation over runs, divided by n (ddof 0)."""
    return float(np.std(np.asarray(values, dtype=np.float64)))


def _normalised(log_proba: ArrayLike) -> np.ndarray:
    from scipy.special import log_softmax

    return log_softmax(np.asarray(log_proba, dtype=np.float64), axis=1)
