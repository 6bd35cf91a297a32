"""Surrogates: generated data in place of unavailable data, for tests and demonstrations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from flowgmm.datasets.loaders.images import keep_shares, move_test_images
from flowgmm.datasets.types import Arrays, Images
from flowgmm.utils.seeds import derive

__all__ = ["load_surrogate", "load_surrogate_images"]

# Points on which the Bayes accuracy is tuned.
_N_TUNING = 10_000


def load_surrogate(
    raw: Path,
    *,
    n_features: int,
    n_classes: int,
    n_train: int = 5000,
    n_test: int = 2000,
    n_clusters: int = 3,
    bayes_accuracy: float = 0.85,
    seed: int = 0,
) -> Arrays:
    """Gaussian clusters, several a class, bent by a fixed random two-layer tanh network.

    The network is square, so it is invertible with probability one and leaves the Bayes accuracy
    as it is; that is set through the distance of the clusters.

    Arguments:
        raw: Unused; nothing is fetched.
        n_features: Dimension D.
        n_classes: Number of classes K.
        n_train: Rows of the training part.
        n_test: Rows of the test part.
        n_clusters: Gaussians per class.
        bayes_accuracy: Accuracy of the best possible classifier.
        seed: Number of the draw.

    Returns:
        Features scaled to (-1, 1).

    Source: spec 6.
    """
    rng = np.random.RandomState(derive(f"surrogate/{n_features}/{n_classes}", seed, "split"))
    centres = rng.standard_normal((n_classes * n_clusters, n_features))
    cluster, noise = _draw(rng, len(centres), _N_TUNING, n_features)
    scale = _tune(centres, cluster, noise, n_clusters, bayes_accuracy)
    first, second = rng.standard_normal((2, n_features, n_features)) / np.sqrt(n_features)
    cluster, noise = _draw(rng, len(centres), n_train + n_test, n_features)
    X = np.tanh((scale * centres[cluster] + noise) @ first) @ second
    X *= 0.999 / np.abs(X).max()
    y = cluster // n_clusters
    classes = [f"class {k}" for k in range(n_classes)]
    notes = [f"generated; the best possible accuracy is about {100 * bayes_accuracy:.0f} %"]
    return Arrays(X[:n_train], y[:n_train], X[n_train:], y[n_train:], classes, notes)


def load_surrogate_images(
    raw: Path,
    *,
    images: Literal["digits"],
    channels: int,
    invert: bool = False,
    transpose: bool = False,
    keep: Sequence[float] | None = None,
    test_to_train: int | None = None,
    n_test: int = 500,
    seed: int = 0,
) -> Images:
    """scikit-learn's 1797 digits of 8 x 8 pixels and 17 greys, spread over 0..255.

    Arguments:
        raw: Unused; nothing is fetched.
        images: Name of the set; only ``digits`` is known.
        channels: Number of equal channels.
        invert: Whether white becomes black, which makes another distribution of them.
        transpose: Whether rows become columns, which makes a third.
        keep: Share of each class of the training part that is kept; None: all.
        test_to_train: Test images moved to the end of the training part; None: none.
        n_test: Images of the test part, by class.
        seed: Number of the draws.

    Source: spec 6.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    X = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    X = 255 - X if invert else X
    X = X.swapaxes(1, 2) if transpose else X
    X = np.repeat(X[:, None], channels, axis=1)
    train, test, y_train, y_test = train_test_split(
        X,
        bunch.target,
        test_size=n_test,
        stratify=bunch.target,
        random_state=derive(images, seed, "split"),
    )
    classes = [str(name) for name in bunch.target_names]
    notes = ["scikit-learn's digits of 8 x 8 pixels"]
    data = Images(train, y_train, test, y_test, classes, notes)
    if keep is not None:
        data = keep_shares(data, keep, seed)
    return data if test_to_train is None else move_test_images(data, test_to_train, seed)


def _draw(
    rng: np.random.RandomState, n_centres: int, n: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    return rng.randint(n_centres, size=n), rng.standard_normal((n, width))


def _tune(
    centres: np.ndarray, cluster: np.ndarray, noise: np.ndarray, n_clusters: int, accuracy: float
) -> float:
    """Distance of the clusters at which the Bayes classifier has the wanted accuracy."""
    from scipy.special import logsumexp

    cross = noise @ centres.T
    gram = centres @ centres.T
    squares = np.diag(gram)

    def achieved(scale: float) -> float:
        # log N(x | s c_j, I) up to a constant, for x = s c_i + noise.
        log_density = scale * (scale * gram[cluster] + cross) - 0.5 * scale**2 * squares
        by_class = log_density.reshape(len(cluster), -1, n_clusters)
        predicted = logsumexp(by_class, axis=2).argmax(axis=1)
        return float(np.mean(predicted == cluster // n_clusters))

    low, high = 0.0, 100.0
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if achieved(middle) < accuracy else (low, middle)
    return high
