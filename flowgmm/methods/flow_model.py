"""A flow in an estimator: its parts and presets, what it sees in training, densities and codes."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from flowgmm.flows.multiscale import ImageFlow
from flowgmm.flows.pixels import Pixels, crop_and_flip, dequantise, distort
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.realnvp import CouplingFlow
from flowgmm.flows.rng import Stream
from flowgmm.methods.neural import NeuralClassifier, check_images
from flowgmm.methods.parts import PARTS, MultiscaleRealNVP, RealNVP, Training
from flowgmm.methods.preset_parts import PRESETS, choose_preset
from flowgmm.training.batches import CHUNK, IMAGE_CHUNK

__all__ = ["FlowModel"]


class FlowModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NeuralClassifier):
    """Base of the estimators with a flow z = f(x), of vectors or of images.

    A subclass has the parameters `flow`, `training`, `preprocess` and `pca_components`; a part that
    is None has the preset for the data at hand. Its model has the flow as `flow`.
    """

    _used: ClassVar[tuple[str, ...]] = ("flow_", "training_", "preset_")
    model_: Any
    flow: RealNVP | MultiscaleRealNVP | None
    training: Training | None
    preprocess: str | None
    pca_components: int | None
    flow_: RealNVP | MultiscaleRealNVP
    preset_: str | None

    @abstractmethod
    def _latent_log_prob(self, model: Any, z: Tensor) -> Tensor:
        """Log density of codes in nats, shape (S, B), of z, shape (S, B, D)."""

    # -- parts -------------------------------------------------------------------------------

    def _choose_parts(self, X: np.ndarray, n_labelled: int, n_classes: int) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in PARTS if name in self._part_names()}
        name = None
        if None in given.values() or (self.preprocess is None and X.ndim == 2):
            name = choose_preset(X)
        preset = PRESETS[name]() if name else None
        parts = {k: getattr(preset, k) if part is None else part for k, part in given.items()}
        expected = MultiscaleRealNVP if X.ndim == 4 else RealNVP
        if not isinstance(parts["flow"], expected):
            raise ValueError(
                f"flow: expected {expected.__name__} for X of shape {X.shape}, got "
                f"{parts['flow']!r}; vectors have shape (N, D), images (N, C, H, W)"
            )
        n_components = self.pca_components or (preset and preset.pca_components)
        modelled = X.shape[1:] if X.ndim == 4 else (min(X.shape[1], n_components or X.shape[1]),)
        used: dict[str, Any] = {f"{k}_": part.checked() for k, part in parts.items()}
        used["flow_"] = used["flow_"].resolved(modelled, n_labelled)
        for attribute in used.keys() & {"objective_", "training_"}:
            used[attribute] = used[attribute].resolved(n_labelled, n_classes)
        return used | {"preset_": name}

    def _fit_preprocess(self, X: np.ndarray) -> Preprocess | Pixels:
        if isinstance(self.flow_, MultiscaleRealNVP):
            return Pixels.fit(X, self.flow_.pool)
        if self.preprocess is None and self.preset_ is not None:
            preset = PRESETS[self.preset_]()
            return Preprocess.fit(X, preset.preprocess, preset.pca_components)
        return super()._fit_preprocess(X)

    def _make_flow(self, shape: Sequence[int], initialisation: Stream) -> CouplingFlow | ImageFlow:
        """The flow of points of a shape, (D,) or (C, H, W)."""
        part = self.flow_
        if isinstance(part, RealNVP):
            return CouplingFlow(
                shape[0],
                part.n_couplings,
                part.hidden_size,
                initialisation,
                n_inner=part.n_inner,
                dropout=part.dropout,
                zero_init=part.zero_init,
            )
        return ImageFlow(
            shape,
            part.n_filters,
            part.n_blocks,
            initialisation,
            architecture=part.architecture,
            zero_init=part.zero_init,
        )

    def _compile(self, flow: Any) -> None:
        """Compile the flow if the training says so."""
        if self.training_.compile:
            # In place: the parameters keep their names. Each size of a batch on its own: there are
            # one or two, and sizes left open are slower and, of shifted bits, do not compile.
            flow.compile(dynamic=False)

    def _seen_shape(self, preprocess: Preprocess | Pixels) -> tuple[int, ...]:
        """Shape of a point as the flow sees it."""
        return preprocess.pooled if isinstance(preprocess, Pixels) else (preprocess.n_modelled,)

    def _undecayed_parameters(self, model: Any) -> list[nn.Parameter]:
        if not isinstance(model.flow, ImageFlow):
            return []
        return [p for name, p in model.flow.named_parameters() if not name.endswith("gain")]

    # -- training ----------------------------------------------------------------------------

    def _schedule(self, step: int, n_steps: int, labelled_pass: int = 1) -> dict[str, float]:
        flow = self.flow_
        if not isinstance(flow, RealNVP) or flow.input_noise == 0:
            return {}
        noise = float(flow.input_noise)
        if flow.noise_until is not None:
            noise *= max(0.0, 1 - step / (flow.noise_until * n_steps))
        return {"noise": noise} if noise > 0 else {}

    def _view(
        self,
        x: Tensor,
        dtype: torch.dtype,
        noise: Tensor | float | None,
        streams: dict[str, Stream],
        distorted: bool = True,
    ) -> Tensor:
        """One perturbation of points, shape (S, B, ...): what the flow sees of them in training."""
        if x.dtype == torch.uint8:
            part = self.flow_
            assert isinstance(part, MultiscaleRealNVP)
            x = crop_and_flip(x, part.crop_padding, part.flip, streams["augmentation"])
            if part.distortion > 0 and distorted:
                x = distort(x, part.distortion, streams["augmentation"]).to(dtype)
            return dequantise(x, streams["dequantisation"].uniform(x.shape[1:], dtype))
        if noise is None:
            return x
        return x + noise * streams["augmentation"].normal(x.shape[1:], x.dtype)

    # -- input -------------------------------------------------------------------------------

    def _validated(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        if getattr(X, "ndim", 2) != 4:
            return super()._validated(X, y)
        X, y = check_images(X), column_or_1d(y)
        check_consistent_length(X, y)
        return X, y

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        if isinstance(self.preprocess_, Pixels):
            return check_images(X)
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

    @property
    def image_shape_(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that the flow sees."""
        check_is_fitted(self)
        if not isinstance(self.preprocess_, Pixels):
            raise AttributeError("the model was fitted to vectors, not to images")
        return self.preprocess_.pooled

    @property
    def _n_features_out(self) -> int:
        return self.preprocess_.n_out

    # -- densities and codes -----------------------------------------------------------------

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density in nats, float64, shape (N,).

        Of vectors log p(x), before preprocessing; of images the log probability of the image with
        256 levels, by one dequantisation in the middle of the levels (D42).
        """
        X = self._check(X)

        def log_prob(model: Any, u: Tensor) -> tuple[Tensor]:
            z, log_det = model.flow(u)
            return ((self._latent_log_prob(model, z) + log_det).double(),)

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
