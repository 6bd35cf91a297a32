"""Out-of-distribution images: their likelihoods and modes (Figure 5)."""

from collections.abc import Mapping, Sequence

import numpy as np

from flowgmm.analyses.inputs import Data, Model, generator
from flowgmm.analyses.latent import bits, n_dims
from flowgmm.analyses.results import Findings, number

__all__ = ["ood"]


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
    from sklearn.metrics import roc_auc_score

    arrays: dict[str, np.ndarray] = {}
    log_p: dict[str, list[np.ndarray]] = {name: [] for name in data}
    classes: dict[str, list[np.ndarray]] = {name: [] for name in data}
    ranks, blank, examples = [], [], []
    own_X, own_y = model.data.test
    for s, estimator in enumerate(model.estimators):
        for name, other in data.items():
            X, _ = other.test
            log_p[name].append(estimator.score_samples(X))
            classes[name].append(estimator.predict(X))
        zero = np.zeros_like(own_X[:1])
        ranks.append(100 * float((log_p[model.dataset][s] < estimator.score_samples(zero)).mean()))
        blank.append(int(estimator.predict(zero)[0]))
        for name, k in mode.items():
            if name in data:
                typical = np.median(log_p[model.dataset][s][own_y == k])
                found = (classes[name][s] == k) & (log_p[name][s] > typical)
                examples.append(100 * float(found.mean()))
                if s == 0:
                    rows = np.flatnonzero(found)
                    rows = generator("ood", model.seeds[0]).permutation(rows)[:12]
                    arrays[f"examples_{name}"] = data[name].test[0][rows]
    n_classes = len(model.estimators[0].means_)
    first = model.estimators[0]
    for name in data:
        arrays[f"log_p_{name}"] = log_p[name][0]
        arrays[f"modes_{name}"] = np.bincount(classes[name][0], minlength=n_classes) / len(
            classes[name][0]
        )
    titles = {name: other.title for name, other in data.items()}
    numbers = [
        number(
            f"median_{name}",
            f"median of {titles[name]}",
            "bits/dim",
            [bits(np.median(rows), first) for rows in log_p[name]],
        )
        for name in data
    ]
    for name in data:
        if name != model.dataset:
            auroc = [
                roc_auc_score(np.repeat([1, 0], [len(a), len(b)]), np.concatenate([a, b]))
                for a, b in zip(log_p[model.dataset], log_p[name], strict=True)
            ]
            title = f"AUROC of log p(x), {titles[model.dataset]} against {titles[name]}"
            numbers.append(number(f"auroc_{name}", title, "share", auroc))
    for a, b in above:
        if a in data and b in data:
            gap = [
                float(np.median(p) - np.median(q)) for p, q in zip(log_p[a], log_p[b], strict=True)
            ]
            title = f"median log p of {titles[a]} minus that of {titles[b]}"
            numbers.append(number(f"{a}_above_{b}", title, "nats", gap, at_least=0.0))
    for name, k in mode.items():
        if name not in data:
            continue
        shares = [np.bincount(c, minlength=n_classes) / len(c) for c in classes[name]]
        label = model.data.meta["classes"][k]
        margins = [100 * (share[k] - np.delete(share, k).max()) for share in shares]
        where = f"{titles[name]} on the mode of {label}"
        numbers += [
            number(f"share_{name}", where, "percent", [100 * share[k] for share in shares]),
            number(
                f"lead_{name}",
                "the same minus the next largest share of a mode",
                "percent",
                margins,
                at_least=0.0,
            ),
            number(
                f"likelier_{name}",
                f"{where}, likelier than the median {label}",
                "percent",
                examples,
            ),
        ]
    numbers.append(
        number(
            "blank_rank",
            f"{titles[model.dataset]} less likely than a black image",
            "percent",
            ranks,
        )
    )
    if blank_class is not None:
        numbers.append(
            number(
                "blank_class",
                f"the black image falls on {model.data.meta['classes'][blank_class]}",
                "share",
                [float(k == blank_class) for k in blank],
                at_least=1.0,
            )
        )
    details = {
        "titles": titles,
        "model": model.title,
        "home": model.dataset,
        "classes": model.data.meta["classes"],
        "blank_classes": blank,
        "n_dims": n_dims(first),
        "mode": {name: k for name, k in mode.items() if name in data},
        "left_out": sorted({*mode, *(name for pair in above for name in pair)} - set(data)),
    }
    return Findings(numbers, arrays, details)
