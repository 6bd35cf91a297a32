"""Convolutional classifier with weight normalisation and mean-only batch normalisation."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from flowgmm.flows.residual_net import Conv
from flowgmm.flows.rng import Stream
from flowgmm.nets.layers import MeanOnlyNorm, dropped, from_groups, to_groups

__all__ = ["MeanOnlyNet"]

# Standard deviation of initial weights, and slope of the activation below 0.
WEIGHT_STD, SLOPE = 0.05, 0.1
# Of each block: kernel sides and widths, in units of the network's.
BLOCKS = (((3, 1), (3, 1), (3, 1)), ((3, 2), (3, 2), (3, 2)), ((3, 4), (1, 2), (1, 1)))


class Layer(nn.Module):
    """Convolution and mean-only batch normalisation."""

    def __init__(
        self, n_in: int, n_out: int, size: int, initialisation: Stream, momentum: float, **of: Any
    ):
        super().__init__()
        self.conv = Conv(n_in, n_out, size, initialisation, bias=False, std=WEIGHT_STD, **of)
        self.norm = MeanOnlyNorm(n_out, len(initialisation.seeds), momentum)

    def forward(self, x: Tensor, track: bool) -> Tensor:
        normed: Tensor = self.norm(self.conv(x), track)
        return normed


class MeanOnlyNet(nn.Module):
    """S classifiers side by side: three blocks of three convolutions, averaged, a linear layer.

    The blocks have w, 2w and 4w, 2w, w channels; after each of the first two the image is halved
    (by its largest values) and dropout follows. The third begins with a convolution without
    padding; only where its image is of fewer than 3 pixels a side is it padded.

    Arguments:
        shape: Channels, height and width of the images, 4 pixels a side or more.
        n_classes: Number K of classes.
        width: Channels w.
        dropout: Probability of dropout.
        momentum: Of the running means; see `MeanOnlyNorm`.
        initialisation: Stream of the initial weights; its seeds define S.

    Source: Laine and Aila (2017), appendix A.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_classes: int,
        width: int,
        dropout: float,
        momentum: float,
        initialisation: Stream,
    ):
        super().__init__()
        n_in, *sides = shape
        if min(sides) < 4:
            raise ValueError(
                f"images of {sides[0]} x {sides[1]} pixels are too small to be halved twice; "
                "expected 4 pixels a side or more: lower `pool`"
            )
        self.n_seeds, self.dropout = len(initialisation.seeds), dropout
        self.blocks = nn.ModuleList()
        for i, sizes in enumerate(BLOCKS):
            block = nn.ModuleList()
            for j, (size, factor) in enumerate(sizes):
                valid = (i, j) == (2, 0) and min(sides) // 4 >= size
                block.append(
                    Layer(
                        n_in,
                        factor * width,
                        size,
                        initialisation,
                        momentum,
                        padding=0 if valid else None,
                    )
                )
                n_in = factor * width
            self.blocks.append(block)
        self.last = Layer(n_in, n_classes, 1, initialisation, momentum)

    def forward(self, x: Tensor, dropout: Stream | None = None, track: bool = True) -> Tensor:
        """Logits of images.

        Arguments:
            x: Images, shape (S, B, C, H, W).
            dropout: Stream of the dropout masks; None: no dropout.
            track: In training, the batch reaches the running means.

        Returns:
            Shape (S, B, K).
        """
        h = to_groups(x)
        blocks: Any = self.blocks
        for i, block in enumerate(blocks):
            for layer in block:
                h = functional.leaky_relu_(layer(h, track), SLOPE)
            if i < 2:
                h = functional.max_pool2d(h, 2)
                h = dropped(h, self.dropout, dropout, self.n_seeds, whole=False)
        h = self.last(h.mean(dim=(2, 3), keepdim=True), track)
        return from_groups(h, self.n_seeds).flatten(2)
