"""Interpolation between test images in the latent space (Figure 3a, b)."""

from typing import Any

import numpy as np

from flowgmm.analyses.inputs import Model, generator
from flowgmm.analyses.latent import bits, log_mixture, n_dims
from flowgmm.analyses.results import Findings, float32, number
from flowgmm.utils.errors import UserError

__all__ = ["interpolation"]


def interpolation(model: Model, *, n_points: int, n_pairs: int, n_shown: int) -> Findings:
    """Straight latent lines between test images of one class and of two (Figure 3a, b).

    Pairs are drawn among the images that the model classifies correctly. A path's drop is the mean
    log p(x) of its two ends minus that of its middle.

    Arguments:
        model: The model.
        n_points: Equidistant points of a line, both ends among them.
        n_pairs: Pairs of either kind behind the numbers.
        n_shown: Pairs of either kind whose images are kept.

    Returns:
        Arrays, for ``same`` and ``different``: images (n_shown, n_points, C, H, W) and log p(x) in
        nats (n_pairs, n_points).

    Source: Izmailov et al. (2020), section 6.1; spec 1.8.
    """
    X, y = model.data.test
    arrays: dict[str, np.ndarray] = {}
    drops: dict[str, list[float]] = {}
    classes: dict[str, Any] = {}
    for s, (seed, estimator) in enumerate(zip(model.seeds, model.estimators, strict=True)):
        rng = generator("interpolation", seed)
        right = np.flatnonzero(estimator.predict(X) == y)
        for kind in ("same", "different"):
            first, second = _image_pairs(y, right, kind == "same", n_pairs, rng)
            a = np.linspace(0, 1, n_points, dtype=np.float32)[None, :, None]
            ends = estimator.transform(X[np.concatenate([first, second])])
            z = (1 - a) * ends[:n_pairs, None] + a * ends[n_pairs:, None]
            z = z.reshape(n_pairs * n_points, -1)
            images = estimator.inverse_transform(z)
            log_p = estimator.score_samples(images).reshape(n_pairs, n_points)
            latent = log_mixture(estimator, z).reshape(n_pairs, n_points)
            for name, rows in ((kind, log_p), (f"latent_{kind}", latent)):
                drops.setdefault(name, []).append(_drop(rows))
            if s == 0:
                shown = images.reshape(n_pairs, n_points, *images.shape[1:])[:n_shown]
                arrays |= {f"images_{kind}": float32(shown), f"log_p_{kind}": log_p}
                classes[kind] = np.stack([y[first], y[second]], axis=1)[:n_shown].tolist()
    fitted = model.estimators[0]
    contrast = [b - a for a, b in zip(drops["same"], drops["different"], strict=True)]
    numbers = [
        number(f"drop_{kind}", f"drop of log p(x) halfway, {text}", "nats", drops[kind])
        for kind, text in (("same", "one class"), ("different", "two classes"))
    ]
    numbers += [
        number(
            "contrast", "drop between two classes minus within one", "nats", contrast, at_least=0.0
        ),
        number(
            "contrast_bits",
            "the same per dimension",
            "bits/dim",
            [bits(-c, fitted) for c in contrast],
        ),
    ]
    numbers += [
        number(
            f"drop_latent_{kind}",
            f"drop of log p(z) halfway, {text}",
            "nats",
            drops[f"latent_{kind}"],
        )
        for kind, text in (("same", "one class"), ("different", "two classes"))
    ]
    return Findings(numbers, arrays, {"classes": classes, "n_dims": n_dims(fitted)})


def _image_pairs(
    y: np.ndarray, rows: np.ndarray, same: bool, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of n pairs of two images of the same class or of different classes."""
    counts = np.bincount(y[rows])
    usable = np.flatnonzero(counts >= (2 if same else 1))
    if len(usable) < (1 if same else 2):
        raise UserError(
            f"{len(rows)} correctly classified test images make no pair of "
            f"{'one class' if same else 'two classes'}; train the model for longer"
        )
    pairs = []
    for _ in range(n):
        picked = rng.choice(usable, 1 if same else 2, replace=False)
        of = [rows[y[rows] == k] for k in picked]
        pairs.append(
            rng.choice(of[0], 2, replace=False) if same else [rng.choice(part) for part in of]
        )
    first, second = np.array(pairs).T
    return first, second


def _drop(log_p: np.ndarray) -> float:
    """Mean over paths of the ends' log p minus the middle's, of log_p (paths, points)."""
    n = log_p.shape[1]
    middle = log_p[:, (n - 1) // 2 : n // 2 + 1].mean(axis=1)
    return float(np.mean((log_p[:, 0] + log_p[:, -1]) / 2 - middle))
