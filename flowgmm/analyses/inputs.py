"""Inputs of an analysis: datasets, and the seeds of a trained model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_meta, read_tensors
from flowgmm.utils.seeds import derive

__all__ = ["Data", "Model", "generator", "pairs"]


@dataclass(frozen=True)
class Data:
    """A dataset's features file, read piece by piece.

    Attributes:
        path: The file.
        title: What figures call it.
    """

    path: Path
    title: str

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Header of the file."""
        return read_meta(self.path)

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Test images, uint8, shape (N, C, H, W), and their classes, shape (N,)."""
        arrays, _ = read_tensors(self.path, ["X_test", "y_test"])
        return arrays["X_test"], arrays["y_test"]

    @cached_property
    def X_train(self) -> np.ndarray:
        """Training images, uint8, shape (N, C, H, W)."""
        return read_tensors(self.path, ["X_train"])[0]["X_train"]

    @cached_property
    def y_train(self) -> np.ndarray:
        """Classes of the training images, shape (N,)."""
        return read_tensors(self.path, ["y_train"])[0]["y_train"]


@dataclass(frozen=True)
class Model:
    """A run's seeds that did not fail.

    Attributes:
        title: What figures call it.
        dataset: Name of the dataset it is trained on.
        data: That dataset.
        seeds: Numbers of the seeds, ascending.
        runs: Per seed its entry in the record.
        splits: Per seed the arrays ``labelled``, ``unlabelled``, ``val``.
        load: Reads the fitted estimators, one per seed.
        failed: Reasons of the seeds that failed, by number.
    """

    title: str
    dataset: str
    data: Data
    seeds: list[int]
    runs: list[dict[str, Any]]
    splits: list[dict[str, np.ndarray]]
    load: Callable[[], list[Any]]
    failed: dict[int, str] = field(default_factory=dict)

    @cached_property
    def estimators(self) -> list[Any]:
        """Fitted `FlowGMMClassifier`s, one per seed."""
        return self.load()

    def unlabelled(self, i: int) -> np.ndarray:
        """Training rows of seed i that are used without their label, shape (n,)."""
        split = self.splits[i]
        return np.setdiff1d(split["unlabelled"], split["labelled"])

    def accuracies(self) -> list[float]:
        """Test accuracy of each seed in percent."""
        return [100 * run["metrics"]["test"]["accuracy"] for run in self.runs]

    def n_test(self) -> int:
        """Test points behind each accuracy."""
        return int(self.runs[0]["metrics"]["test"]["n"])


def pairs(a: Model, b: Model) -> Iterator[tuple[int, int]]:
    """Positions of the seeds that both models have: the same number is the same split.

    Raises:
        UserError: If the models share no seed.
    """
    common = [seed for seed in a.seeds if seed in b.seeds]
    if not common:
        raise UserError(
            f"{a.title} and {b.title} have no seed in common that did not fail; run more seeds"
        )
    return iter([(a.seeds.index(seed), b.seeds.index(seed)) for seed in common])


def generator(analysis: str, seed: int) -> np.random.Generator:
    """Generator of an analysis's random choices, such as the images to show."""
    return np.random.default_rng(derive(f"analysis/{analysis}", seed, "batches"))
