"""Weighted mean of two classifiers' probabilities, the first at a temperature."""

from typing import Any

import numpy as np

from flowgmm.evaluation.calibration import tempered

__all__ = ["averaged", "fit_average", "fit_temperature"]

# The plain mean with FlowGMM at this temperature was the best of 13 variants on the development
# tables; what labels say beyond it counts only as far as they outweigh PRIOR_STRENGTH, nats for a
# weight whose odds, or a temperature, is e times as large or small.
WEIGHT, TEMPERATURE = 0.5, 2.0
PRIOR_STRENGTH = 10.0
AUTO = "auto"


def averaged(
    log_first: np.ndarray, log_second: np.ndarray, weight: float, temperature: float
) -> np.ndarray:
    """Log of (1 - weight) p_first^(1/T), normalised, + weight p_second, in nats, shape (N, K).

    Arguments:
        log_first: Log probabilities of the first classifier, shape (N, K).
        log_second: Those of the second, shape (N, K); may be -inf.
        weight: Share of the second, in 0..1.
        temperature: T of the first.
    """
    with np.errstate(divide="ignore"):
        shares = np.log([1 - weight, weight])
    first = shares[0] + tempered(log_first, temperature)
    mean: np.ndarray = np.logaddexp(first, shares[1] + log_second)
    return mean


def fit_average(
    y: np.ndarray,
    log_first: np.ndarray,
    log_second: np.ndarray,
    weight: float | str = AUTO,
    temperature: float | str = AUTO,
) -> tuple[float, float]:
    """Weight and temperature that make held-out classes likely, shrunk to the plain mean, T = 2.

    Arguments:
        y: True classes in 0..K-1 of n points, shape (n,).
        log_first: See `averaged`; of a model that was not fitted to these points, shape (n, K).
        log_second: Alike, shape (n, K).
        weight: Number to keep; `auto`: found here.
        temperature: Alike.

    Returns:
        The weight and the temperature.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    if len(y) == 0:
        return _fixed(weight, WEIGHT), _fixed(temperature, TEMPERATURE)
    rows = np.arange(len(y))

    def values(point: np.ndarray) -> tuple[float, float]:
        return (
            _fixed(weight, float(expit(point[0]))),
            _fixed(temperature, TEMPERATURE * float(np.exp(point[1]))),
        )

    def loss(point: np.ndarray) -> float:
        log_proba = averaged(log_first, log_second, *values(point))
        nll = -np.maximum(log_proba[rows, y], np.log(np.finfo(float).tiny)).sum()
        return float(nll + PRIOR_STRENGTH * (point**2).sum())

    return values(minimize(loss, np.zeros(2), method="Nelder-Mead").x)


def fit_temperature(y: np.ndarray, log_proba: np.ndarray, prior: float = TEMPERATURE) -> float:
    """Temperature that makes held-out classes likely, shrunk to a prior one.

    Arguments:
        y: True classes in 0..K-1 of n points, shape (n,).
        log_proba: Log probabilities of a model that was not fitted to these points, shape (n, K).
        prior: Temperature without labels.
    """
    scale = prior / TEMPERATURE
    return scale * fit_average(y, log_proba / scale, log_proba, weight=0.0)[1]


def _fixed(given: Any, otherwise: float) -> float:
    return otherwise if given == AUTO else float(given)
