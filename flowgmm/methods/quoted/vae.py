"""M1: a variational autoencoder of images, whose latent Gaussians are the features of M2."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.pixels import N_LEVELS, Pixels
from flowgmm.flows.rng import Stream, make_stream
from flowgmm.methods.stack import digest
from flowgmm.nets.gaussian import Gaussian, Perceptron, bernoulli_log_prob, gaussian
from flowgmm.training.batches import CHUNK, Batches, as_tensor
from flowgmm.training.loop import Inputs, TrainingOptions, train
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.io import read_tensors, write_tensors
from flowgmm.utils.progress import Progress
from flowgmm.utils.seeds import derive

__all__ = ["VAE", "LatentFeatures", "VAEOptions", "grey"]

# A latent coordinate is in use if the standard deviation of its mean over the images is above this.
LEAST_SPREAD = 0.1


def grey(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Images of whole numbers, shape (..., C, H, W), as vectors in [0, 1], shape (..., D)."""
    return pixels.flatten(-3).to(dtype) / (N_LEVELS - 1)


@dataclass(frozen=True)
class VAEOptions:
    """Sizes and training of M1.

    Arguments:
        n_latent: Latent coordinates.
        hidden_size: Width of the two hidden layers, of the encoder and of the decoder.
        n_epochs: Passes over the images.
        batch: Images per step.
        lr: Learning rate of Adam.
        schedule: See `flowgmm.training.schedules.learning_rate_factor`.
        gain: Of the initial weights; see `flowgmm.nets.gaussian.Perceptron`.
        seed: Seed of initial weights, batches, binarisation and noise.
    """

    n_latent: int = 50
    hidden_size: int = 500
    n_epochs: int = 1000
    batch: int = 1000
    lr: float = 3e-4
    schedule: str = "constant"
    gain: float | None = None
    seed: int = 0


class VAE(nn.Module):
    """Encoder q(v | x), Gaussian, and decoder p(x | v), Bernoulli; v has a standard normal prior.

    Arguments:
        n_pixels: Pixels of an image.
        n_latent: Latent coordinates.
        hidden_size: Width of the hidden layers.
        gain: Of the initial weights; see `flowgmm.nets.gaussian.Perceptron`.
        initialisation: Stream of the initial weights.

    Source: Kingma and Welling (2014); Kingma et al. (2014), section 2.1, its M1.
    """

    def __init__(
        self,
        n_pixels: int,
        n_latent: int,
        hidden_size: int,
        gain: float | None,
        initialisation: Stream,
    ):
        super().__init__()
        hidden = [hidden_size, hidden_size]
        self.encoder = Perceptron([n_pixels], hidden, 2 * n_latent, initialisation, gain=gain)
        self.decoder = Perceptron([n_latent], hidden, n_pixels, initialisation, gain=gain)

    def encode(self, x: Tensor) -> Gaussian:
        """Posterior q(v | x) of images in [0, 1], shape (S, B, n_pixels)."""
        return gaussian(self.encoder(x))

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """Evidence lower bound of log p(x) in nats, by one sample, shape (S, B).

        Arguments:
            x: Black and white images, shape (S, B, n_pixels).
            noise: Standard normal, shape (S, B, n_latent).
        """
        latent = self.encode(x)
        return bernoulli_log_prob(x, self.decoder(latent.sample(noise))) - latent.kl().sum(-1)


@dataclass(frozen=True)
class LatentFeatures:
    """Features of images from a fitted M1: means and log-variances of the coordinates in use.

    It stands where `flowgmm.flows.preprocessing.Preprocess` and `flowgmm.flows.pixels.Pixels` do.

    Arguments:
        pixels: Shape of the images.
        options: Sizes and training.
        kept: The latent coordinates in use, shape (n,). On one that is not, a density of the
            features would grow without bound.
        bound_: Mean bound of the training images in the last hundredth of the training, nats.
        state: Parameters of the `VAE`, a stack of one.
    """

    pixels: Pixels
    options: VAEOptions
    kept: np.ndarray
    bound_: float
    state: dict[str, np.ndarray]

    @classmethod
    def fit(
        cls,
        X: np.ndarray,
        options: VAEOptions,
        pool: int = 1,
        device: torch.device | str = "cpu",
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> "LatentFeatures":
        """Train M1 on images without labels.

        Arguments:
            X: Images, shape (N, C, H, W), uint8 or floats in [0, 1].
            options: Sizes and training.
            pool: Side of the blocks of pixels that are averaged.
            device: Where to train.
            checkpoint: File to resume from, if it exists, and to save to.
            progress: Called a hundred times with (step, n_steps, text).

        Raises:
            DivergedError: If the loss left its bounds.
            ValueError: If no latent coordinate is in use: the training was too short.
        """
        pixels, device = Pixels.fit(X, pool), torch.device(device)
        x = as_tensor(pixels.modelled(X)).to(device)
        draws = {
            purpose: make_stream([derive("m1", options.seed, purpose)], where)
            for purpose, where in (
                ("initialisation", torch.device("cpu")),
                ("batches", torch.device("cpu")),
                ("augmentation", device),
            )
        }
        model = _make(pixels, options, draws["initialisation"]).to(device)
        history = _train(model, x, options, draws, checkpoint, progress)
        if history.failures:
            raise DivergedError(f"M1 {history.failures[0]}; lower m1_lr")
        kept = np.flatnonzero(_spread(model, x).cpu().numpy() > LEAST_SPREAD)
        if not len(kept):
            raise ValueError(
                f"M1 uses none of its {options.n_latent} latent coordinates after "
                f"{options.n_epochs} passes; raise m1_n_epochs or m1_lr"
            )
        state = {k: v.detach().cpu().numpy() for k, v in model.state_dict().items()}
        return cls(pixels, options, kept, -history.losses["loss"][-1][0], state)

    @property
    def n_modelled(self) -> int:
        """Numbers that M2 sees: a mean and a log-variance of each coordinate in use."""
        return 2 * len(self.kept)

    def model(self, dtype: torch.dtype = torch.float32) -> VAE:
        """The fitted VAE, a stack of one."""
        model = _make(self.pixels, self.options, Stream([0]))
        model.load_state_dict({k: torch.as_tensor(v) for k, v in self.state.items()})
        return model.to(dtype).requires_grad_(False)

    def modelled(self, X: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """Means and log-variances of the coordinates in use of grey images, shape (N, 2 n).

        Arguments:
            X: Images, shape (N, C, H, W), uint8 or floats in [0, 1].
            dtype: Type of the products and of the result.
        """
        pixels = as_tensor(self.pixels.modelled(X))
        result = np.empty((len(X), self.n_modelled), dtype)
        kept = torch.as_tensor(self.kept)
        own = torch.from_numpy(result).dtype
        model = self.model(own)
        for start in range(0, len(X), CHUNK):
            latent = model.encode(grey(pixels[None, start : start + CHUNK], own))
            features = torch.cat([part[0][:, kept] for part in latent], dim=-1)
            result[start : start + CHUNK] = features.numpy()
        return result

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to save: parameters, and the coordinates in use."""
        return {"kept": self.kept, **{f"vae.{name}": v for name, v in self.state.items()}}

    def header(self) -> dict[str, Any]:
        """Numbers to save."""
        own = {"pixels": self.pixels.header(), "options": asdict(self.options)}
        return own | {"bound": self.bound_}

    @classmethod
    def from_saved(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> "LatentFeatures":
        """Rebuild the map from `header` and `arrays`."""
        state = {k.removeprefix("vae."): v for k, v in arrays.items() if k.startswith("vae.")}
        pixels = Pixels.from_saved(header["pixels"], {})
        options = VAEOptions(**header["options"])
        return cls(pixels, options, arrays["kept"], header["bound"], state)

    @torch.no_grad()
    def draw(self, X: np.ndarray, random: Stream) -> tuple[np.ndarray, np.ndarray]:
        """A latent point of each grey image, and what of its bound M2 does not give.

        Arguments:
            X: Images, shape (N, C, H, W), uint8 or floats in [0, 1].
            random: Stream of one seed.

        Returns:
            The coordinates in use, shape (N, n); and log p(x | v) - log q(v | x), with the prior of
            the coordinates that are not in use, in nats, shape (N,).
        """
        model, pixels = self.model(), as_tensor(self.pixels.modelled(X))
        noise = random.normal((len(X), self.options.n_latent))[0]
        used = torch.zeros(self.options.n_latent, dtype=torch.bool)
        used[torch.as_tensor(self.kept)] = True
        points, terms = [], []
        for part, drawn in zip(pixels.split(CHUNK), noise.split(CHUNK), strict=True):
            x = grey(part[None], torch.float32)
            latent = model.encode(x)
            v = latent.sample(drawn[None])
            kept = Gaussian(latent.mean[..., used], latent.log_var[..., used])
            rest = bernoulli_log_prob(x, model.decoder(v)) - latent.kl()[..., ~used].sum(-1)
            points.append(v[0, :, used].numpy())
            terms.append((rest - kept.log_prob(v[..., used]))[0].numpy())
        return np.concatenate(points), np.concatenate(terms)

    def save(self, path: Path, images: str) -> None:
        """Write a file that `load` reads; `images`: digest of the images it was trained on."""
        write_tensors(path, self.arrays(), {**self.header(), "images": images})

    @classmethod
    def load(cls, path: Path, options: VAEOptions, images: str) -> "LatentFeatures":
        """Read what `save` wrote.

        Raises:
            UserError: If the file is damaged, or of other options or images.
        """
        arrays, header = read_tensors(path)
        if (header["options"], header["images"]) != (asdict(options), images):
            raise UserError(f"{path} belongs to another run; delete it to train M1 afresh")
        return cls.from_saved(header, arrays)


def _make(pixels: Pixels, options: VAEOptions, initialisation: Stream) -> VAE:
    """The untrained VAE of images."""
    sizes = pixels.n_modelled, options.n_latent, options.hidden_size
    return VAE(*sizes, options.gain, initialisation)


def _train(
    model: VAE,
    x: Tensor,
    options: VAEOptions,
    draws: dict[str, Stream],
    checkpoint: Path | None,
    progress: Progress | None,
) -> Any:
    """Train the VAE in place on images, shape (N, C, H, W), binarised anew in every step."""
    rows = torch.arange(len(x), device=x.device)[None]
    batches = Batches(
        x, rows[:, :0], rows[:, :0], rows, None, options.batch, "shuffle", draws["batches"]
    )
    training = TrainingOptions(
        n_steps=options.n_epochs * batches.steps_per_epoch,
        optimizer="adam",
        lr=options.lr,
        weight_decay=0.0,
        schedule=options.schedule,
        clip_norm=None,
    )
    random = draws["augmentation"]

    def inputs(step: int) -> Inputs:
        random.at(step)
        return batches.at(step)

    def losses(inputs: Inputs) -> dict[str, Tensor]:
        pixels = grey(x[inputs["unlabelled"]], torch.float32)
        binary = (random.uniform(pixels.shape[1:]) < pixels).float()
        noise = random.normal((pixels.shape[1], options.n_latent))
        return {"loss": -model.bound(binary, noise).mean(-1)}

    identity = None
    if checkpoint is not None:
        identity = ["M1", asdict(options), digest(x.cpu().numpy())]
    return train(
        model, losses, training, inputs, checkpoint=checkpoint, identity=identity, progress=progress
    )


@torch.no_grad()
def _spread(model: VAE, x: Tensor) -> Tensor:
    """Standard deviation of each latent mean over grey images, shape (n_latent,)."""
    means = [model.encode(grey(part[None], torch.float32)).mean[0] for part in x.split(CHUNK)]
    return torch.cat(means).std(0, correction=0)
