"""Calibration of class probabilities by held-out labels, shrunk to what is expected of few."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flowgmm.evaluation import metrics
from flowgmm.evaluation.calibration import tempered

__all__ = ["Calibration", "fit_calibration", "fit_offsets", "fit_temperature"]

# Temperature of FlowGMM before held-out labels speak: 1.5 + 3 D / L of D modelled features and L
# labels, up to 8 (docs/recipes.md).
LEAST_TEMPERATURE, TEMPERATURE_SLOPE, MOST_TEMPERATURE = 1.5, 3.0, 8.0
# What held-out labels say of a temperature counts as far as it outweighs so many nats for one that
# is e times as large or small as expected.
PRIOR_STRENGTH = 8.0
# What they say of a class's offset counts as far as it outweighs so many nats for an offset of 1.
OFFSET_STRENGTH = 16.0
# Log of the least probability that counts.
LEAST = math.log(np.finfo(float).tiny)


@dataclass(frozen=True)
class Calibration:
    """Map of log probabilities: a temperature, then an offset of each class.

    Attributes:
        temperature: Positive.
        offsets: In nats, shape (K,).
    """

    temperature: float
    offsets: np.ndarray

    def apply(self, log_proba: np.ndarray) -> np.ndarray:
        """Calibrated log probabilities in nats, shape (N, K), of log_proba, shape (N, K)."""
        if self.temperature == 1 and not np.any(self.offsets):
            return log_proba
        return tempered(log_proba + self.temperature * self.offsets, self.temperature)


def fit_calibration(y: ArrayLike, log_proba: np.ndarray, ratio: float) -> Calibration:
    """Calibration that makes held-out classes likely; the temperature is 1 at least.

    Arguments:
        y: True classes in 0..K-1 of n points, shape (n,).
        log_proba: Log probabilities of FlowGMM, which was not fitted to these points, finite, shape
            (n, K).
        ratio: Modelled features for each label: the more, the surer of itself is the model without
            reason.
    """
    prior = min(MOST_TEMPERATURE, LEAST_TEMPERATURE + TEMPERATURE_SLOPE * ratio)
    temperature = max(1.0, fit_temperature(y, log_proba, prior))
    return Calibration(temperature, fit_offsets(y, tempered(log_proba, temperature)))


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
