"""Pi-model with dropout as the perturbation (spec 3.4)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.rng import Stream
from flowgmm.methods.mlp import DropoutMLPClassifier, cross_entropy
from flowgmm.methods.parts import Training
from flowgmm.training.batches import Batches
from flowgmm.training.loop import Inputs
from flowgmm.training.schedules import ramp

__all__ = ["PiModelClassifier"]


class PiModelClassifier(DropoutMLPClassifier):
    """The dropout perceptron, whose answers to a point must agree between two masks.

    loss = cross-entropy(labelled) + w * |softmax(z') - stop_gradient(softmax(z''))|^2, summed over
    classes, averaged over points, and divided as `normalize` says.

    Arguments:
        consistency_weight: w.
        normalize: `sum`: as the paper writes it; `mean`: divided by the number of classes K;
            `mean_over_c`: by K^2, as the official code (D21). w_sum = w_mean_over_c / K^2.
        stop_gradient: Treat the second answer as a constant.
        ramp_up: Share of the steps over which w grows linearly from 0; 0: none.
        labelled_in_unlabelled: The labelled inputs are among the unlabelled ones (D16).
        consistency_on: `unlabelled`, or `all`: the points whose answers must agree, those of the
            unlabelled batch or of both (Table 2; spec 2.3).
        training: A `flowgmm.methods.parts.Training`; None: 500 steps without clipping.

    Others as in `DropoutMLPClassifier`.

    Source: Laine and Aila (2017); Izmailov et al. (2020), section 5.1; spec 3.4.
    """

    def __init__(
        self,
        hidden_size: int = 512,
        n_hidden: int = 2,
        dropout: float = 0.5,
        consistency_weight: float = 30.0,
        normalize: str = "mean_over_c",
        stop_gradient: bool = True,
        ramp_up: float = 0.0,
        labelled_in_unlabelled: bool = True,
        consistency_on: str = "unlabelled",
        preprocess: str = "standardise",
        pca_components: int | None = None,
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ):
        super().__init__(
            hidden_size=hidden_size,
            n_hidden=n_hidden,
            dropout=dropout,
            preprocess=preprocess,
            pca_components=pca_components,
            training=training,
            device=device,
            random_state=random_state,
        )
        self.consistency_weight = consistency_weight
        self.normalize = normalize
        self.stop_gradient = stop_gradient
        self.ramp_up = ramp_up
        self.labelled_in_unlabelled = labelled_in_unlabelled
        self.consistency_on = consistency_on

    def _default_part(self, name: str, inner: str = "") -> Training:
        return Training(n_steps=500, labelled_batch=None, lr=1e-3, clip_norm=None)

    def _choose_parts(self, X: np.ndarray, n_labelled: int, n_classes: int) -> dict[str, Any]:
        training = self._default_part("training") if self.training is None else self.training
        training = training.resolved(n_labelled, n_classes)
        return {"training_": training}

    def _labelled_in_unlabelled(self) -> bool:
        return self.labelled_in_unlabelled

    def _passes(self) -> tuple[float, float]:
        return 3.0, 4.0 if self.stop_gradient else 6.0

    def _uses_unlabelled(self) -> bool:
        return True

    def _schedule(self, step: int, n_steps: int, labelled_pass: int = 1) -> dict[str, float]:
        return {"consistency": ramp(step, n_steps, self.ramp_up)}

    def _losses(
        self,
        model: nn.Module,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        dropout = streams["dropout"]
        x = batches.x[inputs["labelled"]]
        labelled = cross_entropy(model(x, dropout), inputs["classes"])
        rows = inputs["unlabelled"]
        if self._consistency_on_all():
            rows = torch.cat([inputs["labelled"], rows], dim=1)
        x = batches.x[rows]
        with torch.set_grad_enabled(not self.stop_gradient):
            second = torch.softmax(model(x, dropout).to(batches.x.dtype), dim=-1)
        first = torch.softmax(model(x, dropout).to(batches.x.dtype), dim=-1)
        consistency = (first - second).square().sum(-1).mean(-1) / self._divisor(first.shape[-1])
        weight = self.consistency_weight * inputs["consistency"]
        return {
            "loss": labelled + weight * consistency,
            "labelled_ce": labelled,
            "consistency": consistency,
        }

    def _consistency_on_all(self) -> bool:
        if self.consistency_on not in ("unlabelled", "all"):
            raise ValueError(
                f"unknown consistency_on {self.consistency_on!r}; expected unlabelled or all"
            )
        return self.consistency_on == "all"

    def _divisor(self, n_classes: int) -> int:
        powers = {"sum": 0, "mean": 1, "mean_over_c": 2}
        if self.normalize not in powers:
            raise ValueError(
                f"unknown normalize {self.normalize!r}; expected one of {', '.join(powers)}"
            )
        return n_classes ** powers[self.normalize]
