"""FlowGMM: a coupling flow into a latent Gaussian mixture, one component per class."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.mixture import DATA_MEANS, StackedMixture, fixed_means
from flowgmm.flows.multiscale import ImageFlow
from flowgmm.flows.pixels import Pixels, as_inputs
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.rng import Stream
from flowgmm.methods.base import ON_DEVICE
from flowgmm.methods.calibration import fit_calibration
from flowgmm.methods.cross_fit import cross_fit, make_folds, seen_when_held_out
from flowgmm.methods.image_features import ImageFeatures
from flowgmm.methods.labels import encode_labels
from flowgmm.methods.latent import FlowGMM
from flowgmm.methods.objective import Points, objective_losses
from flowgmm.methods.parts import LatentMixture, MultiscaleRealNVP, Objective, RealNVP, Training
from flowgmm.training.batches import CHUNK, IMAGE_CHUNK, Batches
from flowgmm.training.loop import Inputs, TrainingOptions
from flowgmm.training.optim import Group
from flowgmm.training.schedules import ramp
from flowgmm.utils.seeds import derive

__all__ = ["FlowGMM", "FlowGMMClassifier"]

# Unlabelled points whose likelihood decides among initialisations.
N_SCORED = 20_000
# Folds for the temperature of a model of vectors.
N_FOLDS = 5


class FlowGMMClassifier(ImageFeatures):
    """Semi-supervised classifier: p(x | y = k) = N(f(x) | mu_k, std^2 I) |det df/dx|.

    The flow f maximises the likelihood of labelled points under their class's component and of
    unlabelled points under the whole mixture; a point belongs to the class with the largest
    posterior in the latent space. The points are vectors, or images, which go through the
    multi-scale flow and are shifted, and mirrored if told to, anew in every step.

    The method has four parts. One that is None has the preset for the data at hand: tables, wide
    tables, vectors of a text encoder, features of an image encoder, or images
    (`flowgmm.methods.preset_parts.choose_preset`). `flowgmm.presets` has the same as estimators,
    and the paper's own settings.

    Arguments:
        flow: `RealNVP` (vectors) or `MultiscaleRealNVP` (images).
        mixture: `LatentMixture`.
        objective: `Objective`.
        training: `Training`.
        preprocess: `none`, `standardise`, `mixed` or `pca`, of vectors; None: the preset's. See
            `flowgmm.flows.preprocessing`. Affine, its log-det is counted; constant columns and
            trailing components get a Gaussian that all classes share.
        pca_components: With `preprocess="pca"`, how many components go through the flow; None: all
            that vary.
        n_folds: Folds of the labelled points, each held out once in a training of its own, which
            `temperature_` and `offsets_` are found on; 0: they are 1 and 0; None: 5, of images 0.
            `fit_stack` holds out none.
        n_init: Trainings from as many initialisations, side by side; the one with the highest
            likelihood of the unlabelled points is kept, as in scikit-learn's `GaussianMixture`.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of weights, means, batches, dropout, augmentation and noise.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        preset_: Name of the preset whose parts are in use; None if all parts were given.
        flow_, mixture_, objective_, training_: The parts in use.
        means_: Component means in the latent space, shape (K, d).
        std_: Standard deviations, shape (K,).
        weights_: Class weights, shape (K,).
        temperature_: Temperature of the class probabilities: from held-out labels, or what
            `calibrate` found.
        offsets_: Added to the tempered log probabilities of the classes, in nats, shape (K,): from
            held-out labels, shrunk to 0. Where classes are uneven and hard to tell apart, they
            favour the frequent ones.
        image_shape_: Of a model of images: channels, height and width after pooling.
        history_: Losses on the way.
        seeds_: The named seeds.

    Examples:
        >>> from flowgmm import Training
        >>> from sklearn.datasets import make_moons
        >>> X, y = make_moons(200, noise=0.05, random_state=0)
        >>> y[10:] = -1
        >>> model = FlowGMMClassifier(training=Training(n_steps=20), random_state=0).fit(X, y)
        >>> model.preset_
        'tables'
        >>> model.predict(X).shape
        (200,)

    Source: Izmailov et al. (2020), section 3; spec 1.1, 1.2, 1.5, 1.6.
    """

    _used: ClassVar[tuple[str, ...]] = (
        "flow_",
        "mixture_",
        "objective_",
        "training_",
        "preset_",
    )
    model_: FlowGMM
    flow_: RealNVP | MultiscaleRealNVP
    mixture_: LatentMixture
    objective_: Objective

    def __init__(
        self,
        flow: RealNVP | MultiscaleRealNVP | None = None,
        mixture: LatentMixture | None = None,
        objective: Objective | None = None,
        training: Training | None = None,
        preprocess: str | None = None,
        pca_components: int | None = None,
        n_folds: int | None = None,
        n_init: int = 1,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.flow = flow
        self.mixture = mixture
        self.objective = objective
        self.training = training
        self.preprocess = preprocess
        self.pca_components = pca_components
        self.n_folds = n_folds
        self.n_init = n_init
        self.device = device
        self.random_state = random_state

    # -- model -------------------------------------------------------------------------------

    def _make_mixture(self, means: Tensor) -> StackedMixture:
        part = self.mixture_
        return StackedMixture(
            means,
            std=part.std,
            weights=part.class_weights,
            learn_means=part.learn_means,
            learn_std=part.learn_std,
            learn_weights=part.learn_weights,
            student_t=part.student_t,
        )

    def _build(self, batches: Batches, n_classes: int, streams: dict[str, Stream]) -> nn.Module:
        x = batches.x
        dtype, mixture = self._dtype, self.mixture_
        flow = self._make_flow(x.shape[1:], streams["initialisation"].at(0)).to(x.device, dtype)
        if mixture.means in DATA_MEANS:
            means = mixture.mean_scale * self._data_means(flow, batches, n_classes, streams)
        else:
            n_features, stream = math.prod(x.shape[1:]), streams["means"].at(0)
            means = fixed_means(mixture.means, n_classes, n_features, mixture.mean_scale, stream)
        model = FlowGMM(flow, self._make_mixture(means.to(x.device, dtype)))
        if self._has_teacher():
            model.add_teacher()
        self._compile(model.flow)
        return model

    @torch.no_grad()
    def _data_means(
        self, flow: Any, batches: Batches, n_classes: int, streams: dict[str, Stream]
    ) -> Tensor:
        """Means placed by the labelled points (images augmented), shape (S, K, D)."""
        dtype = next(flow.parameters()).dtype
        for name in ON_DEVICE:
            streams[name].at(0)
        x = self._view(batches.x[batches.labelled], dtype, None, streams)
        one_hot = nn.functional.one_hot(batches.classes, n_classes).to(x)
        share = (one_hot / one_hot.sum(1, keepdim=True)).transpose(1, 2)
        class_means = (share @ x.flatten(2)).unflatten(2, x.shape[2:])
        if self.mixture_.means == "from_data":
            return class_means.flatten(2)
        if self.mixture_.means == "from_z":
            return flow(class_means)[0]
        z = flow(x)[0]
        if self.mixture_.means == "from_latent":
            return share @ z
        # random_data: every class of the tabular sets has a labelled point, so no random code is
        # left; the first labelled point in a random order stands for its class.
        order = streams["means"].at(0).permutation(x.shape[1]).to(x.device)
        ranked = one_hot.gather(1, order.unsqueeze(-1).expand_as(one_hot))
        chosen = order.gather(1, ranked.argmax(1))
        return z.gather(1, chosen.unsqueeze(-1).expand(-1, -1, z.shape[-1]))

    def _empty(self, preprocess: Preprocess | Pixels, n_classes: int) -> nn.Module:
        means = torch.zeros(1, n_classes, preprocess.n_modelled)
        flow = self._make_flow(self._seen_shape(preprocess), Stream([0]))
        return FlowGMM(flow, self._make_mixture(means))

    def _mixture_parameters(self, model: Any) -> list[nn.Parameter]:
        return list(model.mixture.parameters())

    def _has_teacher(self) -> bool:
        return self.objective_.consistency_weight > 0 and self.objective_.teacher_decay > 0

    def _after_training(self, model: Any, batches: Batches) -> None:
        model.keep_teacher()
        super()._after_training(model, batches)

    def _in_turns(self) -> bool:
        part = self.mixture_
        learns = part.learn_means or part.learn_std or part.learn_weights
        return part.learn_in_turns and learns

    def _turns(self) -> list[Callable[..., dict[str, Tensor]]]:
        return [self._losses, self._mixture_losses] if self._in_turns() else [self._losses]

    def _groups(self, training: TrainingOptions, model: Any) -> list[Group]:
        *networks, mixture = super()._groups(training, model)
        return [*networks, replace(mixture, turn=1) if self._in_turns() else mixture]

    def _passes(self) -> tuple[float, float]:
        guessed = self.objective_.consistency_weight > 0
        views = (1.0 + (guessed and self.objective_.consistency_on == "all"), 1.0 + guessed)
        # The turn of the mixture goes forward alone.
        turns = 2 if self._in_turns() else 1
        labelled, unlabelled = (2.0 + turns * n for n in views)
        return labelled, unlabelled

    def _uses_unlabelled(self) -> bool:
        objective = self.objective_
        return float(objective.unlabelled_weight) > 0 or objective.consistency_weight > 0

    def _labelled_in_unlabelled(self) -> bool:
        return self.objective_.labelled_in_unlabelled

    @torch.no_grad()
    def _init_scores(self, model: Any, batches: Batches) -> list[float]:
        if self.n_init == 1:
            return super()._init_scores(model, batches)
        rows = batches.unlabelled if batches.unlabelled.shape[1] else batches.labelled
        total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        size = IMAGE_CHUNK if batches.x.ndim == 4 else CHUNK
        for part in rows[:, :N_SCORED].split(size, dim=1):
            z, log_det = model.flow(as_inputs(batches.x[part], model))
            total += (model.mixture.log_prob(z) + log_det).double().sum(-1)
        # A member without a finite likelihood is never the best.
        return total.nan_to_num(nan=-float("inf"), posinf=-float("inf")).tolist()

    def _calibrate_held_out(self, X: np.ndarray, y: np.ndarray) -> None:
        n_folds = self.n_folds if self.n_folds is not None else 0 if X.ndim == 4 else N_FOLDS
        if n_folds == 0:
            return
        if n_folds < 2:
            raise ValueError(f"n_folds: expected None, 0 or at least 2, got {self.n_folds!r}")
        _, codes = encode_labels(y)
        fold = make_folds(codes, n_folds, self.seeds_["batches"])
        states = [
            derive(f"estimator/fold {k}", self.seeds_["initialisation"], "initialisation")
            for k in range(fold.max() + 1)
        ]
        log_proba = cross_fit(self, X, codes, fold, states)
        seen = seen_when_held_out(codes, fold)
        ratio = self.preprocess_.n_modelled / (codes >= 0).sum()
        found = fit_calibration(codes[fold >= 0][seen], log_proba[seen], ratio)
        self.temperature_, self.offsets_ = found.temperature, found.offsets

    # -- objective ---------------------------------------------------------------------------

    def _schedule(self, step: int, n_steps: int, labelled_pass: int = 1) -> dict[str, float]:
        factors, objective = super()._schedule(step, n_steps), self.objective_
        if objective.consistency_weight > 0:
            every = labelled_pass if objective.ramp_each == "pass" else 1
            factors["consistency"] = ramp(step, n_steps, objective.ramp_up, every)
        if self._has_teacher():
            # At first an average over a tenth of the steps so far: the start is soon forgotten.
            factors["teaching"] = 1 - min(objective.teacher_decay, (step + 1) / (step + 10))
        return factors

    def _losses(
        self,
        model: Any,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        x = batches.x[inputs["labelled"]]
        n_labelled = x.shape[1]
        if "unlabelled" in inputs:
            x = torch.cat([x, batches.x[inputs["unlabelled"]]], dim=1)
        dtype, noise = model.mixture.means.dtype, inputs.get("noise")
        guess = trusted = None
        start = n_labelled if self.objective_.consistency_on == "unlabelled" else 0
        if self.objective_.consistency_weight > 0 and x.shape[1] > start:
            # First, so that running means end with the view that is learnt from.
            with torch.no_grad():
                seen = self._view(x[:, start:], dtype, noise, streams, distorted=False)
                if model.teacher is None:
                    z, _ = model.flow(seen, streams["dropout"])
                else:
                    model.teach(inputs["teaching"])
                    z, _ = model.teacher(seen)
                log_posterior, guess = model.mixture.log_posterior(z).max(-1)
                if (threshold := self.objective_.guess_threshold) > 0:
                    trusted = (log_posterior.exp() >= threshold).to(dtype)
        z, log_det = model.flow(self._view(x, dtype, noise, streams), streams["dropout"])
        points = Points(
            log_component=model.mixture.component_log_prob(z),
            log_weights=model.mixture.log_weights,
            log_det=log_det,
            classes=inputs["classes"],
            n_labelled=n_labelled,
            guess=guess,
            trusted=trusted,
        )
        losses = objective_losses(
            points, self.objective_, self.mixture_.weights_from, inputs.get("consistency", 0.0)
        )
        if isinstance(model.flow, ImageFlow):
            losses["max_gain"] = model.flow.max_gain()  # it has no bound (spec, trap 4)
        return losses

    def _mixture_losses(
        self, model: Any, batches: Batches, streams: dict[str, Stream], inputs: Inputs
    ) -> dict[str, Tensor]:
        """Loss of the mixture's turn; its terms are logged as the flow's turn has them.

        A teacher has moved in the flow's turn.
        """
        inputs = {**inputs, "teaching": 0.0}
        return {"loss": self._losses(model, batches, streams, inputs)["loss"]}

    def _log_posterior(self, model: Any, x: Tensor) -> Tensor:
        # In float64: the gaps between the classes are of the order of D (spec, trap 5).
        flow = model.flow if model.teacher is None else model.teacher
        return torch.log_softmax(model.mixture.log_joint(flow(x)[0]).double(), dim=-1)
