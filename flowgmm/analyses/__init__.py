"""Analyses of image models: the numbers and pictures behind Figures 3, 5, 6 and the appendices.

An analysis is a function of fitted models and data, without side effects, and `FUNCTIONS` is the
list of them. Numbers come from every seed that did not fail; arrays, from which a figure is drawn,
from the first one. `flowgmm.experiments.analysis_job` reads their inputs and writes what they find.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_meta, read_tensors
from flowgmm.utils.seeds import derive

__all__ = [
    "FUNCTIONS",
    "Data",
    "Findings",
    "Model",
    "Number",
    "boundary",
    "calibration",
    "check_arguments",
    "em",
    "features",
    "imbalance",
    "interpolation",
    "means",
    "ood",
    "ordering",
    "samples",
    "student_t",
]


# What calibration compares.
KEYS = ("class_nll", "ece", "accuracy")


@dataclass(frozen=True)
class Number:
    """A number over seeds, and perhaps a claim about it.

    Attributes:
        name: Its name within the analysis.
        title: What it is, in words.
        unit: ``percent``, ``count``, ``ratio``, ``share`` (0 to 1), ``nats``, ``bits/dim``.
        values: By seed.
        value: Their mean, unless given.
        at_least, at_most: Bounds that the paper or the specification claims.
        n_points: Points behind each value, of an accuracy.
    """

    name: str
    title: str
    unit: str
    values: tuple[float, ...]
    value: float
    at_least: float | None = None
    at_most: float | None = None
    n_points: int | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the value lies within the claimed bounds; None without any."""
        if self.at_least is None and self.at_most is None:
            return None
        return _within(self.value, self.at_least, self.at_most)

    @property
    def n_holds(self) -> int:
        """Seeds whose own value lies within them."""
        return sum(_within(value, self.at_least, self.at_most) for value in self.values)


def _float32(array: Any) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _number(
    name: str,
    title: str,
    unit: str,
    values: Sequence[float] | np.ndarray,
    value: float | None = None,
    **claim: Any,
) -> Number:
    numbers = tuple(float(v) for v in values)
    mean = float(np.mean(numbers)) if value is None else float(value)
    return Number(name, title, unit, numbers, mean, **claim)


@dataclass(frozen=True)
class Findings:
    """What an analysis found.

    Attributes:
        numbers: For the overview.
        arrays: What a figure draws.
        details: Anything else worth keeping, as JSON.
    """

    numbers: list[Number]
    arrays: dict[str, np.ndarray]
    details: dict[str, Any] = field(default_factory=dict)


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
        """Their classes, shape (N,)."""
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


def _pairs(a: Model, b: Model) -> Iterator[tuple[int, int]]:
    """Places of the seeds that both models have: the same number is the same split.

    Raises:
        UserError: If there is none.
    """
    common = [seed for seed in a.seeds if seed in b.seeds]
    if not common:
        raise UserError(
            f"{a.title} and {b.title} have no seed in common that did not fail; run more seeds"
        )
    return iter([(a.seeds.index(seed), b.seeds.index(seed)) for seed in common])


def _generator(analysis: str, seed: int) -> np.random.Generator:
    """Random choices of an analysis, such as which images are shown."""
    return np.random.default_rng(derive(f"analysis/{analysis}", seed, "batches"))


def _n_dims(estimator: Any) -> int:
    return int(estimator.means_.shape[1])


def _bits(nats: Any, estimator: Any) -> Any:
    """Bits per dimension of a log-likelihood in nats: the fewer, the likelier."""
    return -nats / (_n_dims(estimator) * np.log(2))


def _log_mixture(estimator: Any, z: np.ndarray) -> np.ndarray:
    """Latent density log p(z) in nats, shape (N,), of z with shape (N, D)."""
    from scipy.special import logsumexp

    z, mu = z.astype(np.float64), estimator.means_.astype(np.float64)
    std = np.asarray(estimator.std_, dtype=np.float64)
    squared = np.stack([((z - centre) ** 2).sum(axis=1) for centre in mu], axis=1)
    d = z.shape[1]
    log_n = -squared / (2 * std**2) - d * np.log(std) - d / 2 * np.log(2 * np.pi)
    return logsumexp(np.log(estimator.weights_.astype(np.float64)) + log_n, axis=1)


# The paper's main claim


def ordering(sup: Model, plain: Model, cons: Model) -> Findings:
    """Test accuracies with labelled points alone, with unlabelled ones, and with consistency.

    The paper's order (Tables 3 and 4; claim C3) is tested split by split: every split has its own
    labelled points, which move all three together.

    Arguments:
        sup: Trained on the labelled points alone.
        plain: Trained on labelled and unlabelled points.
        cons: The same with the consistency term.
    """
    models = {"sup": sup, "plain": plain, "cons": cons}
    differences = {
        "plain_minus_sup": "unlabelled points minus none",
        "cons_minus_plain": "consistency minus none",
        "cons_minus_sup": "both minus neither",
    }
    return _accuracies(models, differences, at_least=0.0)


# Table 5, where a run has validation points


def calibration(model: Model) -> Findings:
    """Class NLL and calibration on test points, before and after one temperature (Table 5).

    Arguments:
        model: Its runs are evaluated on ``test`` and ``test_tempered``.
    """
    before, after = (
        {key: np.array([run["metrics"][part][key] for run in model.runs]) for key in KEYS}
        for part in ("test", "test_tempered")
    )
    ratios = after["class_nll"] / before["class_nll"]
    change = 100 * (after["accuracy"] - before["accuracy"])
    numbers = [
        _number("nll", "class NLL", "nats", before["class_nll"]),
        _number("nll_tempered", "class NLL, tempered", "nats", after["class_nll"]),
        _number("nll_ratio", "class NLL, tempered to plain", "ratio", ratios, at_most=0.5),
        _number("ece", "expected calibration error", "share", before["ece"]),
        _number("ece_tempered", "the same, tempered", "share", after["ece"], at_most=0.06),
        _number(
            "accuracy_change",
            "accuracy, tempered minus plain",
            "percent",
            change,
            at_least=0.0,
            at_most=0.0,
        ),
    ]
    return Findings(numbers, {"temperature": np.array([r["temperature"] for r in model.runs])})


# Figure 3


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
        rng = _generator("interpolation", seed)
        right = np.flatnonzero(estimator.predict(X) == y)
        for kind in ("same", "different"):
            first, second = _image_pairs(y, right, kind == "same", n_pairs, rng)
            a = np.linspace(0, 1, n_points, dtype=np.float32)[None, :, None]
            ends = estimator.transform(X[np.concatenate([first, second])])
            z = (1 - a) * ends[:n_pairs, None] + a * ends[n_pairs:, None]
            z = z.reshape(n_pairs * n_points, -1)
            images = estimator.inverse_transform(z)
            log_p = estimator.score_samples(images).reshape(n_pairs, n_points)
            latent = _log_mixture(estimator, z).reshape(n_pairs, n_points)
            for name, rows in ((kind, log_p), (f"latent_{kind}", latent)):
                drops.setdefault(name, []).append(_drop(rows))
            if s == 0:
                shown = images.reshape(n_pairs, n_points, *images.shape[1:])[:n_shown]
                arrays |= {f"images_{kind}": _float32(shown), f"log_p_{kind}": log_p}
                classes[kind] = np.stack([y[first], y[second]], axis=1)[:n_shown].tolist()
    fitted = model.estimators[0]
    contrast = [b - a for a, b in zip(drops["same"], drops["different"], strict=True)]
    numbers = [
        _number(f"drop_{kind}", f"drop of log p(x) halfway, {text}", "nats", drops[kind])
        for kind, text in (("same", "one class"), ("different", "two classes"))
    ]
    numbers += [
        _number(
            "contrast", "drop between two classes minus within one", "nats", contrast, at_least=0.0
        ),
        _number(
            "contrast_bits",
            "the same per dimension",
            "bits/dim",
            [_bits(-c, fitted) for c in contrast],
        ),
    ]
    numbers += [
        _number(
            f"drop_latent_{kind}",
            f"drop of log p(z) halfway, {text}",
            "nats",
            drops[f"latent_{kind}"],
        )
        for kind, text in (("same", "one class"), ("different", "two classes"))
    ]
    return Findings(numbers, arrays, {"classes": classes, "n_dims": _n_dims(fitted)})


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
    for i, j in _pairs(sup, cons):
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
            _number(f"n_close_{name}", f"unlabelled images {below}, {text}", "count", counts),
            _number(f"share_close_{name}", f"the same as a share, {text}", "percent", shares),
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
    return Findings(numbers, {k: _float32(v) for k, v in arrays.items()}, details)


def _ratio(name: str, title: str, pairs: Sequence[Sequence[float]], claimed: bool = True) -> Number:
    """First to second of each pair; of counts a second of 0 is taken as 1, a lower bound."""
    ratios = [a / b if b else float(a) for a, b in pairs]
    total = sum(a for a, _ in pairs) / (sum(b for _, b in pairs) or 1)
    # Spec 8.6. The mean of ratios of small counts would be ruled by the smallest.
    return _number(name, title, "ratio", ratios, total, at_least=3.0 if claimed else None)


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
    rng = _generator("features", model.seeds[0])
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
            "images": _float32(originals),
            f"images_{m}": _float32(images),
            f"counts_{m}": counts,
            f"edges_{m}": _float32(edges),
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
        _number(
            "round_trip",
            "largest error of an image that is not moved",
            "share",
            [max(errors)],
            at_most=1 / 255,
        ),
        _number(
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


# Figure 5


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
                    rows = _generator("ood", model.seeds[0]).permutation(rows)[:12]
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
        _number(
            f"median_{name}",
            f"median of {titles[name]}",
            "bits/dim",
            [_bits(np.median(rows), first) for rows in log_p[name]],
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
            numbers.append(_number(f"auroc_{name}", title, "share", auroc))
    for a, b in above:
        if a in data and b in data:
            gap = [
                float(np.median(p) - np.median(q)) for p, q in zip(log_p[a], log_p[b], strict=True)
            ]
            title = f"median log p of {titles[a]} minus that of {titles[b]}"
            numbers.append(_number(f"{a}_above_{b}", title, "nats", gap, at_least=0.0))
    for name, k in mode.items():
        if name not in data:
            continue
        shares = [np.bincount(c, minlength=n_classes) / len(c) for c in classes[name]]
        label = model.data.meta["classes"][k]
        lead = [100 * (share[k] - np.delete(share, k).max()) for share in shares]
        where = f"{titles[name]} on the mode of {label}"
        numbers += [
            _number(f"share_{name}", where, "percent", [100 * share[k] for share in shares]),
            _number(
                f"lead_{name}",
                "the same minus the next largest share of a mode",
                "percent",
                lead,
                at_least=0.0,
            ),
            _number(
                f"likelier_{name}",
                f"{where}, likelier than the median {label}",
                "percent",
                examples,
            ),
        ]
    numbers.append(
        _number(
            "blank_rank",
            f"{titles[model.dataset]} less likely than a black image",
            "percent",
            ranks,
        )
    )
    if blank_class is not None:
        numbers.append(
            _number(
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
        "n_dims": _n_dims(first),
        "mode": {name: k for name, k in mode.items() if name in data},
        "left_out": sorted({*mode, *(name for pair in above for name in pair)} - set(data)),
    }
    return Findings(numbers, arrays, details)


# Figure 6


def samples(model: Model, *, temperatures: Sequence[float], n_per_class: int) -> Findings:
    """Images of the means, and of latent samples around them (Figure 6).

    Arguments:
        model: The model.
        temperatures: Factors on the standard deviation of the latent noise.
        n_per_class: Samples of each class.

    Returns:
        Arrays ``means`` (K, C, H, W) and ``samples_{t}`` (K, n_per_class, C, H, W), with t the
        place of the temperature.

    Source: Izmailov et al. (2020), Appendix I; spec 1.8.
    """
    arrays: dict[str, np.ndarray] = {}
    agree: list[list[float]] = [[] for _ in temperatures]
    for s, (seed, estimator) in enumerate(zip(model.seeds, model.estimators, strict=True)):
        y = np.repeat(estimator.classes_, n_per_class)
        for t, temperature in enumerate(temperatures):
            state = derive("analysis/samples", seed, "batches")
            images, _ = estimator.sample(len(y), y=y, temperature=temperature, random_state=state)
            agree[t].append(100 * float(np.mean(estimator.predict(images) == y)))
            if s == 0:
                shape = (len(estimator.classes_), n_per_class, *images.shape[1:])
                arrays[f"samples_{t}"] = _float32(images.reshape(shape))
        if s == 0:
            arrays["means"] = _float32(estimator.inverse_transform(estimator.means_))
    numbers = [
        _number("accuracy", "test accuracy", "percent", model.accuracies(), n_points=model.n_test())
    ]
    numbers += [
        _number(
            f"agree_{t}",
            f"samples at T = {temperature:g} that the model gives their class",
            "percent",
            agree[t],
        )
        for t, temperature in enumerate(temperatures)
    ]
    details = {"temperatures": list(temperatures), "classes": model.data.meta["classes"]}
    return Findings(numbers, arrays, details)


# Appendices A, B, J, K


def em(direct: Model, em: Model) -> Findings:
    """Test accuracy when the likelihood is maximised directly and by EM (Appendix A).

    With one gradient step per expectation both have the same gradient (spec 1.6d); what is left is
    the noise of two runs.

    Arguments:
        direct: Trained by gradient steps on the likelihood.
        em: Trained by expectation and maximisation in turn.
    """
    models = {"direct": direct, "em": em}
    return _accuracies(models, {"em_minus_direct": "EM minus direct"}, at_least=-1.5, at_most=1.5)


def means(random: Model, from_latent: Model, *, early: float) -> Findings:
    """Means drawn at random against means at the labelled points' first codes (Appendix B).

    Arguments:
        random: Trained with random means.
        from_latent: Trained with means of the initial latent codes of each class.
        early: Share of the steps after which the losses are compared.

    Returns:
        Arrays ``steps`` (n,) and ``loss_{name}`` (seeds, n) in nats, NaN where it was not finite.
    """
    models = {"random": random, "from_latent": from_latent}
    # The paper: it converges faster, and ends lower.
    differences = {"from_latent_minus_random": "from latent codes minus random"}
    found = _accuracies(models, differences, at_most=0.0)
    curves = {}
    for name, model in models.items():
        histories = [run["history"] for run in model.runs]
        rows = [[np.nan if v is None else v for v in h["loss"]] for h in histories]
        curves[name] = np.array(rows, dtype=np.float64)
        found.arrays[f"steps_{name}"] = np.array(histories[0]["step"], dtype=np.int64)
        found.arrays[f"loss_{name}"] = curves[name]
    look = {
        name: int(np.abs(found.arrays[f"steps_{name}"] - early * steps[-1]).argmin())
        for name in models
        for steps in [found.arrays[f"steps_{name}"]]
    }
    gap = [
        curves["from_latent"][j, look["from_latent"]] - curves["random"][i, look["random"]]
        for i, j in _pairs(random, from_latent)
    ]
    title = f"loss after {early:.0%} of the steps, from latent codes minus random"
    found.numbers.append(_number("early_loss", title, "nats", gap, at_most=0.0))
    return found


def _accuracies(
    models: Mapping[str, Model], differences: Mapping[str, str], **claim: float
) -> Findings:
    """Accuracies of models, and differences of two on the seeds, and so splits, of both.

    Arguments:
        models: By name.
        differences: Title by ``{name}_minus_{name}``.
        claim: Bounds of every difference.
    """
    numbers = [
        _number(
            name,
            f"test accuracy, {model.title}",
            "percent",
            model.accuracies(),
            n_points=model.n_test(),
        )
        for name, model in models.items()
    ]
    for name, title in differences.items():
        more, less = (models[part] for part in name.split("_minus_"))
        a, b = less.accuracies(), more.accuracies()
        gaps = [b[j] - a[i] for i, j in _pairs(less, more)]
        numbers.append(_number(name, f"accuracy, {title}", "percent", gaps, **claim))
    arrays = {f"accuracy_{name}": np.array(m.accuracies()) for name, m in models.items()}
    details = {"titles": {name: model.title for name, model in models.items()}}
    return Findings(numbers, arrays, details)


def student_t(gaussian: Model, student_t: Model, *, confidence: float) -> Findings:
    """Confidences on test images of a Gaussian and of a Student-t mixture (Appendix J).

    Arguments:
        gaussian: Trained with Gaussian components.
        student_t: Trained with Student-t components.
        confidence: Images whose largest class probability lies below it are counted.

    Returns:
        Arrays ``doubt_{name}``: 1 - largest class probability, ascending, (N,).
    """
    models = {"gaussian": gaussian, "student_t": student_t}
    found = _accuracies(models, {"student_t_minus_gaussian": "Student-t minus Gaussian"})
    for name, model in models.items():
        X, _ = model.data.test
        # The sum of the others: 1 - p has no digits left where p rounds to 1.
        doubts = [
            np.exp(np.sort(e.predict_log_proba(X), axis=1)[:, :-1]).sum(axis=1)
            for e in model.estimators
        ]
        counts = [int((doubt > 1 - confidence).sum()) for doubt in doubts]
        title = f"of {len(X)} test images, confidence below {confidence:g}, {model.title}"
        found.numbers.append(_number(f"n_below_{name}", title, "count", counts))
        found.arrays[f"doubt_{name}"] = np.sort(doubts[0])
    found.details["confidence"] = confidence
    return found


def imbalance(all_points: Model, unlabelled: Model) -> Findings:
    """Class weights learnt from unbalanced data (Appendix K).

    Half of each batch is labelled, in equal numbers of each class, so that weights learnt from all
    points settle at the average of both halves' shares (spec 2.4); weights learnt from the
    unlabelled points alone should settle at theirs.

    Arguments:
        all_points: Its weights are learnt from all points.
        unlabelled: Its weights are learnt from the unlabelled points alone.

    Returns:
        Arrays (K,): ``weights_all``, ``weights_unlabelled``, means over the seeds; ``shares``,
        those of the unlabelled points; ``predicted``, for the weights from all points.
    """
    arrays = {}
    numbers = []
    for name, model, text in (
        ("all", all_points, "all points"),
        ("unlabelled", unlabelled, "unlabelled points"),
    ):
        weights = np.stack([np.asarray(e.weights_, np.float64) for e in model.estimators])
        shares, predicted = [], []
        for i, split in enumerate(model.splits):
            y, n_classes = model.data.y_train, weights.shape[1]
            halves = [
                np.bincount(y[rows], minlength=n_classes) / len(rows)
                for rows in (split["labelled"], model.unlabelled(i))
            ]
            shares.append(halves[1])
            predicted.append(np.mean(halves, axis=0) if name == "all" else halves[1])
        deviation = np.abs(weights - predicted).max(axis=1)
        arrays[f"weights_{name}"] = weights.mean(axis=0)
        if name == "all":
            arrays |= {"shares": np.mean(shares, axis=0), "predicted": np.mean(predicted, axis=0)}
        numbers += [
            _number(
                f"weight_{name}_{k}",
                f"weight of class {k}, learnt from {text}",
                "share",
                weights[:, k].tolist(),
            )
            for k in range(weights.shape[1])
        ]
        against = "the two shares' average" if name == "all" else "the unlabelled shares"
        title = f"largest deviation of the weights from {against}, learnt from {text}"
        numbers.append(
            _number(f"deviation_{name}", title, "share", deviation.tolist(), at_most=0.02)
        )
    return Findings(numbers, arrays, {"classes": all_points.data.meta["classes"]})


FUNCTIONS: dict[str, Callable[..., Findings]] = {
    function.__name__: function
    for function in (
        boundary,
        calibration,
        em,
        features,
        imbalance,
        interpolation,
        means,
        ood,
        ordering,
        samples,
        student_t,
    )
}


def check_arguments(function: str, names: Sequence[str]) -> None:
    """Whether an analysis takes the named models, data and options, and needs no others.

    Raises:
        UserError: If it is unknown, or does not.
    """
    if function not in FUNCTIONS:
        raise UserError(f"function {function!r} is not known; choose one of {', '.join(FUNCTIONS)}")
    try:
        inspect.signature(FUNCTIONS[function]).bind(**dict.fromkeys(names))
    except TypeError as error:
        takes = ", ".join(inspect.signature(FUNCTIONS[function]).parameters)
        raise UserError(f"{function}: {error}; it takes {takes}") from error
