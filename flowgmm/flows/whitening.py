"""Pixels as the inputs of a classifier: floats, whitened over the data or image by image."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgmm.flows.pixels import N_LEVELS, Pixels

__all__ = ["WHITENING", "Whitening"]

WHITENING = ("none", "zca", "per_image")
# Added to the eigenvalues of the covariance, of pixels in [0, 1].
RIDGE = 1e-5
# Images that are worked on in float64 at a time: it bounds the memory.
CHUNK = 2048


@dataclass(frozen=True)
class Whitening:
    """Preprocessing of an image classifier: pooled pixels p in [0, 1] become floats.

    Arguments:
        pixels: Shape and pooling of the images.
        kind: `none`: 2p - 1, in [-1, 1]; `zca`: (p - shift) rotation; `per_image`: each image less
            its mean, divided by its root mean square.
        shift: With `zca`, the mean image, shape (D,) of D pooled pixels; else shape (0,).
        rotation: With `zca`, symmetric, shape (D, D); else shape (0, 0).

    Source: Laine and Aila (2017), section 3 (`zca`, `per_image`).
    """

    pixels: Pixels
    kind: str
    shift: np.ndarray
    rotation: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, kind: str, pool: int = 1) -> "Whitening":
        """Estimate the map from images without labels.

        Arguments:
            X: Training images, shape (N, C, H, W), uint8 or floats in [0, 1].
            kind: `none`, `zca` or `per_image`.
            pool: Side of the blocks of pixels that are averaged.

        Raises:
            ValueError: If the kind is unknown or `pool` does not divide the sides.
        """
        if kind not in WHITENING:
            raise ValueError(f"unknown preprocess {kind!r}; expected one of {', '.join(WHITENING)}")
        pixels = Pixels.fit(X, pool)
        if kind != "zca":
            return cls(pixels, kind, np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        n = pixels.n_modelled
        total, products = np.zeros(n), np.zeros((n, n))
        for p in _chunks(X, pixels):
            total += p.sum(axis=0)
        shift = total / len(X)
        for p in _chunks(X, pixels):
            centred = p - shift
            products += centred.T @ centred
        variances, directions = np.linalg.eigh(products / len(X))
        rotation = (directions / np.sqrt(variances.clip(0) + RIDGE)) @ directions.T
        return cls(pixels, kind, shift.astype(np.float32), rotation.astype(np.float32))

    @property
    def pooled(self) -> tuple[int, int, int]:
        """Shape of an image as the network sees it."""
        return self.pixels.pooled

    @property
    def n_modelled(self) -> int:
        """Numbers that go to the network: all."""
        return math.prod(self.pooled)

    def modelled(self, X: np.ndarray, dtype: Any) -> np.ndarray:
        """Inputs of the network, shape (N, *pooled), as `dtype`.

        Arguments:
            X: Images, shape (N, C, H, W), uint8 or floats in [0, 1].
            dtype: Type of the result.

        Raises:
            ValueError: If the shape is another, or a float lies outside [0, 1].
        """
        out = np.empty((len(X), self.n_modelled), dtype)
        start = 0
        for p in _chunks(X, self.pixels):
            out[start : start + len(p)] = self._whitened(p)
            start += len(p)
        return out.reshape(len(X), *self.pooled)

    def _whitened(self, p: np.ndarray) -> np.ndarray:
        """Map pixels in [0, 1], shape (n, D), in float64."""
        if self.kind == "zca":
            return np.asarray((p - self.shift) @ self.rotation)
        if self.kind == "per_image":
            centred = p - p.mean(axis=1, keepdims=True)
            size = np.sqrt((centred**2).mean(axis=1, keepdims=True))
            # An image of one colour stays 0.
            return np.asarray(centred / np.where(size > 0, size, 1))
        return np.asarray(2 * p - 1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to save."""
        return {"shift": self.shift, "rotation": self.rotation}

    def header(self) -> dict[str, Any]:
        """Numbers to save."""
        return {"kind": self.kind, "pixels": self.pixels.header()}

    @classmethod
    def from_saved(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Whitening":
        """Rebuild the map from `header` and `arrays`."""
        pixels = Pixels.from_saved(header["pixels"], {})
        return cls(pixels, header["kind"], arrays["shift"], arrays["rotation"])


def _chunks(X: np.ndarray, pixels: Pixels) -> Iterator[np.ndarray]:
    """Pooled pixels in [0, 1], float64, shape (n, D), a chunk of images at a time."""
    for start in range(0, len(X), CHUNK):
        part = pixels.modelled(X[start : start + CHUNK])
        yield part.reshape(len(part), -1) / (N_LEVELS - 1)
