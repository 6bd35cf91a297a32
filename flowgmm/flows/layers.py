"""Linear layers and perceptrons, stacked over seeds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.flows.fused import MASKS, FusedPerceptron, product_dtype
from flowgmm.flows.rng import Stream

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
        has_bias: Whether there is b_s; below a batch normalisation it would change nothing.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        n_in: int,
        n_out: int,
        initialisation: Stream,
        fan_in: int | None = None,
        zero: bool = False,
        has_bias: bool = True,
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
        self.bias = nn.Parameter(bias) if has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map x, shape (S, B, n_in), to shape (S, B, n_out)."""
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias, x, self.weight)


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
        dtype = product_dtype(x)
        (masks,), scales = self.draw_masks(x.shape[1:-1], dtype, dropout)
        return FusedPerceptron.apply(x, masks, scales, dtype, *self.stacked_parameters())

    def draw_masks(
        self,
        points: Sequence[int],
        dtype: torch.dtype,
        dropout: Stream | None,
        n: int = 1,
    ) -> tuple[list[tuple[Tensor | None, ...]], list[float]]:
        """Draw the dropout masks of n perceptrons like this, and the `scales` of all of them."""
        of_layers: list[Sequence[Tensor | None]] = []
        scales = []
        layer: Any  # to a type checker all that hangs below a module may be a tensor or a module
        for layer, p in zip(self.layers, (*self.dropout, 0.0), strict=True):
            if dropout is not None and p > 0:
                shape = (*points, layer.weight.shape[-1])
                of_layers.append(dropout.dropout_masks(n, shape, p, MASKS[dtype]))
                scales.append(1 / (1 - p))
            else:
                of_layers.append([None] * n)
                scales.append(1.0)
        return list(zip(*of_layers, strict=True)), scales

    def stacked_parameters(self) -> list[Tensor]:
        """Weight and bias of each layer in turn."""
        layers: Any = self.layers
        return [p for layer in layers for p in (layer.weight, layer.bias)]
