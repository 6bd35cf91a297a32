"""The four two-dimensional sets of Figures 1, 2 and 4 and Table 7.

The training part is numpy's legacy stream of `seed`, as in the authors' notebook, whose labelled
points are given by index; the test part is a fresh sample from a named seed. Of the eight Gaussians
and the pinwheel the authors published their points (D45), which then are the training part.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from flowgmm.datasets.loaders.arrays import read_npz
from flowgmm.datasets.types import Arrays
from flowgmm.utils.errors import UserError
from flowgmm.utils.seeds import derive

__all__ = ["load_circles", "load_eight_gaussians", "load_moons", "load_pinwheel"]

Sample = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


def load_moons(
    raw: Path, *, n_train: int = 1000, n_test: int = 10_000, noise: float = 0.05, seed: int = 0
) -> Arrays:
    """Two interleaved half circles. Source: spec 2.1."""
    from sklearn.datasets import make_moons

    def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        X, y = make_moons(n, noise=noise, random_state=seed)
        return X, y

    return _arrays("moons", sample, n_train, n_test, seed, ["upper", "lower"])


def load_circles(
    raw: Path,
    *,
    n_train: int = 1000,
    n_test: int = 10_000,
    noise: float = 0.05,
    factor: float = 0.4,
    seed: int = 0,
) -> Arrays:
    """Two circles, the inner one `factor` times as wide. Source: spec 2.1."""
    from sklearn.datasets import make_circles

    def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        X, y = make_circles(n, noise=noise, factor=factor, random_state=seed)
        return X, y

    return _arrays("circles", sample, n_train, n_test, seed, ["outer", "inner"])


def load_eight_gaussians(
    raw: Path, *, file: str | None = None, n_train: int = 1000, n_test: int = 10_000, seed: int = 0
) -> Arrays:
    """Eight clusters on a circle of radius 2.83; the three classes are unions of neighbours.

    Arguments:
        raw: Folder with the file.
        file: Training part, an ``.npz`` file of ``data`` (N, 2) and ``labels`` (N,), -1 where
            unknown; None: it is generated.
        n_train: Generated training points.
        n_test: Test points, generated.
        seed: Number of the generated sample.

    Source: spec 2.1: class 0 has the centres at 180 and 225 degrees, class 1 those at 270, 315
    and 0, class 2 those at 45, 90 and 135.
    """
    class_of_centre = np.array([1, 2, 2, 2, 0, 0, 1, 1])

    def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.RandomState(seed)
        centre = rng.randint(8, size=n)
        angle = np.pi / 4 * centre
        X = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.sqrt(8)
        return X + rng.standard_normal((n, 2)) * np.sqrt(0.125), class_of_centre[centre]

    names = ["180-225 degrees", "270-0 degrees", "45-135 degrees"]
    data = _arrays("eight_gaussians", sample, n_train, n_test, seed, names)
    return data if file is None else _with_points(data, raw / file)


def load_pinwheel(
    raw: Path, *, file: str | None = None, n_train: int = 1000, n_test: int = 10_000, seed: int = 0
) -> Arrays:
    """Five bent arms, one a class; the same number of points in each.

    Arguments:
        raw: Folder with the file.
        file: Training part, as for `load_eight_gaussians`.
        n_train: Generated training points.
        n_test: Test points, generated.
        seed: Number of the generated sample.

    Source: spec 2.1; the arms bend clockwise, as the authors' points do (D45).
    """

    def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.RandomState(seed)
        y = rng.permutation(np.arange(n) % 5)
        along, across = (rng.standard_normal((n, 2)) * [0.3, 0.1] + [1, 0]).T
        angle = 2 * np.pi / 5 * y - 0.25 * np.exp(along)
        cos, sin = np.cos(angle), np.sin(angle)
        return 2 * np.stack([along * cos - across * sin, along * sin + across * cos], axis=1), y

    names = [f"arm {k}" for k in range(5)]
    data = _arrays("pinwheel", sample, n_train, n_test, seed, names)
    return data if file is None else _with_points(data, raw / file)


def _arrays(
    name: str, sample: Sample, n_train: int, n_test: int, seed: int, classes: list[str]
) -> Arrays:
    train = sample(n_train, seed)
    test = sample(n_test, derive(f"{name}/test", seed, "split"))
    return Arrays(*train, *test, classes=classes, columns=["x1", "x2"])


def _with_points(data: Arrays, path: Path) -> Arrays:
    """Replace the training part by the points of a file."""
    points = read_npz(path, ("data", "labels"))
    X, y = points["data"], points["labels"]
    if X.dtype.kind != "f" or X.shape != (len(y), 2) or not np.isin(y, np.arange(-1, 5)).all():
        raise UserError(
            f"{path}: expected data of shape (N, 2) and labels -1, 0, 1, ... of shape (N,), got "
            f"{X.dtype} of shape {X.shape} and {y.dtype} of shape {y.shape}; fetch it again"
        )
    note = f"Training part: {path.name}, whose other points have no class; the test part is drawn."
    return replace(data, X_train=X, y_train=y.astype(np.int64), notes=[note])
