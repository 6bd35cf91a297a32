"""Feature maps inside a fitted image flow: read, and changed."""

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from flowgmm.flows.multiscale import ImageFlow
from flowgmm.flows.pixels import as_inputs
from flowgmm.methods.latent import LatentModel
from flowgmm.training.batches import IMAGE_CHUNK, Batches

__all__ = ["ImageFeatures"]

# Training images that the spread of a feature is measured on.
N_MEASURED = 2048


class ImageFeatures(LatentModel):
    """A fitted flow and mixture, and, where the flow is of images, its feature maps."""

    @torch.no_grad()
    def _after_training(self, model: Any, batches: Batches) -> None:
        if not isinstance(model.flow, ImageFlow):
            return
        rows = batches.unlabelled if batches.unlabelled.shape[1] else batches.labelled
        parts = rows[:, :N_MEASURED].split(IMAGE_CHUNK, dim=1)
        model.flow.measure([as_inputs(batches.x[part], model) for part in parts])

    @property
    def feature_std_(self) -> dict[int, np.ndarray]:
        """Standard deviations of each layer's channels over training images, shape (C_l,).

        A layer is a step of the flow (spec 1.3), 1 to 12 in `multi_scale`.
        """
        flow = self._image_flow()
        return {layer: spread[0].numpy() for layer, spread in flow.spreads().items()}

    def feature_maps(self, X: Any, layer: int) -> np.ndarray:
        """Feature maps after the first `layer` steps of the flow.

        Arguments:
            X: Images, shape (N, C, H, W).
            layer: Number of steps, from 1 to the number of layers.

        Returns:
            Feature maps, shape (N, C_l, H_l, W_l).

        Raises:
            ValueError: If there is no such layer, or the model is not of images.
        """
        self._check_layer(layer)
        modelled, _ = self._split(self._check(X))
        return self._map(lambda m, u: (m.flow.run(u, layer)[0].transpose(0, 1),), modelled)[0]

    def perturb_feature(
        self,
        x: Any,
        layer: int,
        channel: int,
        alpha: float,
        position: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """The image whose feature differs: f_l^-1( f_l(x) + alpha * std * one channel ).

        Arguments:
            x: Image, shape (C, H, W).
            layer: Step of the flow after which the feature is changed.
            channel: Which channel there.
            alpha: By how many standard deviations (`feature_std_`).
            position: Row and column where it is changed; None: everywhere.

        Returns:
            Image in [0, 1], shape (C, h, w).

        Raises:
            ValueError: If there is no such layer or channel, or the model is not of images.

        Source: Izmailov et al. (2020), section 6.3; spec 1.8.
        """
        self._check_layer(layer)
        n_channels = len(self.feature_std_[layer])
        if not 0 <= channel < n_channels:
            raise ValueError(f"channel {channel} is not in 0..{n_channels - 1} of layer {layer}")
        shift = float(alpha * self.feature_std_[layer][channel])
        row, column = position or (slice(None), slice(None))

        def perturb(model: Any, u: Tensor) -> tuple[Tensor]:
            h, factored, _ = model.flow.run(u, layer)
            h = h.clone()
            h[:, :, channel, row, column] += shift
            return (model.flow.back(h, factored, layer)[0],)

        modelled, residual = self._split(self._check(np.asarray(x)[None]))
        image: np.ndarray = self._join(self._map(perturb, modelled)[0], residual)[0]
        return image

    def _image_flow(self) -> ImageFlow:
        check_is_fitted(self)
        flow = self.model_.flow
        if not isinstance(flow, ImageFlow):
            raise ValueError("the model was fitted to vectors; only an image flow has feature maps")
        return flow

    def _check_layer(self, layer: int) -> None:
        n_layers = len(self._image_flow().steps)
        if not 1 <= layer <= n_layers:
            raise ValueError(f"layer {layer} is not in 1..{n_layers}, the steps of the flow")
