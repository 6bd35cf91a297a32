"""FlowGMM: a coupling flow into a latent Gaussian mixture, one component per class."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.mixture import DATA_MEANS, LatentMixture, fixed_means
from flowgmm.flows.multiscale import ImageFlow
from flowgmm.flows.pixels import Pixels, as_inputs, crop_and_flip, dequantise
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.realnvp import CouplingFlow
from flowgmm.flows.rng import Stream
from flowgmm.methods.base import ON_DEVICE
from flowgmm.methods.image_features import ImageFeatures
from flowgmm.methods.latent import FlowGMM
from flowgmm.training.batches import CHUNK, IMAGE_CHUNK, Batches
from flowgmm.training.loop import Inputs
from flowgmm.training.optim import ramp

__all__ = ["FlowGMM", "FlowGMMClassifier"]

# Unlabelled points whose likelihood decides among initialisations.
N_SCORED = 20_000
# Labelled-likelihood terms of the loss.
LABELLED_NLL = ("class", "mixture", "none")


class FlowGMMClassifier(ImageFeatures):
    """Semi-supervised classifier: p(x | y = k) = N(f(x) | mu_k, std^2 I) |det df/dx|.

    The flow f maximises the likelihood of labelled points under their class's component and of
    unlabelled points under the whole mixture; a point belongs to the class with the largest
    posterior in the latent space. The points are vectors, or images, which go through the
    multi-scale flow and are shifted, and mirrored if told to, anew in every step.

    The defaults follow the `recommended` recipe for text vectors (docs/recipes.md), without its
    principal components: steady with few labels and classes of about equal size; where they are
    not, set `balance_weight=0` or `class_weights`. The paper's own settings are in config/recipes/.

    Arguments:
        n_couplings: Affine couplings in the flow.
        hidden_size: Width of the conditioners.
        n_inner: Hidden layers of that width beyond the first (D3).
        dropout: In the conditioners, after the first hidden layer (D4).
        zero_init: The couplings start as the identity (official: no).
        architecture: `vector` (RealNVP with perceptrons), `multi_scale` or `mnist_small` (RealNVP
            for images; see `flowgmm.flows.multiscale`), or `auto`: by the shape of X.
        n_filters, n_blocks: Of an image flow: channels m and residual blocks B of a conditioner.
        pool: Of images: average over blocks of pool x pixels first, for scaled-down runs. Images
            that come out of the model are of the smaller size.
        crop_padding: Of images: largest random shift in training, pixels after pooling.
        flip: Of images: mirror half of them at random in training.
        preprocess: `none`, `standardise` or `pca`; of vectors. Affine, its log-det is counted;
            constant columns and trailing components get a Gaussian that all classes share.
        pca_components: With `pca`, how many components go through the flow; None: all that vary.
        means: Placement of the component means; see `flowgmm.flows.mixture.fixed_means`, and those
            that depend on data: `from_latent` (mean initial code of each class's labelled points),
            `from_z` (code of their mean), `from_data` (their mean), `random_data` (codes of random
            points; each class's mean is then the code of one of its labelled points).
        mean_scale: Factor on the placement.
        std: Initial standard deviation of the components.
        class_weights: p(y); None: equal.
        learn_means, learn_std, learn_weights: Train them, with their own learning rate 1e-2.
        weights_from: `all`: class weights learn from every likelihood term; `unlabelled`: only from
            the unlabelled points, whose classes are not balanced by choice (App. K).
        student_t: Degrees of freedom of Student's t in place of the Gaussians (App. J).
        unlabelled_weight: Factor on the mean unlabelled NLL (D9). If this and `consistency_weight`
            are 0, only the labelled points are used.
        pooled_loss: One mean over labelled and unlabelled points together (2-D data), instead of
            a weighted sum of two.
        objective: `direct`, or `em`: a step holds the responsibilities fixed (App. A).
        labelled_nll: What labelled points add to the likelihood term: `class`: -log p(x | y);
            `mixture`: -log p(x), as if unlabelled (the image objective); `none`.
        label_weight: Weight of the labels (the paper's lambda).
        label_weight_target: What it multiplies: `posterior`: -log p(y | x); `joint`: -log p(x, y),
            beside which `labelled_nll` is `none` (D25).
        consistency_weight: Weight of -log p(x', yhat(x'')), where x' and x'' are the point under
            two independent perturbations (dropout masks, input noise) and yhat the model's own
            hard answer (eq. 7).
        consistency_target: `joint`: as above; `posterior`: -log p(yhat(x'') | x') instead.
        ramp_up: Share of the steps over which the consistency weight grows linearly.
        balance_weight: Weight of KL(p(y) | mean posterior of the unlabelled batch): the shares of
            the classes stay at `class_weights`. The likelihood alone is indifferent to them: a
            boundary that crosses a cluster costs as much wherever it crosses.
        labelled_in_unlabelled: The labelled inputs are among the unlabelled ones (D16).
        input_noise: Standard deviation of Gaussian noise added to preprocessed inputs in training.
        noise_until: Share of the steps after which the noise has fallen, linearly, to 0; None: it
            stays. Learns the coarse shape of the data first.
        n_init: Trainings from as many initialisations, side by side; the one with the highest
            likelihood of the unlabelled points is kept, as in scikit-learn's `GaussianMixture`.
        n_steps, n_epochs: Exactly one of them; an epoch is a pass over the unlabelled points.
        labelled_batch: Labelled points per step; None: all.
        unlabelled_batch: Unlabelled points per step.
        sampling: `shuffle`, `shuffle_full`, `fixed` or `replacement`.
        optimizer, lr, weight_decay, schedule, clip_norm: See `flowgmm.training.loop.Training`.
            In an image flow only gains decay.
        compile: Compile the flow (`torch.compile`). Pays for itself in long trainings.
        keep: `last`: the parameters after the last step; `best_val`: those with the highest
            accuracy on validation points (D41; through `fit_stack`).
        precision: `fp32`, `bf16` (the conditioners' matrix products only) or `fp64`.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of weights, means, batches, dropout, augmentation and noise.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        means_: Component means in the latent space, shape (K, d).
        std_: Standard deviations, shape (K,).
        weights_: Class weights, shape (K,).
        temperature_: What `calibrate` found; 1 before.
        image_shape_: Of a model of images: channels, height and width after pooling.
        history_: Losses on the way.
        seeds_: The named seeds.

    Examples:
        >>> from sklearn.datasets import make_moons
        >>> X, y = make_moons(200, noise=0.05, random_state=0)
        >>> y[10:] = -1
        >>> model = FlowGMMClassifier(n_steps=20, random_state=0).fit(X, y)
        >>> model.predict(X).shape
        (200,)

    Source: Izmailov et al. (2020), section 3; spec 1.1, 1.2, 1.5, 1.6.
    """

    model_: FlowGMM

    def __init__(
        self,
        n_couplings: int = 4,
        hidden_size: int = 128,
        n_inner: int = 1,
        dropout: float = 0.5,
        zero_init: bool = True,
        architecture: str = "auto",
        n_filters: int = 64,
        n_blocks: int = 8,
        pool: int = 1,
        crop_padding: int = 4,
        flip: bool = False,
        preprocess: str = "standardise",
        pca_components: int | None = None,
        means: str = "from_latent",
        mean_scale: float = 1.0,
        std: float = 1.0,
        class_weights: list[float] | None = None,
        learn_means: bool = True,
        learn_std: bool = False,
        learn_weights: bool = False,
        weights_from: str = "all",
        student_t: float | None = None,
        unlabelled_weight: float = 100.0,
        pooled_loss: bool = False,
        objective: str = "direct",
        labelled_nll: str = "class",
        label_weight: float = 100.0,
        label_weight_target: str = "posterior",
        consistency_weight: float = 1000.0,
        consistency_target: str = "posterior",
        ramp_up: float = 0.0,
        balance_weight: float = 1000.0,
        labelled_in_unlabelled: bool = True,
        input_noise: float = 0.3,
        noise_until: float | None = None,
        n_init: int = 1,
        n_steps: int | None = 300,
        n_epochs: int | None = None,
        labelled_batch: int | None = None,
        unlabelled_batch: int = 256,
        sampling: str = "shuffle",
        optimizer: str = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        schedule: str = "cosine",
        clip_norm: float | None = 100.0,
        keep: str = "last",
        precision: str = "fp32",
        compile: bool = False,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.n_couplings = n_couplings
        self.hidden_size = hidden_size
        self.n_inner = n_inner
        self.dropout = dropout
        self.zero_init = zero_init
        self.architecture = architecture
        self.n_filters = n_filters
        self.n_blocks = n_blocks
        self.pool = pool
        self.crop_padding = crop_padding
        self.flip = flip
        self.preprocess = preprocess
        self.pca_components = pca_components
        self.means = means
        self.mean_scale = mean_scale
        self.std = std
        self.class_weights = class_weights
        self.learn_means = learn_means
        self.learn_std = learn_std
        self.learn_weights = learn_weights
        self.weights_from = weights_from
        self.student_t = student_t
        self.unlabelled_weight = unlabelled_weight
        self.pooled_loss = pooled_loss
        self.objective = objective
        self.labelled_nll = labelled_nll
        self.label_weight = label_weight
        self.label_weight_target = label_weight_target
        self.consistency_weight = consistency_weight
        self.consistency_target = consistency_target
        self.ramp_up = ramp_up
        self.balance_weight = balance_weight
        self.labelled_in_unlabelled = labelled_in_unlabelled
        self.input_noise = input_noise
        self.noise_until = noise_until
        self.n_init = n_init
        self.n_steps = n_steps
        self.n_epochs = n_epochs
        self.labelled_batch = labelled_batch
        self.unlabelled_batch = unlabelled_batch
        self.sampling = sampling
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.keep = keep
        self.precision = precision
        self.compile = compile
        self.device = device
        self.random_state = random_state

    # -- model -------------------------------------------------------------------------------

    def _fit_preprocess(self, X: np.ndarray) -> Preprocess | Pixels:
        expected = {"vector": (2,), "multi_scale": (4,), "mnist_small": (4,), "auto": (2, 4)}
        if self.architecture not in expected:
            raise ValueError(
                f"unknown architecture {self.architecture!r}; expected one of {', '.join(expected)}"
            )
        if X.ndim not in expected[self.architecture]:
            raise ValueError(
                f"architecture={self.architecture!r} does not fit X of shape {X.shape}; vectors "
                "have shape (N, D), images (N, C, H, W)"
            )
        return Pixels.fit(X, self.pool) if X.ndim == 4 else super()._fit_preprocess(X)

    def _make_flow(self, shape: Sequence[int], initialisation: Stream) -> CouplingFlow | ImageFlow:
        """The flow of points of a shape, (D,) or (C, H, W)."""
        if len(shape) == 1:
            return CouplingFlow(
                shape[0],
                self.n_couplings,
                self.hidden_size,
                initialisation,
                n_inner=self.n_inner,
                dropout=self.dropout,
                zero_init=self.zero_init,
            )
        return ImageFlow(
            shape,
            self.n_filters,
            self.n_blocks,
            initialisation,
            architecture="multi_scale" if self.architecture == "auto" else self.architecture,
            zero_init=self.zero_init,
        )

    def _make_mixture(self, means: Tensor) -> LatentMixture:
        return LatentMixture(
            means,
            std=self.std,
            weights=self.class_weights,
            learn_means=self.learn_means,
            learn_std=self.learn_std,
            learn_weights=self.learn_weights,
            student_t=self.student_t,
        )

    def _build(self, batches: Batches, n_classes: int, streams: dict[str, Stream]) -> nn.Module:
        if self.objective not in ("direct", "em"):
            raise ValueError(f"unknown objective {self.objective!r}; expected direct or em")
        for name, known in (
            ("consistency_target", ("joint", "posterior")),
            ("label_weight_target", ("joint", "posterior")),
            ("labelled_nll", LABELLED_NLL),
            ("weights_from", ("all", "unlabelled")),
        ):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"unknown {name} {value!r}; expected one of {', '.join(known)}")
        x = batches.x
        dtype = torch.float64 if self.precision == "fp64" else torch.float32
        flow = self._make_flow(x.shape[1:], streams["initialisation"].at(0)).to(x.device, dtype)
        if self.means in DATA_MEANS:
            means = self.mean_scale * self._data_means(flow, batches, n_classes, streams)
        else:
            n_features, stream = math.prod(x.shape[1:]), streams["means"].at(0)
            means = fixed_means(self.means, n_classes, n_features, self.mean_scale, stream)
        model = FlowGMM(flow, self._make_mixture(means.to(x.device, dtype)))
        if self.compile:
            # In place: the parameters keep their names. Each size of a batch on its own: there are
            # one or two, and sizes left open are slower and, of shifted bits, do not compile.
            model.flow.compile(dynamic=False)
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
        if self.means == "from_data":
            return class_means.flatten(2)
        if self.means == "from_z":
            return flow(class_means)[0]
        z = flow(x)[0]
        if self.means == "from_latent":
            return share @ z
        # random_data: every class of the tabular sets has a labelled point, so no random code is
        # left; the first labelled point in a random order stands for its class.
        order = streams["means"].at(0).permutation(x.shape[1]).to(x.device)
        ranked = one_hot.gather(1, order.unsqueeze(-1).expand_as(one_hot))
        chosen = order.gather(1, ranked.argmax(1))
        return z.gather(1, chosen.unsqueeze(-1).expand(-1, -1, z.shape[-1]))

    def _empty(self, preprocess: Preprocess | Pixels, n_classes: int) -> nn.Module:
        shape = preprocess.pooled if isinstance(preprocess, Pixels) else (preprocess.n_lead,)
        means = torch.zeros(1, n_classes, preprocess.n_lead)
        return FlowGMM(self._make_flow(shape, Stream([0])), self._make_mixture(means))

    def _mixture_parameters(self, model: Any) -> list[nn.Parameter]:
        return list(model.mixture.parameters())

    def _undecayed_parameters(self, model: Any) -> list[nn.Parameter]:
        if not isinstance(model.flow, ImageFlow):
            return []
        return [p for name, p in model.flow.named_parameters() if not name.endswith("gain")]

    def _uses_unlabelled(self) -> bool:
        return self.unlabelled_weight > 0 or self.consistency_weight > 0

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

    # -- objective ---------------------------------------------------------------------------

    def _view(
        self,
        x: Tensor,
        dtype: torch.dtype,
        noise: Tensor | float | None,
        streams: dict[str, Stream],
    ) -> Tensor:
        """One perturbation of points, shape (S, B, ...): what the flow sees of them in training."""
        if x.dtype == torch.uint8:
            x = crop_and_flip(x, self.crop_padding, self.flip, streams["augmentation"])
            return dequantise(x, streams["dequantisation"].uniform(x.shape[1:], dtype))
        if noise is None:
            return x
        return x + noise * streams["augmentation"].normal(x.shape[1:], x.dtype)

    def _schedule(self, step: int, n_steps: int) -> dict[str, float]:
        factors = {}
        if self.consistency_weight > 0:
            factors["consistency"] = ramp(step, n_steps, self.ramp_up)
        noise = self.input_noise
        if self.noise_until is not None:
            noise *= max(0.0, 1 - step / (self.noise_until * n_steps))
        return factors | {"noise": noise} if noise > 0 else factors

    def _losses(
        self,
        model: Any,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        x, classes = batches.x[inputs["labelled"]], inputs["classes"]
        n_labelled = x.shape[1]
        if with_unlabelled := "unlabelled" in inputs:
            x = torch.cat([x, batches.x[inputs["unlabelled"]]], dim=1)
        dtype, noise = model.mixture.means.dtype, inputs.get("noise")
        guess = None
        if self.consistency_weight > 0:
            # First, so that running means end with the view that is learnt from.
            with torch.no_grad():
                z, _ = model.flow(self._view(x, dtype, noise, streams), streams["dropout"])
                guess = model.mixture.log_joint(z).argmax(-1)
        z, log_det = model.flow(self._view(x, dtype, noise, streams), streams["dropout"])
        log_component = model.mixture.component_log_prob(z)
        log_weights = model.mixture.log_weights
        log_joint = log_component + log_weights.unsqueeze(1)
        in_labelled = log_joint[:, :n_labelled]
        if self.weights_from == "unlabelled":
            in_labelled = log_component[:, :n_labelled] + log_weights.detach().unsqueeze(1)
        log_joint_labelled = _pick(in_labelled, classes)
        nll_labelled = -(_pick(log_component[:, :n_labelled], classes) + log_det[:, :n_labelled])
        losses = {"labelled_nll": nll_labelled.mean(-1)}
        if self.labelled_nll == "mixture":
            nll_labelled = -(self._log_mixture(in_labelled) + log_det[:, :n_labelled])
        elif self.labelled_nll == "none":
            nll_labelled = torch.zeros_like(nll_labelled)
        loss = nll_labelled.mean(-1)
        if with_unlabelled:
            nll_unlabelled = -(
                self._log_mixture(log_joint[:, n_labelled:]) + log_det[:, n_labelled:]
            )
            losses["unlabelled_nll"] = nll_unlabelled.mean(-1)
            if self.pooled_loss:
                loss = torch.cat([nll_labelled, nll_unlabelled], dim=-1).mean(-1)
            else:
                loss = loss + self.unlabelled_weight * losses["unlabelled_nll"]
        if self.label_weight > 0:
            evidence = torch.logsumexp(in_labelled, dim=-1)
            losses["labelled_ce"] = (evidence - log_joint_labelled).mean(-1)
            target = losses["labelled_ce"]
            if self.label_weight_target == "joint":
                target = -(log_joint_labelled + log_det[:, :n_labelled]).mean(-1)
            loss = loss + self.label_weight * target
        if guess is not None:
            if self.consistency_target == "joint":
                consistency = -(_pick(log_component, guess) + log_det)
            else:
                consistency = torch.logsumexp(log_joint, dim=-1) - _pick(log_joint, guess)
            losses["consistency"] = consistency.mean(-1)
            weight = self.consistency_weight * inputs["consistency"]
            loss = loss + weight * losses["consistency"]
        if self.balance_weight > 0 and with_unlabelled:
            shares = torch.softmax(log_joint[:, n_labelled:], dim=-1).mean(1)
            weights = log_weights.exp()
            losses["imbalance"] = (weights * (log_weights - shares.clamp_min(1e-12).log())).sum(-1)
            loss = loss + self.balance_weight * losses["imbalance"]
        if isinstance(model.flow, ImageFlow):
            losses["max_gain"] = model.flow.max_gain()  # it has no bound (spec, trap 4)
        return {"loss": loss, **losses}

    def _log_mixture(self, log_joint: Tensor) -> Tensor:
        """Density log p(z), shape (S, B); with `em`, up to a constant of the gradient."""
        if self.objective == "direct":
            return torch.logsumexp(log_joint, dim=-1)
        responsibilities = torch.softmax(log_joint.detach(), dim=-1)
        return (responsibilities * log_joint).sum(-1)

    def _log_posterior(self, model: Any, x: Tensor) -> Tensor:
        # In float64: the gaps between the classes are of the order of D (spec, trap 5).
        return torch.log_softmax(model.mixture.log_joint(model.flow(x)[0]).double(), dim=-1)


def _pick(log_joint: Tensor, classes: Tensor) -> Tensor:
    """Entry of each point's class, shape (S, B), of log_joint (S, B, K) and classes (S, B)."""
    return log_joint.gather(-1, classes.unsqueeze(-1)).squeeze(-1)
