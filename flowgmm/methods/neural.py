"""Base of the neural classifiers: fit and predict by scikit-learn's conventions."""

import copy
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from flowgmm.flows.pixels import as_inputs
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.methods.labels import check_labels
from flowgmm.methods.persistence import PersistentEstimator
from flowgmm.methods.stack import fit_stack
from flowgmm.training.batches import as_tensor, chunk_size
from flowgmm.training.hardware import find_device
from flowgmm.utils.errors import DivergedError

__all__ = ["NeuralClassifier", "check_images"]

# Products in float64 take twice as long: of larger models that would be felt.
MOST_IN_FLOAT64 = 2_000_000


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
        check_labels(y)
        X, y = self._validated(X, y)
        fit_stack([self], X, np.asarray(y)[None])
        if self.failure_ is not None:
            raise DivergedError(
                f"{type(self).__name__} {self.failure_}; lower the training's lr, or set "
                "preprocess='standardise'"
            )
        self._calibrate_held_out(X, np.asarray(y))
        return self

    def _calibrate_held_out(self, X: np.ndarray, y: np.ndarray) -> None:
        """Calibrate the fitted estimator on held-out labels; does nothing here."""

    def _map(self, function: Any, U: np.ndarray) -> list[np.ndarray]:
        """Apply a function of (1, B, ...) tensors to rows in chunks; concatenate its results."""
        device, dtype = find_device(self.device), self._evaluation_dtype
        own = next(self.model_.parameters()).dtype == dtype
        model = (self.model_ if own else copy.deepcopy(self.model_)).to(device, dtype)
        size = chunk_size(U)
        chunks = []
        with torch.no_grad():
            for start in range(0, max(len(U), 1), size):
                part = as_tensor(U[start : start + size], dtype).to(device)
                inputs = as_inputs(part[None], model)
                chunks.append([t[0].cpu().numpy() for t in function(model, inputs)])
        self.model_.to("cpu")
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    @property
    def _evaluation_dtype(self) -> torch.dtype:
        """Type of a fitted model's products: float64 for few parameters of a model of vectors.

        In float32 the codes of a row would depend, by 1e-6, on the number of rows beside it.
        """
        n_parameters = sum(p.numel() for p in self.model_.parameters())
        if isinstance(self.preprocess_, Preprocess) and n_parameters <= MOST_IN_FLOAT64:
            return torch.float64
        return next(self.model_.parameters()).dtype

    def _evaluated(self, X: np.ndarray) -> np.ndarray:
        """Modelled features of X, in the type that a fitted model is evaluated in."""
        if isinstance(self.preprocess_, Preprocess) and self.preprocess_.kind == "none":
            return X
        double = self._evaluation_dtype == torch.float64
        return self.preprocess_.modelled(X, np.float64 if double else np.float32)

    def _validated(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], ensure_min_samples=2)
        return X, y

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, dtype=[np.float32, np.float64], reset=False)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Posterior log p(y | x) in nats, float64, shape (N, K); finite where p rounds to 0."""
        X = self._check(X)
        U = self._evaluated(X)
        return self._map(lambda m, u: (self._log_posterior(m, u).double(),), U)[0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Posterior p(y | x), shape (N, K)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each point, shape (N,)."""
        log_proba = self.predict_log_proba(X)
        return self.classes_[log_proba.argmax(axis=1)]


def check_images(X: Any) -> np.ndarray:
    """Images, shape (N, C, H, W), uint8 or floats.

    Raises:
        ValueError: If they have another shape, or are not finite.
    """
    images: np.ndarray = check_array(
        X, dtype=[np.uint8, np.float32, np.float64], ensure_2d=False, allow_nd=True
    )
    if images.ndim != 4:
        raise ValueError(f"images have shape (N, C, H, W), got {images.shape}")
    return images
