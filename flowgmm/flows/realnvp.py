"""RealNVP coupling flow for flat vectors, stacked over seeds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from flowgmm.flows.layers import StackedMLP, perceptron, perceptron_backward, product_dtype
from flowgmm.flows.rng import Stream

__all__ = ["CouplingFlow"]


def _affine(x: Tensor, raw: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Y = (x + t) exp(s), s = gain tanh(s_raw); also the sum of s and the backward pass's tensors.

    `raw` holds s_raw and t side by side, maybe in bfloat16; all else is in x's own precision.
    """
    # Contiguous halves: on a strided one tanh takes twice as long.
    s_raw, t = (half.to(x.dtype).contiguous() for half in raw.chunk(2, dim=-1))
    bounded = s_raw.tanh()
    s = gain * bounded
    scale = s.exp()
    y = t.add_(x).mul_(scale) if raw.dtype != x.dtype else (x + t) * scale
    return y, s.sum(-1), [bounded, scale, y]


def _affine_backward(
    of_y: Tensor, of_log_det: Tensor, saved: Sequence[Tensor], gain: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, raw (in its type) and gain, from those of `_affine`'s first two results."""
    bounded, scale, y = saved
    of_x = of_y * scale
    of_s = torch.addcmul(of_log_det, of_y, y)
    of_gain = (of_s * bounded).sum(1, keepdim=True)
    of_s_raw = torch.ops.aten.tanh_backward.default(of_s.mul_(gain), bounded)
    return of_x, torch.cat([of_s_raw, of_x], dim=-1).to(dtype), of_gain


class _Couplings(torch.autograd.Function):
    """All couplings in one function with its own backward pass: calls dominate in small flows.

    Arguments of `apply`: x; the size of its first half; for each coupling its perceptron's `kept`;
    the `scales` and the precision of all perceptrons' products; whether a backward pass may follow;
    and each coupling's parameters, its gain the last of them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        split: int,
        kept: Sequence[Sequence[Tensor | None]],
        scales: Sequence[float],
        dtype: torch.dtype,
        differentiable: bool,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        halves = [x[..., :split].contiguous(), x[..., split:].contiguous()]
        log_det = x.new_zeros(x.shape[:-1])
        n, saved = 2 * len(scales) + 1, []
        for i, masks in enumerate(kept):
            *of_net, gain = parameters[n * i : n * (i + 1)]
            condition, change = i % 2, 1 - i % 2
            raw, of_perceptron = perceptron(halves[condition], masks, scales, dtype, of_net)
            halves[change], term, of_affine = _affine(halves[change], raw, gain)
            log_det = log_det + term
            if differentiable:  # else what a coupling has computed is free at once
                saved += [*of_perceptron, *of_affine, gain]
        ctx.save_for_backward(*saved)
        ctx.split, ctx.scales, ctx.n_couplings, ctx.dtype = split, scales, len(kept), dtype
        return torch.cat(halves, dim=-1), log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_z: Tensor, of_log_det: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [of_z[..., : ctx.split].contiguous(), of_z[..., ctx.split :].contiguous()]
        of_log_det = of_log_det.unsqueeze(-1)
        of_x, of_parameters = ctx.needs_input_grad[0], any(ctx.needs_input_grad[6:])
        n, saved = 2 * len(ctx.scales) + 4, ctx.saved_tensors  # asked for once: it unpacks them all
        answers: list[Tensor | None] = []
        for i in reversed(range(ctx.n_couplings)):
            *of_perceptron, bounded, scale, y, gain = saved[n * i : n * (i + 1)]
            condition, change = i % 2, 1 - i % 2
            gradients[change], of_raw, of_gain = _affine_backward(
                gradients[change], of_log_det, (bounded, scale, y), gain, ctx.dtype
            )
            through, of_net = perceptron_backward(
                of_raw, of_perceptron, ctx.scales, gain.dtype, of_x or i > 0, of_parameters
            )
            if through is not None:
                gradients[condition] = gradients[condition] + through.to(gain.dtype)
            answers[:0] = [*of_net, of_gain]
        return torch.cat(gradients, dim=-1) if of_x else None, *[None] * 5, *answers


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

    def inverse(self, y: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        # Under autocast the perceptron answers in bfloat16; scales and log-dets stay in the
        # parameters' own precision.
        s_raw, t = self.net(condition).to(self.gain.dtype).chunk(2, dim=-1)
        s = self.gain * torch.tanh(s_raw)
        return y * torch.exp(-s) - t, -s.sum(-1)


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
        kept, scales = first.masks(x.shape[1:-1], dtype, dropout, n=len(couplings))
        parameters = []
        for coupling in couplings:
            parameters += [*coupling.net.stacked_parameters(), coupling.gain]
        differentiable = torch.is_grad_enabled()
        return _Couplings.apply(x, self.split, kept, scales, dtype, differentiable, *parameters)

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
