"""Features of inner layers: images with one channel moved (Figure 3d)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowgmm.analyses.inputs import Model, generator
from flowgmm.analyses.results import Findings, float32, number

__all__ = ["features", "pooled"]


def features(
    model: Model, *, maps: Sequence[Sequence[int]], alphas: Sequence[float], n_images: int
) -> Findings:
    """Test images with one channel of an inner layer moved (Figure 3d).

    Arguments:
        model: The model.
        maps: Layer (a step of the table of spec 1.3) and channel of each visualisation.
        alphas: Shifts, in standard deviations of the channel.
        n_images: Test images, of as many classes.

    Returns:
        Arrays: ``images`` as they went in, (n_images, C, H, W); for each of `maps`, by its place m,
        ``images_m`` (n_images, n_alphas, C, H, W), and ``counts_m``, ``edges_m``: histogram of the
        channel's activations.

    Source: Izmailov et al. (2020), section 6.3; spec 1.8.
    """
    X, y = model.data.test
    estimator = model.estimators[0]
    rng = generator("features", model.seeds[0])
    classes = rng.permutation(np.unique(y))[:n_images]
    chosen = X[[rng.choice(np.flatnonzero(y == k)) for k in classes]]
    some = X[rng.permutation(len(X))[:256]]
    arrays: dict[str, np.ndarray] = {}
    details: list[dict[str, Any]] = []
    errors, moved = [], []
    for m, (layer, channel) in enumerate(maps):
        images = np.stack(
            [
                [estimator.perturb_feature(x, layer, channel, alpha) for alpha in alphas]
                for x in chosen
            ]
        )
        unmoved = np.stack([estimator.perturb_feature(x, layer, channel, 0.0) for x in chosen])
        originals = pooled(chosen, unmoved.shape[-1])
        errors.append(np.abs(unmoved - originals).max())
        moved.append(np.abs(images - unmoved[:, None]).mean(axis=(0, 2, 3, 4)).max())
        activations = estimator.feature_maps(some, layer)[:, channel]
        counts, edges = np.histogram(activations, bins=60)
        arrays |= {
            "images": float32(originals),
            f"images_{m}": float32(images),
            f"counts_{m}": counts,
            f"edges_{m}": float32(edges),
        }
        details.append(
            {
                "layer": layer,
                "channel": channel,
                "alphas": list(alphas),
                "mean": float(activations.mean()),
                "std": float(estimator.feature_std_[layer][channel]),
            }
        )
    numbers = [
        # Half a grey level: the middle of the interval that dequantisation spreads a level over.
        number(
            "round_trip",
            "largest error of an image that is not moved",
            "share",
            [max(errors)],
            at_most=1 / 255,
        ),
        number(
            "moved",
            "largest mean change of an image over the shifts",
            "share",
            [max(moved)],
            at_least=1 / 255,
        ),
    ]
    return Findings(numbers, arrays, {"maps": details})


def pooled(images: np.ndarray, side: int) -> np.ndarray:
    """Images (N, C, H, W), uint8, as floats in [0, 1] of `side` x `side` averages of pixels."""
    n, c, height, width = images.shape
    blocks = images.reshape(n, c, side, height // side, side, width // side)
    return blocks.mean(axis=(3, 5)) / 255
