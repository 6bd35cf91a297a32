"""Parts that figures of analyses share: words in place of a picture, mosaics, legends."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


__all__ = ["label_columns", "label_rows", "legend", "mosaic", "say"]


def say(axes: Any, text: str, title: str = "") -> None:
    """Write text in place of a picture, into the first of several axes; the others vanish."""
    first, *others = np.ravel(axes)
    for ax in others:
        ax.set_axis_off()
    first.set_axis_off()
    if title:
        first.set_title(title)
    position: Any = {"transform": first.transAxes, "ha": "center", "va": "center", "fontsize": 7}
    first.text(0.5, 0.5, textwrap.fill(text, 40), **position)


def mosaic(ax: "Axes", images: np.ndarray, title: str) -> None:
    """Draw images (rows, columns, C, H, W) in [0, 1] as one picture, with gaps between them."""
    rows, columns, c, height, width = images.shape
    gap = _gap(width)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, c))
    for i in range(rows):
        for j in range(columns):
            y, x = i * (height + gap), j * (width + gap)
            canvas[y : y + height, x : x + width] = np.moveaxis(images[i, j], 0, -1)
    shown = np.clip(canvas, 0, 1)
    grey: Any = {"cmap": "gray", "vmin": 0, "vmax": 1}
    ax.imshow(shown[..., 0] if c == 1 else shown, interpolation="nearest", **grey)
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(False)


def _gap(width: int) -> int:
    return max(1, width // 14)


def label_columns(ax: "Axes", labels: Sequence[str], width: int) -> None:
    """Write labels below the columns of a mosaic."""
    positions = [(width + _gap(width)) * i + width / 2 for i in range(len(labels))]
    ax.set_xticks(positions, labels)
    ax.tick_params(length=0)


def label_rows(ax: "Axes", labels: Sequence[str], height: int) -> None:
    """Write labels beside the rows of a mosaic."""
    positions = [(height + _gap(height)) * i + height / 2 for i in range(len(labels))]
    ax.set_yticks(positions, labels)
    ax.tick_params(length=0)


def legend(ax: "Axes") -> None:
    """Draw a legend that has each label once."""
    handles, labels = ax.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    ax.legend(once.values(), once.keys(), frameon=False, fontsize=6)
