"""Figures of analyses that are a column wide: accuracies, confidences, weights, losses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm.reporting.figures.parts import legend, say
from flowgmm.reporting.plot_style import COLOURS, COLUMN_STYLE, class_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flowgmm.analyses.results import Found

__all__ = ["draw_accuracies", "draw_class_weights", "draw_confidences", "draw_convergence"]


def draw_accuracies(found: "Sequence[Found]") -> "Figure":
    """Test accuracy of methods, one line for each seed; 3.3 inches wide.

    Printed numbers are drawn where ours can be compared with them.
    """
    figure, ax, entry = _column(found)
    if entry is None:
        return figure
    numbers, named = entry.numbers, entry.result["details"]["titles"]
    titles = {name: named[name] for name in numbers if name in named}  # json sorts its keys
    common = [set(entry.result["seeds"][name]) for name in titles]
    for seed in sorted(set.intersection(*common)):
        indices = [entry.result["seeds"][name].index(seed) for name in titles]
        values = [numbers[n]["values"][i] for n, i in zip(titles, indices, strict=True)]
        ax.plot(range(len(values)), values, "o-", color=COLOURS[0], label="ours, by seed")
    for i, name in enumerate(titles):
        printed = entry.printed.get(name)
        if printed and not entry.result["not_comparable"]:
            line: Any = {"color": COLOURS[1], "linestyle": "dashed", "label": "paper"}
            ax.plot([i - 0.15, i + 0.15], [printed["value"]] * 2, **line)
    ax.set_xticks(range(len(titles)), titles.values())
    ax.set(ylabel="test accuracy, %", xlim=(-0.4, len(titles) - 0.6))
    ax.margins(y=0.2)
    legend(ax)
    return figure


def draw_confidences(found: "Sequence[Found]") -> "Figure":
    """Test images by how far their confidence is from 1; 3.3 inches wide."""
    figure, ax, entry = _column(found)
    if entry is None:
        return figure
    details = entry.result["details"]
    lowest = 1e-12
    for i, (name, title) in enumerate(details["titles"].items()):
        colour = class_colour(i)
        doubt = np.maximum(entry.arrays[f"doubt_{name}"], lowest)
        above = np.arange(len(doubt), 0, -1)  # images of at least this doubt
        ax.step(doubt, above, where="post", color=colour, label=title)
        if printed := entry.printed.get(f"n_below_{name}"):
            label = f"paper, {title}"
            x = 1 - details["confidence"]
            ax.plot(x, printed["value"], "*", ms=8, mec="black", mew=0.5, c=colour, label=label)
    ax.axvline(1 - details["confidence"], color="0.5", linewidth=0.6, linestyle="dashed")
    ax.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(0.7, None))
    ax.set(xlabel=r"$1 - \max_k p(y = k\,|\,x)$", ylabel="test images above")
    legend(ax)
    return figure


def draw_class_weights(found: "Sequence[Found]") -> "Figure":
    """Learnt class weights beside the true shares; 3.3 inches wide."""
    figure, ax, entry = _column(found)
    if entry is None:
        return figure
    arrays = entry.arrays
    classes = np.arange(len(arrays["shares"]))
    step: Any = {"where": "mid", "linewidth": 0.9}
    ax.step(classes, arrays["predicted"], color=COLOURS[0], label="average of both halves", **step)
    ax.step(classes, arrays["shares"], color=COLOURS[1], label="unlabelled share", **step)
    ax.plot(classes, arrays["weights_all"], "o", c=COLOURS[0], label="learnt from all")
    ax.plot(
        classes, arrays["weights_unlabelled"], "s", c=COLOURS[1], label="learnt from unlabelled"
    )
    printed = [entry.printed.get(f"weight_all_{k}") for k in classes]
    values = [number["value"] for number in printed if number]
    if len(values) == len(classes):
        ax.plot(classes, values, "x", c="black", label="paper (corrected)")
    ax.set_xticks(classes, entry.result["details"]["classes"])
    ax.set(xlabel="class", ylabel="class weight", ylim=(0, None))
    ax.margins(y=0.25)
    ax.legend(frameon=False, fontsize=6, loc="lower left")
    return figure


def draw_convergence(found: "Sequence[Found]") -> "Figure":
    """Losses during training, one line for each seed; 3.3 inches wide."""
    figure, ax, entry = _column(found)
    if entry is None:
        return figure
    last = []
    for i, (name, title) in enumerate(entry.result["details"]["titles"].items()):
        accuracy = entry.numbers[name]["value"]
        for row in entry.arrays[f"loss_{name}"]:
            label = f"{title} (test accuracy {accuracy:.1f} %)"
            ax.plot(entry.arrays[f"steps_{name}"], row, color=class_colour(i), label=label)
            last += row[len(row) // 20 :].tolist()
    # The first steps' losses are so high that nothing else could be seen.
    low, high = np.nanmin(last), np.nanquantile(last, 0.995)
    ax.set(ylim=(low - 0.05 * (high - low), high + 0.05 * (high - low)))
    ax.set(xlabel="step", ylabel="loss, nats per image")
    legend(ax)
    return figure


def _column(found: "Sequence[Found]") -> "tuple[Figure, Axes, Found | None]":
    """A figure as wide as a column for one analysis; without it, if there is nothing to draw."""
    import matplotlib
    import matplotlib.pyplot as plt

    (entry,) = found
    matplotlib.rcParams.update(COLUMN_STYLE)  # within the context of `make_figure`
    figure, ax = plt.subplots(figsize=(3.3, 2.3), layout="constrained")
    ax.tick_params(labelsize=6, length=2, width=0.6, pad=1.5)
    if entry.missing:
        say(ax, entry.missing)
        return figure, ax, None
    return figure, ax, entry
