"""RealNVP coupling flow for flat vectors, stacked over seeds."""

from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.flows.fused import FusedCouplings, product_dtype
from flowgmm.flows.layers import StackedMLP
from flowgmm.flows.rng import Stream

__all__ = ["CouplingFlow"]


class Coupling(nn.Module):
    """Affine map of one half, conditioned on the other: y = (x + t) * exp(s).

    s = gain * tanh(s_raw), and (s_raw, t) come from a perceptron on the other half only, so that no
    masked column is ever multiplied. The gain is one learnable number per feature, initially 1.

    Source: Izmailov et al. (2020), section 4; spec 1.1 (shift first, then scale).
    """

    def __init__(
        self,
        n_condition: int,
        n_change: int,
        hidden_size: int,
        n_inner: int,
        dropout: float,
        zero_init: bool,
        initialisation: Stream,
    ):
        super().__init__()
        self.net = StackedMLP(
            [n_condition, *[hidden_size] * (n_inner + 1), 2 * n_change],
            initialisation,
            dropout=[dropout] + [0.0] * n_inner,
            # The masked layer that this half-layer equals has all features as its inputs.
            fan_in=n_condition + n_change,
            zero_last=zero_init,
        )
        self.gain = nn.Parameter(torch.ones(len(initialisation.seeds), 1, n_change))

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Map one half, dropout off.

        Arguments:
            x: The half that changes, shape (S, B, n_change).
            condition: The other half, shape (S, B, n_condition).

        Returns:
            y, shape (S, B, n_change), and log|det dy/dx|, shape (S, B).
        """
        s, t = self.scale_and_shift(condition)
        return (x + t) * torch.exp(s), s.sum(-1)

    def inverse(self, y: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `forward`: x, shape (S, B, n_change), and log|det dx/dy|, shape (S, B)."""
        s, t = self.scale_and_shift(condition)
        return y * torch.exp(-s) - t, -s.sum(-1)

    def scale_and_shift(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale s and shift t, both of shape (S, B, n_change)."""
        # Under autocast the perceptron answers in bfloat16; scales and log-dets stay in the
        # parameters' own precision.
        s_raw, t = self.net(condition).to(self.gain.dtype).chunk(2, dim=-1)
        return self.gain * torch.tanh(s_raw), t


class CouplingFlow(nn.Module):
    """S flows z = f(x) of `n_couplings` couplings; even couplings change the second half.

    Arguments:
        n_features: D, at least 2.
        n_couplings: Number of couplings L.
        hidden_size: Width h of the conditioners.
        initialisation: Stream of the initial weights; its seeds define S.
        n_inner: Hidden layers of width h beyond the first (official: 1; D3).
        dropout: Dropout after the first hidden layer (D4).
        zero_init: Start the last layer of each conditioner from zero: f is then the identity.

    Raises:
        ValueError: If there is no second half to condition on (D < 2), or no coupling.

    Source: Izmailov et al. (2020), sections 4 and 5.1; spec 1.2.
    """

    def __init__(
        self,
        n_features: int,
        n_couplings: int,
        hidden_size: int,
        initialisation: Stream,
        n_inner: int = 1,
        dropout: float = 0.0,
        zero_init: bool = False,
    ):
        super().__init__()
        if n_features < 2:
            raise ValueError(
                "a coupling flow needs at least 2 features that vary, "
                f"got {n_features} feature(s); add a column or use another method"
            )
        if n_couplings < 1:
            raise ValueError(f"n_couplings must be 1 or more, got {n_couplings}")
        self.split = n_features // 2
        halves = (self.split, n_features - self.split)
        self.couplings = nn.ModuleList(
            Coupling(
                halves[i % 2],
                halves[1 - i % 2],
                hidden_size,
                n_inner,
                dropout,
                zero_init,
                initialisation,
            )
            for i in range(n_couplings)
        )

    def forward(self, x: Tensor, dropout: Stream | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent.

        Arguments:
            x: Points, shape (S, B, D).
            dropout: Stream of the dropout masks; None switches dropout off. Each set of masks is
                a valid flow with an exact log-det.

        Returns:
            z, shape (S, B, D), and log|det dz/dx|, shape (S, B).
        """
        dtype = product_dtype(x)
        couplings: Any = self.couplings  # of modules to a type checker
        first = couplings[0].net
        masks, scales = first.draw_masks(x.shape[1:-1], dtype, dropout, n=len(couplings))
        parameters = []
        for coupling in couplings:
            parameters += [*coupling.net.stacked_parameters(), coupling.gain]
        differentiable = torch.is_grad_enabled()
        return FusedCouplings.apply(
            x, self.split, masks, scales, dtype, differentiable, *parameters
        )

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latent to data, dropout off: x, shape (S, B, D), and log|det dx/dz|, shape (S, B)."""
        halves = [z[..., : self.split].contiguous(), z[..., self.split :].contiguous()]
        log_det = z.new_zeros(z.shape[:-1])
        coupling: Any
        for i, coupling in reversed(list(enumerate(self.couplings))):
            condition, change = i % 2, 1 - i % 2
            halves[change], term = coupling.inverse(halves[change], halves[condition])
            log_det = log_det + term
        return torch.cat(halves, dim=-1), log_det
