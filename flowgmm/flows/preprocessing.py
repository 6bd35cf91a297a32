"""The fixed affine map in front of a network: centred, scaled, rotated; its log-det is counted.

Coordinates that carry no class information for a flow to use (constant columns, trailing principal
components) are set apart: they are modelled by a standard Gaussian that all classes share, so the
whole stays a density of the data.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["PREPROCESS", "Preprocess"]

PREPROCESS = ("none", "standardise", "mixed", "pca")
# A column is constant if its spread is below this share of its largest absolute value (rounding).
CONSTANT = 1e-9
# A principal component is constant if its spread is below this share of the largest one.
DEPENDENT = 1e-6
# Rows that are worked on in float64 at a time: it bounds the memory.
CHUNK = 4096


@dataclass(frozen=True)
class Preprocess:
    """u = (x - shift) rotation / scale, whose first `n_modelled` coordinates go to the network.

    Arguments:
        shift: Shape (D,).
        rotation: Columns are the directions of u, orthonormal, shape (D, D).
        scale: Positive, shape (D,).
        n_modelled: Coordinates of u that go to the network.
        kind: `none`, `standardise`, `mixed` or `pca`.
    """

    shift: np.ndarray
    rotation: np.ndarray
    scale: np.ndarray
    n_modelled: int
    kind: str

    @classmethod
    def fit(cls, X: np.ndarray, kind: str, pca_components: int | None = None) -> "Preprocess":
        """Estimate the map from data without labels.

        Arguments:
            X: Points, shape (N, D).
            kind: `none` (the identity); `standardise` (every column to mean 0 and standard
                deviation 1, ddof 0; constant columns are set apart); `mixed` (the same, but columns
                of two values, such as the indicators of a category, get standard deviation 1/2);
                `pca` (principal components, each with standard deviation 1; those after
                `pca_components` are set apart).
            pca_components: With `pca`; None: all that vary.

        Raises:
            ValueError: If the kind is unknown, `pca_components` out of range or no column varies.
        """
        n_features = X.shape[1]
        if kind not in PREPROCESS:
            raise ValueError(
                f"unknown preprocess {kind!r}; expected one of {', '.join(PREPROCESS)}"
            )
        if pca_components is not None and (kind != "pca" or pca_components < 1):
            raise ValueError(
                f"pca_components={pca_components!r} must be 1 or more and goes with "
                f"preprocess='pca', got preprocess={kind!r}"
            )
        if kind == "none":
            zeros, ones = np.zeros(n_features), np.ones(n_features)
            return cls(zeros, np.eye(n_features), ones, n_features, kind)
        shift = _sum(X, lambda x: x.sum(axis=0)) / len(X)
        spread = np.sqrt(_sum(X, lambda x: ((x - shift) ** 2).sum(axis=0)) / len(X))
        # By its own magnitude: columns may come in any units.
        varying = spread > CONSTANT * np.maximum(abs(X.max(axis=0)), abs(X.min(axis=0)))
        if not varying.any():
            raise ValueError(f"X has no column that varies among its {n_features}")
        if kind == "mixed":
            # A category has several columns, and each takes its share of the noise.
            spread = np.where(_two_valued(X), 2 * spread, spread)
        if kind in ("standardise", "mixed"):
            # Varying columns first, in their own order.
            order = np.argsort(~varying, kind="stable")
            rotation = np.eye(n_features)[:, order]
            spread, varying = spread[order], varying[order]
        else:
            covariance = _sum(X, lambda x: (c := x - shift).T @ c) / len(X)
            variances, rotation = np.linalg.eigh(covariance)
            rotation = rotation[:, ::-1]
            # The sign of an eigenvector is arbitrary: its largest entry is made positive, so that
            # equal data give equal models on every machine.
            largest = np.abs(rotation).argmax(axis=0)
            rotation = rotation * np.sign(rotation[largest, np.arange(n_features)])
            spread = np.sqrt(np.clip(variances[::-1], 0, None))
            varying = spread > DEPENDENT * spread.max()
        n_modelled = int(varying.sum())
        if pca_components is not None:
            n_modelled = min(n_modelled, pca_components)
        return cls(shift, rotation, np.where(varying, spread, 1.0), n_modelled, kind)

    @property
    def n_out(self) -> int:
        """Coordinates of u: D."""
        return len(self.shift)

    @property
    def log_det(self) -> float:
        """The constant log|det du/dx| in nats; the same at every point."""
        return float(-np.log(self.scale).sum())

    @functools.cached_property
    def order(self) -> np.ndarray | None:
        """Order of x's columns in u if the rotation only reorders them; else None."""
        order = self.rotation.argmax(axis=0)
        reorders = np.array_equal(self.rotation, np.eye(len(order))[:, order])
        return order if reorders else None

    def forward(self, X: np.ndarray) -> np.ndarray:
        """The way there, x to u, both shape (N, D), in float64."""
        return self._first(X, len(self.shift))

    def _first(self, X: np.ndarray, n: int) -> np.ndarray:
        """The first n coordinates of u, shape (N, n)."""
        centred = np.asarray(X, dtype=np.float64) - self.shift
        if self.order is None:
            return centred @ self.rotation[:, :n] / self.scale[:n]
        return centred[:, self.order[:n]] / self.scale[:n]

    def modelled(self, X: np.ndarray, dtype: Any) -> np.ndarray:
        """First n_modelled coordinates of u, shape (N, n_modelled), as `dtype`."""
        U = np.empty((len(X), self.n_modelled), dtype)
        for rows in _chunks(len(X)):
            U[rows] = self._first(X[rows], self.n_modelled)
        return U

    def split(self, X: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """Modelled features as `dtype` and residual ones in float64, shape (N, D - n_modelled)."""
        U = self.forward(X)
        return U[:, : self.n_modelled].astype(dtype), U[:, self.n_modelled :]

    def join(self, modelled: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """Undo `split`: x from its modelled and residual features, shape (N, D)."""
        return self.inverse(np.concatenate([modelled, residual], axis=1))

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to save: a rotation that only reorders columns is saved as their order.

        Returns:
            `shift` and `scale`, shape (D,), and one of: `rotation`, shape (D, D); `order`, the
            column of x of each coordinate of u, shape (D,); neither, for the identity.
        """
        arrays = {"shift": self.shift, "scale": self.scale}
        if self.order is None:
            arrays["rotation"] = self.rotation
        elif not np.array_equal(self.order, np.arange(self.n_out)):
            arrays["order"] = self.order
        return arrays

    def header(self) -> dict[str, Any]:
        """Numbers to save."""
        return {"n_modelled": self.n_modelled, "kind": self.kind}

    @classmethod
    def from_saved(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> "Preprocess":
        """Rebuild the map from `header` and `arrays`.

        Files of earlier versions hold `rotation` also where it only reorders columns.
        """
        shift, scale = arrays["shift"], arrays["scale"]
        rotation = arrays.get("rotation")
        if rotation is None:
            order = arrays.get("order", np.arange(len(shift)))
            rotation = np.ascontiguousarray(np.eye(len(shift))[:, order])
        return cls(shift, rotation, scale, header["n_modelled"], header["kind"])

    def inverse(self, U: np.ndarray) -> np.ndarray:
        """Map u back to x, both shape (N, D)."""
        return (np.asarray(U, dtype=np.float64) * self.scale) @ self.rotation.T + self.shift


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, n, CHUNK))


def _two_valued(X: np.ndarray) -> np.ndarray:
    """Columns that hold their least and largest value alone, shape (D,)."""
    low, high = X.min(axis=0), X.max(axis=0)
    parts = (((X[rows] == low) | (X[rows] == high)).all(axis=0) for rows in _chunks(len(X)))
    return functools.reduce(np.logical_and, parts)


def _sum(X: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sum over chunks of rows, in float64, of a function of the rows."""
    parts = (function(np.asarray(X[rows], np.float64)) for rows in _chunks(len(X)))
    return functools.reduce(np.add, parts)
