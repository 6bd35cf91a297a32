"""Latent densities of an image model."""

from typing import Any

import numpy as np

__all__ = ["bits", "log_mixture", "n_dims"]


def n_dims(estimator: Any) -> int:
    return int(estimator.means_.shape[1])


def bits(nats: Any, estimator: Any) -> Any:
    """Bits per dimension of a log-likelihood in nats: the fewer, the likelier."""
    return -nats / (n_dims(estimator) * np.log(2))


def log_mixture(estimator: Any, z: np.ndarray) -> np.ndarray:
    """Latent density log p(z) in nats, shape (N,), of z with shape (N, D)."""
    from scipy.special import logsumexp

    log_weights = np.log(estimator.weights_.astype(np.float64))
    density: np.ndarray = logsumexp(log_weights + estimator.component_log_prob(z), axis=1)
    return density
