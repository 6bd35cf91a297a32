"""Linear layers and perceptrons, stacked over seeds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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


# Integers as wide as the floats whose bits they mask.
MASKS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


class _Perceptron(torch.autograd.Function):
    """Affine maps with ReLU and dropout between them, in one function with its own way back.

    What a step costs beside the matrix products is memory traffic and calls. So everything between
    two products happens in place, in the products' precision; a layer's output alone says where
    the gradient of ReLU and dropout goes (to where it is above 0); and the factor 1 / (1 - p) of
    dropout goes into the layer's weights, of which there are fewer than outputs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kept: Sequence[Tensor | None],
        scales: Sequence[float],
        dtype: torch.dtype,
        *parameters: Tensor,
    ) -> Tensor:
        inputs, weights = [x.to(dtype)], []
        for weight, bias, mask, scale in zip(
            parameters[::2], parameters[1::2], kept, scales, strict=True
        ):
            if scale != 1:
                weight, bias = weight * scale, bias * scale
            weights.append(weight.to(dtype))
            out = torch.baddbmm(bias.to(dtype), inputs[-1], weights[-1])
            if len(weights) == len(scales):
                break
            out.relu_()
            if mask is not None:
                out.view(mask.dtype).bitwise_and_(mask)
            inputs.append(out)
        ctx.save_for_backward(*inputs, *weights)
        ctx.scales, ctx.dtypes = scales, (x.dtype, parameters[0].dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        n = len(ctx.scales)
        inputs, weights = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        of_x, of_parameters = ctx.dtypes
        answers: list[Tensor | None] = []
        for i in reversed(range(n)):
            if i < n - 1:
                # In place: the product below has just made it.
                torch.ops.aten.threshold_backward(gradient, inputs[i + 1], 0, grad_input=gradient)
            of_weight = of_bias = None
            if ctx.needs_input_grad[4 + 2 * i]:
                of_weight = torch.bmm(inputs[i].transpose(1, 2), gradient).to(of_parameters)
                of_bias = gradient.sum(1, keepdim=True).to(of_parameters)
                if ctx.scales[i] != 1:
                    of_weight.mul_(ctx.scales[i])
                    of_bias.mul_(ctx.scales[i])
            answers[:0] = [of_weight, of_bias]
            if i > 0 or ctx.needs_input_grad[0]:
                gradient = torch.bmm(gradient, weights[i].transpose(1, 2))
        of_input = gradient.to(of_x) if ctx.needs_input_grad[0] else None
        return of_input, None, None, None, *answers


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
        device = x.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else x.dtype
        kept: list[Tensor | None] = []
        scales = []
        layer: Any  # to a type checker all that hangs below a module may be a tensor or a module
        for layer, p in zip(self.layers, (*self.dropout, 0.0), strict=True):
            mask, scale = None, 1.0
            if dropout is not None and p > 0:
                shape = (*x.shape[1:-1], layer.weight.shape[-1])
                mask, scale = dropout.kept(shape, p, MASKS[dtype]), 1 / (1 - p)
            kept.append(mask)
            scales.append(scale)
        parameters = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        return _Perceptron.apply(x, kept, scales, dtype, *parameters)
