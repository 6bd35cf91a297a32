"""Weighted mean of two classifiers' probabilities."""

import numpy as np

from flowgmm.evaluation.calibration import tempered

__all__ = ["WEIGHT", "averaged"]

# Of FlowGMM and a forest; docs/recipes.md has what was tried. Weights from held-out labels were
# less accurate than one half with few labels, and equal with many.
WEIGHT, FLOW_TEMPERATURE = 0.5, 2.0


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
