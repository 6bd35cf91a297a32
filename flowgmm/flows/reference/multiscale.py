"""FlowGMM for images as it is written down: one seed, masks multiplied in, full covariances.

It follows the equations term by term and is slow. The tests hold the stacked model against it; the
benchmarks time it.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, StudentT
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from flowgmm.flows import multiscale, residual_net
from flowgmm.flows.mixture import StackedMixture

__all__ = ["ReferenceImageFlow", "ReferenceImageFlowGMM", "dequantise"]

LOGIT_RANGE = 0.9  # c of spec 1.4
N_LEVELS = 256


def dequantise(pixels: Tensor, u: Tensor) -> Tensor:
    """Levels 0..255 and noise in [0, 1), both shape (B, C, H, W), to p0 in [0, 1) (spec 1.4)."""
    return (pixels.to(u.dtype) + u) / N_LEVELS


class Logit(nn.Module):
    """v = logit of p0 shrunk to (0.05, 0.95), and its exact inverse (spec 1.4)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Image of x in [0, 1], shape (B, C, H, W), and the log-det, shape (B,)."""
        p = ((2 * x - 1) * LOGIT_RANGE + 1) / 2
        v = p.log() - (1 - p).log()
        slope = math.log(LOGIT_RANGE) + functional.softplus(v) + functional.softplus(-v)
        return v, slope.flatten(1).sum(1)

    def inverse(self, v: Tensor) -> Tensor:
        """Images in [0, 1] of which v is the logit, shape (B, C, H, W)."""
        return (((2 * torch.sigmoid(v) - 1) / LOGIT_RANGE + 1) / 2).clamp(0, 1)


class ResidualBlock(nn.Module):
    """h + conv(ReLU(BN(conv(ReLU(BN(h)))))), convolutions 3x3 with weight norm (spec 1.3)."""

    def __init__(self, n_filters: int):
        super().__init__()
        self.norm_1 = nn.BatchNorm2d(n_filters)
        self.conv_1 = weight_norm(nn.Conv2d(n_filters, n_filters, 3, padding=1, bias=False))
        self.norm_2 = nn.BatchNorm2d(n_filters)
        self.conv_2 = weight_norm(nn.Conv2d(n_filters, n_filters, 3, padding=1))

    def forward(self, h: Tensor) -> Tensor:
        """Shape (B, n_filters, H, W) to the same."""
        inner = self.conv_1(torch.relu(self.norm_1(h)))
        return h + self.conv_2(torch.relu(self.norm_2(inner)))


class ResidualNet(nn.Module):
    """The conditioner: c_in channels to 2 c_in, the raw scale and the shift (spec 1.3).

    Arguments:
        n_in: c_in.
        n_filters: Width.
        n_blocks: B.
        double_norm: Double the normalised input, half of which is masked away.
    """

    def __init__(self, n_in: int, n_filters: int, n_blocks: int, double_norm: bool):
        super().__init__()
        self.double_norm = double_norm
        self.norm_in = nn.BatchNorm2d(n_in)
        self.conv_in = weight_norm(nn.Conv2d(2 * n_in, n_filters, 3, padding=1))
        self.blocks = nn.ModuleList(ResidualBlock(n_filters) for _ in range(n_blocks))
        self.skips = nn.ModuleList(
            weight_norm(nn.Conv2d(n_filters, n_filters, 1)) for _ in range(n_blocks + 1)
        )
        self.norm_out = nn.BatchNorm2d(n_filters)
        self.conv_out = weight_norm(nn.Conv2d(n_filters, 2 * n_in, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, n_in, H, W) to (B, 2 n_in, H, W)."""
        h = self.norm_in(x)
        if self.double_norm:
            h = 2 * h
        h = self.conv_in(torch.relu(torch.cat([h, -h], dim=1)))
        skip = self.skips[0](h)
        for block, conv in zip(self.blocks, list(self.skips)[1:], strict=True):
            h = block(h)
            skip = skip + conv(h)
        return self.conv_out(torch.relu(self.norm_out(skip)))


class CheckerboardCoupling(nn.Module):
    """y = b x + (1 - b) (x + t) exp(s), with b[i, j] = (i + j) mod 2, reversed 1 - b (spec 1.1)."""

    def __init__(self, n_channels: int, side: int, n_filters: int, n_blocks: int, reverse: bool):
        super().__init__()
        i = torch.arange(side)
        mask = ((i[:, None] + i) % 2).to(torch.get_default_dtype())
        self.mask: Tensor
        self.register_buffer("mask", 1 - mask if reverse else mask)
        self.net = ResidualNet(n_channels, n_filters, n_blocks, double_norm=True)
        self.gain = nn.Parameter(torch.ones(n_channels, 1, 1))

    def _scale_shift(self, passed: Tensor) -> tuple[Tensor, Tensor]:
        s_raw, t = self.net(passed).chunk(2, dim=1)
        return (1 - self.mask) * self.gain * torch.tanh(s_raw), (1 - self.mask) * t

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Image of x, shape (B, C, H, W), and the log-det, shape (B,)."""
        b = self.mask
        s, t = self._scale_shift(b * x)
        return b * x + (1 - b) * (x + t) * torch.exp(s), s.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """Pre-image of y, shape (B, C, H, W)."""
        b = self.mask
        s, t = self._scale_shift(b * y)
        return b * y + (1 - b) * (y * torch.exp(-s) - t)


class ChannelCoupling(nn.Module):
    """The second half of the channels changes the first; reversed: the first the second."""

    def __init__(self, n_channels: int, n_filters: int, n_blocks: int, reverse: bool):
        super().__init__()
        self.reverse = reverse
        self.net = ResidualNet(n_channels // 2, n_filters, n_blocks, double_norm=False)
        self.gain = nn.Parameter(torch.ones(n_channels // 2, 1, 1))

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, dim=1)
        return (first, second) if self.reverse else (second, first)

    def _join(self, passed: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([passed, changed] if self.reverse else [changed, passed], dim=1)

    def _scale_shift(self, passed: Tensor) -> tuple[Tensor, Tensor]:
        s_raw, t = self.net(passed).chunk(2, dim=1)
        return self.gain * torch.tanh(s_raw), t

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Image of x, shape (B, C, H, W), and the log-det, shape (B,)."""
        passed, changed = self._split(x)
        s, t = self._scale_shift(passed)
        return self._join(passed, (changed + t) * torch.exp(s)), s.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """Pre-image of y, shape (B, C, H, W)."""
        passed, changed = self._split(y)
        s, t = self._scale_shift(passed)
        return self._join(passed, changed * torch.exp(-s) - t)


class Squeeze(nn.Module):
    """2x2 pixels to channels: channel c at offset (di, dj) becomes channel 4c + 2 di + dj."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (B, C, H, W) to (B, 4C, H/2, W/2), and zeros, shape (B,)."""
        return functional.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """Shape (B, 4C, H/2, W/2) to (B, C, H, W)."""
        return functional.pixel_shuffle(y, 2)


class FactorOut(nn.Module):
    """Marks where the first `n_keep` channels go on and the rest goes to the latent vector."""

    def __init__(self, n_keep: int):
        super().__init__()
        self.n_keep = n_keep


class ReferenceImageFlow(nn.Module):
    """The multi-scale RealNVP of the paper, for one seed.

    Arguments:
        n_channels: C.
        side: H = W, divisible by 4 for `multi_scale` (two checkerboards) and `mnist_small`.
        n_filters: m, width of the conditioners before the first squeeze.
        n_blocks: B, residual blocks of a conditioner.
        architecture: `multi_scale`: width 2m after the squeeze. `mnist_small`: three scales, width
            m everywhere (as the official code has it: m 64, B 4).

    Source: spec 1.3.
    """

    def __init__(
        self,
        n_channels: int,
        side: int,
        n_filters: int = 64,
        n_blocks: int = 8,
        architecture: str = "multi_scale",
    ):
        super().__init__()
        self.shape = (n_channels, side, side)
        steps: list[nn.Module] = [Logit()]

        def checkerboards(n: int, channels: int, size: int, width: int) -> None:
            steps.extend(
                CheckerboardCoupling(channels, size, width, n_blocks, reverse=i % 2 == 1)
                for i in range(n)
            )

        def squeezed_channels(channels: int, width: int) -> None:
            steps.append(Squeeze())
            steps.extend(
                ChannelCoupling(channels, width, n_blocks, reverse=i % 2 == 1) for i in range(3)
            )
            steps.append(FactorOut(channels // 2))

        c, m = n_channels, n_filters
        if architecture == "multi_scale":
            checkerboards(3, c, side, m)
            squeezed_channels(4 * c, 2 * m)
            checkerboards(4, 2 * c, side // 2, 2 * m)
        elif architecture == "mnist_small":
            checkerboards(3, c, side, m)
            squeezed_channels(4 * c, m)
            checkerboards(3, 2 * c, side // 2, m)
            squeezed_channels(8 * c, m)
            checkerboards(4, 4 * c, side // 4, m)
        else:
            raise ValueError(
                f"unknown architecture {architecture!r}; expected multi_scale or mnist_small"
            )
        self.steps = nn.ModuleList(steps)

    def counterparts(self, flow: multiscale.ImageFlow) -> list[tuple[Tensor, Tensor]]:
        """Each parameter and running statistic, with the stacked one that holds its numbers.

        Convolutions, normalisations and gains have the same order in both models.
        """

        def of(model: nn.Module, *kinds: type[nn.Module]) -> list[Any]:
            return [module for module in model.modules() if isinstance(module, kinds)]

        pairs = []
        for own, theirs in zip(of(self, nn.Conv2d), of(flow, residual_net.Conv), strict=True):
            pairs.append((own.parametrizations.weight.original0, theirs.gain))
            pairs.append((own.parametrizations.weight.original1, theirs.direction))
            if own.bias is not None:
                pairs.append((own.bias, theirs.bias))
        for own, theirs in zip(of(self, nn.BatchNorm2d), of(flow, residual_net.Norm), strict=True):
            pairs += [(own.weight, theirs.weight), (own.bias, theirs.bias)]
            pairs += [(own.running_mean, theirs.mean), (own.running_var, theirs.var)]
        couplings = of(self, CheckerboardCoupling, ChannelCoupling)
        for own, theirs in zip(couplings, of(flow, multiscale.Coupling), strict=True):
            pairs.append((own.gain, theirs.gain))
        return pairs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent codes of dequantised images, shape (B, D), and log|det dz/dx|, shape (B,).

        x has shape (B, C, H, W) and values in [0, 1].
        """
        log_det = x.new_zeros(len(x))
        factored_out = []
        step: Any  # to a type checker all that hangs below a module may be a tensor or a module
        for step in self.steps:
            if isinstance(step, FactorOut):
                factored_out.append(x[:, step.n_keep :])
                x = x[:, : step.n_keep]
            else:
                x, term = step(x)
                log_det = log_det + term
        return torch.cat([part.flatten(1) for part in [*factored_out, x]], dim=1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Images in [0, 1] with the codes z, shape (B, D) to (B, C, H, W); in eval mode."""
        channels, size = self.shape[:2]
        shapes = []
        step: Any
        for step in self.steps:
            if isinstance(step, Squeeze):
                channels, size = 4 * channels, size // 2
            elif isinstance(step, FactorOut):
                shapes.append((channels - step.n_keep, size, size))
                channels = step.n_keep
        shapes.append((channels, size, size))
        parts = [
            part.unflatten(1, shape)
            for part, shape in zip(
                z.split([math.prod(shape) for shape in shapes], dim=1), shapes, strict=True
            )
        ]
        x = parts.pop()
        for step in reversed(list(self.steps)):
            x = torch.cat([x, parts.pop()], 1) if isinstance(step, FactorOut) else step.inverse(x)
        return x


class ReferenceImageFlowGMM(nn.Module):
    """The image flow and one Gaussian (or product of Student-t) per class, for one seed.

    Arguments:
        flow: x to z.
        means: Shape (K, D).
        std: Standard deviation (scale, for Student-t) of each class, shape (K,).
        weights: p(y), shape (K,).
        degrees: Of freedom of the Student-t (App. J); None: Gaussians.

    Source: Izmailov et al. (2020), section 3; spec 1.3 to 1.6.
    """

    def __init__(
        self,
        flow: ReferenceImageFlow,
        means: Tensor,
        std: Tensor,
        weights: Tensor,
        degrees: float | None = None,
    ):
        super().__init__()
        self.flow, self.degrees = flow, degrees
        self.means, self.std, self.weights = means, std, weights
        self.to(means.dtype)

    @classmethod
    def from_stack(
        cls, flow: multiscale.ImageFlow, mixture: StackedMixture, s: int
    ) -> "ReferenceImageFlowGMM":
        """The model of seed s of a stack, with copies of its numbers and in its mode."""
        architecture = next(
            name
            for name, plan in multiscale.ARCHITECTURES.items()
            if len(plan.split()) == len(flow.steps)
        )
        first: Any = flow.steps[0]
        own = ReferenceImageFlow(
            n_channels=flow.shape[0],
            side=flow.shape[1],
            n_filters=first.net.conv.gain.shape[1],
            n_blocks=len(first.net.blocks),
            architecture=architecture,
        ).to(mixture.means.dtype)
        with torch.no_grad():
            for ours, stacked in own.counterparts(flow):
                ours.copy_(stacked[s].view_as(ours))
        return cls(
            own.train(flow.training),
            means=mixture.means[s].detach().clone(),
            std=mixture.std[s].detach().clone(),
            weights=mixture.log_weights[s].detach().exp(),
            degrees=mixture.student_t,
        )

    def log_prob_of_codes(self, z: Tensor) -> Tensor:
        """Class-wise log p(z | y = k) in nats, shape (B, K), of latent codes, shape (B, D)."""
        identity = torch.eye(z.shape[1], dtype=z.dtype)
        columns = []
        for mean, std in zip(self.means, self.std, strict=True):
            if self.degrees is None:
                of_class = MultivariateNormal(mean, covariance_matrix=std**2 * identity)
                columns.append(of_class.log_prob(z))
            else:
                columns.append(StudentT(self.degrees, mean, std).log_prob(z).sum(1))
        return torch.stack(columns, dim=1)

    def log_prob_of_classes(self, x: Tensor) -> Tensor:
        """Class-wise log p(x | y = k) of 256-level images in nats, shape (B, K).

        x: dequantised images, shape (B, C, H, W).
        """
        z, log_det = self.flow(x)
        constant = z.shape[1] * math.log(N_LEVELS)
        return self.log_prob_of_codes(z) + log_det[:, None] - constant

    def loss(
        self,
        first: Tensor,
        second: Tensor,
        y: Tensor,
        label_weight: float = 3.0,
        consistency_weight: float = 1.0,
    ) -> Tensor:
        """Objective (c): NLL of all + lambda CE of the labelled + w NLL given the guessed class.

        Every term asks the mixture anew, as in the authors' code: four times a step (spec, trap 1).

        Arguments:
            first: A view of the batch, dequantised, shape (B, C, H, W).
            second: Another one.
            y: Classes, -1 where unlabelled, shape (B,); at least one labelled.
            label_weight: lambda.
            consistency_weight: w(t); at 0 the second view is not evaluated.

        Source: spec 1.6c.
        """
        if consistency_weight > 0:
            with torch.no_grad():  # in the mode the model is in: batch statistics in training
                guess = (self.log_prob_of_classes(second) + self.weights.log()).argmax(1)
        z, log_det = self.flow(first)
        log_det = log_det - z.shape[1] * math.log(N_LEVELS)
        joint = self.log_prob_of_codes(z) + self.weights.log()
        loss = -(torch.logsumexp(joint, dim=1) + log_det).mean()
        labelled = y >= 0
        logits = (self.log_prob_of_codes(z) + self.weights.log())[labelled]
        loss = loss + label_weight * functional.cross_entropy(logits, y[labelled])
        if consistency_weight > 0:
            of_guess = self.log_prob_of_codes(z).gather(1, guess[:, None]).squeeze(1)
            loss = loss - consistency_weight * (of_guess + log_det).mean()
        return loss

    def em_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """E-step under no-grad, then the M-step's -mean[sum_k q_k log p(x | k)] (spec 1.6d).

        Arguments:
            x: Dequantised images, shape (B, C, H, W).
            y: Classes, -1 where unlabelled, shape (B,).
        """
        of_classes = self.log_prob_of_classes(x)
        q = torch.softmax(of_classes.detach() + self.weights.log(), dim=1)
        one_hot = functional.one_hot(y.clamp(min=0), q.shape[1]).to(q.dtype)
        q = torch.where((y >= 0)[:, None], one_hot, q)
        return -(q * of_classes).sum(1).mean()
