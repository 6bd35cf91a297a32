"""Batches of points for each step of each seed, on the device."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.rng import Stream

__all__ = ["Batches", "StandardisedPoints", "as_tensor", "chunk_size"]

# Rows, or images, per forward pass of a fitted model: bounds memory, keeps products large.
CHUNK, IMAGE_CHUNK = 4096, 256


class StandardisedPoints:
    """Points standardised on indexing: only the rows asked for, with `Preprocess.modelled`'s bits.

    Nothing is kept beside the points themselves, which may be mapped from a file that jobs share.

    Arguments:
        points: On the device, shape (N, D).
        preprocess: It reorders columns and keeps their directions.
        dtype: Of what comes out.
    """

    def __init__(self, points: Tensor, preprocess: Preprocess, dtype: torch.dtype) -> None:
        self.shape = torch.Size([len(points), preprocess.n_modelled])
        self.ndim, self.dtype, self.device = 2, dtype, points.device
        assert preprocess.order is not None
        order = preprocess.order[: preprocess.n_modelled]
        self._points = points
        self._order = (
            None if np.array_equal(order, range(points.shape[1])) else _on_device_of(points, order)
        )
        self._shift = _on_device_of(points, preprocess.shift[order])
        self._scale = _on_device_of(points, preprocess.scale[: preprocess.n_modelled])

    def __getitem__(self, rows: Any) -> Tensor:
        """Points of rows of any shape, shape (..., n_modelled)."""
        x = self._points[rows]
        if self._order is not None:
            x = x[..., self._order]
        return (x.double() - self._shift).div_(self._scale).to(self.dtype)


@dataclass
class Batches:
    """Batches of points for each step of each seed.

    Arguments:
        x: All points on the device, shape (N, D), or images, shape (N, C, H, W) uint8; one copy
            whatever the number of seeds.
        labelled: Rows of the labelled points, shape (S, n_l).
        classes: Their classes, shape (S, n_l).
        unlabelled: Rows of the unlabelled points, shape (S, n_u); n_u may be 0.
        labelled_batch: Labelled points per step; None: all of them.
        unlabelled_batch: Unlabelled points per step.
        sampling: `shuffle` (every epoch a new permutation, a smaller last batch), `shuffle_full`
            (no smaller last batch), `fixed` (the rows in their own order, as the official loader
            does; D8), `replacement`.
        stream: Stream of the batches.
    """

    x: Tensor | StandardisedPoints
    labelled: Tensor
    classes: Tensor
    unlabelled: Tensor
    labelled_batch: int | None
    unlabelled_batch: int
    sampling: str
    stream: Stream

    def __post_init__(self) -> None:
        known = ("shuffle", "shuffle_full", "fixed", "replacement")
        if self.sampling not in known:
            raise ValueError(
                f"unknown sampling {self.sampling!r}; expected one of {', '.join(known)}"
            )
        self._order: dict[str, tuple[int, Tensor]] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the unlabelled points (labelled ones if there are none)."""
        if self.unlabelled.shape[1]:
            return self._n_batches(self.unlabelled.shape[1], self.unlabelled_batch)
        return self.steps_per_labelled_pass

    @property
    def steps_per_labelled_pass(self) -> int:
        """Steps in one pass over the labelled points, which is the epoch of images (trap 13)."""
        n = self.labelled.shape[1]
        return self._n_batches(n, self.labelled_batch or n)

    @cached_property
    def known(self) -> Tensor:
        """Class of each point for each seed, -1 where it has no label, shape (S, N)."""
        known = torch.full((len(self.labelled), self.x.shape[0]), -1, device=self.x.device)
        return known.scatter_(1, self.labelled, self.classes)

    def _n_batches(self, n: int, size: int) -> int:
        """Batches of one pass over n points."""
        return max(1, n // size) if self.sampling == "shuffle_full" else -(-n // size)

    def _positions(self, name: str, n: int, size: int, step: int) -> Tensor:
        """Positions in 0..n-1 for a step, shape (S, at most size)."""
        # Labelled and unlabelled orders must differ: odd and even keys of one stream.
        key = 2 * step + (name == "labelled")
        if self.sampling == "replacement":
            return self.stream.at(key).integers(n, size).to(self.x.device, non_blocking=True)
        epoch, place = divmod(step, self._n_batches(n, size))
        if self._order.get(name, (-1, None))[0] != epoch:
            if self.sampling == "fixed":
                order = torch.arange(n, device=self.x.device).expand(self.labelled.shape[0], n)
            else:
                order = self.stream.at(2 * epoch + (name == "labelled")).permutation(n)
                order = order.to(self.x.device, non_blocking=True)
            self._order[name] = (epoch, order)
        return self._order[name][1][:, place * size : (place + 1) * size]

    def at(self, step: int) -> dict[str, Tensor]:
        """Rows of the labelled points of a step, their classes and, if any, the unlabelled rows.

        Shapes (S, b): `labelled`, `classes`, `unlabelled`.
        """
        rows, classes = self.labelled, self.classes
        n = rows.shape[1]
        size = self.labelled_batch
        # With replacement a batch may be larger than the set.
        if size is not None and (size < n or self.sampling == "replacement"):
            at = self._positions("labelled", n, size, step)
            rows, classes = rows.gather(1, at), classes.gather(1, at)
        inputs = {"labelled": rows, "classes": classes}
        if n := self.unlabelled.shape[1]:
            size = self.unlabelled_batch
            if self.sampling != "replacement":
                size = min(size, n)
            at = self._positions("unlabelled", n, size, step)
            inputs["unlabelled"] = self.unlabelled.gather(1, at)
        return inputs


def as_tensor(array: np.ndarray, dtype: torch.dtype | None = None) -> Tensor:
    """Pixels as they are, anything else in the network's type; a copy only where one is needed."""
    array = np.require(array, requirements=["C", "W"])  # what torch can share
    return torch.as_tensor(array, dtype=None if array.dtype == np.uint8 else dtype)


def chunk_size(x: Tensor | StandardisedPoints | np.ndarray) -> int:
    """Rows of x per forward pass."""
    return IMAGE_CHUNK if x.ndim == 4 else CHUNK


def _on_device_of(points: Tensor, array: np.ndarray) -> Tensor:
    """A copy of an array on the device of the points."""
    return torch.tensor(array, device=points.device)
