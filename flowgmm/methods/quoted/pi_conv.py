"""Pi-model on images: a convolutional network that answers alike to two views of an image."""

from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.flows.pixels import crop_and_flip
from flowgmm.flows.rng import Stream
from flowgmm.methods.parts import Training
from flowgmm.methods.quoted.images import ConvClassifier, at_start, fp32
from flowgmm.nets.layers import initialise
from flowgmm.nets.mean_only import MeanOnlyNet
from flowgmm.training.batches import Batches
from flowgmm.training.loop import Inputs, TrainingOptions
from flowgmm.training.optim import Group
from flowgmm.training.schedules import WARM_UP, gauss_ramp

__all__ = ["PiConvClassifier"]

# Decay of the first moment at the end of the training.
FINAL_BETA1 = 0.5


class PiConvClassifier(ConvClassifier):
    """Convolutional classifier whose answers to an image must agree between two views of it.

    With z and z' the class probabilities of two views of each of the B images of a batch, drawn
    from labelled and unlabelled ones together, of which n_l of N have a label:

        loss = (sum over labelled of -log z_y) / B + w * mean over images and classes of (z - z')^2
        w = consistency_weight * n_l / N * ramp

    A view has noise and dropout of its own, and a shift; a mirrored image is so in both. Both views
    carry gradient; the batch means of the second reach the running means.

    Arguments:
        width: Channels of the first block; see `flowgmm.nets.mean_only.MeanOnlyNet`.
        noise: Standard deviation of Gaussian noise added to the whitened images.
        dropout: Probability of dropout.
        consistency_weight: Factor of w; 0: one view, whose unlabelled images reach the batch means
            alone.
        ramp_up: Share of the steps over which w grows, as exp(-5 (1 - k)^2) with k from 0 to 1.
        crop_padding: Largest random shift in training, pixels after pooling; pixels that come in
            are reflected.
        flip: Mirror half of the images at random in training.
        mean_momentum: Share of the running means that a step keeps.
        preprocess: `zca`, `per_image` or `none`; see `flowgmm.flows.whitening`.
        pool: Average over blocks of pool x pool pixels first, for scaled-down runs.
        training: A `flowgmm.methods.parts.Training`; None: 300 epochs of batches of 100. A batch is
            `unlabelled_batch` of all images; `labelled_batch` has no part in it. With the schedule
            `ramps` the decay of the first moment falls to 0.5 at the end.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of weights, batches, dropout, augmentation and noise.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        training_: The training in use.
        history_: Losses on the way.
        seeds_: The named seeds.

    Source: Laine and Aila (2017), sections 2.1 and 3, appendix A.
    """

    def __init__(
        self,
        width: int = 128,
        noise: float = 0.15,
        dropout: float = 0.5,
        consistency_weight: float = 100.0,
        ramp_up: float = WARM_UP,
        crop_padding: int = 0,
        flip: bool = False,
        mean_momentum: float = 0.999,
        preprocess: str = "zca",
        pool: int = 1,
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.width = width
        self.noise = noise
        self.dropout = dropout
        self.consistency_weight = consistency_weight
        self.ramp_up = ramp_up
        self.crop_padding = crop_padding
        self.flip = flip
        self.mean_momentum = mean_momentum
        self.preprocess = preprocess
        self.pool = pool
        self.training = training
        self.device = device
        self.random_state = random_state

    def _default_part(self, name: str, inner: str) -> Training:
        return Training(
            n_epochs=300,
            labelled_batch=None,
            unlabelled_batch=100,
            sampling="shuffle_full",
            optimizer="adam",
            lr=3e-3,
            weight_decay=0.0,
            schedule="ramps",
            clip_norm=None,
        )

    def _passes(self) -> tuple[float, float]:
        return 0.0, 6.0 if self.consistency_weight > 0 else 3.0

    def _network(self, shape: Any, n_classes: int, initialisation: Stream) -> nn.Module:
        return MeanOnlyNet(
            tuple(shape), n_classes, self.width, self.dropout, self.mean_momentum, initialisation
        )

    def _groups(self, training: TrainingOptions, model: nn.Module) -> list[Group]:
        parameters = list(model.parameters())
        return [Group(parameters, training.lr, training.weight_decay, final_beta1=FINAL_BETA1)]

    def _schedule(self, step: int, n_steps: int, labelled_pass: int = 1) -> dict[str, float]:
        if self.consistency_weight == 0:
            return {}
        return {"consistency": gauss_ramp(step, n_steps, self.ramp_up) if step else 0.0}

    def _inputs(
        self, batches: Batches, streams: dict[str, Stream], step: int, n_steps: int
    ) -> Inputs:
        inputs = super()._inputs(batches, streams, step, n_steps)
        rows = inputs["unlabelled"]
        factors = {k: v for k, v in inputs.items() if k not in ("labelled", "unlabelled")}
        return {**factors, "rows": rows, "classes": batches.known.gather(1, rows)}

    @torch.no_grad()
    def _initialise(self, model: nn.Module, batches: Batches, streams: dict[str, Stream]) -> None:
        at_start(streams)
        x = batches.x[batches.at(0)["unlabelled"]]
        view = self._view(self._mirrored(x, streams), streams)
        initialise(model, view, streams["dropout"], False)

    def _mirrored(self, x: Tensor, streams: dict[str, Stream]) -> Tensor:
        return crop_and_flip(x, 0, True, streams["augmentation"]) if self.flip else x

    def _view(self, x: Tensor, streams: dict[str, Stream]) -> Tensor:
        """One perturbation of images, shape (S, B, C, H, W)."""
        if self.crop_padding:
            x = crop_and_flip(x, self.crop_padding, False, streams["augmentation"], mode="reflect")
        return x + self.noise * streams["noise"].normal(x.shape[1:], x.dtype)

    def _losses(
        self,
        model: Any,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        x, classes = self._mirrored(batches.x[inputs["rows"]], streams), inputs["classes"]
        consistent = "consistency" in inputs
        log_z = torch.log_softmax(
            fp32(model(self._view(x, streams), streams["dropout"], not consistent)), dim=-1
        )
        of_class = log_z.gather(-1, classes.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        labelled = -torch.where(classes >= 0, of_class, 0.0).mean(-1)
        if not consistent:
            return {"loss": labelled, "labelled_ce": labelled}
        other = torch.softmax(fp32(model(self._view(x, streams), streams["dropout"])), dim=-1)
        consistency = (log_z.exp() - other).square().mean(dim=(-2, -1))
        share = batches.labelled.shape[1] / batches.unlabelled.shape[1]
        weight = self.consistency_weight * share * inputs["consistency"]
        return {
            "loss": labelled + weight * consistency,
            "labelled_ce": labelled,
            "consistency": consistency,
        }
