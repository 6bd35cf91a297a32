"""Latent Gaussian mixture, one isotropic component per class, stacked over seeds."""

import math

import torch
from torch import Tensor, nn

from flowgmm.flows.rng import Stream

__all__ = ["DATA_MEANS", "MEANS", "StackedMixture", "fixed_means"]

# Placements that need no data, then those that use the latent codes or the data (spec 1.5).
FIXED_MEANS = (
    "random",
    "random_multi",
    "random_pm",
    "circle",
    "diag",
    "pixel_const",
    "split_dims",
    "axes",
)
DATA_MEANS = ("from_latent", "from_z", "from_data", "random_data")
MEANS = FIXED_MEANS + DATA_MEANS


def fixed_means(kind: str, n_classes: int, n_features: int, scale: float, stream: Stream) -> Tensor:
    """Means that do not depend on the data, shape (S, K, D).

    Arguments:
        kind: `random` (and `random_multi`): scale * N(0, I). `random_pm` (K = 2): +-mu with
            |mu| = scale (official: 3.75). `circle`: on a circle of radius `scale` in the first two
            coordinates. `diag` (K = 2): (-scale, ...), (scale, ...). `pixel_const`: the constant
            vector scale * (k - 4). `split_dims`: `scale` on the k-th of K blocks of coordinates.
            `axes`: `scale` on the k-th coordinate, so that the distance between two means,
            sqrt(2) scale, does not depend on D.
        n_classes: K.
        n_features: D.
        scale: r of the spec.
        stream: Stream of the random placements.

    Raises:
        ValueError: If the placement needs another number of classes or features.

    Source: spec 1.5, D1.
    """
    if kind in ("random_pm", "diag") and n_classes != 2:
        raise ValueError(f"means={kind!r} is for 2 classes, got {n_classes}; use means='random'")
    n_seeds = len(stream.seeds)
    means = torch.zeros(n_seeds, n_classes, n_features, device=stream.device)
    if kind in ("random", "random_multi"):
        means = scale * stream.normal((n_classes, n_features))
    elif kind == "random_pm":
        direction = stream.normal((1, n_features))
        direction = scale * direction / direction.norm(dim=-1, keepdim=True)
        means = torch.cat([direction, -direction], dim=1)
    elif kind == "circle":
        for k in range(n_classes):
            angle = 2 * math.pi * k / n_classes
            means[:, k, 0] = scale * math.cos(angle)
            means[:, k, 1] = scale * math.sin(angle)
    elif kind == "diag":
        means[:, 0] = -scale
        means[:, 1] = scale
    elif kind == "pixel_const":
        means += scale * (torch.arange(n_classes, device=stream.device)[:, None] - 4)
    elif kind in ("split_dims", "axes"):
        if n_features < n_classes:
            raise ValueError(
                f"means={kind!r} needs at least as many features as classes, got {n_features} "
                f"features and {n_classes} classes"
            )
        block = n_features // n_classes if kind == "split_dims" else 1
        for k in range(n_classes):
            means[:, k, k * block : (k + 1) * block] = scale
    else:
        raise ValueError(f"unknown means {kind!r}; expected one of {', '.join(MEANS)}")
    return means


class StackedMixture(nn.Module):
    """p(z) = sum_k pi_k N(z | mu_k, std_k^2 I), in closed form; or Student's t in N's place.

    Arguments:
        means: Initial means, shape (S, K, D).
        std: Initial standard deviation of every component (official text and UCI runs: 1.3133, D2).
        weights: Class weights pi, K numbers; None: equal.
        learn_means: Train the means.
        learn_std: Train one standard deviation per component, softplus(rho_k).
        learn_weights: Train the weights, softmax(w_k).
        student_t: Degrees of freedom of independent t-distributed coordinates (App. J); None:
            Gaussians.

    Source: Izmailov et al. (2020), section 3.1, eq. (8); spec 1.5, 1.6e.
    """

    means: Tensor
    rho: Tensor
    logits: Tensor

    def __init__(
        self,
        means: Tensor,
        std: float = 1.0,
        weights: list[float] | None = None,
        learn_means: bool = False,
        learn_std: bool = False,
        learn_weights: bool = False,
        student_t: float | None = None,
    ):
        super().__init__()
        if student_t is not None and not student_t > 0:
            raise ValueError(f"student_t must be positive degrees of freedom, got {student_t}")
        self.student_t = student_t
        n_seeds, n_classes, self.n_features = means.shape
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}")
        pi = torch.full((n_classes,), 1 / n_classes) if weights is None else torch.tensor(weights)
        if pi.shape != (n_classes,) or not bool((pi > 0).all()):
            raise ValueError(f"class_weights must be {n_classes} positive numbers, got {weights!r}")
        rho = torch.full((n_seeds, n_classes), math.log(math.expm1(std)))
        logits = (pi / pi.sum()).log().expand(n_seeds, n_classes).clone()
        self._add("means", means.clone(), learn_means)
        self._add("rho", rho.to(means), learn_std)
        self._add("logits", logits.to(means), learn_weights)

    def _add(self, name: str, value: Tensor, learn: bool) -> None:
        if learn:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    @property
    def std(self) -> Tensor:
        """Standard deviations, shape (S, K)."""
        return nn.functional.softplus(self.rho)

    @property
    def log_weights(self) -> Tensor:
        """Logarithms of the class weights, shape (S, K)."""
        return torch.log_softmax(self.logits, dim=-1)

    def component_log_prob(self, z: Tensor) -> Tensor:
        """Class-wise log N(z | mu_k, std_k^2 I) in nats, shape (S, B, K), of z, shape (S, B, D)."""
        if self.student_t is not None:
            return self._student_log_prob(z, self.student_t)
        # |z - mu|^2 as |z|^2 - 2 z.mu + |mu|^2: no (S, B, K, D) tensor. Never in bfloat16, whose
        # error would be as large as the differences between the classes.
        with torch.autocast(z.device.type, enabled=False):
            cross = torch.bmm(z, self.means.transpose(1, 2))
        squared = (
            z.square().sum(-1, keepdim=True) - 2 * cross + self.means.square().sum(-1).unsqueeze(1)
        ).clamp_min(0)
        std = self.std.unsqueeze(1)
        log_norm = self.n_features * (std.log() + 0.5 * math.log(2 * math.pi))
        return -0.5 * squared / std.square() - log_norm

    def _student_log_prob(self, z: Tensor, nu: float) -> Tensor:
        """The same with coordinates that follow Student's t of location mu_kd and scale std_k."""
        std = self.std.unsqueeze(1)
        scaled = (z.unsqueeze(2) - self.means.unsqueeze(1)) / std.unsqueeze(-1)
        log_norm = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
        tail = torch.log1p(scaled.square() / nu).sum(-1)
        return self.n_features * (log_norm - std.log()) - 0.5 * (nu + 1) * tail

    def log_joint(self, z: Tensor) -> Tensor:
        """Class-wise log pi_k + log N(z | mu_k, std_k^2 I), shape (S, B, K)."""
        return self.component_log_prob(z) + self.log_weights.unsqueeze(1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Density log p(z) in nats, shape (S, B)."""
        return torch.logsumexp(self.log_joint(z), dim=-1)

    def log_posterior(self, z: Tensor) -> Tensor:
        """Posterior log p(y = k | z), shape (S, B, K); at z = f(x) also that of x."""
        return torch.log_softmax(self.log_joint(z), dim=-1)
