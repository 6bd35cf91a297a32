"""Pixels in and out of an image flow: whole numbers, augmented, dequantised, and back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm.flows.rng import Stream

__all__ = ["N_LEVELS", "Pixels", "as_inputs", "crop_and_flip", "dequantise", "distort"]

N_LEVELS = 256


@dataclass(frozen=True)
class Pixels:
    """Preprocessing of an image flow, as `flowgmm.flows.preprocessing.Preprocess` is of vectors.

    Arguments:
        shape: Channels, height and width of the images.
        pool: Side of the blocks of pixels that are averaged, for scaled-down runs.
    """

    shape: tuple[int, int, int]
    pool: int = 1

    @classmethod
    def fit(cls, X: np.ndarray, pool: int) -> "Pixels":
        """Take the shape of the images, shape (N, C, H, W).

        Raises:
            ValueError: If `pool` does not divide their sides.
        """
        shape = (int(X.shape[1]), int(X.shape[2]), int(X.shape[3]))
        if pool < 1 or any(side % pool for side in shape[1:]):
            raise ValueError(
                f"pool={pool} does not divide images of {shape[1]} x {shape[2]} pixels; "
                "use a divisor of both sides"
            )
        return cls(shape, pool)

    @property
    def pooled(self) -> tuple[int, int, int]:
        """Shape of an image as the flow sees it."""
        c, h, w = self.shape
        return c, h // self.pool, w // self.pool

    @property
    def n_modelled(self) -> int:
        """Numbers that go to the network: all."""
        return math.prod(self.pooled)

    @property
    def n_out(self) -> int:
        """Numbers of a latent code."""
        return self.n_modelled

    @property
    def log_det(self) -> float:
        """Log-probability of an image less the log-density of its dequantised pixels, in nats."""
        return -self.n_modelled * math.log(N_LEVELS)

    def modelled(self, X: np.ndarray, dtype: Any = np.uint8) -> np.ndarray:
        """Modelled features: pixels averaged over blocks and rounded, uint8, shape (N, *pooled).

        Arguments:
            X: Images, shape (N, *shape), or (N, *pooled) as they come out of the model: uint8 in
                0..255, or floats in [0, 1].
            dtype: Unused; pixels stay whole numbers.

        Raises:
            ValueError: If the shape is another, or a float lies outside [0, 1].
        """
        if X.shape[1:] not in (self.shape, self.pooled):
            raise ValueError(
                f"X has images of shape {X.shape[1:]}, but the model was fitted to {self.shape}"
            )
        if X.dtype != np.uint8:
            low, high = (float(X.min()), float(X.max())) if X.size else (0.0, 0.0)
            if not 0 <= low <= high <= 1:  # also true for NaN
                raise ValueError(
                    f"images are uint8 in 0..255 or floats in [0, 1], got {X.dtype} in "
                    f"[{low:g}, {high:g}]; divide by 255 or convert to uint8"
                )
        elif X.shape[1:] == self.pooled:
            return X
        c, h, w = self.pooled
        pool = X.shape[2] // h
        scale = 1 if X.dtype == np.uint8 else N_LEVELS - 1
        blocks = X.reshape(len(X), c, h, pool, w, pool)
        mean: np.ndarray = np.rint(scale * blocks.mean(axis=(3, 5), dtype=np.float32))
        return mean.astype(np.uint8)

    def split(self, X: np.ndarray, dtype: Any = np.uint8) -> tuple[np.ndarray, np.ndarray]:
        """Modelled and residual features; of the latter there are none, shape (N, 0)."""
        return self.modelled(X), np.zeros((len(X), 0))

    def join(self, modelled: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """Images of the network clipped to [0, 1], shape (N, *pooled); `residual` is empty."""
        return np.clip(modelled, 0, 1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to save: none."""
        return {}

    def header(self) -> dict[str, Any]:
        """Numbers to save."""
        return asdict(self)

    @classmethod
    def from_saved(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Pixels":
        """Rebuild the map from `header` and `arrays`."""
        c, h, w = header["shape"]
        return cls((c, h, w), header["pool"])


def dequantise(x: Tensor, noise: Tensor | float) -> Tensor:
    """Pixels in 0..255 and noise in [0, 1) to numbers in [0, 1): (x + noise) / 256.

    The density of an image of D pixels is then that of these numbers times 256^-D.

    Source: spec 1.4.
    """
    return (x + noise) / N_LEVELS


def crop_and_flip(
    x: Tensor, padding: int, flip: bool, augmentation: Stream, mode: str = "zeros"
) -> Tensor:
    """Shift each image by up to `padding` pixels each way; mirror half of them.

    Arguments:
        x: Images, shape (S, B, C, H, W), of any type.
        padding: Largest shift; 0: none.
        flip: Whether to mirror.
        augmentation: Stream of shifts and mirrors.
        mode: Pixels that come in: `zeros`, or `reflect`: the image mirrored at its outermost
            pixels, which must be further apart than the largest shift.

    Returns:
        The images, same shape and type.

    Raises:
        ValueError: If the mode is unknown.

    Source: Izmailov et al. (2020), section 6; spec 2.4. The black borders that zeros make are
        learnt as data (spec, trap 10).
    """
    if mode not in ("zeros", "reflect"):
        raise ValueError(f"unknown mode {mode!r}; expected zeros or reflect")
    n_seeds, n, _, height, width = x.shape
    if padding:
        rows = augmentation.integers(2 * padding + 1, n)
        columns = augmentation.integers(2 * padding + 1, n)
    else:
        rows = columns = torch.zeros(n_seeds, n, dtype=torch.int64, device=x.device)
    i = rows[..., None] + torch.arange(height, device=x.device)
    j = columns[..., None] + torch.arange(width, device=x.device)
    if flip:
        mirrored = augmentation.integers(2, n)[..., None] == 1
        j = torch.where(mirrored, j.flip(-1), j)
    if mode == "reflect":
        i, j = _reflected(i - padding, height), _reflected(j - padding, width)
    elif padding:
        x = torch.nn.functional.pad(x, (padding,) * 4)
    x = torch.take_along_dim(x, _along(i, x, 3), dim=3)
    return torch.take_along_dim(x, _along(j, x, 4), dim=4)


def distort(x: Tensor, largest: float, augmentation: Stream) -> Tensor:
    """Turn, stretch and shear each image by a random linear map about its centre.

    Arguments:
        x: Images, shape (S, B, C, H, W), uint8.
        largest: The map's matrix is the identity plus numbers in [-largest, largest].
        augmentation: Stream of the matrices.

    Returns:
        The images, same shape, floats in 0..255; what comes in at the borders is 0.
    """
    n_seeds, n = x.shape[:2]
    linear = augmentation.uniform((n, 2, 2)).flatten(0, 1) * 2 - 1
    linear = largest * linear + torch.eye(2, device=x.device)
    matrices = torch.cat([linear, torch.zeros_like(linear[..., :1])], dim=-1)
    images = x.flatten(0, 1).to(linear.dtype)
    grid = torch.nn.functional.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(images, grid, align_corners=False)
    return moved.unflatten(0, (n_seeds, n))


def _reflected(index: Tensor, n: int) -> Tensor:
    """Index into n pixels, mirrored at the first and the last where it lies beyond."""
    return n - 1 - (n - 1 - index.abs()).abs()


def _along(index: Tensor, x: Tensor, dim: int) -> Tensor:
    """Index of shape (S, B, n), shaped to pick from dimension `dim` of x, (S, B, C, H, W)."""
    shape: Sequence[int] = [*index.shape[:2], 1, 1, 1]
    shape = [*shape[:dim], index.shape[-1], *shape[dim + 1 :]]
    return index.view(*shape)


def as_inputs(x: Tensor, model: nn.Module) -> Tensor:
    """Inputs of a network at evaluation: pixels dequantised at the middle (D42)."""
    if x.dtype != torch.uint8:
        return x
    return dequantise(x.to(next(model.parameters()).dtype), 0.5)
