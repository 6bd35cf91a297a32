"""Multi-scale RealNVP for images, stacked over seeds.

The seeds of a stack are groups of channels: what a layer sees has shape (B, S*C, H, W), and its
convolutions have S groups.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowgmm.flows.residual_net import DenseNet, ResidualNet
from flowgmm.flows.rng import Stream

__all__ = ["ARCHITECTURES", "ImageFlow"]

# Steps of the flow in order; its interface numbers them as in this list, from 1 on: step 0 is
# the logit. c: checkerboard, k: channel-wise coupling, d: dense coupling, each 0 as it is or 1
# reversed; s: squeeze; f: factor out half of the channels; v: the image becomes a vector.
# `squeezed` is ours: convolutions where there are few positions and many channels, and then the
# whole image at once, are worth more per operation than checkerboards of all pixels
# (docs/recipes.md).
ARCHITECTURES = {
    "multi_scale": "c0 c1 c0 s k0 k1 k0 f c0 c1 c0 c1",
    "mnist_small": "c0 c1 c0 s k0 k1 k0 f c0 c1 c0 s k0 k1 k0 f c0 c1 c0 c1",
    "squeezed": "s s k0 k1 k0 k1 v d0 d1 d0",
}
# Hidden units of a dense coupling, per filter.
DENSE_WIDTH = 8
# Pixels are pulled this far away from 0 and 1, where the logit has no bound.
CONTRAST = 0.9


class Coupling(nn.Module):
    """y = (x + t) * exp(s) where x changes, with s = gain * tanh(s_raw).

    The gain is one learnable number per channel, initially 1.

    Source: Izmailov et al. (2020), section 4; spec 1.1.
    """

    def __init__(self, n_changed: int, net: ResidualNet | DenseNet, n_seeds: int):
        super().__init__()
        self.net = net
        self.gain = nn.Parameter(torch.ones(n_seeds, n_changed, 1, 1))

    def scale_and_shift(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale s and shift t of the changing pixels."""
        # Under autocast the net answers in bfloat16; scales and log-dets stay in the parameters'
        # own precision.
        s_raw, t = self.net(condition).to(self.gain.dtype).chunk(2, dim=2)
        return self.gain * torch.tanh(s_raw), t


class Checkerboard(Coupling):
    """Changes the pixels (i, j) with i + j even; reversed: odd."""

    changed: Tensor

    def __init__(self, n_channels: int, size: tuple[int, int], is_reversed: bool, **net: Any):
        n_seeds = len(net["initialisation"].seeds)
        super().__init__(n_channels, ResidualNet(n_channels, checkerboard=True, **net), n_seeds)
        rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])[None]
        changed = (rows + columns + is_reversed) % 2 == 0
        self.register_buffer("changed", changed.to(torch.float32), persistent=False)

    def _scale_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.scale_and_shift((1 - self.changed) * x)
        return self.changed * s, self.changed * t

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x, shape (B, S, C, H, W), to y of that shape; also the log-det, shape (B, S)."""
        s, t = self._scale_shift(x)
        return (x + t) * torch.exp(s), s.flatten(2).sum(-1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._scale_shift(y)
        return y * torch.exp(-s) - t, -s.flatten(2).sum(-1)


class ChannelWise(Coupling):
    """Changes the first half of the channels, given the second; reversed: the second.

    Arguments:
        net: Conditioner of one half of the channels.
        is_reversed: Which half changes.
    """

    def __init__(self, net: ResidualNet | DenseNet, is_reversed: bool):
        n_seeds, n_changed = net.norm.weight.shape
        super().__init__(n_changed, net, n_seeds)
        self.changed = int(is_reversed)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x, shape (B, S, C, H, W), to y of that shape; also the log-det, shape (B, S)."""
        halves = list(x.chunk(2, dim=2))
        s, t = self.scale_and_shift(halves[1 - self.changed])
        halves[self.changed] = (halves[self.changed] + t) * torch.exp(s)
        return torch.cat(halves, dim=2), s.flatten(2).sum(-1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        halves = list(y.chunk(2, dim=2))
        s, t = self.scale_and_shift(halves[1 - self.changed])
        halves[self.changed] = halves[self.changed] * torch.exp(-s) - t
        return torch.cat(halves, dim=2), -s.flatten(2).sum(-1)


class Squeeze(nn.Module):
    """Blocks of 2 x 2 pixels become channels, in the order c * 4 + 2 * di + dj."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return functional.pixel_unshuffle(x, 2), None

    def inverse(self, y: Tensor) -> tuple[Tensor, None]:
        return functional.pixel_shuffle(y, 2), None


class Flatten(nn.Module):
    """An image becomes a vector: as many channels as it has numbers, at one position.

    Arguments:
        shape: Of the image, (C, H, W).
    """

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x.flatten(2)[..., None, None], None

    def inverse(self, y: Tensor) -> tuple[Tensor, None]:
        return y.flatten(2).unflatten(2, self.shape), None


class FactorOut(nn.Module):
    """The second half of the channels goes to the latent code as it is."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        going_on, factored = x.chunk(2, dim=2)
        return going_on, factored


class ImageFlow(nn.Module):
    """S flows z = f(x) of images, each the multi-scale RealNVP.

    Arguments:
        shape: Channels, height and width; both sides even, or multiples of 4 for `mnist_small` and
            `squeezed`.
        n_filters: Channels m inside the conditioners, 2m after the squeeze of `multi_scale`;
            dense ones have 8m hidden units.
        n_blocks: Residual blocks B of each conditioner.
        initialisation: Stream of the initial weights; its seeds define S.
        architecture: `multi_scale`; `mnist_small`: three scales, m filters on each; `squeezed`
            (ours): no convolution of whole images, and dense couplings of the vector at the end.
        zero_init: Start the last layer of each conditioner from zero.

    Raises:
        ValueError: If the sides cannot be halved as often, or the architecture is unknown.

    Source: Izmailov et al. (2020), section 4; spec 1.3.
    """

    def __init__(
        self,
        shape: Sequence[int],
        n_filters: int,
        n_blocks: int,
        initialisation: Stream,
        architecture: str = "multi_scale",
        zero_init: bool = False,
    ):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"unknown architecture {architecture!r}; expected one of {', '.join(ARCHITECTURES)}"
            )
        plan = ARCHITECTURES[architecture].split()
        c, h, w = shape
        halvings = plan.count("s")
        if h % 2**halvings or w % 2**halvings:
            raise ValueError(
                f"images of {h} x {w} pixels cannot be halved {halvings} times, which "
                f"architecture {architecture!r} does; crop or resize them"
            )
        self.shape = (c, h, w)
        self.n_features = c * h * w
        # Shape of the tensor after each step, the first after the logit.
        self.shapes = [self.shape]
        width = n_filters
        steps: list[nn.Module] = []
        net: dict[str, Any] = {
            "n_blocks": n_blocks,
            "initialisation": initialisation,
            "zero_init": zero_init,
        }
        for kind in plan:
            if kind == "s":
                steps.append(Squeeze())
                c, h, w = 4 * c, h // 2, w // 2
                if architecture == "multi_scale":
                    width = 2 * n_filters
            elif kind == "f":
                steps.append(FactorOut())
                c //= 2
            elif kind == "v":
                steps.append(Flatten((c, h, w)))
                c, h, w = c * h * w, 1, 1
            elif kind[0] == "c":
                steps.append(Checkerboard(c, (h, w), kind == "c1", width=width, **net))
            elif kind[0] == "k":
                conditioner = ResidualNet(c // 2, width, checkerboard=False, **net)
                steps.append(ChannelWise(conditioner, kind == "k1"))
            else:
                dense = DenseNet(c // 2, DENSE_WIDTH * n_filters, initialisation, zero_init)
                steps.append(ChannelWise(dense, kind == "d1"))
            self.shapes.append((c, h, w))
        self.steps = nn.ModuleList(steps)
        for i, shape_after in enumerate(self.shapes[1:], start=1):
            ones = torch.ones(len(initialisation.seeds), shape_after[0])
            self.register_buffer(f"spread_{i}", ones)

    def forward(self, x: Tensor, dropout: Stream | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent.

        Arguments:
            x: Dequantised images in [0, 1], shape (S, B, C, H, W).
            dropout: Unused: the conditioners have none.

        Returns:
            z, shape (S, B, D), and log|det dz/dx|, shape (S, B).
        """
        h, factored, log_det = self.run(x, len(self.steps))
        parts = [part.flatten(2) for part in (*factored, h)]
        return torch.cat(parts, dim=-1).transpose(0, 1), log_det

    def max_gain(self) -> Tensor:
        """Largest |gain| of a coupling, shape (S,)."""
        gains = [step.gain.detach() for step in self.steps if isinstance(step, Coupling)]
        return torch.cat([gain.flatten(1) for gain in gains], dim=1).abs().amax(1)

    def spreads(self) -> dict[int, Tensor]:
        """Standard deviations of the channels after each step, from `measure`, shape (S, C_l)."""
        return {i: getattr(self, f"spread_{i}") for i in range(1, len(self.steps) + 1)}

    def measure(self, parts: Sequence[Tensor]) -> None:
        """Take the standard deviation of every channel after every step, over images and pixels.

        Arguments:
            parts: Dequantised images, each of shape (S, B, C, H, W).
        """
        sums = {i: torch.zeros(2, *s.shape, dtype=torch.float64) for i, s in self.spreads().items()}
        counts = dict.fromkeys(sums, 0)

        def visit(i: int, h: Tensor) -> None:
            h = h.double().transpose(0, 1).transpose(1, 2).flatten(2)
            sums[i] += torch.stack([h.sum(-1), h.square().sum(-1)]).cpu()
            counts[i] += h.shape[-1]

        for part in parts:
            self.run(part, len(self.steps), visit)
        for i, (total, squares) in sums.items():
            mean = total / counts[i]
            std = (squares / counts[i] - mean.square()).clamp_min(0).sqrt()
            self.spreads()[i].copy_(std)

    def run(
        self, x: Tensor, stop: int, visit: Callable[[int, Tensor], None] | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """The first steps of the flow.

        Arguments:
            x: Dequantised images in [0, 1], shape (S, B, C, H, W).
            stop: How many steps after the logit.
            visit: Called after every step with its number and the tensor.

        Returns:
            The tensor after them, shape (B, S, *shapes[stop]), what was factored out until then,
            and the log-det, shape (S, B).
        """
        p = ((2 * x.transpose(0, 1) - 1) * CONTRAST + 1) / 2
        h = torch.log(p) - torch.log1p(-p)
        log_det = self._logit_log_det(h)
        factored = []
        for i, step in enumerate(self.steps[:stop], start=1):
            h, other = step(h)
            if visit is not None:
                visit(i, h)
            if isinstance(step, FactorOut):
                factored.append(other)
            elif other is not None:
                log_det = log_det + other
        return h, factored, log_det.T

    def _logit_log_det(self, h: Tensor) -> Tensor:
        """Log-det of the logit, shape (B, S), at its value h (spec 1.4)."""
        slopes = functional.softplus(h) + functional.softplus(-h)
        return slopes.flatten(2).sum(-1) + self.n_features * math.log(CONTRAST)

    def back(self, h: Tensor, factored: Sequence[Tensor], start: int) -> tuple[Tensor, Tensor]:
        """Undo what `run` did up to `start`, in evaluation.

        Arguments:
            h: The tensor after that step, shape (B, S, *shapes[start]).
            factored: What was factored out until then.
            start: Number of the step.

        Returns:
            Images, shape (S, B, C, H, W), and the log-det of the inverse, shape (S, B).
        """
        left = list(factored)
        log_det = h.new_zeros(h.shape[:2])
        step: Any  # a module's attributes are tensors or modules to a type checker
        for step in reversed(self.steps[:start]):
            if isinstance(step, FactorOut):
                h = torch.cat([h, left.pop()], dim=2)
            else:
                h, term = step.inverse(h)
                log_det = log_det if term is None else log_det + term
        log_det = log_det - self._logit_log_det(h)
        p = torch.sigmoid(h)
        return (((2 * p - 1) / CONTRAST + 1) / 2).transpose(0, 1), log_det.T

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latent to data, in evaluation: batch norms of the way there and back must be the same.

        Arguments:
            z: Codes, shape (S, B, D).

        Returns:
            x, shape (S, B, C, H, W), and log|det dx/dz|, shape (S, B).
        """
        factored, h = [], z.transpose(0, 1)
        for step, shape in zip(self.steps, self.shapes[1:], strict=True):
            if isinstance(step, FactorOut):
                # As many numbers go as stay.
                out, h = h.split([math.prod(shape), h.shape[-1] - math.prod(shape)], dim=-1)
                factored.append(out.unflatten(-1, shape))
        return self.back(h.unflatten(-1, self.shapes[-1]), factored, len(self.steps))
