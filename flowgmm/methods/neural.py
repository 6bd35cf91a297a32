"""Base of the neural classifiers: fit and predict by scikit-learn's conventions."""

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from flowgmm.flows.pixels import as_inputs
from flowgmm.methods.base import find_device
from flowgmm.methods.persistence import PersistentEstimator
from flowgmm.methods.stack import fit_stack
from flowgmm.training.batches import as_tensor, chunk_size
from flowgmm.utils.errors import DivergedError

__all__ = ["NeuralClassifier"]


class NeuralClassifier(ClassifierMixin, PersistentEstimator):
    """Classifier of a stacked model: a training of one seed, posteriors, classes."""

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to labelled and unlabelled points.

        Arguments:
            X: Points, shape (N, D); of some methods also images, shape (N, C, H, W), uint8 or
                floats in [0, 1].
            y: Class of each, -1 where unlabelled, shape (N,). With string classes use dtype object.

        Returns:
            The estimator.

        Raises:
            ValueError: If the input is not finite, of another shape or has fewer than 2 classes.
            DivergedError: If training left its bounds; `history_` shows where.
        """
        X, y = self._validated(X, y)
        fit_stack([self], X, np.asarray(y)[None])
        if self.failure_ is not None:
            raise DivergedError(
                f"{type(self).__name__} {self.failure_}; lower the training's lr, or set "
                "preprocess='standardise'"
            )
        return self

    def _map(self, function: Any, U: np.ndarray) -> list[np.ndarray]:
        """Apply a function of (1, B, ...) tensors to rows in chunks; concatenate its results."""
        device = find_device(self.device)
        model = self.model_.to(device)
        dtype = next(model.parameters()).dtype
        size = chunk_size(U)
        chunks = []
        with torch.no_grad():
            for start in range(0, max(len(U), 1), size):
                part = as_tensor(U[start : start + size], dtype).to(device)
                inputs = as_inputs(part[None], model)
                chunks.append([t[0].cpu().numpy() for t in function(model, inputs)])
        self.model_.to("cpu")
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    def _validated(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], ensure_min_samples=2)
        return X, y

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, dtype=[np.float32, np.float64], reset=False)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Posterior log p(y | x) in nats, float64, shape (N, K); finite where p rounds to 0."""
        X = self._check(X)
        U = self._modelled(X, self.preprocess_)
        return self._map(lambda m, u: (self._log_posterior(m, u).double(),), U)[0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Posterior p(y | x), shape (N, K)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each point, shape (N,)."""
        log_proba = self.predict_log_proba(X)
        return self.classes_[log_proba.argmax(axis=1)]
