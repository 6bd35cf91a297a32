"""A fitted flow and mixture in use: codes, densities, samples, boundaries, paths between points."""

import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted, check_random_state
from torch import Tensor, nn

from flowgmm.evaluation.calibration import best_temperature, tempered
from flowgmm.flows.mixture import StackedMixture
from flowgmm.flows.multiscale import ImageFlow
from flowgmm.flows.pixels import Pixels
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.realnvp import CouplingFlow
from flowgmm.methods.neural import NeuralClassifier
from flowgmm.training.batches import CHUNK, IMAGE_CHUNK

__all__ = ["FlowGMM", "LatentModel"]


class FlowGMM(nn.Module):
    """The stacked model: a flow and a mixture."""

    def __init__(self, flow: CouplingFlow | ImageFlow, mixture: StackedMixture):
        super().__init__()
        self.flow = flow
        self.mixture = mixture


class LatentModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NeuralClassifier):
    """Inference with a fitted flow and latent mixture: densities, codes, samples, features."""

    _saved: ClassVar[tuple[str, ...]] = ("temperature_",)
    model_: FlowGMM

    # -- input -------------------------------------------------------------------------------

    def _validated(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        if getattr(X, "ndim", 2) != 4:
            return super()._validated(X, y)
        X, y = _check_images(X), column_or_1d(y)
        check_consistent_length(X, y)
        return X, y

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        if isinstance(self.preprocess_, Pixels):
            return _check_images(X)
        return super()._check(X)

    def _split(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split X into modelled and residual features."""
        if isinstance(self.preprocess_, Preprocess) and self.preprocess_.kind == "none":
            return X, X[:, :0]
        double = self._evaluation_dtype == torch.float64
        return self.preprocess_.split(X, np.float64 if double else np.float32)

    def _join(self, modelled: np.ndarray, residual: np.ndarray) -> np.ndarray:
        if isinstance(self.preprocess_, Preprocess) and self.preprocess_.kind == "none":
            return modelled
        return self.preprocess_.join(modelled, residual)

    # -- fitted ------------------------------------------------------------------------------

    def _adopt(self, *args: Any) -> None:
        super()._adopt(*args)
        self.temperature_ = 1.0

    @property
    def means_(self) -> np.ndarray:
        """Component means in the latent space, shape (K, d)."""
        check_is_fitted(self)
        return self.model_.mixture.means[0].numpy()

    @property
    def std_(self) -> np.ndarray:
        """Standard deviation of each component, shape (K,)."""
        check_is_fitted(self)
        return self.model_.mixture.std[0].numpy()

    @property
    def weights_(self) -> np.ndarray:
        """Class weights, shape (K,)."""
        check_is_fitted(self)
        return self.model_.mixture.log_weights[0].exp().numpy()

    @property
    def _n_features_out(self) -> int:
        return self.preprocess_.n_out

    # -- densities and codes -----------------------------------------------------------------

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Posterior log p(y | x) in nats, float64, shape (N, K); finite where p rounds to 0.

        After `calibrate`, at its temperature.
        """
        log_proba = super().predict_log_proba(X)
        return log_proba if self.temperature_ == 1 else tempered(log_proba, self.temperature_)

    def calibrate(self, X: Any, y: Any) -> Self:
        """Choose the temperature with the least class NLL on points with known classes.

        It divides the log-posteriors, which equals one scalar variance for all components; which
        class is the most probable stays as it is. It is stored as `temperature_`.

        Arguments:
            X: Points that were not learnt from.
            y: Their classes, shape (N,).

        Raises:
            ValueError: If a class is unknown.

        Source: Izmailov et al. (2020), section 6 (Table 5); spec 1.8.
        """
        codes = self._codes(y)
        self.temperature_ = 1.0
        self.temperature_ = best_temperature(codes, self.predict_log_proba(X))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density in nats, float64, shape (N,).

        Of vectors log p(x), before preprocessing; of images the log probability of the image with
        256 levels, by one dequantisation in the middle of the levels (D42).
        """
        X = self._check(X)

        def log_prob(model: FlowGMM, u: Tensor) -> tuple[Tensor]:
            z, log_det = model.flow(u)
            return ((model.mixture.log_prob(z) + log_det).double(),)

        def score(X: np.ndarray) -> np.ndarray:
            modelled, residual = self._split(X)
            residual = np.asarray(residual, dtype=np.float64)
            log_residual = -0.5 * (residual**2 + np.log(2 * np.pi)).sum(axis=1)
            return self._map(log_prob, modelled)[0] + log_residual + self.preprocess_.log_det

        # In chunks, since vectors are preprocessed in float64.
        return np.concatenate([score(X[i : i + CHUNK]) for i in range(0, len(X), CHUNK)])

    def transform(self, X: Any) -> np.ndarray:
        """Latent code of each point, shape (N, D).

        The first columns are the flow's, the others (constant columns, trailing components) are
        passed on as they are.
        """
        X = self._check(X)
        modelled, residual = self._split(X)
        z = self._map(lambda model, u: (model.flow(u)[0],), modelled)[0]
        dtype = np.float32 if X.dtype == np.uint8 else X.dtype
        return np.concatenate([z, residual], axis=1).astype(dtype)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Point with each latent code Z, shape (N, D): vectors, or images in [0, 1].

        Raises:
            ValueError: If the number of columns is wrong.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=[np.float32, np.float64])
        if Z.shape[1] != self._n_features_out:
            raise ValueError(f"Z must have shape (N, {self._n_features_out}), got {Z.shape}")
        n_modelled = self.preprocess_.n_modelled

        # Codes of images are vectors, but cost as much as images.
        size = IMAGE_CHUNK if isinstance(self.preprocess_, Pixels) else CHUNK
        parts = [
            self._map(lambda m, z: (m.flow.inverse(z)[0],), Z[start : start + size, :n_modelled])[0]
            for start in range(0, len(Z), size)
        ]
        return self._join(np.concatenate(parts), Z[:, n_modelled:]).astype(Z.dtype)

    def component_log_prob(self, z: Any) -> np.ndarray:
        """Log latent density of each component, log p(z | y = k), in nats, float64, shape (N, K).

        Arguments:
            z: Latent codes, shape (N, D), as `transform` gives them; the columns behind the
                flow's own have no part in the mixture.
        """
        check_is_fitted(self)
        z = np.asarray(z, dtype=np.float64)[:, : self.preprocess_.n_modelled]
        if self.model_.mixture.student_t is not None:
            mixture = copy.deepcopy(self.model_.mixture).double()
            with torch.no_grad():
                log_prob: np.ndarray = mixture.component_log_prob(torch.as_tensor(z)[None])[
                    0
                ].numpy()
            return log_prob
        # By differences, which keep more digits than the mixture's fast form |z|^2 - 2 z.mu + ...
        means, std = self.means_.astype(np.float64), self.std_.astype(np.float64)
        squared = np.stack([((z - mean) ** 2).sum(axis=1) for mean in means], axis=1)
        d = z.shape[1]
        log_n: np.ndarray = -squared / (2 * std**2) - d * np.log(std) - d / 2 * np.log(2 * np.pi)
        return log_n

    def decision_distance(self, X: Any) -> np.ndarray:
        """Latent distance of each point to the plane halfway between its two nearest means.

        With mu', mu'' the means nearest to z: | |z - mu'|^2 - |z - mu''|^2 | / (2 |mu' - mu''|).
        That plane is the boundary between the two classes for Gaussian components of equal weights
        and spreads. It is the paper's measure, and not always the distance to the nearest boundary:
        with three or more classes another may be nearer.

        Arguments:
            X: Points, shape (N, D) or (N, C, H, W).

        Returns:
            Distances in latent units, shape (N,).

        Raises:
            ValueError: If the spreads differ; the boundary is then no plane.

        Source: spec 1.8 (Fig. 3c).
        """
        check_is_fitted(self)
        if not np.allclose(self.std_, self.std_[0]):
            raise ValueError(
                f"decision_distance expected components of one spread, got {self.std_}; "
                "fit with learn_std=False"
            )
        z = self.transform(X)[:, : self.preprocess_.n_modelled].astype(np.float64)
        means = self.means_.astype(np.float64)
        squared = (z**2).sum(1)[:, None] - 2 * z @ means.T + (means**2).sum(1)
        nearest = np.argsort(squared, axis=1)[:, :2]
        first, second = np.take_along_axis(squared, nearest, axis=1).T
        apart = np.linalg.norm(means[nearest[:, 0]] - means[nearest[:, 1]], axis=1)
        distance: np.ndarray = np.abs(second - first) / (2 * apart)
        return distance

    def interpolate(self, x1: Any, x2: Any, n: int = 10) -> np.ndarray:
        """Points equidistant on the straight line between two points' latent codes.

        Arguments:
            x1: A point, shape (D,) or (C, H, W).
            x2: Another.
            n: How many, both ends among them.

        Source: spec 1.8 (Fig. 3a, b).
        """
        first, second = self.transform(np.stack([np.asarray(x1), np.asarray(x2)]))
        share = np.linspace(0, 1, n, dtype=first.dtype)[:, None]
        return self.inverse_transform((1 - share) * first + share * second)

    # -- samples -----------------------------------------------------------------------------

    def _codes(self, y: Any) -> np.ndarray:
        """Indices of classes in `classes_`."""
        positions = {label: k for k, label in enumerate(self.classes_.tolist())}
        wanted = np.asarray(y).tolist()
        if unknown := sorted(set(wanted) - set(positions), key=str):
            raise ValueError(
                f"y has classes the model does not know: {unknown}; "
                f"it knows {self.classes_.tolist()}"
            )
        return np.array([positions[label] for label in wanted], dtype=np.int64)

    def sample(
        self,
        n: int,
        y: Any = None,
        temperature: float = 1.0,
        random_state: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw new points.

        Arguments:
            n: How many.
            y: Their class, or n classes; None: drawn from `weights_`.
            temperature: Factor on the standard deviation of the latent noise (0.25 in Fig. 6).
            random_state: Of the draw; None: that of the estimator.

        Returns:
            Points, shape (n, D), or images in [0, 1], shape (n, C, h, w), float64, and their
            classes, shape (n,).

        Raises:
            ValueError: If a class is unknown.

        Source: Izmailov et al. (2020), section 6; spec 1.8.
        """
        check_is_fitted(self)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        if y is None:
            p = self.weights_.astype(np.float64)
            codes = rng.choice(len(p), size=n, p=p / p.sum())
        else:
            codes = self._codes(np.broadcast_to(np.asarray(y), (n,)))
        shape = (n, self._n_features_out)
        nu = self.model_.mixture.student_t
        z = temperature * (rng.standard_normal(shape) if nu is None else rng.standard_t(nu, shape))
        n_modelled = self.preprocess_.n_modelled
        z[:, :n_modelled] = self.means_[codes] + self.std_[codes, None] * z[:, :n_modelled]
        return self.inverse_transform(z), self.classes_[codes]


def _check_images(X: Any) -> np.ndarray:
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
