"""BadGAN: a classifier whose unlabelled images must look real, unlike those of a generator."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowgmm.flows.rng import Stream
from flowgmm.methods.mlp import cross_entropy
from flowgmm.methods.parts import Training
from flowgmm.methods.quoted.images import ConvClassifier, at_start, fp32
from flowgmm.nets.adversarial import Discriminator, Encoder, Generator
from flowgmm.nets.layers import initialise
from flowgmm.training.batches import Batches
from flowgmm.training.loop import Inputs, TrainingOptions
from flowgmm.training.optim import Group

__all__ = ["BadGanClassifier", "pull_away", "real_or_fake"]

# Numbers that an image is made from; standard deviation of the noise on images.
N_NOISE, IMAGE_NOISE = 100, 0.05
# Labelled images that gains and biases are initialised with.
N_INITIAL = 500
DISCRIMINATOR_BETAS, GENERATOR_BETAS = (0.5, 0.999), (0.0, 0.999)


class BadGan(nn.Module):
    """The stacked model: discriminator and, if any, generator and encoder."""

    def __init__(
        self, discriminator: Discriminator, generator: Generator | None, encoder: Encoder | None
    ):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images, shape (S, B, K)."""
        logits: Tensor = self.discriminator(x)
        return logits


class BadGanClassifier(ConvClassifier):
    """Semi-supervised classifier trained against a generator of images between the classes.

    Of K logits l(x), a(x) = log sum exp l(x) is the logit of "real", and p(y | x) their softmax.
    A step minimises first the discriminator's loss, then the generator's, with f(x) the features
    that the discriminator's last layer sees, u unlabelled and g generated images:

        CE(labelled) + w / 2 (mean softplus(a(u)) - a(u) + mean softplus(a(g)))
            + entropy_weight * mean entropy of p(y | u)
        mean over features |mean f(g) - mean f(u)| + pull_away_weight * pull-away of f(g)
            + variational_weight * mean -log q(noise | g)

    Arguments:
        width: Channels of the discriminator's first block.
        generator_width: Channels of the generator's last block and of the encoder's first.
        input_dropout: Probability of dropout of the images' channels.
        dropout: Probability of dropout behind the discriminator's blocks.
        whole_channels: It drops whole channels.
        unlabelled_weight: w; 0: the discriminator alone, on labelled images.
        entropy_weight: Weight of the entropy.
        pull_away_weight: Weight of the pull-away term; see `pull_away`.
        variational_weight: Weight of the encoder's bound, up to a constant; 0: no encoder.
        generator_lr: Learning rate of generator and encoder; None: that of `training`.
        preprocess: `none`: pixels in [-1, 1], as generated ones; `zca`, `per_image`: whitened.
        pool: Average over blocks of pool x pool pixels first, for scaled-down runs.
        training: A `flowgmm.methods.parts.Training`; None: 900 epochs of batches of 64.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of weights, batches, dropout and noise.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        training_: The training in use.
        history_: Losses on the way; `loss_2` is the generator's.
        seeds_: The named seeds.

    Source: Dai et al. (2017), sections 4 and 5.1; the term of low density, with a PixelCNN++, is
    of MNIST alone and left out.
    """

    def __init__(
        self,
        width: int = 64,
        generator_width: int = 128,
        input_dropout: float = 0.15,
        dropout: float = 0.5,
        whole_channels: bool = True,
        unlabelled_weight: float = 1.0,
        entropy_weight: float = 0.1,
        pull_away_weight: float = 0.8,
        variational_weight: float = 0.0,
        generator_lr: float | None = None,
        preprocess: str = "none",
        pool: int = 1,
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.width = width
        self.generator_width = generator_width
        self.input_dropout = input_dropout
        self.dropout = dropout
        self.whole_channels = whole_channels
        self.unlabelled_weight = unlabelled_weight
        self.entropy_weight = entropy_weight
        self.pull_away_weight = pull_away_weight
        self.variational_weight = variational_weight
        self.generator_lr = generator_lr
        self.preprocess = preprocess
        self.pool = pool
        self.training = training
        self.device = device
        self.random_state = random_state

    def _default_part(self, name: str, inner: str) -> Training:
        return Training(
            n_epochs=900,
            labelled_batch=64,
            unlabelled_batch=64,
            sampling="shuffle_full",
            optimizer="adam",
            lr=1e-3,
            weight_decay=0.0,
            schedule="flat_linear",
            clip_norm=None,
        )

    def _passes(self) -> tuple[float, float]:
        # A generator's passes cost about as much as the discriminator's. The first turn has a
        # generated image for each unlabelled one; the second changes no discriminator.
        return 3.0, 7.0 + 6.0

    def _uses_unlabelled(self) -> bool:
        return self.unlabelled_weight > 0

    def _network(self, shape: Any, n_classes: int, initialisation: Stream) -> nn.Module:
        shape, dropout = tuple(shape), (self.input_dropout, self.dropout)
        generator = encoder = None
        discriminator = Discriminator(
            shape, n_classes, self.width, dropout, self.whole_channels, initialisation
        )
        if self._uses_unlabelled():
            generator = Generator(shape, N_NOISE, self.generator_width, initialisation)
            if self.variational_weight > 0:
                encoder = Encoder(shape, N_NOISE, self.generator_width, initialisation)
        return BadGan(discriminator, generator, encoder)

    def _groups(self, training: TrainingOptions, model: Any) -> list[Group]:
        def group(part: nn.Module, lr: float, betas: tuple[float, float], turn: int) -> Group:
            parameters = [p for p in part.parameters() if p.requires_grad]
            return Group(parameters, lr, training.weight_decay, betas=betas, turn=turn)

        lr = training.lr if self.generator_lr is None else self.generator_lr
        others = [part for part in (model.generator, model.encoder) if part is not None]
        return [
            group(model.discriminator, training.lr, DISCRIMINATOR_BETAS, 0),
            *(group(part, lr, GENERATOR_BETAS, 1) for part in others),
        ]

    def _turns(self) -> list[Any]:
        return [self._losses, self._generator_losses] if self._uses_unlabelled() else [self._losses]

    @torch.no_grad()
    def _initialise(self, model: Any, batches: Batches, streams: dict[str, Stream]) -> None:
        at_start(streams)
        x = batches.x[batches.labelled[:, :N_INITIAL]]
        if model.generator is not None:
            noise = streams["noise"].uniform((x.shape[1], N_NOISE), x.dtype)
            images = initialise(model.generator, noise, last=model.generator.last)
            if model.encoder is not None:
                initialise(model.encoder, images, last=model.encoder.last)
        discriminator = model.discriminator
        x = _noisy(x, streams)
        initialise(discriminator, x, streams["dropout"], last=discriminator.last)

    def _losses(
        self,
        model: Any,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        """Losses of the discriminator."""
        parts = [batches.x[inputs["labelled"]]]
        if model.generator is not None:
            parts.append(batches.x[inputs["unlabelled"]])
            noise = streams["noise"].uniform((parts[1].shape[1], N_NOISE), parts[1].dtype)
            with torch.no_grad():
                parts.append(model.generator(noise).to(parts[1].dtype))
        x = _noisy(torch.cat(parts, dim=1), streams)
        logits = fp32(model.discriminator(x, streams["dropout"]))
        labelled, *others = logits.split([part.shape[1] for part in parts], dim=1)
        ce = cross_entropy(labelled, inputs["classes"])
        if not others:
            return {"loss": ce, "labelled_ce": ce}
        real, fake = others
        adversarial = 0.5 * real_or_fake(real, fake)
        log_p = torch.log_softmax(real, dim=-1)
        entropy = -(log_p.exp() * log_p).sum(-1).mean(-1)
        loss = ce + self.unlabelled_weight * adversarial + self.entropy_weight * entropy
        return {"loss": loss, "labelled_ce": ce, "adversarial": adversarial, "entropy": entropy}

    def _generator_losses(
        self,
        model: Any,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        """Losses of generator and encoder."""
        x = batches.x[inputs["unlabelled"]]
        noise = streams["noise"].uniform((x.shape[1], N_NOISE), x.dtype)
        images = model.generator(noise)
        features = model.discriminator.features
        with torch.no_grad():
            real = fp32(features(_noisy(x, streams), streams["dropout"]))
        fake = fp32(features(_noisy(images, streams), streams["dropout"]))
        matching = (fake.mean(1) - real.mean(1)).abs().mean(-1)
        found = {"loss": matching, "feature_matching": matching}
        if self.pull_away_weight > 0:
            found["pull_away"] = pull_away(fake)
            found["loss"] = found["loss"] + self.pull_away_weight * found["pull_away"]
        if model.encoder is not None:
            mean, log_std = fp32(model.encoder(images)).unbind(2)
            nll = (log_std + 0.5 * ((noise - mean) * (-log_std).exp()).square()).sum(-1).mean(-1)
            found["variational"] = nll
            found["loss"] = found["loss"] + self.variational_weight * nll
        return found


def real_or_fake(real: Tensor, fake: Tensor) -> Tensor:
    """Mean cross-entropies of telling real from fake images, added.

    A further class "fake" with logit 0 beside K logits has the same.

    Arguments:
        real: Logits of real images, shape (S, B, K).
        fake: Logits of generated ones, shape (S, B', K).

    Returns:
        Nats, shape (S,).
    """
    of_real, of_fake = real.logsumexp(-1), fake.logsumexp(-1)
    softplus = functional.softplus
    return (softplus(of_real) - of_real).mean(-1) + softplus(of_fake).mean(-1)


def pull_away(features: Tensor) -> Tensor:
    """Mean squared cosine between two different rows, from 0 to 1.

    Arguments:
        features: Shape (S, B, d), B of 2 or more.

    Returns:
        Shape (S,).

    Source: Zhao et al. (2017), section 2.4.
    """
    n = features.shape[1]
    # Features may be 0 at the start.
    unit = features / (torch.linalg.vector_norm(features, dim=-1, keepdim=True) + 1e-8)
    squared = (unit @ unit.mT).square()
    of_itself = squared.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (squared.sum(dim=(-2, -1)) - of_itself) / (n * (n - 1))


def _noisy(x: Tensor, streams: dict[str, Stream]) -> Tensor:
    """Images with noise, shape (S, B, C, H, W)."""
    return x + IMAGE_NOISE * streams["noise"].normal(x.shape[1:], x.dtype)
