"""The parts of an estimator: small objects that hold parameters and are free of torch.

Each takes its parameters as scikit-learn's estimators do, so that `clone`, `set_params` and a grid
over `training__lr` work. Ranges are checked when the estimator is fitted.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import Interval, StrOptions

__all__ = [
    "PARTS",
    "LatentMixture",
    "MultiscaleRealNVP",
    "Objective",
    "Part",
    "RealNVP",
    "Training",
    "part_from_json",
    "part_to_json",
    "with_parts",
]

COUNT = [Interval(Integral, 1, None, closed="left")]
OPTIONAL_COUNT = [*COUNT, None]
WHOLE = [Interval(Integral, 0, None, closed="left")]
POSITIVE = [Interval(Real, 0, None, closed="neither")]
NOT_NEGATIVE = [Interval(Real, 0, None, closed="left")]
SHARE = [Interval(Real, 0, 1, closed="both")]


# Rules for `auto`, from the development tables (docs/recipes.md). The noise of sqrt(D / L) grows
# without bound where labels are few.
MOST_NOISE = 0.7
STEPS, STEPS_A_LABEL, STEPS_A_CLASS = (200, 500), 2.5, 40
# Two classes have the least weight: labels that are chosen evenly among uneven classes would let
# the likelihood give the frequent class's points to the other one.
UNLABELLED_WEIGHT, LABELS_A_CLASS = (3.0, 10.0), 100.0


class Part(BaseEstimator):
    """Base of the parts."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]

    def checked(self) -> Self:
        """The part itself, once the range of each parameter is checked.

        Raises:
            ValueError: If one is out of range.
        """
        self._validate_params()
        return self

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]


class RealNVP(Part):
    """Coupling flow for vectors, shape (N, D).

    Arguments:
        n_couplings: Affine couplings.
        hidden_size: Width of the conditioners.
        n_inner: Hidden layers of that width beyond the first (D3).
        dropout: In the conditioners, after the first hidden layer (D4).
        zero_init: The couplings start as the identity (official: no).
        input_noise: Standard deviation of Gaussian noise added to preprocessed inputs in training;
            `auto`: sqrt(D / L) of D modelled features and L labelled points, at most 0.7.
        noise_until: Share of the steps after which the noise has fallen, linearly, to 0; None: it
            stays. Learns the coarse shape of the data first.

    Source: Izmailov et al. (2020), sections 4 and 5.1; spec 1.2.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_couplings": COUNT,
        "hidden_size": COUNT,
        "n_inner": WHOLE,
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "zero_init": ["boolean"],
        "input_noise": [*NOT_NEGATIVE, StrOptions({"auto"})],
        "noise_until": [Interval(Real, 0, 1, closed="right"), None],
    }

    def __init__(
        self,
        n_couplings: int = 4,
        hidden_size: int = 64,
        n_inner: int = 1,
        dropout: float = 0.2,
        zero_init: bool = True,
        input_noise: float | str = "auto",
        noise_until: float | None = None,
    ):
        self.n_couplings = n_couplings
        self.hidden_size = hidden_size
        self.n_inner = n_inner
        self.dropout = dropout
        self.zero_init = zero_init
        self.input_noise = input_noise
        self.noise_until = noise_until

    def resolved(self, shape: Sequence[int], n_labelled: int) -> "RealNVP":
        """The part, checked, with a number for `auto`.

        Arguments:
            shape: Modelled features, (D,).
            n_labelled: Labelled points L.
        """
        if self.checked().input_noise != "auto":
            return self
        noise = min(MOST_NOISE, math.sqrt(shape[0] / n_labelled))
        return clone(self).set_params(input_noise=noise)


class MultiscaleRealNVP(Part):
    """Multi-scale coupling flow for images, shape (N, C, H, W).

    Arguments:
        architecture: `multi_scale`, `mnist_small` or `squeezed`; see `flowgmm.flows.multiscale`.
            `auto`: `squeezed` for images whose sides, after pooling, are multiples of 4, else
            `multi_scale`.
        n_filters, n_blocks: Channels m and residual blocks B of a conditioner.
        zero_init: The couplings start as the identity (official: no).
        pool: Average over blocks of pool x pixels first, for scaled-down runs. Images that come out
            of the model are of the smaller size.
        crop_padding: Largest random shift in training, pixels after pooling.
        flip: Mirror half of the images at random in training.
        distortion: Largest entry of the random linear map, less the identity, that turns, stretches
            and shears each image in training; the view that guesses are made on goes without. 0:
            none (the paper).

    Source: Izmailov et al. (2020), section 6; spec 1.3.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "architecture": [StrOptions({"auto", "multi_scale", "mnist_small", "squeezed"})],
        "n_filters": COUNT,
        "n_blocks": WHOLE,
        "zero_init": ["boolean"],
        "pool": COUNT,
        "crop_padding": WHOLE,
        "flip": ["boolean"],
        "distortion": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        architecture: str = "multi_scale",
        n_filters: int = 64,
        n_blocks: int = 8,
        zero_init: bool = True,
        pool: int = 1,
        crop_padding: int = 4,
        flip: bool = False,
        distortion: float = 0.0,
    ):
        self.architecture = architecture
        self.n_filters = n_filters
        self.n_blocks = n_blocks
        self.zero_init = zero_init
        self.pool = pool
        self.crop_padding = crop_padding
        self.flip = flip
        self.distortion = distortion

    def resolved(self, shape: Sequence[int], n_labelled: int) -> "MultiscaleRealNVP":
        """The part, checked, with a name for `auto`.

        Arguments:
            shape: Of an image, (C, H, W).
            n_labelled: Labelled images L; nothing depends on them.
        """
        if self.checked().architecture != "auto":
            return self
        fits = all(side % (4 * self.pool) == 0 for side in shape[1:])
        return clone(self).set_params(architecture="squeezed" if fits else "multi_scale")


class LatentMixture(Part):
    """Gaussian mixture in the latent space, one component per class.

    Arguments:
        means: Placement of the component means; see `flowgmm.flows.mixture.fixed_means`, and those
            that depend on data: `from_latent` (mean initial code of each class's labelled points),
            `from_z` (code of their mean), `from_data` (their mean), `random_data` (codes of random
            points; each class's mean is then the code of one of its labelled points).
        mean_scale: Factor on the placement.
        std: Initial standard deviation of the components.
        class_weights: p(y); None: equal.
        learn_means, learn_std, learn_weights: Train them, with their own learning rate 1e-2.
        learn_in_turns: A step moves the flow and then, on another view of the same batch, what is
            trained of the mixture; otherwise one update moves both (App. B).
        weights_from: `all`: class weights learn from every likelihood term; `unlabelled`: only from
            the unlabelled points, whose classes are not balanced by choice (App. K).
        student_t: Degrees of freedom of Student's t in place of the Gaussians (App. J).

    Source: Izmailov et al. (2020), section 3; spec 1.4.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "means": [str],
        "mean_scale": POSITIVE,
        "std": POSITIVE,
        "class_weights": ["array-like", None],
        "learn_means": ["boolean"],
        "learn_std": ["boolean"],
        "learn_weights": ["boolean"],
        "learn_in_turns": ["boolean"],
        "weights_from": [StrOptions({"all", "unlabelled"})],
        "student_t": [*POSITIVE, None],
    }

    def __init__(
        self,
        means: str = "from_latent",
        mean_scale: float = 1.0,
        std: float = 1.0,
        class_weights: list[float] | None = None,
        learn_means: bool = True,
        learn_std: bool = False,
        learn_weights: bool = False,
        weights_from: str = "all",
        student_t: float | None = None,
        learn_in_turns: bool = False,
    ):
        self.means = means
        self.mean_scale = mean_scale
        self.std = std
        self.class_weights = class_weights
        self.learn_means = learn_means
        self.learn_std = learn_std
        self.learn_weights = learn_weights
        self.weights_from = weights_from
        self.student_t = student_t
        self.learn_in_turns = learn_in_turns


class Objective(Part):
    """Terms of the loss and their weights.

    Arguments:
        label_weight: Weight of the labels (the paper's lambda).
        label_weight_target: Its term: `posterior`: -log p(y | x); `joint`: -log p(x, y), beside
            which `labelled_nll` is `none` (D25).
        labelled_nll: Likelihood term of the labelled points: `class`: -log p(x | y); `mixture`:
            -log p(x), as if unlabelled (the image objective); `none`.
        unlabelled_weight: Factor on the mean unlabelled NLL (D9); `auto`: 3, and with three classes
            or more 100 K / L of K classes and L labelled points, from 3 to 10. If this and
            `consistency_weight` are 0, only the labelled points are used.
        pooled_loss: One mean over labelled and unlabelled points together (2-D data), instead of
            a weighted sum of two.
        consistency_weight: Weight of -log p(x', yhat(x'')), where x' and x'' are the point under
            two independent perturbations (dropout masks, input noise) and yhat the model's own
            hard answer (eq. 7).
        consistency_target: `joint`: as above; `posterior`: -log p(yhat(x'') | x') instead.
        guess_threshold: Least posterior of a guess yhat(x'') that counts in the consistency term,
            as in FixMatch (Sohn et al., 2020); 0: all count (the paper).
        teacher_decay: Decay a step of the moving average of the flow's parameters, the teacher
            (Tarvainen and Valpola, 2017), which then makes the guesses and is what is kept at the
            end; 0: the flow itself (the paper).
        ramp_up: Share of the steps over which the consistency weight grows linearly.
        ramp_each: `step` or `pass`: when it grows; a pass is one over the labelled points (D47).
        balance_weight: Weight of KL(p(y) | mean posterior of the unlabelled batch): the shares of
            the classes stay at `class_weights`. The likelihood alone is indifferent to them: a
            boundary that crosses a cluster costs as much wherever it crosses.
        labelled_in_unlabelled: The labelled inputs are among the unlabelled ones (D16).
        em: A step holds the responsibilities fixed (App. A).

    Source: Izmailov et al. (2020), section 3; spec 1.1, 1.5, 1.6.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "label_weight": NOT_NEGATIVE,
        "label_weight_target": [StrOptions({"posterior", "joint"})],
        "labelled_nll": [StrOptions({"class", "mixture", "none"})],
        "unlabelled_weight": [*NOT_NEGATIVE, StrOptions({"auto"})],
        "pooled_loss": ["boolean"],
        "consistency_weight": NOT_NEGATIVE,
        "consistency_target": [StrOptions({"joint", "posterior"})],
        "guess_threshold": [Interval(Real, 0, 1, closed="left")],
        "teacher_decay": [Interval(Real, 0, 1, closed="left")],
        "ramp_up": SHARE,
        "ramp_each": [StrOptions({"step", "pass"})],
        "balance_weight": NOT_NEGATIVE,
        "labelled_in_unlabelled": ["boolean"],
        "em": ["boolean"],
    }

    def __init__(
        self,
        label_weight: float = 100.0,
        label_weight_target: str = "posterior",
        labelled_nll: str = "class",
        unlabelled_weight: float | str = "auto",
        pooled_loss: bool = False,
        consistency_weight: float = 0.0,
        consistency_target: str = "posterior",
        ramp_up: float = 0.0,
        balance_weight: float = 0.0,
        labelled_in_unlabelled: bool = True,
        em: bool = False,
        ramp_each: str = "step",
        guess_threshold: float = 0.0,
        teacher_decay: float = 0.0,
    ):
        self.label_weight = label_weight
        self.label_weight_target = label_weight_target
        self.labelled_nll = labelled_nll
        self.unlabelled_weight = unlabelled_weight
        self.pooled_loss = pooled_loss
        self.consistency_weight = consistency_weight
        self.consistency_target = consistency_target
        self.ramp_up = ramp_up
        self.balance_weight = balance_weight
        self.labelled_in_unlabelled = labelled_in_unlabelled
        self.em = em
        self.ramp_each = ramp_each
        self.guess_threshold = guess_threshold
        self.teacher_decay = teacher_decay

    def resolved(self, n_labelled: int, n_classes: int) -> "Objective":
        """The part, checked, with a number for `auto`.

        Arguments:
            n_labelled: Labelled points L.
            n_classes: Classes K.
        """
        if self.checked().unlabelled_weight != "auto":
            return self
        low, high = UNLABELLED_WEIGHT
        weight = low
        if n_classes > 2:
            weight = min(max(low, LABELS_A_CLASS * n_classes / n_labelled), high)
        return clone(self).set_params(unlabelled_weight=weight)


class Training(Part):
    """Batches, optimizer and number of steps.

    Arguments:
        n_steps, n_epochs: Exactly one of them; an epoch is a pass over the unlabelled points.
            `auto`: none if there are epochs; else 200 steps, and with three classes or more 2.5 for
            each labelled point or 40 for each class, whichever is more, from 200 to 500.
        labelled_batch: Labelled points per step; None: all.
        unlabelled_batch: Unlabelled points per step.
        sampling: `shuffle`, `shuffle_full`, `fixed` or `replacement`; see
            `flowgmm.training.batches.Batches`.
        optimizer: `adamw` (decoupled decay), `adam` (decay added to the gradient) or `adamax`.
        lr: Learning rate.
        beta2: Decay of the second moment of the networks' gradients.
        weight_decay: Decay of the networks' parameters; in an image flow only gains decay.
        schedule: Of the learning rate; see `flowgmm.training.schedules.learning_rate_factor`.
        clip_norm: Largest gradient norm; None: no clipping.
        keep: `last`: the parameters after the last step; `best_val`: those with the highest
            accuracy on validation points (D41; through `flowgmm.methods.stack.fit_stack`).
        precision: `fp32`, `bf16` (the networks' matrix products only), `fp64`, or `auto`: `bf16`
            on a device that multiplies faster in it, else `fp32`; see
            `flowgmm.training.hardware.best_precision`. bf16 costs no accuracy beyond the noise on
            text, image features and UCI sets; in 2-D it may (benchmarks/precision.py).
        compile: Compile the flow (`torch.compile`). Pays for itself in long trainings.

    Source: spec 1.7.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_steps": [*COUNT, StrOptions({"auto"}), None],
        "n_epochs": [*COUNT, None],
        "labelled_batch": OPTIONAL_COUNT,
        "unlabelled_batch": COUNT,
        "sampling": [str],
        "optimizer": [str],
        "lr": POSITIVE,
        "beta2": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": NOT_NEGATIVE,
        "schedule": [str],
        "clip_norm": [*POSITIVE, None],
        "keep": [StrOptions({"last", "best_val"})],
        "precision": [StrOptions({"auto", "fp32", "bf16", "fp64"})],
        "compile": ["boolean"],
    }

    def __init__(
        self,
        n_steps: int | str | None = "auto",
        n_epochs: int | None = None,
        labelled_batch: int | None = 256,
        unlabelled_batch: int = 256,
        sampling: str = "shuffle",
        optimizer: str = "adamw",
        lr: float = 2e-3,
        weight_decay: float = 1e-5,
        schedule: str = "cosine",
        clip_norm: float | None = 100.0,
        keep: str = "last",
        precision: str = "fp32",
        compile: bool = False,
        beta2: float = 0.999,
    ):
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
        self.beta2 = beta2

    def resolved(self, n_labelled: int, n_classes: int) -> "Training":
        """The part, checked, with a number for `auto`.

        Arguments:
            n_labelled: Labelled points.
            n_classes: Classes.
        """
        if self.checked().n_steps != "auto":
            return self
        if self.n_epochs is not None:
            return clone(self).set_params(n_steps=None)
        low, high = STEPS
        n_steps = low
        if n_classes > 2:
            wanted = max(round(STEPS_A_LABEL * n_labelled), STEPS_A_CLASS * n_classes)
            n_steps = min(max(low, wanted), high)
        return clone(self).set_params(n_steps=n_steps)


# Classes that a parameter of an estimator takes; a mapping without `class` is of the first.
PARTS: dict[str, tuple[type[Part], ...]] = {
    "flow": (RealNVP, MultiscaleRealNVP),
    "mixture": (LatentMixture,),
    "objective": (Objective,),
    "training": (Training,),
}
_CLASSES = {part.__name__: part for parts in PARTS.values() for part in parts}


def with_parts(params: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the mappings of a recipe under the names of parts by parts.

    Arguments:
        params: Parameters of an estimator.

    Raises:
        ValueError: If a part has no such parameter.
    """
    return {
        name: part_from_json({"class": PARTS[name][0].__name__, **value})
        if name in PARTS and isinstance(value, Mapping)
        else value
        for name, value in params.items()
    }


def part_to_json(value: Any) -> Any:
    """A part as a JSON object with its class's name; any other value as it is."""
    return {"class": type(value).__name__, **vars(value)} if isinstance(value, Part) else value


def part_from_json(value: Any) -> Any:
    """Undo `part_to_json`.

    Raises:
        ValueError: If the class or a parameter is unknown.
    """
    if not isinstance(value, Mapping) or "class" not in value:
        return value
    params = {k: v for k, v in value.items() if k != "class"}
    if value["class"] not in _CLASSES:
        raise ValueError(f"unknown part {value['class']!r}; expected one of {', '.join(_CLASSES)}")
    try:
        return _CLASSES[value["class"]](**params)
    except TypeError as error:
        raise ValueError(f"{value['class']}: {error}") from error
