"""Bayes' rule with the density that generated data come from: no model's likelihood is higher."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from flowgmm.methods.labels import encode_labels

__all__ = ["GeneratorClassifier"]

# Points of each curve over which the density of its noisy points is averaged, and rows at a time.
# With gaps of a third of the noise the mean is the integral in all digits.
N_CURVE, CHUNK = 500, 1000


class GeneratorClassifier(ClassifierMixin, BaseEstimator):
    """Bayes' rule with the density of scikit-learn's moons or circles, both classes as frequent.

    p(x | y) is the mean of N(x | c, noise^2 I) over the points c of the curve of class y. Nothing
    is learnt: labels only give the classes their names, in the order of the generator's classes.
    The mean of -log p(x) at fresh points estimates the entropy of the data.

    Arguments:
        shape: `moons` or `circles`.
        noise: Standard deviation of the noise.
        factor: Radius of the inner circle; the outer one's is 1.

    Attributes:
        classes_, n_features_in_: As everywhere in scikit-learn.

    Source: spec 2.1; quoted systems, section 1.
    """

    def __init__(self, shape: str = "moons", noise: float = 0.05, factor: float = 0.4):
        self.shape = shape
        self.noise = noise
        self.factor = factor

    def fit(self, X: Any, y: Any) -> Self:
        """Take the classes of y, -1 where unlabelled, shape (N,), for the generator's.

        Raises:
            ValueError: If X has other than 2 columns, y other than 2 classes, or the shape is
                unknown.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        self.classes_ = encode_labels(y)[0]
        if self.n_features_in_ != 2 or len(self.classes_) != 2:
            raise ValueError(
                f"{self.shape} have 2 features and 2 classes, got {self.n_features_in_} and "
                f"{len(self.classes_)}"
            )
        self._curves()
        return self

    def _curves(self) -> np.ndarray:
        """Points of the curve of each class, shape (2, N_CURVE, 2)."""
        if self.shape == "moons":
            angle = (np.arange(N_CURVE) + 0.5) * np.pi / N_CURVE
            upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
            return np.stack([upper, [1.0, 0.5] - upper])
        if self.shape == "circles":
            angle = np.arange(N_CURVE) * 2 * np.pi / N_CURVE
            outer = np.stack([np.cos(angle), np.sin(angle)], axis=1)
            return np.stack([outer, self.factor * outer])
        raise ValueError(f"unknown shape {self.shape!r}; expected moons or circles")

    def _log_joint(self, X: Any) -> np.ndarray:
        """Log p(x, y = k) in nats, shape (N, 2)."""
        from scipy.special import logsumexp

        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        curves = self._curves()
        parts = []
        for start in range(0, len(X), CHUNK):
            apart = X[start : start + CHUNK, None, None] - curves
            log_n = -0.5 * (apart**2).sum(-1) / self.noise**2
            parts.append(logsumexp(log_n, axis=-1))
        scale = np.log(2 * N_CURVE * 2 * np.pi * self.noise**2)
        return np.concatenate(parts) - scale

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density log p(x) in nats, shape (N,)."""
        return np.logaddexp(*self._log_joint(X).T)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Posterior log p(y | x) in nats, shape (N, 2)."""
        log_joint = self._log_joint(X)
        return log_joint - np.logaddexp(*log_joint.T)[:, None]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Posterior p(y | x), shape (N, 2)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each point, shape (N,)."""
        return self.classes_[self._log_joint(X).argmax(axis=1)]
