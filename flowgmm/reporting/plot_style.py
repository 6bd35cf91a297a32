"""Colours and sizes of all figures."""

from typing import Any

__all__ = ["COLOURS", "COLUMN_STYLE", "PAGE_STYLE", "STYLE", "class_colour"]

# Okabe and Ito's palette, told apart with every kind of colour vision; order: far in lightness
# between neighbours.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
# Sizes are for the figure at its own width of 7 inches; at a column's 3.4 they are halved.
STYLE: Any = {
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.linewidth": 0.8,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "figure.dpi": 100,
    "pdf.fonttype": 42,
}
# For a figure that is a column wide itself.
COLUMN_STYLE: Any = STYLE | {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.linewidth": 0.6,
    "lines.markersize": 3,
    "lines.linewidth": 1.0,
}
# Across both columns of a page, like the paper's own; still legible at half that width.
PAGE_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
}


def class_colour(k: int) -> str:
    """Colour of class k, for any number of classes: `COLOURS`, then the same ever darker.

    >>> class_colour(0), class_colour(6)
    ('#0072B2', '#00446a')
    """
    colour, shade = COLOURS[k % len(COLOURS)], 0.6 ** (k // len(COLOURS))
    if shade == 1:
        return colour
    return "#" + "".join(f"{int(int(colour[i : i + 2], 16) * shade):02x}" for i in (1, 3, 5))
