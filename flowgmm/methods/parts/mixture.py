"""Latent mixture of an estimator."""

from typing import Any, ClassVar

from sklearn.utils._param_validation import StrOptions

from flowgmm.methods.parts.part import POSITIVE, Part

__all__ = ["LatentMixture"]


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
