"""FlowGMM as it is written down: one seed, masked couplings, full covariance matrices, plain loss.

It follows the equations term by term and is slow. The tests hold the stacked model against it; the
benchmarks time it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from flowgmm.flows.mixture import StackedMixture
from flowgmm.flows.realnvp import CouplingFlow

__all__ = ["PLAIN_OBJECTIVE", "ReferenceFlowGMM"]

# Parameters of `FlowGMMClassifier` that leave the objective of this model: its defaults are those
# of the recommended recipe.
PLAIN_OBJECTIVE: dict[str, Any] = {
    "means": "random",
    "learn_means": False,
    "unlabelled_weight": 1.0,
    "label_weight": 0.0,
    "consistency_weight": 0.0,
    "balance_weight": 0.0,
    "input_noise": 0.0,
}


class ReferenceCoupling(nn.Module):
    """y = b x + (1 - b) (x + t) exp(s), where s and t are computed from b x.

    Arguments:
        mask: b, 1 where a feature passes through, shape (D,).
        hidden_size: Width of the conditioner.
        n_inner: Hidden layers of that width beyond the first.
        dropout: After the first hidden layer.

    Source: spec 1.1, 1.2.
    """

    def __init__(self, mask: Tensor, hidden_size: int, n_inner: int, dropout: float):
        super().__init__()
        n_features = len(mask)
        layers: list[nn.Module] = [
            nn.Linear(n_features, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
        ]
        for _ in range(n_inner):
            layers += [nn.Linear(hidden_size, hidden_size), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(hidden_size, 2 * n_features))
        self.gain = nn.Parameter(torch.ones(n_features))
        self.mask: Tensor
        self.register_buffer("mask", mask)

    def _scale_shift(self, passed: Tensor) -> tuple[Tensor, Tensor]:
        s_raw, t = self.net(passed).chunk(2, dim=-1)
        return (1 - self.mask) * self.gain * torch.tanh(s_raw), (1 - self.mask) * t

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Image of x, shape (B, D), and the log-det, shape (B,)."""
        b = self.mask
        s, t = self._scale_shift(b * x)
        return b * x + (1 - b) * (x + t) * torch.exp(s), s.sum(-1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Pre-image of y, shape (B, D), and the log-det of the inverse, shape (B,)."""
        b = self.mask
        s, t = self._scale_shift(b * y)
        return b * y + (1 - b) * (y * torch.exp(-s) - t), -s.sum(-1)


class ReferenceFlowGMM(nn.Module):
    """Couplings in a row and one Gaussian per class, for one seed.

    Arguments:
        n_couplings: L; even couplings pass the first floor(D/2) features and change the others.
        hidden_size: Width of the conditioners.
        means: Shape (K, D).
        std: Standard deviation of each class, shape (K,).
        weights: p(y), shape (K,).
        n_inner: Hidden layers beyond the first.
        dropout: After the first hidden layer.

    Source: Izmailov et al. (2020), section 3; spec 1.1, 1.2, 1.5, 1.6a.
    """

    def __init__(
        self,
        n_couplings: int,
        hidden_size: int,
        means: Tensor,
        std: Tensor,
        weights: Tensor,
        n_inner: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        n_features = means.shape[1]
        even = (torch.arange(n_features) < n_features // 2).to(means.dtype)
        self.couplings = nn.ModuleList(
            ReferenceCoupling(even if i % 2 == 0 else 1 - even, hidden_size, n_inner, dropout)
            for i in range(n_couplings)
        )
        self.means, self.std, self.weights = means, std, weights
        self.to(means.dtype)

    @classmethod
    def from_stack(cls, flow: CouplingFlow, mixture: StackedMixture, s: int) -> "ReferenceFlowGMM":
        """The model of seed s of a stack: its half-layers inside the masked layers, else zeros."""
        # Any: to a type checker all that hangs below a module may be a tensor or a module.
        stacked_couplings: Any = flow.couplings
        net = stacked_couplings[0].net
        model = cls(
            n_couplings=len(stacked_couplings),
            hidden_size=net.layers[0].weight.shape[-1],
            means=mixture.means[s].detach().clone(),
            std=mixture.std[s].detach().clone(),
            weights=mixture.log_weights[s].detach().exp(),
            n_inner=len(net.layers) - 2,
            dropout=net.dropout[0],
        )
        own: Any
        with torch.no_grad():
            for own, theirs in zip(model.couplings, stacked_couplings, strict=True):
                passed, changed = own.mask.bool(), ~own.mask.bool()
                linear = [layer for layer in own.net if isinstance(layer, nn.Linear)]
                for layer, stacked in zip(linear, theirs.net.layers, strict=True):
                    rows = torch.ones(layer.out_features, dtype=torch.bool)
                    columns = torch.ones(layer.in_features, dtype=torch.bool)
                    if layer is linear[0]:
                        columns = passed
                    if layer is linear[-1]:
                        rows = torch.cat([changed, changed])
                    layer.weight.zero_()
                    layer.bias.zero_()
                    layer.weight[rows.nonzero(), columns.nonzero().T] = stacked.weight[s].T
                    layer.bias[rows] = stacked.bias[s, 0]
                own.gain[changed] = theirs.gain[s, 0]
        return model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent codes of x, both shape (B, D), and log|det dz/dx|, shape (B,)."""
        log_det = x.new_zeros(len(x))
        for coupling in self.couplings:
            x, term = coupling(x)
            log_det = log_det + term
        return x, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Points with the codes z, both shape (B, D), and log|det dx/dz|, shape (B,)."""
        log_det = z.new_zeros(len(z))
        coupling: Any
        for coupling in reversed(list(self.couplings)):
            z, term = coupling.inverse(z)
            log_det = log_det + term
        return z, log_det

    def log_prob_of_classes(self, x: Tensor) -> Tensor:
        """Class-wise log p(x | y = k) in nats, shape (B, K)."""
        z, log_det = self.forward(x)
        identity = torch.eye(z.shape[1]).to(z)
        columns = [
            MultivariateNormal(mean, covariance_matrix=std**2 * identity).log_prob(z) + log_det
            for mean, std in zip(self.means, self.std, strict=True)
        ]
        return torch.stack(columns, dim=1)

    def loss(self, x: Tensor, y: Tensor, unlabelled: Tensor, unlabelled_weight: float) -> Tensor:
        """Mean of -log p(x | y) plus the weighted mean of -log p(x) of the unlabelled points."""
        log_prob = self.log_prob_of_classes(torch.cat([x, unlabelled]))
        labelled = -log_prob[: len(x)][torch.arange(len(x), device=y.device), y].mean()
        marginal = torch.logsumexp(log_prob[len(x) :] + self.weights.log(), dim=1)
        return labelled - unlabelled_weight * marginal.mean()
