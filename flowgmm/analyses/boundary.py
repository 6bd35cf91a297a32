"""Boundary between the classes: distances of unlabelled images to it (Figure 3c)."""

from collections.abc import Sequence

import numpy as np

from flowgmm.analyses.inputs import Model, pairs
from flowgmm.analyses.results import Findings, Number, float32, number

__all__ = ["boundary"]


def boundary(sup: Model, cons: Model, *, threshold: float, quantile: float) -> Findings:
    """Distance of the unlabelled training images to the decision boundary (Figure 3c).

    Latent distances grow with the square root of the dimensions, so that a count below a fixed
    distance means something else on smaller images. Hence also a threshold that does not depend on
    the scale: the distance below which a given share of the images lies with `sup`.

    Arguments:
        sup: Trained on the labelled points alone.
        cons: Trained on all points, with consistency.
        threshold: Distance below which images are counted.
        quantile: That share, 0 to 1.

    Returns:
        Arrays ``sup`` and ``cons``: distances, shape (n,).

    Source: Izmailov et al. (2020), section 6.2; spec 1.8.
    """
    distances = []
    for i, j in pairs(sup, cons):
        X = sup.data.X_train[sup.unlabelled(i)]
        distances.append([m.estimators[k].decision_distance(X) for m, k in ((sup, i), (cons, j))])
    n = [len(a) for a, _ in distances]
    close = [[int((part < threshold).sum()) for part in pair] for pair in distances]
    scaled = [[float(np.quantile(a, quantile)) for _ in (a, b)] for a, b in distances]
    near = [
        [int((part < limit).sum()) for part, limit in zip(pair, limits, strict=True)]
        for pair, limits in zip(distances, scaled, strict=True)
    ]
    below = f"closer than {threshold:g} to the boundary"
    nearest = f"closer than the nearest {100 * quantile:.3g} % of labelled-only"
    numbers = []
    for k, (name, text) in enumerate((("sup", "labelled-only"), ("cons", "consistency"))):
        counts = [pair[k] for pair in close]
        shares = [100 * count / of for count, of in zip(counts, n, strict=True)]
        numbers += [
            number(f"n_close_{name}", f"unlabelled images {below}, {text}", "count", counts),
            number(f"share_close_{name}", f"the same as a share, {text}", "percent", shares),
        ]
    numbers += [
        _ratio("ratio", f"labelled-only to consistency, images {below}", close),
        _ratio("ratio_quantile", f"the same, images {nearest}", near),
        _ratio(
            "ratio_median",
            "median distance, consistency to labelled-only",
            [[float(np.median(b)), float(np.median(a))] for a, b in distances],
            claimed=False,
        ),
    ]
    arrays = {"sup": distances[0][0], "cons": distances[0][1]}
    details = {"threshold": threshold, "scaled_threshold": scaled[0][0], "n_images": n}
    return Findings(numbers, {k: float32(v) for k, v in arrays.items()}, details)


def _ratio(name: str, title: str, pairs: Sequence[Sequence[float]], claimed: bool = True) -> Number:
    """First to second of each pair; of counts a second of 0 is taken as 1, a lower bound."""
    ratios = [a / b if b else float(a) for a, b in pairs]
    total = sum(a for a, _ in pairs) / (sum(b for _, b in pairs) or 1)
    # Spec 8.6. The mean of ratios of small counts would be ruled by the smallest.
    return number(name, title, "ratio", ratios, total, at_least=3.0 if claimed else None)
