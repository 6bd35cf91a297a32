"""Densities of a latent space given the class: a conditional flow, or one Gaussian per class."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.flows.glow import (
    ActNorm,
    ClassEmbedding,
    Composition,
    DoubleCoupling,
    Mixing,
    ResidualMLP,
)
from flowgmm.flows.rng import Stream

__all__ = ["ClassFlow", "ClassGaussians", "ClassLatent"]


class ClassLatent(nn.Module, ABC):
    """p(z | y) by an invertible map z -> u = h(z; y) to independent Gaussians of mean 0.

    Arguments:
        n_classes: K.
    """

    def __init__(self, n_classes: int):
        super().__init__()
        self.n_classes = n_classes

    @abstractmethod
    def forward(self, z: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Map z, shape (S, B, D), of classes, shape (S, B): u, and log|det du/dz|, (S, B)."""

    @abstractmethod
    def inverse(self, u: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`: z, shape (S, B, D), and log|det dz/du|, shape (S, B)."""

    @property
    @abstractmethod
    def std(self) -> Tensor:
        """Standard deviations of u, shape (S, 1, D)."""

    def log_prob(self, z: Tensor, classes: Tensor) -> Tensor:
        """Density log p(z | y) in nats, shape (S, B), of z, (S, B, D), and classes, (S, B)."""
        u, log_det = self(z, classes)
        std = self.std
        log_n = -0.5 * (u / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
        return log_n.sum(-1) + log_det

    def component_log_prob(self, z: Tensor) -> Tensor:
        """Density log p(z | y = k) of every class, shape (S, B, K), of z, shape (S, B, D)."""
        return self.log_prob(*self.of_every_class(z)).unflatten(1, (self.n_classes, -1)).mT

    def of_every_class(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Points once for each class, shape (S, K B, D), and these classes, shape (S, K B)."""
        n_seeds, n_points = z.shape[:2]
        classes = torch.arange(self.n_classes, device=z.device).unsqueeze(1).expand(-1, n_points)
        return z.repeat(1, self.n_classes, 1), classes.flatten().expand(n_seeds, -1)


class ClassFlow(ClassLatent):
    """Conditional flow: layers of ActNorm, mixing and a double coupling that sees the class.

    Arguments:
        n_features: D.
        n_classes: K.
        n_layers: Number of layers.
        hidden_size, n_blocks: Width and residual blocks of the couplings' networks.
        embedding_size: Features of a class's vector, which all couplings share.
        initialisation: Stream of the initial weights; its seeds define S.

    Source: Atanov et al. (2019); quoted systems, 3.2.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        n_layers: int,
        hidden_size: int,
        n_blocks: int,
        embedding_size: int,
        initialisation: Stream,
    ):
        super().__init__(n_classes)
        n_seeds = len(initialisation.seeds)

        def make_net(n_in: int, n_out: int) -> ResidualMLP:
            return ResidualMLP(n_in, n_out, hidden_size, n_blocks, initialisation)

        self.embedding = ClassEmbedding(n_classes, embedding_size, n_seeds)
        self.flow = Composition(
            layer
            for _ in range(n_layers)
            for layer in (
                ActNorm(n_features, n_seeds),
                Mixing(n_features, n_seeds),
                DoubleCoupling(n_features, make_net, embedding_size),
            )
        )
        self.rho = nn.Parameter(torch.zeros(n_seeds, 1, n_features))

    def forward(self, z: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Map z, shape (S, B, D), of classes, shape (S, B): u, and log|det du/dz|, (S, B)."""
        result: tuple[Tensor, Tensor] = self.flow(z, self.embedding(classes))
        return result

    def inverse(self, u: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`: z, shape (S, B, D), and log|det dz/du|, shape (S, B)."""
        return self.flow.inverse(u, self.embedding(classes))

    @property
    def std(self) -> Tensor:
        """Standard deviations of u, shape (S, 1, D): softplus(rho), 0.693 at the start."""
        return nn.functional.softplus(self.rho)


class ClassGaussians(ClassLatent):
    """One Gaussian per class, of learnt mean and diagonal: u = (z - mu_y) exp(-s_y) is N(0, I).

    Arguments:
        n_features: D.
        n_classes: K.
        initialisation: Stream of the initial means, sqrt(2) N(0, I); its seeds define S.

    Source: Atanov et al. (2019), the GMM variant; quoted systems, 3.1.
    """

    def __init__(self, n_features: int, n_classes: int, initialisation: Stream):
        super().__init__(n_classes)
        self.means = nn.Parameter(math.sqrt(2) * initialisation.normal((n_classes, n_features)))
        self.log_std = nn.Parameter(torch.zeros_like(self.means))

    def forward(self, z: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Map z, shape (S, B, D), of classes, shape (S, B): u, and log|det du/dz|, (S, B)."""
        mean, log_std = self._of(classes)
        return (z - mean) * torch.exp(-log_std), -log_std.sum(-1)

    def inverse(self, u: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`: z, shape (S, B, D), and log|det dz/du|, shape (S, B)."""
        mean, log_std = self._of(classes)
        return u * torch.exp(log_std) + mean, log_std.sum(-1)

    @property
    def std(self) -> Tensor:
        """Standard deviations of u, shape (S, 1, D): 1."""
        return torch.ones_like(self.means[:, :1])

    def _of(self, classes: Tensor) -> tuple[Any, Any]:
        """Mean and log standard deviation of the class of each point, shape (S, B, D)."""
        at = classes.unsqueeze(-1).expand(-1, -1, self.means.shape[-1])
        return self.means.gather(1, at), self.log_std.gather(1, at)
