"""DIGLM: a linear classifier on the latents of a flow that models its inputs as well."""

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.layers import StackedLinear
from flowgmm.flows.multiscale import ImageFlow
from flowgmm.flows.pixels import Pixels
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.realnvp import CouplingFlow
from flowgmm.flows.residual_net import untracked
from flowgmm.flows.rng import Stream
from flowgmm.methods.flow_model import FlowModel
from flowgmm.methods.mlp import cross_entropy
from flowgmm.methods.parts import MultiscaleRealNVP, RealNVP, Training
from flowgmm.methods.parts.part import NOT_NEGATIVE, POSITIVE
from flowgmm.methods.quoted.virtual_adversarial import divergence, worst_direction
from flowgmm.training.batches import Batches
from flowgmm.training.loop import Inputs

__all__ = ["DiglmClassifier", "Hybrid"]


class Hybrid(nn.Module):
    """The stacked model: a flow, and a linear map from all of its latents to the classes."""

    def __init__(self, flow: CouplingFlow | ImageFlow, head: StackedLinear):
        super().__init__()
        self.flow = flow
        self.head = head

    def forward(self, x: Tensor, dropout: Stream | None = None) -> tuple[Tensor, Tensor]:
        """Log p(y | x), shape (S, B, K), and log p(x), shape (S, B), of points (S, B, ...)."""
        z, log_det = self.flow(x, dropout)
        return self.log_posterior(z), standard_normal(z) + log_det

    def log_posterior(self, z: Tensor) -> Tensor:
        """Log p(y | z), shape (S, B, K), of codes, shape (S, B, D)."""
        # In the codes' own precision: a sum over D of them.
        with torch.autocast(z.device.type, enabled=False):
            return torch.log_softmax(self.head(z), dim=-1)


def standard_normal(z: Tensor) -> Tensor:
    """Log N(z | 0, I) in nats, shape (S, B), of codes, shape (S, B, D)."""
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))


class DiglmClassifier(FlowModel):
    """Deep invertible generalised linear model: p(y | x) = softmax(W f(x) + b), beside p(x).

    The flow f, of vectors or of images, ends in a standard normal. With labelled points l and
    unlabelled ones u, D modelled features and lambda = `likelihood_weight`,

        loss = mean_l [ -log p(y | x) - lambda / D log p(x) ]
               + unlabelled_weight * lambda / D * mean_u [ -log p(x) ]
               + adversarial_weight * mean_u KL( p(y | x) || p(y | x + r) )

    where r, of length `adversarial_size`, is the direction in which the answer changes fastest;
    p(y | x) is held fixed in it. Shifts and the noise of dequantisation are the same for x and
    x + r, there is no dropout for either, and batch statistics of x + r leave the running means
    alone. Supervised, the last two weights are 0; with lambda = 0 it is a classifier alone.

    Arguments:
        flow: `RealNVP` (vectors) or `MultiscaleRealNVP` (images); None: the preset's.
        training: A `flowgmm.methods.parts.Training`; None: the preset's.
        likelihood_weight: Weight lambda of the likelihood, in units of 1/D.
        unlabelled_weight: Factor on the likelihood of the unlabelled points.
        adversarial_weight: Weight of the divergence.
        adversarial_size: Length of r, of pixels in [0, 1], of vectors after preprocessing. Pixels
            that would leave [0, 1] stay at its ends.
        adversarial_probe: Length of the step at which the direction is taken.
        preprocess, pca_components, device: As in `flowgmm.FlowGMMClassifier`.
        random_state: Seed of weights, batches, dropout, augmentation and noise.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        preset_: Name of the preset whose parts are in use; None if all parts were given.
        flow_, training_: The parts in use.
        image_shape_: Of a model of images: channels, height and width after pooling.
        history_: Losses on the way.
        seeds_: The named seeds.

    Examples:
        >>> from flowgmm import Training
        >>> from sklearn.datasets import make_moons
        >>> X, y = make_moons(200, noise=0.05, random_state=0)
        >>> y[10:] = -1
        >>> model = DiglmClassifier(training=Training(n_steps=20), random_state=0).fit(X, y)
        >>> model.score_samples(X).shape, model.predict(X).shape
        ((200,), (200,))

    Source: Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan (2019), Hybrid models with deep and
        invertible features; docs/quoted.md.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "likelihood_weight": NOT_NEGATIVE,
        "unlabelled_weight": NOT_NEGATIVE,
        "adversarial_weight": NOT_NEGATIVE,
        "adversarial_size": NOT_NEGATIVE,
        "adversarial_probe": POSITIVE,
    }
    model_: Hybrid

    def __init__(
        self,
        flow: RealNVP | MultiscaleRealNVP | None = None,
        training: Training | None = None,
        likelihood_weight: float = 0.01,
        unlabelled_weight: float = 1.0,
        adversarial_weight: float = 1.0,
        adversarial_size: float = 1.0,
        adversarial_probe: float = 0.1,
        preprocess: str | None = None,
        pca_components: int | None = None,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.flow = flow
        self.training = training
        self.likelihood_weight = likelihood_weight
        self.unlabelled_weight = unlabelled_weight
        self.adversarial_weight = adversarial_weight
        self.adversarial_size = adversarial_size
        self.adversarial_probe = adversarial_probe
        self.preprocess = preprocess
        self.pca_components = pca_components
        self.device = device
        self.random_state = random_state

    # -- model -------------------------------------------------------------------------------

    def _choose_parts(self, X: np.ndarray, n_labelled: int, n_classes: int) -> dict[str, Any]:
        self._validate_params()
        return super()._choose_parts(X, n_labelled, n_classes)

    def _network(self, shape: Any, n_classes: int, initialisation: Stream) -> Hybrid:
        flow = self._make_flow(shape, initialisation)
        return Hybrid(flow, StackedLinear(math.prod(shape), n_classes, initialisation))

    def _build(self, batches: Batches, n_classes: int, streams: dict[str, Stream]) -> nn.Module:
        shape, initialisation = batches.x.shape[1:], streams["initialisation"].at(0)
        model = self._network(shape, n_classes, initialisation)
        self._compile(model.flow)
        return model

    def _empty(self, preprocess: Preprocess | Pixels, n_classes: int) -> nn.Module:
        return self._network(self._seen_shape(preprocess), n_classes, Stream([0]))

    def _passes(self) -> tuple[float, float]:
        # The direction costs a forward pass and the half of a backward pass that leads to inputs.
        return 3.0, 8.0 if self.adversarial_weight > 0 else 3.0

    def _uses_unlabelled(self) -> bool:
        return self.likelihood_weight * self.unlabelled_weight > 0 or self.adversarial_weight > 0

    def _latent_log_prob(self, model: Any, z: Tensor) -> Tensor:
        return standard_normal(z)

    def _log_posterior(self, model: Any, x: Tensor) -> Tensor:
        return torch.log_softmax(model.head(model.flow(x)[0]).double(), dim=-1)

    # -- objective ---------------------------------------------------------------------------

    def _losses(
        self,
        model: Any,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        dtype, noise = model.head.weight.dtype, inputs.get("noise")
        x = self._view(batches.x[inputs["labelled"]], dtype, noise, streams)
        weight = self.likelihood_weight / math.prod(x.shape[2:])
        log_posterior, log_prob = model(x, streams["dropout"])
        losses = {"labelled_ce": cross_entropy(log_posterior, inputs["classes"])}
        loss = losses["labelled_ce"]
        if weight > 0:
            # Not under the name that the rule for divergence reads: with a weight so small the
            # likelihood may fall, and nothing is wrong.
            losses["nll"] = -log_prob.mean(-1)
            loss = loss + weight * losses["nll"]
        if "unlabelled" in inputs:
            u = self._view(batches.x[inputs["unlabelled"]], dtype, noise, streams)
            dropout = None if self.adversarial_weight > 0 else streams["dropout"]
            reference, log_prob = model(u, dropout)
            if weight > 0:
                losses["unlabelled_nll"] = -log_prob.mean(-1)
                loss = loss + weight * self.unlabelled_weight * losses["unlabelled_nll"]
            if self.adversarial_weight > 0:
                # Of one type, so that trainings of two precisions are alike.
                start = streams["noise"].normal(u.shape[1:]).to(dtype)
                losses["adversarial"] = self._adversarial(model, u, reference.detach(), start)
                loss = loss + self.adversarial_weight * losses["adversarial"]
        return {"loss": loss, **losses}

    def _adversarial(self, model: Any, x: Tensor, reference: Tensor, start: Tensor) -> Tensor:
        """Mean divergence from the answers to x to those to x + r, shape (S,)."""

        def log_proba(x: Tensor) -> Tensor:
            answer: Tensor = model(x.clamp(0, 1) if x.ndim == 5 else x)[0]
            return answer

        with untracked(model):
            direction = worst_direction(log_proba, x, reference, start, self.adversarial_probe)
            perturbed = log_proba(x + self.adversarial_size * direction)
        return divergence(reference, perturbed).mean(-1)
