"""Virtual adversarial directions: where a classifier's answer to a point changes fastest."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["divergence", "unit", "worst_direction"]

# Smallest size that a direction is divided by; one of zeros stays zero.
LEAST = 1e-30


def divergence(reference: Tensor, log_proba: Tensor) -> Tensor:
    """Divergence KL(p || q) of each point in nats, shape (S, B).

    Arguments:
        reference: Log p(y), shape (S, B, K).
        log_proba: Log q(y), shape (S, B, K).
    """
    return (reference.exp() * (reference - log_proba)).sum(-1)


def unit(directions: Tensor) -> Tensor:
    """Directions of length 1, shape (S, B, ...); those of zeros stay."""
    flat = directions.flatten(2)
    # By the largest first: squares of small gradients would be 0 in float32.
    flat = flat / flat.abs().amax(-1, keepdim=True).clamp_min(LEAST)
    length = torch.linalg.vector_norm(flat, dim=-1, keepdim=True).clamp_min(LEAST)
    return (flat / length).view_as(directions)


def worst_direction(
    log_proba: Callable[[Tensor], Tensor],
    x: Tensor,
    reference: Tensor,
    start: Tensor,
    probe: float,
) -> Tensor:
    """Unit direction in which the answer to each point changes fastest, shape (S, B, ...).

    It is the gradient of KL(p(y | x) || p(y | x + r)) at r = probe * start / |start|: one power
    iteration towards the leading eigenvector of the Hessian at r = 0, where the gradient vanishes.

    Arguments:
        log_proba: Log p(y | x), shape (S, B, K), of points.
        x: Points, shape (S, B, ...).
        reference: Log p(y | x) of them, which is held fixed, shape (S, B, K).
        start: Random directions, shape of x.
        probe: Length of the step from x at which the gradient is taken.

    Source: Miyato, Maeda, Koyama, Ishii (2018), algorithm 1.
    """
    with torch.enable_grad():
        step = (probe * unit(start)).requires_grad_()
        total = divergence(reference.detach(), log_proba(x.detach() + step)).sum()
        (gradient,) = torch.autograd.grad(total, step)
    return unit(gradient)
