"""Linear layers and perceptrons, stacked over seeds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.streams import Stream

__all__ = ["StackedLinear", "StackedMLP"]


class StackedLinear(nn.Module):
    """S independent affine maps, x_s -> x_s W_s + b_s.

    Arguments:
        n_in: Features in.
        n_out: Features out.
        initialisation: Stream of the initial weights; its seeds define S.
        fan_in: Number of inputs that sets the bound 1/sqrt(fan_in) of the uniform initial values
            (PyTorch's default for a layer of that many inputs); `n_in` if None.
        zero: Start from zero weights and biases instead.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        initialisation: Stream,
        fan_in: int | None = None,
        zero: bool = False,
    ):
        super().__init__()
        n_seeds = len(initialisation.seeds)
        if zero:
            weight = torch.zeros(n_seeds, n_in, n_out)
            bias = torch.zeros(n_seeds, 1, n_out)
        else:
            bound = (fan_in or n_in) ** -0.5
            weight = (initialisation.uniform((n_in, n_out)) * 2 - 1) * bound
            bias = (initialisation.uniform((1, n_out)) * 2 - 1) * bound
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x, shape (S, B, n_in), to shape (S, B, n_out)."""
        return torch.baddbmm(self.bias, x, self.weight)


class _ReLUDropout(torch.autograd.Function):
    """scale * kept * relu(x), in place, with kept in {0, 1}, or None: all of it.

    One function, because the output alone says where the gradient goes: to where it is above 0.
    Both ways are in place: fresh memory costs more than the arithmetic. The gradient may be
    overwritten since it has just been made by the matrix product that follows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor | None, scale: float) -> Tensor:
        ctx.mark_dirty(x)
        x.relu_()
        if kept is not None:
            x.mul_(kept).mul_(scale)
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors
        torch.ops.aten.threshold_backward(gradient, y, 0, grad_input=gradient)
        return gradient if ctx.scale == 1 else gradient.mul_(ctx.scale), None, None


class StackedMLP(nn.Module):
    """Linear -> ReLU -> dropout, repeated, then a last linear layer; S networks side by side.

    Arguments:
        sizes: Features in, of every hidden layer, and out.
        initialisation: Stream of the initial weights; its seeds define S.
        dropout: Probability of dropout after each hidden layer.
        fan_in: See `StackedLinear`, for the first layer.
        zero_last: Start the last layer from zero.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        initialisation: Stream,
        dropout: Sequence[float] | float = 0.0,
        fan_in: int | None = None,
        zero_last: bool = False,
    ):
        super().__init__()
        n_hidden = len(sizes) - 2
        self.dropout = (
            (dropout,) * n_hidden if isinstance(dropout, (int, float)) else tuple(dropout)
        )
        if len(self.dropout) != n_hidden or not all(0 <= p < 1 for p in self.dropout):
            raise ValueError(
                f"dropout must be one probability in [0, 1) for each of {n_hidden} hidden layers, "
                f"got {dropout!r}"
            )
        self.layers = nn.ModuleList(
            StackedLinear(
                sizes[i],
                sizes[i + 1],
                initialisation,
                fan_in=fan_in if i == 0 else None,
                zero=zero_last and i == n_hidden,
            )
            for i in range(n_hidden + 1)
        )

    def forward(self, x: Tensor, dropout: Stream | None = None) -> Tensor:
        """Map x, shape (S, B, sizes[0]), to shape (S, B, sizes[-1]).

        Arguments:
            x: Inputs.
            dropout: Stream of the dropout masks; None switches dropout off (evaluation).
        """
        for layer, p in zip(self.layers[:-1], self.dropout, strict=True):
            x, kept, scale = layer(x), None, 1.0
            if dropout is not None and p > 0:
                kept, scale = dropout.kept(x.shape[1:], p), 1 / (1 - p)
            x = _ReLUDropout.apply(x, kept, scale)
        return self.layers[-1](x)
