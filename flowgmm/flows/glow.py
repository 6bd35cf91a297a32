"""Layers of Glow, stacked over seeds: ActNorm, mixing, double couplings, and their networks.

A layer maps x, shape (S, B, C), to y of the same shape and log|det dy/dx|, shape (S, B), and back
by `inverse`, which returns the same pair. ActNorm and mixing also take the pixels of images with
the channels last, shape (S, B, H, W, C). The values of an ActNorm come from data: `initialise`.

Source: Kingma and Dhariwal (2018); in two dimensions Atanov et al. (2019), whose coupling shifts
before it scales.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.flows.layers import StackedLinear
from flowgmm.flows.rng import Stream

__all__ = [
    "ActNorm",
    "ClassEmbedding",
    "Composition",
    "DoubleCoupling",
    "LeakyMLP",
    "Mixing",
    "ResidualMLP",
    "initialise",
]

# Keeps a scale of 0 out of the logarithms.
EPSILON = 1e-6
# Makes the scales of a coupling start near 1: sigmoid(2) = 0.88.
SCALE_SHIFT = 2.0


class ActNorm(nn.Module):
    """Affine map of each channel, y = (x - bias) exp(log_scale); the identity until `fit_to`.

    Arguments:
        n_channels: C.
        n_seeds: S.
    """

    def __init__(self, n_channels: int, n_seeds: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_seeds, 1, n_channels))
        self.log_scale = nn.Parameter(torch.zeros(n_seeds, 1, n_channels))

    @torch.no_grad()
    def fit_to(self, x: Tensor) -> None:
        """Give each channel of x, shape (S, B, ..., C), mean 0 and standard deviation 1."""
        flat = x.flatten(1, -2)
        self.bias.copy_(flat.mean(1, keepdim=True))
        self.log_scale.copy_(-torch.log(flat.std(1, correction=0, keepdim=True) + EPSILON))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalise x, shape (S, B, ..., C); a context is not used."""
        y = (x.flatten(1, -2) - self.bias) * torch.exp(self.log_scale)
        return y.view_as(x), _each(self.log_scale.sum(-1), x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `forward`."""
        x = y.flatten(1, -2) * torch.exp(-self.log_scale) + self.bias
        return x.view_as(y), -_each(self.log_scale.sum(-1), y)


class Mixing(nn.Module):
    """Linear map of the channels of a point or pixel, y = x W, a 1 x 1 convolution; W starts as I.

    Arguments:
        n_channels: C.
        n_seeds: S.
    """

    def __init__(self, n_channels: int, n_seeds: int):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(n_channels).repeat(n_seeds, 1, 1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix x, shape (S, B, ..., C); a context is not used."""
        # Never in bfloat16: all that the layers before know of a point goes through here.
        with torch.autocast(x.device.type, enabled=False):
            y = torch.bmm(x.flatten(1, -2), self.weight)
        return y.view_as(x), _each(self._log_det(), x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `forward`."""
        x = torch.linalg.solve(self.weight, y.flatten(1, -2), left=False)
        return x.view_as(y), -_each(self._log_det(), y)

    def _log_det(self) -> Tensor:
        """Log-det of a point, shape (S, 1)."""
        return torch.linalg.slogdet(self.weight)[1].unsqueeze(1)


class DoubleCoupling(nn.Module):
    """Affine maps of both halves in turn, the first given the second, then the second given it.

    y = (x + t) * (sigmoid(s + 2) + 1e-6), where (s, t) come from a network on the other half and,
    in a conditional coupling, the context. Scales are below 1: volume grows in other layers.

    Arguments:
        n_features: C, at least 2.
        make_net: (features in, features out) -> a network of points, shape (S, B, n_in).
        n_context: Features of the context.

    Raises:
        ValueError: If there is no second half to condition on.
    """

    def __init__(
        self, n_features: int, make_net: Callable[[int, int], nn.Module], n_context: int = 0
    ):
        super().__init__()
        if n_features < 2:
            raise ValueError(
                "a coupling flow needs at least 2 features that vary, "
                f"got {n_features} feature(s); add a column or use another method"
            )
        self.sizes = (n_features // 2, n_features - n_features // 2)
        self.nets = nn.ModuleList(
            make_net(self.sizes[1 - half] + n_context, 2 * self.sizes[half]) for half in (0, 1)
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x, shape (S, B, C), given the context, shape (S, B, n_context)."""
        halves, log_det = list(x.split(self.sizes, -1)), x.new_zeros(x.shape[:2])
        for half in (0, 1):
            scale, shift = self._scale_and_shift(half, halves[1 - half], context)
            halves[half] = (halves[half] + shift) * scale
            log_det = log_det + scale.log().sum(-1)
        return torch.cat(halves, -1), log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `forward`."""
        halves, log_det = list(y.split(self.sizes, -1)), y.new_zeros(y.shape[:2])
        for half in (1, 0):
            scale, shift = self._scale_and_shift(half, halves[1 - half], context)
            halves[half] = halves[half] / scale - shift
            log_det = log_det - scale.log().sum(-1)
        return torch.cat(halves, -1), log_det

    def _scale_and_shift(
        self, half: int, other: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        given = other if context is None else torch.cat([other, context], -1)
        # Under autocast the network answers in bfloat16; scales stay in the points' precision.
        s, t = self.nets[half](given).to(other.dtype).chunk(2, -1)
        return torch.sigmoid(s + SCALE_SHIFT) + EPSILON, t


class Composition(nn.Module):
    """Layers one after the other, as one layer.

    Arguments:
        layers: Layers of this module, from data to latent.
    """

    def __init__(self, layers: Iterable[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x, shape (S, B, C), given the context, shape (S, B, n_context)."""
        log_det = x.new_zeros(x.shape[:2])
        for layer in self.layers:
            x, term = layer(x, context)
            log_det = log_det + term
        return x, log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `forward`."""
        log_det = y.new_zeros(y.shape[:2])
        layer: Any  # of modules to a type checker
        for layer in reversed(self.layers):
            y, term = layer.inverse(y, context)
            log_det = log_det + term
        return y, log_det


class ClassEmbedding(nn.Module):
    """Learnt vector of each class, one-hot at the start.

    Arguments:
        n_classes: K.
        n_features: Length of the vectors, at least K.
        n_seeds: S.

    Raises:
        ValueError: If a class would have no coordinate of its own.
    """

    def __init__(self, n_classes: int, n_features: int, n_seeds: int):
        super().__init__()
        if n_features < n_classes:
            raise ValueError(
                f"a class embedding starts one-hot: expected at least {n_classes} features for as "
                f"many classes, got {n_features}"
            )
        self.weight = nn.Parameter(torch.eye(n_classes, n_features).repeat(n_seeds, 1, 1))

    def forward(self, classes: Tensor) -> Tensor:
        """Vectors of classes, shape (S, B), as a context, shape (S, B, n_features)."""
        at = classes.unsqueeze(-1).expand(-1, -1, self.weight.shape[-1])
        return self.weight.gather(1, at)


class LeakyMLP(nn.Module):
    """Linear layers with LeakyReLU of slope 0.01 between them.

    Arguments:
        n_in, n_out: Features in and out.
        hidden_size: Width of the two hidden layers.
        initialisation: Stream of the initial weights; its seeds define S.
    """

    def __init__(self, n_in: int, n_out: int, hidden_size: int, initialisation: Stream):
        super().__init__()
        sizes = (n_in, hidden_size, hidden_size, n_out)
        self.layers = nn.ModuleList(
            StackedLinear(*pair, initialisation) for pair in pairwise(sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x, shape (S, B, n_in), to shape (S, B, n_out)."""
        for layer in self.layers[:-1]:
            x = nn.functional.leaky_relu(layer(x))
        y: Tensor = self.layers[-1](x)
        return y


class ResidualMLP(nn.Module):
    """Linear layer, residual blocks, ActNorm, ReLU and a linear layer that starts from zero.

    A block adds (ReLU, linear, ReLU, linear) of its input to it. The ActNorm is no step of a flow:
    its log-det counts nowhere.

    Arguments:
        n_in, n_out: Features in and out.
        hidden_size: Width of the blocks.
        n_blocks: Their number.
        initialisation: Stream of the initial weights; its seeds define S.
    """

    def __init__(
        self, n_in: int, n_out: int, hidden_size: int, n_blocks: int, initialisation: Stream
    ):
        super().__init__()
        self.first = StackedLinear(n_in, hidden_size, initialisation)
        self.blocks = nn.ModuleList(
            nn.ModuleList(StackedLinear(hidden_size, hidden_size, initialisation) for _ in range(2))
            for _ in range(n_blocks)
        )
        self.norm = ActNorm(hidden_size, len(initialisation.seeds))
        self.last = StackedLinear(hidden_size, n_out, initialisation, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map x, shape (S, B, n_in), to shape (S, B, n_out)."""
        hidden = self.first(x)
        block: Any  # of modules to a type checker
        for block in self.blocks:
            hidden = hidden + block[1](torch.relu(block[0](torch.relu(hidden))))
        y: Tensor = self.last(torch.relu(self.norm(hidden)[0]))
        return y


@torch.no_grad()
def initialise(model: nn.Module, run: Callable[[], Any]) -> None:
    """Fit every ActNorm of a model to its own input, which the ones before it have changed already.

    Arguments:
        model: Holds the layers.
        run: Passes the data of the initialisation through the model, once.
    """
    norms = [module for module in model.modules() if isinstance(module, ActNorm)]
    handles = [
        norm.register_forward_pre_hook(lambda norm, inputs: norm.fit_to(inputs[0]))
        for norm in norms
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()


def _each(log_det: Tensor, x: Tensor) -> Tensor:
    """Log-det of all pixels of a point, shape (S, B), from that of one, shape (S, 1)."""
    return (math.prod(x.shape[2:-1]) * log_det).expand(x.shape[:2])
