"""Forward and backward passes of perceptrons and of all couplings at once, written by hand.

In flows of the paper's sizes a step costs memory traffic and calls beside its matrix products. One
autograd function for all couplings makes fewer of both: benchmarks/README.md has its ratio to the
literal model (`benchmarks/train_step.py`). `flowgmm.flows.realnvp.Coupling` is the readable form;
`tests/flows/test_realnvp.py` holds values and gradients of this one to it and to the literal model
of `flowgmm.flows.reference.realnvp`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["MASKS", "FusedCouplings", "FusedPerceptron", "product_dtype"]

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
    masks: Sequence[Tensor | None],
    scales: Sequence[float],
    dtype: torch.dtype,
    parameters: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Affine maps with ReLU and dropout between them, without autograd.

    Everything between two products happens in place, in the products' precision; a layer's output
    alone says where the gradient of ReLU and dropout goes (to where it is above 0); and the factor
    1 / (1 - p) of dropout goes into the layer's weights, of which there are fewer than outputs.

    Arguments:
        x: Inputs, shape (S, B, n_in).
        masks: Of each layer, which outputs dropout keeps (`Stream.dropout_mask`); None: all.
        scales: Of each layer, the factor on its weights.
        dtype: Precision of the products.
        parameters: Weight and bias of each layer in turn.

    Returns:
        The output, shape (S, B, n_out), in `dtype`, and what `perceptron_backward` needs.
    """
    inputs, weights = [x.to(dtype)], []
    for i, (mask, scale) in enumerate(zip(masks, scales, strict=True)):
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


class FusedPerceptron(torch.autograd.Function):
    """A perceptron with its own backward pass.

    Arguments of `apply`: as of `perceptron`, the parameters one by one.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        masks: Sequence[Tensor | None],
        scales: Sequence[float],
        dtype: torch.dtype,
        *parameters: Tensor,
    ) -> Tensor:
        out, saved = perceptron(x, masks, scales, dtype, parameters)
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


class FusedCouplings(torch.autograd.Function):
    """All couplings in one function with its own backward pass: calls dominate in small flows.

    Arguments of `apply`: x; the size of its first half; for each coupling its perceptron's `masks`;
    the `scales` and the precision of all perceptrons' products; whether a backward pass may follow;
    and each coupling's parameters, its gain the last of them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        split: int,
        masks: Sequence[Sequence[Tensor | None]],
        scales: Sequence[float],
        dtype: torch.dtype,
        differentiable: bool,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        halves = [x[..., :split].contiguous(), x[..., split:].contiguous()]
        log_det = x.new_zeros(x.shape[:-1])
        n, saved = 2 * len(scales) + 1, []
        for i, of_coupling in enumerate(masks):
            *of_net, gain = parameters[n * i : n * (i + 1)]
            condition, change = i % 2, 1 - i % 2
            raw, of_perceptron = perceptron(halves[condition], of_coupling, scales, dtype, of_net)
            halves[change], term, of_affine = _affine(halves[change], raw, gain)
            log_det = log_det + term
            if differentiable:  # else what a coupling has computed is free at once
                saved += [*of_perceptron, *of_affine, gain]
        ctx.save_for_backward(*saved)
        ctx.split, ctx.scales, ctx.n_couplings, ctx.dtype = split, scales, len(masks), dtype
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
