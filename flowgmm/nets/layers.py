"""Layers of convolutional networks, stacked over seeds.

The seeds of a stack are groups of channels, as in `flowgmm.flows.residual_net`: what a layer sees
has shape (B, S*C, H, W).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowgmm.flows.residual_net import Conv
from flowgmm.flows.rng import Stream

__all__ = [
    "MeanOnlyNorm",
    "TransposedConv",
    "dropped",
    "from_groups",
    "initialise",
    "to_groups",
]

# Added to a variance before its root is divided by.
EPSILON = 1e-6


class MeanOnlyNorm(nn.Module):
    """Subtract each channel's mean, of the batch in training, running after; add a bias.

    Arguments:
        n_channels: Channels C of each seed.
        n_seeds: Number S of seeds.
        momentum: Share of the running mean that a step keeps.

    Source: Salimans and Kingma (2016), section 4.
    """

    mean: Tensor

    def __init__(self, n_channels: int, n_seeds: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.bias = nn.Parameter(torch.zeros(n_seeds, n_channels))
        self.register_buffer("mean", torch.zeros(n_seeds, n_channels))

    def forward(self, x: Tensor, track: bool = True) -> Tensor:
        """Centre x, shape (B, S*C, H, W); the batch reaches the running mean with `track`."""
        mean = self.mean
        if self.training:
            mean = x.mean(dim=(0, 2, 3), dtype=mean.dtype).view_as(mean)
            if track:
                self.mean.lerp_(mean.detach(), 1 - self.momentum)
        shift = (self.bias - mean).flatten()[:, None, None]
        return x + shift.to(x.dtype)


class TransposedConv(nn.Module):
    """S transposed convolutions side by side, kernel 5 x 5, stride 2: the image doubles its sides.

    Arguments:
        n_in, n_out: Channels of each.
        initialisation: Stream of the initial weights; its seeds define S.
        normalised: Weight = gain * direction / |direction| for each channel that comes out, from
            normal weights of standard deviation 0.05, and a bias; otherwise plain weights without
            a bias, PyTorch's default.
    """

    SIZE = 5

    def __init__(self, n_in: int, n_out: int, initialisation: Stream, normalised: bool = False):
        super().__init__()
        shape = (n_in, n_out, self.SIZE, self.SIZE)
        self.n_seeds = len(initialisation.seeds)
        self.gain: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if normalised:
            self.direction = nn.Parameter(initialisation.normal(shape) * 0.05)
            self.gain = nn.Parameter(torch.ones(self.n_seeds, n_out))
            self.bias = nn.Parameter(torch.zeros(self.n_seeds, n_out))
        else:
            bound = (n_out * self.SIZE**2) ** -0.5
            self.direction = nn.Parameter((initialisation.uniform(shape) * 2 - 1) * bound)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.direction, None
        if self.gain is not None and self.bias is not None:
            norm = torch.linalg.vector_norm(weight, dim=(1, 3, 4), keepdim=True)
            weight = weight * (self.gain[:, None, :, None, None] / norm)
            bias = self.bias.flatten()
        return functional.conv_transpose2d(
            x, weight.flatten(0, 1), bias, 2, 2, output_padding=1, groups=self.n_seeds
        )


def to_groups(x: Tensor) -> Tensor:
    """Seeds as groups of channels: shape (S, B, C, H, W) to (B, S*C, H, W)."""
    if len(x) == 1:  # the order of memory that convolutions like
        return x[0].contiguous(memory_format=torch.channels_last)
    return x.transpose(0, 1).flatten(1, 2)


def from_groups(x: Tensor, n_seeds: int) -> Tensor:
    """Undo `to_groups`: shape (B, S*C, H, W) to (S, B, C, H, W)."""
    return x.unflatten(1, (n_seeds, -1)).transpose(0, 1)


def dropped(x: Tensor, p: float, dropout: Stream | None, n_seeds: int, whole: bool) -> Tensor:
    """Dropout of numbers, or of whole channels.

    Arguments:
        x: Shape (B, S*C, H, W).
        p: Probability of 0; what is left is divided by 1 - p.
        dropout: Stream of the masks; None: no dropout.
        n_seeds: Number S of seeds.
        whole: Drop whole channels of an image.

    Raises:
        ValueError: If p is not in [0, 1).
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout must be a probability in [0, 1), got {p!r}")
    if dropout is None or p == 0:
        return x
    n, channels, height, width = x.shape
    sides = (1, 1) if whole else (height, width)
    # Channels last, as x of a single seed lies in memory.
    mask = dropout.dropout_mask((n, *sides, channels // n_seeds), p)
    mask = mask.permute(1, 0, 4, 2, 3).flatten(1, 2)
    return x * mask.to(x.dtype).mul_(-1 / (1 - p))


@torch.no_grad()
def initialise(network: nn.Module, *inputs: object, last: nn.Module | None = None) -> Tensor:
    """Set gains and biases so that on these inputs each layer's outputs have mean 0 and std 1.

    Layers are set in the order in which the network calls them, each from what reaches it.

    Arguments:
        network: Its weight-normalised layers are set.
        inputs: Arguments of its call.
        last: Layer whose outputs get a standard deviation of 0.1 instead.

    Returns:
        What the network makes of the inputs.

    Source: Salimans and Kingma (2016), section 3.
    """

    def fit(layer: nn.Module, args: tuple[Tensor]) -> None:
        out: Tensor = type(layer).forward(layer, *args)
        gain, bias = layer.gain, layer.bias
        assert isinstance(gain, Tensor)
        mean, var = out.mean(dim=(0, 2, 3)), out.var(dim=(0, 2, 3), correction=0)
        factor = ((0.1 if layer is last else 1.0) / (var + EPSILON).sqrt()).view_as(gain)
        gain.mul_(factor)
        if isinstance(bias, Tensor):
            bias.sub_(mean.view_as(bias)).mul_(factor)

    layers = [
        layer
        for layer in network.modules()
        if isinstance(layer, (Conv, TransposedConv)) and layer.gain is not None
    ]
    handles = [layer.register_forward_pre_hook(fit) for layer in layers]
    try:
        found: Tensor = network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
