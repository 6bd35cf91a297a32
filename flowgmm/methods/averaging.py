"""Weighted mean of two classifiers' probabilities, and their calibration by held-out labels."""

import math

import numpy as np
from numpy.typing import ArrayLike

from flowgmm.evaluation import metrics
from flowgmm.evaluation.calibration import tempered

__all__ = ["WEIGHT", "averaged", "fit_offsets", "fit_temperature"]

# Of FlowGMM and a forest; docs/recipes.md has what was tried. Weights from held-out labels were
# less accurate than one half with few labels, and equal with many.
WEIGHT, FLOW_TEMPERATURE = 0.5, 2.0
# What held-out labels say of a temperature counts as far as it outweighs so many nats for one that
# is e times as large or small as expected.
PRIOR_STRENGTH = 8.0
# What they say of a class's offset counts as far as it outweighs so many nats for an offset of 1.
OFFSET_STRENGTH = 16.0
# Log of the least probability that counts.
LEAST = math.log(np.finfo(float).tiny)


def averaged(
    log_flow: np.ndarray, log_other: np.ndarray, weight: float, temperature: float = 1.0
) -> np.ndarray:
    """Log of ((1 - weight) p_flow^(1/2) / Z + weight p_other)^(1/T), normalised, in nats.

    Arguments:
        log_flow: Log probabilities of FlowGMM, shape (N, K).
        log_other: Those of the other classifier, shape (N, K); may be -inf.
        weight: Share of the other, in 0..1.
        temperature: T of the mean.

    Returns:
        Log probabilities, shape (N, K).
    """
    with np.errstate(divide="ignore"):
        shares = np.log([1 - weight, weight])
    mean: np.ndarray = np.logaddexp(
        shares[0] + tempered(log_flow, FLOW_TEMPERATURE), shares[1] + log_other
    )
    return mean if temperature == 1 else tempered(mean, temperature)


def fit_temperature(y: ArrayLike, log_proba: np.ndarray, prior: float = 1.0) -> float:
    """Temperature that makes held-out classes likely, shrunk to the one that is expected.

    Arguments:
        y: True classes in 0..K-1 of n points, shape (n,).
        log_proba: Log probabilities of a model that was not fitted to these points, finite, shape
            (n, K).
        prior: Expected temperature.
    """
    from scipy.optimize import minimize_scalar

    n = len(log_proba)
    if n == 0:
        return prior
    log_proba = np.maximum(log_proba, LEAST)

    def loss(log_ratio: float) -> float:
        nll: float = metrics.class_nll(y, log_proba / (prior * math.exp(log_ratio)))
        return n * nll + PRIOR_STRENGTH * log_ratio**2

    return prior * math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)


def fit_offsets(y: ArrayLike, log_proba: np.ndarray) -> np.ndarray:
    """Offset of each class's log probability that makes held-out classes likely, shrunk to 0.

    Arguments:
        y: True classes in 0..K-1 of n points, shape (n,).
        log_proba: Log probabilities of a model that was not fitted to these points, finite, shape
            (n, K).

    Returns:
        Offsets in nats, shape (K,), whose sum is 0.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    n_classes = log_proba.shape[1]
    counts = np.bincount(np.asarray(y, dtype=int), minlength=n_classes)

    def loss(offsets: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = np.maximum(log_proba, LEAST) + offsets
        log_sum = logsumexp(shifted, axis=1)
        expected = np.exp(shifted - log_sum[:, None]).sum(axis=0)
        nll = log_sum.sum() - counts @ offsets
        penalty = OFFSET_STRENGTH * offsets @ offsets
        return nll + penalty, expected - counts + 2 * OFFSET_STRENGTH * offsets

    offsets: np.ndarray = minimize(loss, np.zeros(n_classes), jac=True, method="L-BFGS-B").x
    return offsets
