"""Figures of image models across a page: Figures 3, 5 and 6."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm.reporting.figures.parts import label_columns, label_rows, mosaic, say
from flowgmm.reporting.plot_style import COLOURS, PAGE_STYLE, class_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flowgmm.analyses.results import Found

__all__ = ["draw_latent_space", "draw_likelihoods", "draw_samples"]


def draw_latent_space(found: "Sequence[Found]") -> "Figure":
    """Interpolations (a, b), distances to the boundary (c), one channel moved (d).

    Arguments:
        found: Of the analyses interpolation, boundary and features.

    Source: Izmailov et al. (2020), Figure 3.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    lines, boundary, features = found
    with matplotlib.rc_context(PAGE_STYLE):
        figure = plt.figure(figsize=(7, 6.2), layout="constrained")
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.35, 3.0))[:, 0]
        axes = top.subplots(2, 2, height_ratios=(1.5, 1))
        if lines.missing:
            say(axes, lines.missing, "(a, b) interpolation")
        else:
            lowest = [lines.arrays[f"log_p_{kind}"].mean(axis=0) for kind in ("same", "different")]
            window = _window(np.concatenate(lowest))
            for column, kind, title in zip(
                axes.T, ("same", "different"), ("(a) one class", "(b) two classes"), strict=True
            ):
                mosaic(column[0], lines.arrays[f"images_{kind}"], title)
                _draw_path(column[1], lines.arrays[f"log_p_{kind}"], window)
            axes[1, 0].set_ylabel(r"$\log p(x)$, nats")
        left, right = bottom.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.25))[0]
        _draw_distances(left.subplots(), boundary)
        _draw_features(right.subplots(2, 2, height_ratios=(2, 1)), features)
        return figure


def _draw_path(ax: "Axes", log_p: np.ndarray, window: tuple[float, float]) -> None:
    """Mean log p along the paths and the range of its middle half, below the images."""
    x = np.linspace(0, 1, log_p.shape[1])
    low, high = np.quantile(log_p, [0.25, 0.75], axis=0)
    ax.fill_between(x, low, high, color=COLOURS[4], alpha=0.4, linewidth=0)
    ax.plot(x, log_p.mean(axis=0), color=COLOURS[0])
    half = 0.5 / (len(x) - 1)  # half an image
    ax.set(xlim=(-half, 1 + half), ylim=window, xticks=[0, 1], xticklabels=["$x_1$", "$x_2$"])
    ax.locator_params(axis="y", nbins=3)


def _window(values: np.ndarray) -> tuple[float, float]:
    """Limits around the values with room for the spread of single paths."""
    low, high = float(values.min()), float(values.max())
    room = 0.6 * (high - low) or 1.0
    return low - room, high + room


def _draw_distances(ax: "Axes", found: "Found") -> None:
    """Histograms of the distance to the boundary, with what lies below the threshold."""
    ax.set_title("(c) distance to the boundary")
    if found.missing:
        say(ax, found.missing)
        return
    threshold = found.result["details"]["threshold"]
    highest = max(found.arrays[name].max() for name in ("sup", "cons"))
    bins = np.linspace(0, highest, 41).tolist()
    rows = (("sup", "labelled only", COLOURS[1]), ("cons", "consistency", COLOURS[0]))
    for name, text, colour in rows:
        count = int((found.arrays[name] < threshold).sum())
        label = f"{text}\n({count:,} below {threshold:g})"
        ax.hist(found.arrays[name], bins, color=colour, alpha=0.35, label=label)
        ax.hist(found.arrays[name], bins, histtype="step", color=colour, linewidth=1.2)
    ax.axvline(threshold, ymax=0.65, color="black", linewidth=0.8, linestyle="dashed")
    ax.set(xlabel="latent distance", ylabel="unlabelled images", xlim=(0, highest))
    ax.margins(y=0.45)
    ax.legend(loc="upper left", frameon=False)


def _draw_features(axes: np.ndarray, found: "Found") -> None:
    """Images with one channel moved, and the activations of that channel."""
    if found.missing:
        say(axes, found.missing, "(d) features")
        return
    for m, (column, entry) in enumerate(zip(axes.T, found.result["details"]["maps"], strict=False)):
        title = f"layer {entry['layer']}, channel {entry['channel']}"
        images, histogram = column
        mosaic(images, found.arrays[f"images_{m}"], f"(d) {title}" if m == 0 else title)
        alphas = [f"${alpha:g}$" for alpha in entry["alphas"]]
        label_columns(images, alphas, found.arrays[f"images_{m}"].shape[-1])
        counts, edges = found.arrays[f"counts_{m}"], found.arrays[f"edges_{m}"]
        histogram.stairs(counts, edges, fill=True, color="0.7")
        marks = entry["mean"] + entry["std"] * np.array(entry["alphas"])
        for mark, alpha in zip(marks, alphas, strict=True):
            histogram.axvline(mark, color=COLOURS[5], linewidth=1.0)
            place: Any = {"ha": "center", "va": "bottom", "fontsize": 8, "color": COLOURS[5]}
            histogram.text(mark, 1.02, alpha, transform=histogram.get_xaxis_transform(), **place)
        low, high = min(marks[0], edges[0]), max(marks[-1], edges[-1])
        room = 0.05 * (high - low)
        histogram.set(yticks=[], xlim=(low - room, high + room))
        histogram.locator_params(axis="x", nbins=4)
        histogram.set_xlabel(r"activation, $\alpha$ marked")


def draw_likelihoods(found: "Sequence[Found]") -> "Figure":
    """Likelihoods of test images under two models, and images that fall on another class's mode.

    Arguments:
        found: Two analyses ood; examples are the second's.

    Source: Izmailov et al. (2020), Figure 5.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    with matplotlib.rc_context(PAGE_STYLE):
        figure, axes = plt.subplots(
            1, 3, figsize=(7, 2.6), layout="constrained", width_ratios=(1.2, 1.2, 1)
        )
        for ax, letter, entry in zip(axes, "ab", found, strict=False):
            _draw_histograms(ax, letter, entry)
        _draw_examples(axes[2], found[1])
        handles, labels = axes[0].get_legend_handles_labels()
        more = dict(zip(*axes[1].get_legend_handles_labels()[::-1], strict=True))
        known = dict(zip(labels, handles, strict=True)) or more
        if known:
            figure.legend(known.values(), known, loc="outside upper left", ncols=3, frameon=False)
        return figure


# One colour for each dataset, in both panels.
DATASETS = ("mnist", "fashion_mnist", "notmnist")


def _draw_histograms(ax: "Axes", letter: str, found: "Found") -> None:
    """Log-likelihoods of every dataset under one model."""
    if found.missing:
        say(ax, found.missing, f"({letter})")
        return
    details = found.result["details"]
    names = sorted(details["titles"], key=[*DATASETS, *details["titles"]].index)
    rows = [found.arrays[f"log_p_{name}"] for name in names]
    low = min(np.quantile(row, 0.01) for row in rows)
    high = max(row.max() for row in rows)
    bins = np.linspace(low, high, 51).tolist()
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        weights = np.full(len(row), 1 / len(row))
        inside = np.clip(row, low, high)
        style: Any = {"weights": weights, "color": class_colour(i)}
        ax.hist(inside, bins, alpha=0.35, label=details["titles"][name], **style)
        ax.hist(inside, bins, histtype="step", linewidth=1.0, **style)
    ax.set(yticks=[], xlabel=r"$\log p(x)$, nats", xlim=(low, high))
    ax.set_title(f"({letter}) model of {details['titles'][details['home']]}")
    ax.locator_params(axis="x", nbins=3)


def _draw_examples(ax: "Axes", found: "Found") -> None:
    """Images on the mode of another class, likelier than the median image of that class."""
    if found.missing:
        say(ax, found.missing, "(c)")
        return
    details = found.result["details"]
    ((name, k),) = details["mode"].items() or [(None, None)]
    if name is None:
        say(ax, "the dataset is left out", "(c)")
        return
    label, title = details["classes"][k], details["titles"][name]
    share = found.numbers[f"share_{name}"]["value"]
    text = f"(c) {title} on the\nmode of {label.lower()} ({share:.0f} %)"
    images = found.arrays[f"examples_{name}"] / 255
    if not len(images):
        say(ax, f"none is likelier than the median {label.lower()}", text)
        return
    n = len(images) // 4 * 4 or len(images)
    mosaic(ax, images[:n].reshape(-1, min(4, n), *images.shape[1:]), text)


def draw_samples(found: "Sequence[Found]") -> "Figure":
    """Images of the means and samples around them, one row for each class.

    Arguments:
        found: Of the analysis samples.

    Source: Izmailov et al. (2020), Figure 6.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    (entry,) = found
    with matplotlib.rc_context(PAGE_STYLE | {"figure.constrained_layout.wspace": 0.04}):
        if entry.missing:
            figure, ax = plt.subplots(figsize=(7, 1.5), layout="constrained")
            say(ax, entry.missing)
            return figure
        temperatures = entry.result["details"]["temperatures"]
        samples = [entry.arrays[f"samples_{t}"] for t in range(len(temperatures))]
        n_classes, n = samples[0].shape[:2]
        widths = [2, *[n] * len(samples)]
        height = 6.4 * n_classes / sum(widths) + 0.5
        figure, axes = plt.subplots(
            1, len(widths), figsize=(7, height), width_ratios=widths, layout="constrained"
        )
        mosaic(axes[0], entry.arrays["means"][:, None], "(a) means")
        label_rows(axes[0], entry.result["details"]["classes"], samples[0].shape[-1])
        for ax, letter, rows, t in zip(axes[1:], "bcdefg", samples, temperatures, strict=False):
            mosaic(ax, rows, f"({letter}) samples, $T = {t:g}$")
        return figure
