"""Semi-supervised variational models of images: the objective, with an exact sum over classes."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.rng import Stream
from flowgmm.methods.base import ON_DEVICE
from flowgmm.methods.quoted.images import ImageOnlyClassifier
from flowgmm.training.batches import Batches
from flowgmm.training.loop import Inputs

__all__ = ["VariationalClassifier", "class_sum"]


def class_sum(log_q: Tensor, bounds: Tensor) -> Tensor:
    """Bound of points without labels, U(x) = sum_y q(y | x) [ L(x, y) - log q(y | x) ].

    Arguments:
        log_q: log q(y | x), shape (..., K).
        bounds: L(x, y), shape (..., K).

    Returns:
        Nats, shape (...).
    """
    return (log_q.exp() * (bounds - log_q)).sum(-1)


class VariationalClassifier(ImageOnlyClassifier):
    """Classifier q(y | x) of images, trained with a generative model of images and classes.

    A subclass says of points and classes the bounds L(x, y) and log q(y | x) (`_terms`), and how
    much each part of the objective weighs (`_weights`).
    """

    preprocess_: Any

    @abstractmethod
    def _network(self, n_features: int, n_classes: int, initialisation: Stream) -> nn.Module:
        """The untrained stack."""

    def _build(self, batches: Batches, n_classes: int, streams: dict[str, Stream]) -> nn.Module:
        n_features = int(np.prod(batches.x.shape[1:]))
        return self._network(n_features, n_classes, streams["initialisation"].at(0))

    def _empty(self, preprocess: Any, n_classes: int) -> nn.Module:
        return self._network(preprocess.n_modelled, n_classes, Stream([0]))

    def _passes(self) -> tuple[float, float]:
        return 0.4, 3.0  # of one class, and of ten

    def _one_pass(self, model: Any, shape: Sequence[int]) -> None:
        y = torch.eye(model.n_classes)[None, None]
        streams = {name: Stream([0]) for name in ON_DEVICE}
        self._terms(model, torch.zeros(1, 1, *shape), y, streams)

    @abstractmethod
    def _terms(
        self, model: nn.Module, x: Tensor, y: Tensor, streams: dict[str, Stream]
    ) -> tuple[Tensor, Tensor]:
        """Bounds and posteriors of points, with new noise.

        Arguments:
            model: The stack.
            x: Preprocessed points, shape (S, B, ...).
            y: One-hot classes: of each point, shape (S, B, 1, K), or all, shape (S, 1, K, K).
            streams: Random streams, set to the step.

        Returns:
            L(x, y), shape (S, B, M, 1) or (S, B, M, K), and log q(y | x), shape (S, B, M, K), of M
            samples.
        """

    @abstractmethod
    def _weights(self, n_labelled: int, n_unlabelled: int) -> tuple[float, float, float]:
        """Weights of the mean L of labelled points, of their mean log q(y | x), and of the mean U.

        Arguments:
            n_labelled: Labelled points of a seed.
            n_unlabelled: Unlabelled points of a seed, the labelled ones among them where they are.
        """

    def _losses(
        self,
        model: Any,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        classes = inputs["classes"]
        one_hot = torch.eye(model.n_classes, dtype=self._dtype, device=classes.device)
        known = one_hot[classes][:, :, None]
        joint, log_q = self._terms(model, batches.x[inputs["labelled"]], known, streams)
        label = (log_q * known).sum(-1)
        every = one_hot.expand(len(classes), 1, -1, -1)
        bounds, log_q = self._terms(model, batches.x[inputs["unlabelled"]], every, streams)
        marginal = class_sum(log_q, bounds)
        joint, label, marginal = joint.mean((1, 2, 3)), label.mean((1, 2)), marginal.mean((1, 2))
        weights = self._weights(batches.labelled.shape[1], batches.unlabelled.shape[1])
        return {
            "loss": -(weights[0] * joint + weights[1] * label + weights[2] * marginal),
            "bound": marginal,
            "labelled_bound": joint,
            "labelled_ce": -label,
            "entropy": -(log_q.exp() * log_q).sum(-1).mean((1, 2)),
        }
