"""Conditioners of image couplings, stacked over seeds: a residual network and a perceptron.

The seeds of a stack are groups of channels: what a layer sees has shape (B, S*C, H, W), and its
convolutions have S groups.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowgmm.flows.layers import StackedLinear
from flowgmm.flows.rng import Stream

__all__ = ["DenseNet", "ResidualNet", "untracked"]


class Conv(nn.Module):
    """S weight-normalised convolutions side by side; weight = gain * direction / |direction|.

    Arguments:
        n_in, n_out: Channels of each.
        size: Side of the kernel, odd.
        initialisation: Stream of the initial weights; its seeds define S.
        bias: Whether there is one.
        zero: Start from gains and biases of zero.
        std: Of normal initial weights; None: PyTorch's default, uniform ones.
        stride: Step between two positions of the kernel.
        padding: Zeros around the image; None: as many as keep its size.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: int,
        initialisation: Stream,
        bias: bool = True,
        zero: bool = False,
        std: float | None = None,
        stride: int = 1,
        padding: int | None = None,
    ):
        super().__init__()
        bound, shape = (n_in * size**2) ** -0.5, (n_out, n_in, size, size)
        if std is None:
            direction = (initialisation.uniform(shape) * 2 - 1) * bound
        else:
            direction = initialisation.normal(shape) * std
        gain = torch.linalg.vector_norm(direction, dim=(2, 3, 4))
        self.stride = stride
        self.padding = size // 2 if padding is None else padding
        self.direction = nn.Parameter(direction)
        self.gain = nn.Parameter(torch.zeros_like(gain) if zero else gain)
        self.bias = None
        if bias:
            start = (initialisation.uniform((n_out,)) * 2 - 1) * bound
            self.bias = nn.Parameter(torch.zeros_like(start) if zero else start)

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(self.direction, dim=(2, 3, 4), keepdim=True)
        weight = (self.direction * (self.gain[..., None, None, None] / norm)).flatten(0, 1)
        n_seeds = len(self.gain)
        if n_seeds == 1:
            weight = weight.contiguous(memory_format=torch.channels_last)
        bias = None if self.bias is None else self.bias.flatten()
        return functional.conv2d(x, weight, bias, self.stride, self.padding, groups=n_seeds)


class Norm(nn.Module):
    """S batch normalisations side by side: by the batch in training, by running means after."""

    mean: Tensor
    var: Tensor
    # Whether a batch in training moves the running means.
    tracks = True

    def __init__(self, n_channels: int, n_seeds: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_seeds, n_channels))
        self.bias = nn.Parameter(torch.zeros(n_seeds, n_channels))
        self.register_buffer("mean", torch.zeros(n_seeds, n_channels))
        self.register_buffer("var", torch.ones(n_seeds, n_channels))

    def forward(self, x: Tensor) -> Tensor:
        running = self.tracks or not self.training
        return functional.batch_norm(
            x,
            self.mean.view(-1) if running else None,
            self.var.view(-1) if running else None,
            self.weight.view(-1),
            self.bias.view(-1),
            training=self.training,
            momentum=0.1,
            eps=1e-5,
        )


@contextmanager
def untracked(model: nn.Module) -> Iterator[None]:
    """Leave the running means of a model's batch normalisations as they are, within a context."""
    norms = [module for module in model.modules() if isinstance(module, Norm)]
    for norm in norms:
        norm.tracks = False
    try:
        yield
    finally:
        for norm in norms:
            norm.tracks = True


class Block(nn.Module):
    """h + conv(relu(norm(conv(relu(norm(h))))))."""

    def __init__(self, width: int, initialisation: Stream):
        super().__init__()
        n_seeds = len(initialisation.seeds)
        self.norm_1, self.norm_2 = Norm(width, n_seeds), Norm(width, n_seeds)
        self.conv_1 = Conv(width, width, 3, initialisation, bias=False)
        self.conv_2 = Conv(width, width, 3, initialisation)

    def forward(self, h: Tensor) -> Tensor:
        inner = self.conv_1(functional.relu_(self.norm_1(h)))
        return h + self.conv_2(functional.relu_(self.norm_2(inner)))


class ResidualNet(nn.Module):
    """The conditioner: residual blocks whose outputs all reach the last layer.

    Arguments:
        n_channels: Channels in; twice as many come out.
        width: Channels inside.
        n_blocks: Residual blocks.
        checkerboard: Half of the inputs are zero, so the normalised ones are doubled.
        initialisation: Stream of the initial weights.
        zero_init: Start the last layer from zero.

    Source: spec 1.3.
    """

    def __init__(
        self,
        n_channels: int,
        width: int,
        n_blocks: int,
        checkerboard: bool,
        initialisation: Stream,
        zero_init: bool,
    ):
        super().__init__()
        n_seeds = len(initialisation.seeds)
        self.factor = 2.0 if checkerboard else 1.0
        self.norm = Norm(n_channels, n_seeds)
        self.conv = Conv(2 * n_channels, width, 3, initialisation)
        self.blocks = nn.ModuleList(Block(width, initialisation) for _ in range(n_blocks))
        self.skips = nn.ModuleList(
            Conv(width, width, 1, initialisation) for _ in range(n_blocks + 1)
        )
        self.last_norm = Norm(width, n_seeds)
        self.last = Conv(width, 2 * n_channels, 1, initialisation, zero=zero_init)

    def forward(self, x: Tensor) -> Tensor:
        """Map x, shape (B, S, C, H, W), to shape (B, S, 2C, H, W)."""
        grouped = x.flatten(1, 2)
        if x.shape[1] == 1:
            grouped = grouped.contiguous(memory_format=torch.channels_last)
        h = self.factor * self.norm(grouped)
        if x.shape[1] == 1:  # the same without leaving the order of memory that convolutions like
            h = torch.cat([h, -h], dim=1)
        else:
            h = h.unflatten(1, x.shape[1:3])
            h = torch.cat([h, -h], dim=2).flatten(1, 2)
        h = self.conv(functional.relu_(h))
        skip = self.skips[0](h)
        for block, to_skip in zip(self.blocks, self.skips[1:], strict=True):
            h = block(h)
            skip = skip + to_skip(h)
        out = self.last(functional.relu_(self.last_norm(skip)))
        return out.unflatten(1, (x.shape[1], -1))


class DenseNet(nn.Module):
    """Conditioner of vectors, one position of many channels: one hidden layer, normalised before.

    Arguments:
        n_channels: Channels in; twice as many come out.
        width: Hidden units.
        initialisation: Stream of the initial weights.
        zero_init: Start the last layer from zero.
    """

    def __init__(self, n_channels: int, width: int, initialisation: Stream, zero_init: bool):
        super().__init__()
        n_seeds = len(initialisation.seeds)
        self.norm = Norm(n_channels, n_seeds)
        self.hidden = StackedLinear(n_channels, width, initialisation, has_bias=False)
        self.last_norm = Norm(width, n_seeds)
        self.last = StackedLinear(width, 2 * n_channels, initialisation, zero=zero_init)

    def forward(self, x: Tensor) -> Tensor:
        """Map x, shape (B, S, C, 1, 1), to shape (B, S, 2C, 1, 1)."""
        by_seed = x.shape[1], -1
        # Matrix products: as convolutions of one position they take five times as long.
        h = self.norm(x.flatten(1)).unflatten(1, by_seed)
        h = self.hidden(h.transpose(0, 1)).transpose(0, 1).flatten(1)
        h = functional.relu_(self.last_norm(h)).unflatten(1, by_seed)
        return self.last(h.transpose(0, 1)).transpose(0, 1)[..., None, None]
