"""Bases of the classifiers of images alone: their input, and convolutional ones that whiten it."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from flowgmm.flows.rng import Stream
from flowgmm.flows.whitening import Whitening
from flowgmm.methods.base import ON_DEVICE
from flowgmm.methods.neural import NeuralClassifier, check_images
from flowgmm.methods.parts import Training

__all__ = ["ConvClassifier", "ImageOnlyClassifier", "at_start", "fp32"]


class ImageOnlyClassifier(NeuralClassifier):
    """Classifier of images, shape (N, C, H, W), uint8 or floats in [0, 1].

    A subclass has the parameter `training`.
    """

    training: Training | None

    def _validated(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = check_images(X), column_or_1d(y)
        check_consistent_length(X, y)
        return X, y

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return check_images(X)

    def _choose_parts(self, X: np.ndarray, n_labelled: int, n_classes: int) -> dict[str, Any]:
        part: Any = self.training or self._default_part("training", "")
        return {"training_": part.resolved(n_labelled, n_classes)}


class ConvClassifier(ImageOnlyClassifier):
    """Convolutional classifier of images.

    A subclass also has the parameters `preprocess` (`none`, `zca` or `per_image`; see
    `flowgmm.flows.whitening`) and `pool`.
    """

    preprocess: str
    pool: int

    def _fit_preprocess(self, X: np.ndarray) -> Any:
        return Whitening.fit(X, self.preprocess, self.pool)

    @classmethod
    def _saved_preprocess(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
        return Whitening.from_saved(header, arrays)

    @abstractmethod
    def _network(self, shape: Any, n_classes: int, initialisation: Stream) -> nn.Module:
        """The untrained stack for images of a shape, (C, H, W)."""

    def _build(self, batches: Any, n_classes: int, streams: dict[str, Stream]) -> nn.Module:
        return self._network(batches.x.shape[1:], n_classes, streams["initialisation"].at(0))

    def _empty(self, preprocess: Any, n_classes: int) -> nn.Module:
        return self._network(preprocess.pooled, n_classes, Stream([0]))

    def _log_posterior(self, model: nn.Module, x: Tensor) -> Tensor:
        return torch.log_softmax(model(x).double(), dim=-1)


def fp32(x: Tensor) -> Tensor:
    """Numbers in float32 where they are of a narrower type."""
    return x.float() if x.dtype == torch.bfloat16 else x


def at_start(streams: Mapping[str, Stream]) -> None:
    """Set the streams of a step to those of the first one."""
    for name in ON_DEVICE:
        streams[name].at(0)
