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

    z, mu = z.astype(np.float64), estimator.means_.astype(np.float64)
    std = np.asarray(estimator.std_, dtype=np.float64)
    squared = np.stack([((z - centre) ** 2).sum(axis=1) for centre in mu], axis=1)
    d = z.shape[1]
    log_n = -squared / (2 * std**2) - d * np.log(std) - d / 2 * np.log(2 * np.pi)
    return logsumexp(np.log(estimator.weights_.astype(np.float64)) + log_n, axis=1)
