"""M1+M2: a variational autoencoder of images, and a semi-supervised one of its latent Gaussians."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.pixels import Pixels
from flowgmm.flows.rng import Stream
from flowgmm.methods.parts import Training
from flowgmm.methods.quoted.vae import VAE, LatentFeatures, VAEOptions
from flowgmm.methods.quoted.variational import VariationalClassifier, class_sum
from flowgmm.methods.stack import digest
from flowgmm.nets.gaussian import Gaussian, Perceptron, gaussian
from flowgmm.training.hardware import find_device
from flowgmm.utils.progress import Progress

__all__ = ["M2", "M1M2Classifier"]


class M2(nn.Module):
    """The stacked model of features v: q(y | v), q(z | v, y) and p(v | y, z); p(z) is N(0, I).

    Arguments:
        n_features: Coordinates of v.
        n_classes: Classes K, all as likely.
        n_latent: Coordinates of z.
        hidden_size: Width of the hidden layer of each of the three.
        gain: Of the initial weights; see `flowgmm.nets.gaussian.Perceptron`.
        initialisation: Stream of the initial weights; its seeds define S.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        n_latent: int,
        hidden_size: int,
        gain: float | None,
        initialisation: Stream,
    ):
        super().__init__()
        self.n_classes = n_classes
        hidden = [hidden_size]
        self.classifier = Perceptron([n_features], hidden, n_classes, initialisation, gain=gain)
        inputs = [n_features, n_classes]
        self.encoder = Perceptron(inputs, hidden, 2 * n_latent, initialisation, gain=gain)
        inputs = [n_classes, n_latent]
        self.decoder = Perceptron(inputs, hidden, 2 * n_features, initialisation, gain=gain)

    def log_posterior(self, v: Tensor) -> Tensor:
        """Log q(y | v) of points, shape (S, ..., n_features), in nats, shape (S, ..., K)."""
        return torch.log_softmax(self.classifier(v), -1)

    def bound(self, v: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """L(v, y) = E log p(v | y, z) + log p(y) - KL( q(z | v, y) | p(z) ), by one sample of z.

        Arguments:
            v: Points, shape (S, B, 1, n_features).
            y: One-hot classes, shape (S, B, 1, K) or (S, 1, K, K): of each point, or all.
            noise: Standard normal, one draw for all classes, shape (S, B, 1, n_latent).

        Returns:
            Nats, shape (S, B, 1) or (S, B, K).
        """
        latent = gaussian(self.encoder(v, y))
        likelihood = gaussian(self.decoder(y, latent.sample(noise))).log_prob(v)
        return likelihood - math.log(self.n_classes) - latent.kl().sum(-1)


class M1M2Classifier(VariationalClassifier):
    """Semi-supervised classifier of images: M2 on the latent Gaussians of M1.

    M1 is a variational autoencoder of images, x -> v. It is trained first and sees no label: the
    images, its own parameters and its own seed determine it, so that all label counts share it. Of
    its latent coordinates those in use remain. M2 is a variational model of v, redrawn from M1's
    posterior in every step, with class y and latent z; v is M1's mean where the fitted model is
    used. Per image, with n_l labelled and n_u unlabelled ones,

        (n_l + n_u) loss = - sum_labelled [ L(v, y) + beta log q(y | v) ] - sum_unlabelled U(v),
        beta = label_weight (n_l + n_u) / n_l,   U(v) = sum_y q(y | v) [ L(v, y) - log q(y | v) ],

    each sum estimated by the mean over its batch. A weight decay of 1 / (n_l + n_u) is the prior
    N(0, 1) of the weights.

    Arguments:
        n_latent: Coordinates of z.
        hidden_size: Width of M2's hidden layers.
        label_weight: Weight of the labels, of which beta is made.
        gain: Of the initial weights of M2; see `flowgmm.nets.gaussian.Perceptron`.
        m1_n_latent, m1_hidden_size, m1_n_epochs, m1_batch, m1_lr, m1_schedule, m1_gain, m1_seed:
            Those of M1; see `flowgmm.methods.quoted.vae.VAEOptions`.
        pool: Average over blocks of pool x pool pixels first.
        preprocess: `none`: images have no other preprocessing than M1.
        training: A `flowgmm.methods.parts.Training`, of M2; None: 10,000 steps.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of M2: weights, batches and noise.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        preprocess_: M1, a `flowgmm.methods.quoted.vae.LatentFeatures`.
        training_: The training in use.
        history_: Losses on the way, `bound` and `entropy` of q(y | v) among them, nats.
        seeds_: The named seeds.

    Source: Kingma, Rezende, Mohamed and Welling (2014), Semi-supervised learning with deep
        generative models; quoted_systems.md, section 4.
    """

    def __init__(
        self,
        n_latent: int = 50,
        hidden_size: int = 300,
        label_weight: float = 0.5,
        gain: float | None = 2.0,
        m1_n_latent: int = 50,
        m1_hidden_size: int = 500,
        m1_n_epochs: int = 30,
        m1_batch: int = 200,
        m1_lr: float = 1e-3,
        m1_schedule: str = "cosine",
        m1_gain: float | None = 2.0,
        m1_seed: int = 0,
        pool: int = 1,
        preprocess: str = "none",
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.n_latent = n_latent
        self.hidden_size = hidden_size
        self.label_weight = label_weight
        self.gain = gain
        self.m1_n_latent = m1_n_latent
        self.m1_hidden_size = m1_hidden_size
        self.m1_n_epochs = m1_n_epochs
        self.m1_batch = m1_batch
        self.m1_lr = m1_lr
        self.m1_schedule = m1_schedule
        self.m1_gain = m1_gain
        self.m1_seed = m1_seed
        self.pool = pool
        self.preprocess = preprocess
        self.training = training
        self.device = device
        self.random_state = random_state

    # -- M1 ----------------------------------------------------------------------------------

    @property
    def m1_options(self) -> VAEOptions:
        """Sizes and training of M1."""
        start = "m1_"
        own = {k.removeprefix(start): v for k, v in vars(self).items() if k.startswith(start)}
        return VAEOptions(**own)

    def fit_m1(
        self, X: np.ndarray, checkpoint: Path | None = None, progress: Progress | None = None
    ) -> LatentFeatures:
        """Train M1 on images; see `flowgmm.methods.quoted.vae.LatentFeatures.fit`."""
        device = find_device(self.device)
        return LatentFeatures.fit(X, self.m1_options, self.pool, device, checkpoint, progress)

    def _learn_preprocess(
        self, X: np.ndarray, checkpoint: Path | None, progress: Progress | None
    ) -> Any:
        """M1: that of the file ``m1.safetensors`` beside a checkpoint, which is made if absent."""
        if checkpoint is None:
            return self.fit_m1(X, None, progress)
        file, images = checkpoint.with_name("m1.safetensors"), digest(X)
        if file.exists():
            return LatentFeatures.load(file, self.m1_options, images)
        features = self.fit_m1(X, checkpoint.with_name("m1"), progress)
        features.save(file, images)
        return features

    @classmethod
    def _saved_preprocess(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
        return LatentFeatures.from_saved(header, arrays)

    # -- M2 ----------------------------------------------------------------------------------

    def _default_part(self, name: str, inner: str = "") -> Training:
        return Training(
            n_steps=10_000,
            labelled_batch=20,
            unlabelled_batch=100,
            optimizer="adam",
            weight_decay=2e-5,
            schedule="linear",
            clip_norm=None,
        )

    def _network(self, n_features: int, n_classes: int, initialisation: Stream) -> M2:
        sizes = n_features // 2, n_classes, self.n_latent, self.hidden_size
        return M2(*sizes, self.gain, initialisation)

    def _empty(self, preprocess: Any, n_classes: int) -> M2:
        if isinstance(preprocess, Pixels):  # before M1: half of its coordinates may be in use
            return self._network(self.m1_n_latent, n_classes, Stream([0]))
        return self._network(preprocess.n_modelled, n_classes, Stream([0]))

    def _one_pass(self, model: Any, shape: Sequence[int]) -> None:
        super()._one_pass(model, [self.m1_n_latent])

    def _operations_before(self, shape: Sequence[int], n_points: int) -> float:
        n_pixels = math.prod(shape) // self.pool**2
        sizes = n_pixels, self.m1_n_latent, self.m1_hidden_size
        n_parameters = sum(p.numel() for p in VAE(*sizes, None, Stream([0])).parameters())
        return 3.0 * 2 * n_parameters * n_points * self.m1_n_epochs

    def _labelled_in_unlabelled(self) -> bool:
        return False

    def _weights(self, n_labelled: int, n_unlabelled: int) -> tuple[float, float, float]:
        n = n_labelled + n_unlabelled
        return n_labelled / n, self.label_weight, n_unlabelled / n

    def _terms(
        self, model: Any, x: Tensor, y: Tensor, streams: dict[str, Stream]
    ) -> tuple[Tensor, Tensor]:
        noise, points = streams["noise"], x.shape[1:-1]
        features = Gaussian(*x.chunk(2, dim=-1))
        v = features.sample(noise.normal((*points, features.mean.shape[-1]), x.dtype))[:, :, None]
        bound = model.bound(v, y, noise.normal((*points, 1, self.n_latent), x.dtype))
        return bound[:, :, None], model.log_posterior(v)

    def _log_posterior(self, model: Any, x: Tensor) -> Tensor:
        log_q: Tensor = model.log_posterior(x.chunk(2, dim=-1)[0])
        return log_q.double()

    def bound(self, X: Any) -> np.ndarray:
        """Evidence lower bound of log p(x) in nats, by one sample of v and z, shape (N,).

        Of grey images it is that of the black and white ones that they stand for, on average.
        """
        X = self._check(X)
        random = Stream([self.m1_seed])
        v, rest = self.preprocess_.draw(X, random)
        noise = random.normal((len(X), self.n_latent))[0].numpy()

        def marginal(model: M2, u: Tensor) -> tuple[Tensor]:
            v, noise = u[:, :, None].split([u.shape[-1] - self.n_latent, self.n_latent], dim=-1)
            classes = torch.eye(model.n_classes, dtype=u.dtype, device=u.device)[None, None]
            bounds = model.bound(v, classes, noise)
            return (class_sum(model.log_posterior(v[:, :, 0]), bounds).double(),)

        found: np.ndarray = self._map(marginal, np.concatenate([v, noise], axis=1))[0] + rest
        return found
