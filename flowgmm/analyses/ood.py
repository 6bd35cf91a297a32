"""Out-of-distribution images: their likelihoods and modes (Figure 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowgmm.analyses.inputs import Data, Model, generator
from flowgmm.analyses.latent import bits, n_dims
from flowgmm.analyses.results import Findings, Number, number

__all__ = ["ood"]

# Images of a dataset that are shown for its mode.
N_EXAMPLES = 12


def ood(
    model: Model,
    data: Mapping[str, Data],
    *,
    above: Sequence[Sequence[str]],
    mode: Mapping[str, int],
    blank_class: int | None,
) -> Findings:
    """Likelihoods of test images from elsewhere, and the modes they fall on (Figure 5).

    Arguments:
        model: The model.
        data: Datasets by name, the model's own among them; those of `above` and `mode` that are
            absent are left out.
        above: Pairs of datasets, the first claimed to be the likelier.
        mode: Classes on which most images of a dataset are claimed to fall, by dataset.
        blank_class: Class claimed for the image that is black all over; None: nothing is claimed.

    Returns:
        Arrays ``log_p_{dataset}`` in nats, (N,); ``modes_{dataset}``: share of each class, (K,);
        ``examples_{dataset}``: images of a dataset in `mode` that fall on that class with a higher
        likelihood than the median image of that class, (n, C, H, W).

    Source: Izmailov et al. (2020), Appendix G; spec 1.8.
    """
    predictions = {name: _predict(model, other.test[0]) for name, other in data.items()}
    present = {name: k for name, k in mode.items() if name in data}
    typical = {name: _typical(model, predictions, name, k) for name, k in present.items()}
    titles = {name: other.title for name, other in data.items()}
    first = model.estimators[0]
    arrays: dict[str, np.ndarray] = {}
    for name in present:
        rows = np.flatnonzero(typical[name][0])
        rows = generator("ood", model.seeds[0]).permutation(rows)[:N_EXAMPLES]
        arrays[f"examples_{name}"] = data[name].test[0][rows]
    for name, predicted in predictions.items():
        arrays[f"log_p_{name}"] = predicted.log_p[0]
        arrays[f"modes_{name}"] = predicted.shares[0]
    numbers = _likelihoods(model, predictions, titles, above)
    for name, k in present.items():
        numbers += _mode(model, predictions[name], titles[name], name, k, typical[name])
    blank = _predict(model, np.zeros_like(model.data.test[0][:1]))
    numbers += _blank(model, predictions[model.dataset], blank, blank_class)
    details = {
        "titles": titles,
        "model": model.title,
        "home": model.dataset,
        "classes": model.data.meta["classes"],
        "blank_classes": [int(classes[0]) for classes in blank.classes],
        "n_dims": n_dims(first),
        "mode": present,
        "left_out": sorted({*mode, *(name for pair in above for name in pair)} - set(data)),
    }
    return Findings(numbers, arrays, details)


@dataclass(frozen=True)
class _Predictions:
    """Log p(x) in nats, classes and share of each class of one set of images, by seed."""

    log_p: list[np.ndarray]
    classes: list[np.ndarray]
    shares: list[np.ndarray]


def _predict(model: Model, X: np.ndarray) -> _Predictions:
    n_classes = len(model.estimators[0].means_)
    classes = [estimator.predict(X) for estimator in model.estimators]
    shares = [np.bincount(found, minlength=n_classes) / len(found) for found in classes]
    return _Predictions([e.score_samples(X) for e in model.estimators], classes, shares)


def _typical(
    model: Model, predictions: Mapping[str, _Predictions], name: str, k: int
) -> list[np.ndarray]:
    """Images that fall on class k, likelier than its median test image; a mask for each seed."""
    own, other = predictions[model.dataset], predictions[name]
    of_class = model.data.test[1] == k
    return [
        (classes == k) & (log_p > np.median(own_log_p[of_class]))
        for own_log_p, log_p, classes in zip(own.log_p, other.log_p, other.classes, strict=True)
    ]


def _likelihoods(
    model: Model,
    predictions: Mapping[str, _Predictions],
    titles: Mapping[str, str],
    above: Sequence[Sequence[str]],
) -> list[Number]:
    """Medians, separation from the model's own test images, and the claimed order."""
    from sklearn.metrics import roc_auc_score

    own, first = predictions[model.dataset], model.estimators[0]
    numbers = []
    for name, predicted in predictions.items():
        medians = [bits(np.median(log_p), first) for log_p in predicted.log_p]
        numbers.append(number(f"median_{name}", f"median of {titles[name]}", "bits/dim", medians))
    for name, predicted in predictions.items():
        if name != model.dataset:
            auroc = [
                roc_auc_score(np.repeat([1, 0], [len(a), len(b)]), np.concatenate([a, b]))
                for a, b in zip(own.log_p, predicted.log_p, strict=True)
            ]
            title = f"AUROC of log p(x), {titles[model.dataset]} against {titles[name]}"
            numbers.append(number(f"auroc_{name}", title, "share", auroc))
    for a, b in above:
        if a in predictions and b in predictions:
            pairs = zip(predictions[a].log_p, predictions[b].log_p, strict=True)
            gap = [float(np.median(p) - np.median(q)) for p, q in pairs]
            title = f"median log p of {titles[a]} minus that of {titles[b]}"
            numbers.append(number(f"{a}_above_{b}", title, "nats", gap, at_least=0.0))
    return numbers


def _mode(
    model: Model,
    predicted: _Predictions,
    title: str,
    name: str,
    k: int,
    typical: Sequence[np.ndarray],
) -> list[Number]:
    """Share of a dataset's images on the class claimed for them."""
    label = model.data.meta["classes"][k]
    where = f"{title} on the mode of {label}"
    margins = [100 * (share[k] - np.delete(share, k).max()) for share in predicted.shares]
    likelier = [100 * float(found.mean()) for found in typical]
    return [
        number(f"share_{name}", where, "percent", [100 * share[k] for share in predicted.shares]),
        number(
            f"lead_{name}",
            "the same minus the next largest share of a mode",
            "percent",
            margins,
            at_least=0.0,
        ),
        number(
            f"likelier_{name}", f"{where}, likelier than the median {label}", "percent", likelier
        ),
    ]


def _blank(
    model: Model, own: _Predictions, blank: _Predictions, blank_class: int | None
) -> list[Number]:
    """Rank and class of the image that is black all over."""
    ranks = [
        100 * float((log_p < of_blank).mean())
        for log_p, of_blank in zip(own.log_p, blank.log_p, strict=True)
    ]
    title = f"{model.data.title} less likely than a black image"
    numbers = [number("blank_rank", title, "percent", ranks)]
    if blank_class is not None:
        title = f"the black image falls on {model.data.meta['classes'][blank_class]}"
        hits = [float(classes[0] == blank_class) for classes in blank.classes]
        numbers.append(number("blank_class", title, "share", hits, at_least=1.0))
    return numbers
