"""Perceptron with dropout, trained on the labelled points alone (spec 3.3)."""

from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.flows.layers import StackedMLP
from flowgmm.flows.pixels import Pixels
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.rng import Stream
from flowgmm.methods.neural import NeuralClassifier
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
        n_steps: Optimizer steps.
        labelled_batch: Labelled points per step; None: all.
        sampling, optimizer, lr, weight_decay, schedule, clip_norm: See
            `flowgmm.training.loop.Training`.
        keep: `last`: the parameters after the last step; `best_val`: those with the highest
            accuracy on validation points (D41; through `fit_stack`).
        precision: `fp32`, `bf16` (matrix products only) or `fp64`.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of the initial weights, batches and dropout.

    Source: Izmailov et al. (2020), section 5.1; spec 3.3.
    """

    def __init__(
        self,
        hidden_size: int = 512,
        n_hidden: int = 2,
        dropout: float = 0.5,
        preprocess: str = "standardise",
        pca_components: int | None = None,
        n_steps: int | None = 500,
        labelled_batch: int | None = None,
        sampling: str = "shuffle",
        optimizer: str = "adamw",
        lr: float = 3e-4,
        weight_decay: float = 1e-5,
        schedule: str = "cosine",
        clip_norm: float | None = None,
        keep: str = "last",
        precision: str = "fp32",
        device: str = "auto",
        random_state: Any = None,
    ):
        self.hidden_size = hidden_size
        self.n_hidden = n_hidden
        self.dropout = dropout
        self.preprocess = preprocess
        self.pca_components = pca_components
        self.n_steps = n_steps
        self.labelled_batch = labelled_batch
        self.sampling = sampling
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.keep = keep
        self.precision = precision
        self.device = device
        self.random_state = random_state

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
