"""Perceptrons of several inputs and Gaussian heads, stacked over seeds: variational models."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from flowgmm.flows.rng import Stream

__all__ = ["Gaussian", "Linear", "Perceptron", "bernoulli_log_prob", "gaussian"]

# Log-variances of heads stay within +- this: early in a training they may run away.
MOST_LOG_VAR = 10.0
# Standard deviation of initial weights of heads and of all biases.
STD = 1e-3
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"softplus": softplus, "relu": relu}


class Gaussian(NamedTuple):
    """Gaussian with independent coordinates: mean and log-variance, shape (..., D)."""

    mean: Tensor
    log_var: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The point that standard normal noise stands for; it has gradients."""
        return self.mean + (0.5 * self.log_var).exp() * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of points in nats, shape (...)."""
        squared = (x - self.mean).square() * (-self.log_var).exp()
        return -0.5 * (squared + self.log_var + math.log(2 * math.pi)).sum(-1)

    def kl(self) -> Tensor:
        """KL( self | N(0, I) ) of each coordinate in nats, shape (..., D)."""
        return 0.5 * (self.mean.square() + self.log_var.exp() - 1 - self.log_var)


def gaussian(head: Tensor) -> Gaussian:
    """Gaussian whose mean and log-variance are the halves of a head, shape (..., 2 D)."""
    mean, log_var = head.chunk(2, dim=-1)
    return Gaussian(mean, log_var.clamp(-MOST_LOG_VAR, MOST_LOG_VAR))


def bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """Log probability in nats of pixels x in [0, 1], summed over the last axis.

    Of grey pixels it is the mean over the black and white images that they stand for.
    """
    return (x * logits - softplus(logits)).sum(-1)


class Linear(nn.Module):
    """S independent affine maps with normal initial values, of points with any axes between.

    Arguments:
        n_in: Features in.
        n_out: Features out.
        initialisation: Stream of the initial weights; its seeds define S.
        std: Standard deviation of the initial weights.
        bias: Whether there is one.
    """

    def __init__(
        self, n_in: int, n_out: int, initialisation: Stream, std: float = STD, bias: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(std * initialisation.normal((n_in, n_out)))
        self.bias = nn.Parameter(STD * initialisation.normal((1, n_out))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map x, shape (S, ..., n_in), to shape (S, ..., n_out)."""
        rows = x.flatten(1, -2)
        if self.bias is None:
            mapped = torch.bmm(rows, self.weight)
        else:
            mapped = torch.baddbmm(self.bias, rows, self.weight)
        return mapped.unflatten(1, x.shape[1:-1])


class Perceptron(nn.Module):
    """Hidden layers and a last affine map; the first layer sums a linear map of each input.

    The maps of the inputs are summed by broadcasting: beside points of shape (S, B, 1, D) may stand
    classes of shape (S, 1, K, K), and nothing is computed twice.

    Arguments:
        n_in: Features of each input.
        hidden: Widths of the hidden layers.
        n_out: Features out.
        initialisation: Stream of the initial weights; its seeds define S.
        activation: `softplus` or `relu`.
        gain: Hidden weights start with a variance of 2 gain^2 / (n_in + n_out) (Glorot and Bengio,
            2010); None: with a standard deviation of 1e-3, as those of the last map.
    """

    def __init__(
        self,
        n_in: Sequence[int],
        hidden: Sequence[int],
        n_out: int,
        initialisation: Stream,
        activation: str = "softplus",
        gain: float | None = None,
    ):
        super().__init__()
        self._activation = ACTIVATIONS[activation]

        def layer(n: int, m: int, bias: bool = True) -> Linear:
            std = STD if gain is None else gain * (2 / (n + m)) ** 0.5
            return Linear(n, m, initialisation, std, bias)

        # One bias for the sum.
        self.inputs = nn.ModuleList(layer(n, hidden[0], bias=i == 0) for i, n in enumerate(n_in))
        self.layers = nn.ModuleList(layer(*pair) for pair in itertools.pairwise(hidden))
        self.head = Linear(hidden[-1], n_out, initialisation)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map inputs of shape (S, ..., D_i), which broadcast, to shape (S, ..., n_out).

        What comes out is float32 where products are of a narrower type.
        """
        maps: Any = zip(self.inputs, inputs, strict=True)
        hidden = self._activation(sum(layer(x) for layer, x in maps))
        for layer in self.layers:
            hidden = self._activation(layer(hidden))
        out: Tensor = self.head(hidden)
        return out.float() if out.dtype == torch.bfloat16 else out
