"""One scalar on the class probabilities, fitted on points that were not trained on."""

import math

import numpy as np
from numpy.typing import ArrayLike

from flowgmm.evaluation import metrics

__all__ = ["best_temperature", "tempered"]

LOG_TEMPERATURE = (-3.0, 12.0)


def best_temperature(y: ArrayLike, log_proba: ArrayLike) -> float:
    """T that makes the probabilities p^(1/T), normalised, most likely.

    Arguments:
        y: True classes in 0..K-1, shape (N,).
        log_proba: Log probabilities of the classes, finite, shape (N, K).

    Source: Izmailov et al. (2020), Table 5: with equal weights T is the factor on the variance of
    the components; spec 1.8.
    """
    from scipy.optimize import minimize_scalar

    rows = np.asarray(log_proba, dtype=np.float64)
    found = minimize_scalar(
        lambda log_t: metrics.class_nll(y, rows / math.exp(log_t)),
        bounds=LOG_TEMPERATURE,
        method="bounded",
    )
    return math.exp(found.x)


def tempered(log_proba: np.ndarray, temperature: float) -> np.ndarray:
    """Log of p^(1/T), normalised, shape (N, K)."""
    from scipy.special import log_softmax

    return log_softmax(log_proba / temperature, axis=1)
