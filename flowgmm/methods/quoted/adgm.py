"""ADGM and SDGM: semi-supervised variational models of images with an auxiliary variable."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.pixels import N_LEVELS, Pixels
from flowgmm.flows.rng import Stream
from flowgmm.methods.parts import Training
from flowgmm.methods.quoted.vae import grey
from flowgmm.methods.quoted.variational import VariationalClassifier, class_sum
from flowgmm.nets.gaussian import Gaussian, Perceptron, bernoulli_log_prob, gaussian
from flowgmm.training.batches import IMAGE_CHUNK

__all__ = ["AdgmClassifier", "AuxiliaryModel"]

# Samples of a whose posteriors are averaged for a prediction.
N_SAMPLES = 100
RELU_GAIN = math.sqrt(2)


class AuxiliaryModel(nn.Module):
    """The stacked model of images x, classes y, and latent a and z; S networks side by side.

    Inference, q(a | x) q(y | a, x) q(z | a, x, y), is that of both models. What is generated: ADGM
    has p(z) p(y) p(x | y, z) p(a | x, y, z), SDGM p(z) p(y) p(a | y, z) p(x | a, y, z).

    Arguments:
        n_pixels: Pixels of an image.
        n_classes: Classes K, all as likely.
        n_latent: Coordinates of a, and of z.
        hidden_size: Width of the two hidden layers of each network.
        skip: SDGM, whose a is a parent of x; else ADGM.
        initialisation: Stream of the initial weights; its seeds define S.
    """

    def __init__(
        self,
        n_pixels: int,
        n_classes: int,
        n_latent: int,
        hidden_size: int,
        skip: bool,
        initialisation: Stream,
    ):
        super().__init__()
        self.n_classes, self.skip = n_classes, skip
        x, y, a, z = n_pixels, n_classes, n_latent, n_latent

        def network(inputs: list[int], n_out: int) -> Perceptron:
            hidden = [hidden_size, hidden_size]
            return Perceptron(inputs, hidden, n_out, initialisation, "relu", RELU_GAIN)

        self.q_a = network([x], 2 * a)
        self.q_y = network([x, a], y)
        self.q_z = network([x, a, y], 2 * z)
        self.p_a = network([y, z] if skip else [y, z, x], 2 * a)
        self.p_x = network([y, z, a] if skip else [y, z], x)

    def log_posterior(self, x: Tensor, a: Tensor) -> Tensor:
        """Log q(y | a, x), shape (S, B, M, K), of x, (S, B, 1, D), and a, (S, B, M, d)."""
        return torch.log_softmax(self.q_y(x, a), -1)

    def bound(self, x: Tensor, y: Tensor, auxiliary: Gaussian, a: Tensor, noise: Tensor) -> Tensor:
        """L(x, y; a), by one sample of z for each a, in nats, shape (S, B, M, 1) or (S, B, M, K).

        Arguments:
            x: Images in [0, 1], shape (S, B, 1, 1, D).
            y: One-hot classes of each image, shape (S, B, 1, 1, K), or all, (S, 1, 1, K, K).
            auxiliary: q(a | x), shape (S, B, 1, d).
            a: Drawn from it, shape (S, B, M, d).
            noise: Standard normal, for all classes, shape (S, B, M, 1, d).
        """
        log_q_a = auxiliary.log_prob(a)[..., None]
        a = a[..., None, :]
        latent = gaussian(self.q_z(x, a, y))
        z = latent.sample(noise)
        prior = Gaussian(torch.zeros_like(z), torch.zeros_like(z))
        p_a = gaussian(self.p_a(y, z) if self.skip else self.p_a(y, z, x))
        logits = self.p_x(y, z, a) if self.skip else self.p_x(y, z)
        generated = bernoulli_log_prob(x, logits) + prior.log_prob(z) + p_a.log_prob(a)
        return generated - math.log(self.n_classes) - log_q_a - latent.log_prob(z)


class AdgmClassifier(VariationalClassifier):
    """Semi-supervised classifier of images: auxiliary deep generative model, or its skip variant.

    With n_l labelled images and n unlabelled ones, the labelled among them,

        loss = - mean_labelled [ L(x, y) + beta log q(y | a, x) ] - mean_unlabelled U(x),
        U(x) = E_a sum_y q(y | a, x) [ L(x, y; a) - log q(y | a, x) ],
        beta = label_weight n / n_l.

    Images are made black and white anew in every step, with the grey values as probabilities.
    Predictions are means of q(y | a, x) over 100 samples of a, of grey images. The authors' code
    has batch normalisation, which their paper does not have and which ends in NaN.

    Arguments:
        skip: SDGM instead of ADGM.
        n_latent: Coordinates of a, and of z.
        hidden_size: Width of the two hidden layers of each network.
        samples: Samples of a for each image in training.
        label_weight: Weight of the labels, of which beta is made.
        pool: Average over blocks of pool x pool pixels first.
        preprocess: `none`: images have no other preprocessing.
        training: A `flowgmm.methods.parts.Training`; None: 2000 steps.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of weights, batches, binarisation and noise.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        training_: The training in use.
        history_: Losses on the way, `bound` and `entropy` of q(y | a, x) among them, nats.
        seeds_: The named seeds.

    Source: Maaløe, Sønderby, Sønderby and Winther (2016), Auxiliary deep generative models;
        quoted_systems.md, section 5.
    """

    def __init__(
        self,
        skip: bool = False,
        n_latent: int = 100,
        hidden_size: int = 500,
        samples: int = 1,
        label_weight: float = 0.1,
        pool: int = 1,
        preprocess: str = "none",
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.skip = skip
        self.n_latent = n_latent
        self.hidden_size = hidden_size
        self.samples = samples
        self.label_weight = label_weight
        self.pool = pool
        self.preprocess = preprocess
        self.training = training
        self.device = device
        self.random_state = random_state

    def _fit_preprocess(self, X: np.ndarray) -> Pixels:
        return Pixels.fit(X, self.pool)

    def _default_part(self, name: str, inner: str = "") -> Training:
        return Training(
            n_steps=2000,
            labelled_batch=None,
            unlabelled_batch=100,
            optimizer="adam",
            lr=1e-3,
            weight_decay=1.7e-5,
            schedule="linear",
            clip_norm=5.0,
        )

    def _network(self, n_features: int, n_classes: int, initialisation: Stream) -> AuxiliaryModel:
        sizes = n_features, n_classes, self.n_latent, self.hidden_size
        return AuxiliaryModel(*sizes, self.skip, initialisation)

    def _weights(self, n_labelled: int, n_unlabelled: int) -> tuple[float, float, float]:
        return 1.0, self.label_weight * n_unlabelled / n_labelled, 1.0

    def _terms(
        self, model: Any, x: Tensor, y: Tensor, streams: dict[str, Stream]
    ) -> tuple[Tensor, Tensor]:
        pixels = grey(x, self._dtype)
        uniform = streams["dequantisation"].uniform(pixels.shape[1:], self._dtype)
        binary = (uniform < pixels).to(self._dtype)[:, :, None]
        shape = (pixels.shape[1], self.samples)
        draw = streams["noise"].normal
        auxiliary = gaussian(model.q_a(binary))
        a = auxiliary.sample(draw((*shape, self.n_latent), self._dtype))
        noise = draw((*shape, 1, self.n_latent), self._dtype)
        bound = model.bound(binary[..., None, :], y[:, :, None], auxiliary, a, noise)
        return bound, model.log_posterior(binary, a)

    def _log_posterior(self, model: Any, x: Tensor) -> Tensor:
        # Grey values again: they came as the middles of the levels.
        pixels = grey(x * N_LEVELS - 0.5, x.dtype)[:, :, None]
        # The same noise for every point, so that a prediction does not depend on those beside it.
        noise = Stream([0]).normal((N_SAMPLES, self.n_latent), x.dtype).to(x.device)
        log_q = model.log_posterior(pixels, gaussian(model.q_a(pixels)).sample(noise))
        return torch.logsumexp(log_q.double(), dim=2) - math.log(N_SAMPLES)

    def bound(self, X: Any) -> np.ndarray:
        """Evidence lower bound of log p(x) in nats, by one sample of a and z, shape (N,).

        Of grey images it is that of the black and white ones that they stand for, on average.
        """
        X = self._check(X)
        pixels = self.preprocess_.modelled(X).reshape(len(X), -1).astype(np.float32)
        noise = Stream([0]).normal((len(X), 2 * self.n_latent))[0].numpy()
        rows = np.concatenate([pixels / (N_LEVELS - 1), noise], axis=1)

        def marginal(model: AuxiliaryModel, u: Tensor) -> tuple[Tensor]:
            sizes = [u.shape[-1] - 2 * self.n_latent, self.n_latent, self.n_latent]
            x, first, second = u[:, :, None].split(sizes, dim=-1)
            auxiliary = gaussian(model.q_a(x))
            a = auxiliary.sample(first)
            classes = torch.eye(model.n_classes, dtype=u.dtype, device=u.device)[None, None, None]
            bounds = model.bound(x[..., None, :], classes, auxiliary, a, second[..., None, :])
            return (class_sum(model.log_posterior(x, a), bounds)[:, :, 0].double(),)

        parts = [rows[i : i + IMAGE_CHUNK] for i in range(0, len(rows), IMAGE_CHUNK)]
        return np.concatenate([self._map(marginal, part)[0] for part in parts])
