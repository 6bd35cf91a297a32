"""Training of an estimator: batches, optimizer and number of steps."""

from typing import Any, ClassVar

from sklearn.base import clone
from sklearn.utils._param_validation import StrOptions

from flowgmm.methods.parts.part import (
    COUNT,
    NOT_NEGATIVE,
    OPTIONAL_COUNT,
    POSITIVE,
    SHARE_BELOW_1,
    Part,
)

__all__ = ["Training"]

# Rules for `auto`, from the development tables (docs/recipes.md).
STEPS, STEPS_A_LABEL, STEPS_A_CLASS = (200, 500), 2.5, 40


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
        "beta2": SHARE_BELOW_1,
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
