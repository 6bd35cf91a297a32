"""Figure of tuning: validation accuracy over each printed hyper-parameter."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm.reporting.plot_style import COLUMN_STYLE, class_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flowgmm.reporting.tables.cells import Cell, Table

__all__ = ["draw_tuning"]

PARAMETER_TITLES = {"lr": "learning rate", "n_neighbors": "number of neighbours k"}


def draw_tuning(table: "Table") -> "Figure":
    """Validation accuracy against the printed hyper-parameter, 3.3 inches wide.

    One row per column of the table, one panel per hyper-parameter, one line per method. A method
    with several hyper-parameters shows the best of each value; runs that choose on their own show
    their mean. A star marks what was chosen, a thin line what is printed, a cross what diverged.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    columns = list(zip(*table.cells, strict=True))
    printed = [cell for column in columns for cell in column if cell.printed]
    names = list(dict.fromkeys(map(_parameter, printed)))
    colours = {row[0].method: class_colour(i) for i, row in enumerate(table.cells)}
    heights = [1.1 if any(c.verdict != "not run" for c in column) else 0.4 for column in columns]
    with matplotlib.rc_context(COLUMN_STYLE):
        figure, axes = plt.subplots(
            len(columns),
            len(names),
            figsize=(3.3, sum(heights) + 0.2 * len(columns) + 0.8),
            height_ratios=heights,
            sharey="row",
            squeeze=False,
            layout="constrained",
        )
        for i, cells in enumerate(columns):
            labels = "; ".join(table.remarks[i]["labels"])
            title = table.spec["columns"][i]["title"] + (f" ({labels})" if labels else "")
            axes[i, 0].set_title(title, loc="left", pad=3)
            for ax, name in zip(axes[i], names, strict=True):
                _draw_curves(ax, [cell for cell in cells if _parameter(cell) == name], colours)
                ax.tick_params(labelsize=6, length=2, width=0.6, pad=1.5)
            if not any(ax.lines for ax in axes[i]):
                axes[i, 0].set_yticks([])
        for ax, name in zip(axes[-1], names, strict=True):
            ax.set_xlabel(PARAMETER_TITLES.get(name, name))
        figure.supylabel("validation accuracy, %", fontsize=7)
        _tuning_legend(figure, table, colours)
    return figure


def _parameter(cell: "Cell") -> str:
    """The hyper-parameter that the paper prints for a cell; empty where it prints none."""
    return cell.printed["parameter"] if cell.printed else ""


def _draw_curves(ax: "Axes", cells: "Sequence[Cell]", colours: dict[str, str]) -> None:
    """The curves of one dataset and hyper-parameter, or why there are none."""
    drawn = [cell for cell in cells if cell.verdict != "not run"]
    if not drawn:
        # The table names the missing file.
        why = "; ".join(dict.fromkeys(cell.why.partition(":")[0] for cell in cells))
        place: Any = {"transform": ax.transAxes, "ha": "center", "va": "center", "fontsize": 5}
        ax.text(0.5, 0.5, textwrap.fill(f"not run: {why}", 36), **place)
        ax.set_xticks([])
        return
    grid: list[Any] = []
    for i, cell in enumerate(drawn):
        colour, printed = colours[cell.method], (cell.printed or {})["value"]
        curves = [_curve(run["tuning"], _parameter(cell)) for run in cell.runs]
        grid = sorted(curves[0])
        mean = {value: 100 * float(np.mean([curve[value] for curve in curves])) for value in grid}
        ax.plot(grid, list(mean.values()), "o-", color=colour)
        chosen = sorted({run["value"] for run in cell.runs})
        ax.plot(chosen, [mean[v] for v in chosen], "*", color=colour, ms=8, mec="black", mew=0.5)
        lost = [value for value in grid if np.isnan(mean[value])]
        ax.plot(lost, [0.05] * len(lost), "x", color=colour, transform=ax.get_xaxis_transform())
        # Methods with the same printed value share a line, each with dashes in the others' gaps.
        dashes = (2 * i, (2, 2 * max(1, len(drawn) - 1)))
        ax.axvline(printed, color=colour, lw=0.7, ls=dashes, zorder=0)
    if isinstance(grid[0], float):
        ax.set_xscale("log")


def _curve(tuning: Sequence[dict[str, Any]], name: str) -> dict[Any, float]:
    """Best accuracy by value of one hyper-parameter; NaN where every candidate diverged."""
    curve: dict[Any, float] = {}
    for candidate in tuning:
        value, accuracy = candidate["params"][name], candidate["accuracy"]
        accuracy = np.nan if accuracy is None else accuracy
        curve[value] = float(np.fmax(curve.get(value, np.nan), accuracy))
    return curve


def _tuning_legend(figure: "Figure", table: "Table", colours: dict[str, str]) -> None:
    """Methods, and what the marks mean, below the panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colours[cells[0].method], marker="o", label=row["title"])
        for row, cells in zip(table.spec["rows"], table.cells, strict=True)
    ]
    grey: Any = {"color": "0.4", "linestyle": ""}
    handles += [
        Line2D([], [], marker="*", ms=8, mec="black", mew=0.5, label="chosen", **grey),
        Line2D([], [], color="0.4", lw=0.6, ls=(0, (2, 2)), label="printed in the paper"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=6, frameon=False)
