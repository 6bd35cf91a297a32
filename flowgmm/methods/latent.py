"""A fitted flow and mixture in use: densities by class, samples, boundaries, paths."""

import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted, check_random_state
from torch import Tensor, nn

from flowgmm.evaluation.calibration import best_temperature
from flowgmm.flows.mixture import StackedMixture
from flowgmm.flows.multiscale import ImageFlow
from flowgmm.flows.realnvp import CouplingFlow
from flowgmm.methods.calibration import Calibration
from flowgmm.methods.flow_model import FlowModel

__all__ = ["FlowGMM", "LatentModel"]


class FlowGMM(nn.Module):
    """The stacked model: a flow and a mixture; in training maybe a teacher.

    The teacher is a moving average of the flow over steps (Tarvainen and Valpola, 2017), running
    means included, and always in evaluation.
    """

    teacher: CouplingFlow | ImageFlow | None

    def __init__(self, flow: CouplingFlow | ImageFlow, mixture: StackedMixture):
        super().__init__()
        self.flow = flow
        self.mixture = mixture
        self.teacher = None

    def add_teacher(self) -> None:
        """Make a teacher, equal to the flow."""
        self.teacher = copy.deepcopy(self.flow).requires_grad_(False).eval()

    @torch.no_grad()
    def teach(self, share: float | Tensor) -> None:
        """Move the teacher by a share of its way to the flow."""
        assert self.teacher is not None
        averages, values = (flow.state_dict().values() for flow in (self.teacher, self.flow))
        for average, value in zip(averages, values, strict=True):
            average.lerp_(value, share)

    def keep_teacher(self) -> None:
        """Put the teacher, if there is one, in the flow's place."""
        if self.teacher is not None:
            self.flow, self.teacher = self.teacher, None

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the flow."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self


class LatentModel(FlowModel):
    """Inference with a fitted flow and latent mixture: by class, samples, boundaries."""

    _saved: ClassVar[dict[str, Any]] = {"temperature_": 1.0, "offsets_": 0.0}
    model_: FlowGMM

    # -- fitted ------------------------------------------------------------------------------

    def _adopt(self, *args: Any) -> None:
        super()._adopt(*args)
        self.temperature_, self.offsets_ = 1.0, np.zeros(len(self.classes_))

    @property
    def means_(self) -> np.ndarray:
        """Component means in the latent space, shape (K, d)."""
        check_is_fitted(self)
        return self.model_.mixture.means[0].numpy()

    @property
    def std_(self) -> np.ndarray:
        """Standard deviation of each component, shape (K,)."""
        check_is_fitted(self)
        return self.model_.mixture.std[0].numpy()

    @property
    def weights_(self) -> np.ndarray:
        """Class weights, shape (K,)."""
        check_is_fitted(self)
        return self.model_.mixture.log_weights[0].exp().numpy()

    # -- densities -----------------------------------------------------------------

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Posterior log p(y | x) in nats, float64, shape (N, K); finite where p rounds to 0.

        Calibrated: at `temperature_`, with `offsets_`.
        """
        log_proba = super().predict_log_proba(X)
        return Calibration(self.temperature_, self.offsets_).apply(log_proba)

    def calibrate(self, X: Any, y: Any) -> Self:
        """Choose the temperature with the least class NLL on points with known classes.

        It divides the log-posteriors, which equals one scalar variance for all components; which
        class is the most probable stays as it is without `offsets_`, which become 0. It is stored
        as `temperature_`.

        Arguments:
            X: Points that were not learnt from.
            y: Their classes, shape (N,).

        Raises:
            ValueError: If a class is unknown.

        Source: Izmailov et al. (2020), section 6 (Table 5); spec 1.8.
        """
        codes = self._codes(y)
        self.temperature_, self.offsets_ = 1.0, np.zeros(len(self.classes_))
        self.temperature_ = best_temperature(codes, self.predict_log_proba(X))
        return self

    def _latent_log_prob(self, model: Any, z: Tensor) -> Tensor:
        log_prob: Tensor = model.mixture.log_prob(z)
        return log_prob

    def component_log_prob(self, z: Any) -> np.ndarray:
        """Log latent density of each component, log p(z | y = k), in nats, float64, shape (N, K).

        Arguments:
            z: Latent codes, shape (N, D), as `transform` gives them; the columns behind the
                flow's own have no part in the mixture.
        """
        check_is_fitted(self)
        z = np.asarray(z, dtype=np.float64)[:, : self.preprocess_.n_modelled]
        if self.model_.mixture.student_t is not None:
            mixture = copy.deepcopy(self.model_.mixture).double()
            with torch.no_grad():
                log_prob: np.ndarray = mixture.component_log_prob(torch.as_tensor(z)[None])[
                    0
                ].numpy()
            return log_prob
        # By differences, which keep more digits than the mixture's fast form |z|^2 - 2 z.mu + ...
        means, std = self.means_.astype(np.float64), self.std_.astype(np.float64)
        squared = np.stack([((z - mean) ** 2).sum(axis=1) for mean in means], axis=1)
        d = z.shape[1]
        log_n: np.ndarray = -squared / (2 * std**2) - d * np.log(std) - d / 2 * np.log(2 * np.pi)
        return log_n

    def decision_distance(self, X: Any) -> np.ndarray:
        """Latent distance of each point to the plane halfway between its two nearest means.

        With mu', mu'' the means nearest to z: | |z - mu'|^2 - |z - mu''|^2 | / (2 |mu' - mu''|).
        That plane is the boundary between the two classes for Gaussian components of equal weights
        and spreads. It is the paper's measure, and not always the distance to the nearest boundary:
        with three or more classes another may be nearer.

        Arguments:
            X: Points, shape (N, D) or (N, C, H, W).

        Returns:
            Distances in latent units, shape (N,).

        Raises:
            ValueError: If the spreads differ; the boundary is then no plane.

        Source: spec 1.8 (Fig. 3c).
        """
        check_is_fitted(self)
        if not np.allclose(self.std_, self.std_[0]):
            raise ValueError(
                f"decision_distance expected components of one spread, got {self.std_}; "
                "fit with learn_std=False"
            )
        z = self.transform(X)[:, : self.preprocess_.n_modelled].astype(np.float64)
        means = self.means_.astype(np.float64)
        squared = (z**2).sum(1)[:, None] - 2 * z @ means.T + (means**2).sum(1)
        nearest = np.argsort(squared, axis=1)[:, :2]
        first, second = np.take_along_axis(squared, nearest, axis=1).T
        apart = np.linalg.norm(means[nearest[:, 0]] - means[nearest[:, 1]], axis=1)
        distance: np.ndarray = np.abs(second - first) / (2 * apart)
        return distance

    def interpolate(self, x1: Any, x2: Any, n: int = 10) -> np.ndarray:
        """Points equidistant on the straight line between two points' latent codes.

        Arguments:
            x1: A point, shape (D,) or (C, H, W).
            x2: Another.
            n: How many, both ends among them.

        Source: spec 1.8 (Fig. 3a, b).
        """
        first, second = self.transform(np.stack([np.asarray(x1), np.asarray(x2)]))
        share = np.linspace(0, 1, n, dtype=first.dtype)[:, None]
        return self.inverse_transform((1 - share) * first + share * second)

    # -- samples -----------------------------------------------------------------------------

    def _codes(self, y: Any) -> np.ndarray:
        """Indices of classes in `classes_`."""
        positions = {label: k for k, label in enumerate(self.classes_.tolist())}
        wanted = np.asarray(y).tolist()
        if unknown := sorted(set(wanted) - set(positions), key=str):
            raise ValueError(
                f"y has classes the model does not know: {unknown}; "
                f"it knows {self.classes_.tolist()}"
            )
        return np.array([positions[label] for label in wanted], dtype=np.int64)

    def sample(
        self,
        n: int,
        y: Any = None,
        temperature: float = 1.0,
        random_state: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw new points.

        Arguments:
            n: How many.
            y: Their class, or n classes; None: drawn from `weights_`.
            temperature: Factor on the standard deviation of the latent noise (0.25 in Fig. 6).
            random_state: Of the draw; None: that of the estimator.

        Returns:
            Points, shape (n, D), or images in [0, 1], shape (n, C, h, w), float64, and their
            classes, shape (n,).

        Raises:
            ValueError: If a class is unknown.

        Source: Izmailov et al. (2020), section 6; spec 1.8.
        """
        check_is_fitted(self)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        if y is None:
            p = self.weights_.astype(np.float64)
            codes = rng.choice(len(p), size=n, p=p / p.sum())
        else:
            codes = self._codes(np.broadcast_to(np.asarray(y), (n,)))
        shape = (n, self._n_features_out)
        nu = self.model_.mixture.student_t
        z = temperature * (rng.standard_normal(shape) if nu is None else rng.standard_t(nu, shape))
        n_modelled = self.preprocess_.n_modelled
        z[:, :n_modelled] = self.means_[codes] + self.std_[codes, None] * z[:, :n_modelled]
        return self.inverse_transform(z), self.classes_[codes]
