"""Perceptron with dropout, trained on the labelled points alone (spec 3.3)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.layers import StackedMLP
from flowgmm.flows.pixels import Pixels
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.rng import Stream
from flowgmm.methods.neural import NeuralClassifier
from flowgmm.methods.parts import Training
from flowgmm.training.batches import Batches
from flowgmm.training.loop import Inputs

__all__ = ["DropoutMLPClassifier", "cross_entropy"]


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean cross-entropy of each seed.

    Arguments:
        logits: Shape (S, B, K).
        classes: True classes, shape (S, B).

    Returns:
        Nats, shape (S,).
    """
    log_p = torch.log_softmax(logits.float() if logits.dtype == torch.bfloat16 else logits, dim=-1)
    return -log_p.gather(-1, classes.unsqueeze(-1)).squeeze(-1).mean(-1)


class DropoutMLPClassifier(NeuralClassifier):
    """Linear-ReLU-dropout hidden layers, cross-entropy on the labelled points.

    Arguments:
        hidden_size: Width of the hidden layers.
        n_hidden: Number of hidden layers (official: 2; the paper says 3; D20).
        dropout: After every hidden layer.
        preprocess: `none`, `standardise` or `pca`; see `flowgmm.flows.preprocessing`.
        pca_components: Principal components kept with `pca`.
        training: A `flowgmm.methods.parts.Training`; None: 500 steps at a learning rate of 3e-4
            without clipping. Unlabelled points have no part in it.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of the initial weights, batches and dropout.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        training_: The training in use.
        history_: Losses on the way.
        seeds_: The named seeds.

    Source: Izmailov et al. (2020), section 5.1; spec 3.3.
    """

    def __init__(
        self,
        hidden_size: int = 512,
        n_hidden: int = 2,
        dropout: float = 0.5,
        preprocess: str = "standardise",
        pca_components: int | None = None,
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.hidden_size = hidden_size
        self.n_hidden = n_hidden
        self.dropout = dropout
        self.preprocess = preprocess
        self.pca_components = pca_components
        self.training = training
        self.device = device
        self.random_state = random_state

    def _default_part(self, name: str, inner: str = "") -> Training:
        return Training(n_steps=500, labelled_batch=None, lr=3e-4, clip_norm=None)

    def _choose_parts(self, X: np.ndarray, n_labelled: int, n_classes: int) -> dict[str, Any]:
        training = self._default_part("training") if self.training is None else self.training
        training = training.resolved(n_labelled, n_classes)
        if training.n_epochs is not None:
            raise ValueError(
                f"training: got n_epochs={training.n_epochs!r}; there is no pass over unlabelled "
                "points: expected n_steps"
            )
        return {"training_": training}

    def _uses_unlabelled(self) -> bool:
        return False

    def _network(self, n_features: int, n_classes: int, initialisation: Stream) -> StackedMLP:
        sizes = [n_features, *[self.hidden_size] * self.n_hidden, n_classes]
        return StackedMLP(sizes, initialisation, dropout=self.dropout)

    def _build(self, batches: Batches, n_classes: int, streams: dict[str, Stream]) -> nn.Module:
        return self._network(batches.x.shape[1], n_classes, streams["initialisation"].at(0))

    def _empty(self, preprocess: Preprocess | Pixels, n_classes: int) -> nn.Module:
        return self._network(preprocess.n_modelled, n_classes, Stream([0]))

    def _losses(
        self,
        model: nn.Module,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        x = batches.x[inputs["labelled"]]
        return {"loss": cross_entropy(model(x, streams["dropout"]), inputs["classes"])}

    def _log_posterior(self, model: nn.Module, x: Tensor) -> Tensor:
        return torch.log_softmax(model(x).double(), dim=-1)
