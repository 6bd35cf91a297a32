"""Discriminator, generator and encoder of BadGAN, stacked over seeds."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowgmm.flows.residual_net import Conv, Norm
from flowgmm.flows.rng import Stream
from flowgmm.nets.layers import TransposedConv, dropped, from_groups, to_groups

__all__ = ["Discriminator", "Encoder", "Generator"]

# Standard deviation of initial weights, and slope of the discriminator's activation below 0.
WEIGHT_STD, SLOPE = 0.05, 0.2
# Halvings of an image's sides in the encoder, doublings in the generator.
N_SCALES = 3


class Discriminator(nn.Module):
    """S classifiers side by side, weight-normalised; only the last layer's gains are trained.

    Two blocks of three convolutions, of w and 2w channels, whose third has a stride of 2; dropout
    in front of each and behind the second; then a convolution without padding (with, where its
    image is of fewer than 3 pixels a side), two of size 1, an average and a linear layer.

    Arguments:
        shape: Channels, height and width of the images.
        n_classes: Number K of classes.
        width: Channels w.
        dropout: Probabilities of dropout: of whole channels of the input, and of what follows the
            blocks.
        whole: The second kind of dropout, too, is of whole channels.
        initialisation: Stream of the initial weights; its seeds define S.

    Source: Dai et al. (2017), appendix.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_classes: int,
        width: int,
        dropout: tuple[float, float],
        whole: bool,
        initialisation: Stream,
    ):
        super().__init__()
        self.n_seeds, self.dropout, self.whole = len(initialisation.seeds), dropout, whole
        n_in, height, side = shape
        # A quarter of the sides is left, rounded up.
        valid = min(height, side) > 8
        w = width
        plan: Any = (
            ((w, 3, {}), (w, 3, {}), (w, 3, {"stride": 2})),
            ((2 * w, 3, {}), (2 * w, 3, {}), (2 * w, 3, {"stride": 2})),
            ((2 * w, 3, {"padding": 0} if valid else {}), (2 * w, 1, {}), (2 * w, 1, {})),
        )
        self.blocks = nn.ModuleList()
        for layers in plan:
            block = nn.ModuleList()
            for n_out, size, options in layers:
                conv = Conv(n_in, n_out, size, initialisation, std=WEIGHT_STD, **options)
                conv.gain.requires_grad_(False)
                block.append(conv)
                n_in = n_out
            self.blocks.append(block)
        self.last = Conv(n_in, n_classes, 1, initialisation, std=WEIGHT_STD)

    def features(self, x: Tensor, dropout: Stream | None = None) -> Tensor:
        """Features that the last layer sees, shape (S, B, 2w), of images (S, B, C, H, W)."""
        h = dropped(to_groups(x), self.dropout[0], dropout, self.n_seeds, whole=True)
        blocks: Any = self.blocks
        for i, block in enumerate(blocks):
            for conv in block:
                h = functional.leaky_relu_(conv(h), SLOPE)
            if i < 2:
                h = dropped(h, self.dropout[1], dropout, self.n_seeds, self.whole)
        return from_groups(h.mean(dim=(2, 3), keepdim=True), self.n_seeds).flatten(2)

    def forward(self, x: Tensor, dropout: Stream | None = None) -> Tensor:
        """Logits of images, shape (S, B, K)."""
        h = to_groups(self.features(x, dropout)[..., None, None])
        return from_groups(self.last(h), self.n_seeds).flatten(2)


class Generator(nn.Module):
    """S generators of images in [-1, 1] side by side, with batch normalisation.

    A linear layer to 4w channels, then three transposed convolutions to 2w, w and the image's
    channels. Sides that are no multiple of 8 are cropped to.

    Arguments:
        shape: Channels, height and width of the images.
        n_noise: Numbers that an image is made from.
        width: Channels w.
        initialisation: Stream of the initial weights; its seeds define S.

    Source: Dai et al. (2017), appendix.
    """

    def __init__(
        self, shape: tuple[int, int, int], n_noise: int, width: int, initialisation: Stream
    ):
        super().__init__()
        n_seeds = len(initialisation.seeds)
        self.shape, self.n_seeds = shape, n_seeds
        self.start = (4 * width, *_scaled_down(shape[1:]))
        n_first = self.start[0] * self.start[1] * self.start[2]
        bound = n_noise**-0.5
        self.first = nn.Parameter((initialisation.uniform((n_noise, n_first)) * 2 - 1) * bound)
        widths = (4 * width, 2 * width, width)
        self.norms = nn.ModuleList(Norm(n, n_seeds) for n in (n_first, *widths[1:]))
        self.convs = nn.ModuleList(
            TransposedConv(n_in, n_out, initialisation) for n_in, n_out in pairwise(widths)
        )
        self.last = TransposedConv(width, shape[0], initialisation, normalised=True)

    def forward(self, noise: Tensor) -> Tensor:
        """Images, shape (S, B, C, H, W), from noise, shape (S, B, n_noise)."""
        first, *others = self.norms
        h = torch.relu(first(to_groups((noise @ self.first)[..., None, None])))
        h = to_groups(from_groups(h, self.n_seeds).flatten(2).unflatten(2, self.start))
        for conv, norm in zip(self.convs, others, strict=True):
            h = torch.relu(norm(conv(h)))
        _, height, width = self.shape
        images = torch.tanh(self.last(h))[:, :, :height, :width]
        return from_groups(images, self.n_seeds)


class Encoder(nn.Module):
    """S encoders side by side: mean and log standard deviation of the noise behind an image.

    Three convolutions of stride 2 to w, 2w and 4w channels with batch normalisation, then a linear
    layer.

    Arguments:
        shape: Channels, height and width of the images.
        n_noise: Numbers that an image is made from.
        width: Channels w.
        initialisation: Stream of the initial weights; its seeds define S.

    Source: Dai et al. (2017), appendix.
    """

    def __init__(
        self, shape: tuple[int, int, int], n_noise: int, width: int, initialisation: Stream
    ):
        super().__init__()
        self.n_seeds = len(initialisation.seeds)
        widths = (shape[0], width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(
            Conv(n_in, n_out, 5, initialisation, bias=False, stride=2)
            for n_in, n_out in pairwise(widths)
        )
        self.norms = nn.ModuleList(Norm(n, self.n_seeds) for n in widths[1:])
        height, side = _scaled_down(shape[1:])
        n_features = 4 * width * height * side
        self.last = Conv(n_features, 2 * n_noise, 1, initialisation, std=WEIGHT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """Mean and log standard deviation, shape (S, B, 2, n_noise), of images (S, B, C, H, W)."""
        h = to_groups(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = torch.relu(norm(conv(h)))
        h = to_groups(from_groups(h, self.n_seeds).flatten(2)[..., None, None])
        return from_groups(self.last(h), self.n_seeds).flatten(2).unflatten(2, (2, -1))


def _scaled_down(sides: Sequence[int]) -> tuple[int, int]:
    """Sides of an image halved three times, rounded up."""
    height, width = (-(-side // 2**N_SCALES) for side in sides)
    return height, width
