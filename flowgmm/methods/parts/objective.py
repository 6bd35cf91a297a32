"""Objective of an estimator: terms of the loss and their weights."""

from typing import Any, ClassVar

from sklearn.base import clone
from sklearn.utils._param_validation import StrOptions

from flowgmm.methods.parts.part import NOT_NEGATIVE, SHARE, SHARE_BELOW_1, Part

__all__ = ["Objective"]

# Rule for `auto`, from the development tables (docs/recipes.md). Two classes have the least weight:
# labels that are chosen evenly among uneven classes would let the likelihood give the frequent
# class's points to the other one.
UNLABELLED_WEIGHT, LABELS_A_CLASS = (3.0, 10.0), 100.0


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
        consistency_on: `all`: the points of the consistency term (the paper); `unlabelled`: those
            without a label.
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
        "consistency_on": [StrOptions({"all", "unlabelled"})],
        "guess_threshold": SHARE_BELOW_1,
        "teacher_decay": SHARE_BELOW_1,
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
        consistency_on: str = "all",
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
        self.consistency_on = consistency_on

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
