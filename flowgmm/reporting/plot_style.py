"""Colours and sizes of all figures."""

from typing import Any

__all__ = ["COLOURS", "COLUMN_STYLE", "STYLE"]

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
