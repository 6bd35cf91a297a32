"""Linear layers and perceptrons, stacked over seeds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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


# Named with its overload: to find it among several takes longer than a small call itself.
relu_backward = torch.ops.aten.threshold_backward.grad_input


def perceptron(
    x: Tensor,
    kept: Sequence[Tensor | None],
    scales: Sequence[float],
    dtype: torch.dtype,
    parameters: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Affine maps with ReLU and dropout between them, without autograd.

    What a step costs beside the matrix products is memory traffic and calls. So everything between
    two products happens in place, in the products' precision; a layer's output alone says where
    the gradient of ReLU and dropout goes (to where it is above 0); and the factor 1 / (1 - p) of
    dropout goes into the layer's weights, of which there are fewer than outputs.

    Arguments:
        x: Inputs, shape (S, B, n_in).
        kept: Of each layer, which outputs dropout keeps (`Stream.kept`); None: all.
        scales: Of each layer, the factor on its weights.
        dtype: Precision of the products.
        parameters: Weight and bias of each layer in turn.

    Returns:
        The output, shape (S, B, n_out), in `dtype`, and what `perceptron_backward` needs.
    """
    inputs, weights = [x.to(dtype)], []
    for i, (mask, scale) in enumerate(zip(kept, scales, strict=True)):
        weight, bias = parameters[2 * i], parameters[2 * i + 1]
        if scale != 1:
            weight, bias = weight * scale, bias * scale
        if weight.dtype != dtype:
            weight, bias = weight.to(dtype), bias.to(dtype)
        weights.append(weight)
        out = torch.baddbmm(bias, inputs[-1], weight)
        if len(weights) == len(scales):
            break
        out.relu_()
        if mask is not None:
            out.view(mask.dtype).bitwise_and_(mask)
        inputs.append(out)
    return out, inputs + weights


def perceptron_backward(
    gradient: Tensor,
    saved: Sequence[Tensor],
    scales: Sequence[float],
    dtype: torch.dtype,
    of_input: bool,
    of_parameters: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Backward pass of `perceptron`: gradients of its input and of its parameters.

    Arguments:
        gradient: Of the output of `perceptron`.
        saved: Tensors that `perceptron` returned beside its output.
        scales: As in `perceptron`.
        dtype: Type of the parameters' gradients; the input's is that of the products.
        of_input: Whether the input's gradient is wanted; else it is None.
        of_parameters: Whether the parameters' are; else they are None.
    """
    n = len(scales)
    inputs, weights = saved[:n], saved[n:]
    answers: list[Tensor | None] = []
    for i in reversed(range(n)):
        if i < n - 1:
            # In place: the product below has just made it.
            relu_backward(gradient, inputs[i + 1], 0, grad_input=gradient)
        of_weight = of_bias = None
        if of_parameters:
            of_weight, of_bias = torch.bmm(inputs[i].mT, gradient), gradient.sum(1, keepdim=True)
            if of_weight.dtype != dtype:
                of_weight, of_bias = of_weight.to(dtype), of_bias.to(dtype)
            if scales[i] != 1:
                of_weight.mul_(scales[i])
                of_bias.mul_(scales[i])
        answers += [of_bias, of_weight]
        if i > 0 or of_input:
            gradient = torch.bmm(gradient, weights[i].mT)
    return (gradient if of_input else None), answers[::-1]


def product_dtype(x: Tensor) -> torch.dtype:
    """The type of matrix products: autocast's where that is on, else that of x."""
    device = x.device.type
    on = torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if on else x.dtype


class _Perceptron(torch.autograd.Function):
    """`perceptron` with its own backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kept: Sequence[Tensor | None],
        scales: Sequence[float],
        dtype: torch.dtype,
        *parameters: Tensor,
    ) -> Tensor:
        out, saved = perceptron(x, kept, scales, dtype, parameters)
        ctx.save_for_backward(*saved)
        ctx.scales, ctx.dtypes = scales, (x.dtype, parameters[0].dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_x, of_parameters = ctx.needs_input_grad[0], any(ctx.needs_input_grad[4:])
        dtype = ctx.dtypes[1]
        of_input, answers = perceptron_backward(
            gradient, ctx.saved_tensors, ctx.scales, dtype, of_x, of_parameters
        )
        return (
            of_input if of_input is None else of_input.to(ctx.dtypes[0]),
            None,
            None,
            None,
            *answers,
        )


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
        (kept,), scales = self.masks(x.shape[1:-1], dtype, dropout)
        return _Perceptron.apply(x, kept, scales, dtype, *self.stacked_parameters())

    def masks(
        self,
        points: Sequence[int],
        dtype: torch.dtype,
        dropout: Stream | None,
        n: int = 1,
    ) -> tuple[list[tuple[Tensor | None, ...]], list[float]]:
        """Draw what n perceptrons like this take as `kept`, and the `scales` of all of them."""
        of_layers: list[Sequence[Tensor | None]] = []
        scales = []
        layer: Any  # to a type checker all that hangs below a module may be a tensor or a module
        for layer, p in zip(self.layers, (*self.dropout, 0.0), strict=True):
            if dropout is not None and p > 0:
                shape = (*points, layer.weight.shape[-1])
                of_layers.append(dropout.kept_each(n, shape, p, MASKS[dtype]))
                scales.append(1 / (1 - p))
            else:
                of_layers.append([None] * n)
                scales.append(1.0)
        return list(zip(*of_layers, strict=True)), scales

    def stacked_parameters(self) -> list[Tensor]:
        """Weight and bias of each layer in turn."""
        layers: Any = self.layers
        return [p for layer in layers for p in (layer.weight, layer.bias)]
