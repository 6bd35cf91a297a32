"""The paper's 2-D figures, curves behind chosen hyper-parameters, and the list of all figures."""

import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flowgmm.reporting.image_figures import IMAGE_FUNCTIONS
from flowgmm.reporting.plot_style import COLOURS, COLUMN_STYLE, STYLE
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flowgmm.analyses.results import Found
    from flowgmm.reporting.tables.cells import Cell, Table

__all__ = ["FUNCTIONS", "Flow", "Panel", "load_panel", "make_figure", "save"]

N_GRID = 150  # spec 2.1
N_SAMPLES = 1000  # per component

PARAMETER_TITLES = {"lr": "learning rate", "n_neighbors": "number of neighbours k"}


class Flow(Protocol):
    """What a figure needs of a fitted `FlowGMMClassifier`."""

    means_: np.ndarray
    std_: np.ndarray
    weights_: np.ndarray

    def predict(self, X: np.ndarray) -> np.ndarray: ...
    def transform(self, X: np.ndarray) -> np.ndarray: ...
    def inverse_transform(self, z: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Panel:
    """A trained model and its data.

    Attributes:
        title: Shown beside or above the panel.
        x: Data, shape (N, 2).
        y: True classes in 0..K-1, shape (N,).
        labelled: Indices of the labelled points, shape (n,).
        model: The fitted model.
        x_limits, z_limits: Windows of data and latent space, both axes.
    """

    title: str
    x: np.ndarray
    y: np.ndarray
    labelled: np.ndarray
    model: Flow
    x_limits: tuple[float, float]
    z_limits: tuple[float, float]


def load_panel(
    panel: dict[str, Any],
    features: str | os.PathLike[str],
    split: str | os.PathLike[str],
    model: str | os.PathLike[str],
) -> Panel:
    """Read a panel's files: features, split 0, and the first seed of a stack.

    Arguments:
        panel: Its entry in `config/figures.yaml`.
        features: The dataset's arrays.
        split: Indices of the labelled points.
        model: A stack of fitted models.

    Raises:
        UserError: If a file is absent, damaged or not the panel's, the data are not 2-D, or
            training diverged.
    """
    from flowgmm.methods.flow_gmm import FlowGMMClassifier
    from flowgmm.utils.io import read_tensors

    run = {key: panel[key] for key in ("dataset", "labels", "method")}
    arrays, meta = read_tensors(features, ["X_train", "y_train"])
    indices, drawn = read_tensors(split, ["labelled"])
    for path, found in ((features, meta), (split, drawn)):
        if other := {k: found[k] for k in ("dataset", "labels") if found.get(k, run[k]) != run[k]}:
            raise UserError(f"{path} is of {other}, expected {run}; delete it and run again")
    if arrays["X_train"].shape[1] != 2:
        raise UserError(
            f"{features}: a figure needs 2 features, got {arrays['X_train'].shape[1]}; "
            "choose a 2-D dataset in config/figures.yaml"
        )
    flow = FlowGMMClassifier.load_stack(Path(model), run)[0]
    if flow.failure_ is not None:
        raise UserError(
            f"{model}: {flow.failure_}; there is nothing to draw, change the recipe's parameters"
        )
    return Panel(
        title=panel["title"],
        x=arrays["X_train"],
        y=arrays["y_train"],
        labelled=indices["labelled"],
        model=flow,
        x_limits=tuple(panel["x_limits"]),
        z_limits=tuple(panel["z_limits"]),
    )


def make_figure(
    function: str, content: "Sequence[Panel] | Table | Sequence[Found]", marks: Sequence[str] = ()
) -> "Figure":
    """Draw a figure.

    Arguments:
        function: A name in `FUNCTIONS`.
        content: What is drawn: panels, the table of which it shows the background, or what
            analyses found.
        marks: Why the figure is not the paper's, such as a smaller size; written below it.

    Raises:
        UserError: If the function is unknown.
    """
    import matplotlib

    matplotlib.use("Agg")
    if function not in FUNCTIONS:
        raise UserError(
            f"config/figures.yaml: function {function!r} is not known; "
            f"choose one of {', '.join(FUNCTIONS)}"
        )
    with matplotlib.rc_context(STYLE):
        figure = FUNCTIONS[function](content)
        if marks:
            size = 10 if figure.get_figwidth() > 4 else 6
            letters = int(130 / size * figure.get_figwidth())  # that fit on a line
            figure.supxlabel(textwrap.fill("; ".join(marks), letters), fontsize=size)
        return figure


def save(figure: "Figure", prefix: str | os.PathLike[str]) -> list[Path]:
    """Write `prefix`.png (200 dpi) and `prefix`.pdf; equal figures give equal bytes.

    Returns:
        The two paths.
    """
    import matplotlib

    paths = [Path(f"{os.fspath(prefix)}.{suffix}") for suffix in ("png", "pdf")]
    # Neither a date nor a version, so that equal results can be told by their hash.
    metadata = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    with matplotlib.rc_context(STYLE):
        for path in paths:
            kind = path.suffix[1:]
            with atomic_path(path) as part:
                figure.savefig(part, format=kind, dpi=200, metadata=metadata[kind])
    return paths


def draw_transport(panels: Sequence[Panel]) -> "Figure":
    """One row per panel: data and regions, latent image, mixture samples, data samples.

    Source: Izmailov et al. (2020), Figures 1 and 4.
    """
    figure, axes = _axes(len(panels))
    for row, panel in zip(axes, panels, strict=True):
        z, x, components = _samples(panel.model)
        _draw_data(row[0], panel)
        _draw_latent(row[1], panel)
        _scatter(row[2], z, components, size=3)
        _draw_means(row[2], panel.model)
        _scatter(row[3], x, components, size=3)
        windows = (panel.x_limits, panel.z_limits, panel.z_limits, panel.x_limits)
        for ax, limits in zip(row, windows, strict=True):
            _frame(ax, limits)
        if len(panels) > 1:
            row[0].set_ylabel(panel.title)
    titles = ("data $x$", "latent $f(x)$", "mixture $z$", "samples $f^{-1}(z)$")
    _letter(axes, titles)
    return figure


def draw_with_and_without(panels: Sequence[Panel]) -> "Figure":
    """Two panels per row, each with data and regions and its latent image.

    The panels are in pairs of one dataset: trained on all data, on the labelled points only.

    Source: Izmailov et al. (2020), Figure 2.
    """
    if len(panels) % 2:
        raise UserError(
            f"config/figures.yaml: with_and_without draws pairs, got {len(panels)} panels; "
            "give each dataset two, with and without unlabelled data"
        )
    figure, axes = _axes(len(panels) // 2)
    for i, panel in enumerate(panels):
        data, latent = axes[i // 2, 2 * (i % 2)], axes[i // 2, 2 * (i % 2) + 1]
        _draw_data(data, panel)
        _draw_latent(latent, panel)
        _frame(data, panel.x_limits)
        _frame(latent, panel.z_limits)
    names = [panel.title for panel in panels[:2]]
    _letter(axes, [text for name in names for text in (f"{name}, $x$", "$f(x)$")])
    return figure


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
    colours = {row[0].method: COLOURS[i % len(COLOURS)] for i, row in enumerate(table.cells)}
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
        # The table says which file is absent.
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


FUNCTIONS: dict[str, Callable[[Any], "Figure"]] = {
    "transport": draw_transport,
    "with_and_without": draw_with_and_without,
    "tuning": draw_tuning,
    **IMAGE_FUNCTIONS,
}


def _axes(n_rows: int) -> tuple["Figure", np.ndarray]:
    """Rows of four square panels, 7 inches wide."""
    import matplotlib.pyplot as plt

    height = 1.78 * n_rows + 0.3
    return plt.subplots(n_rows, 4, figsize=(7, height), squeeze=False, layout="constrained")


def _frame(ax: "Axes", limits: tuple[float, float]) -> None:
    """A square window without ticks: coordinates of the latent space mean nothing in themselves."""
    ax.set(xlim=limits, ylim=limits, xticks=[], yticks=[], aspect="equal")


def _letter(axes: np.ndarray, titles: Sequence[str]) -> None:
    """Titles over the first row."""
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, pad=4)


def _draw_data(ax: "Axes", panel: Panel) -> None:
    """Data over decision regions; the boundary is the latent one, pulled back."""
    _draw_regions(ax, panel.x_limits, panel.model, panel.model.transform)
    _scatter(ax, panel.x, panel.y, size=3)
    _draw_labelled(ax, panel, panel.x)


def _draw_latent(ax: "Axes", panel: Panel) -> None:
    """Image of the data, means of the mixture, and the boundary between their regions."""
    _draw_regions(ax, panel.z_limits, panel.model, lambda z: z, shade=False)
    z = panel.model.transform(panel.x)
    _scatter(ax, z, panel.y, size=3)
    _draw_labelled(ax, panel, z)
    _draw_means(ax, panel.model)


def _draw_means(ax: "Axes", model: Flow) -> None:
    """White stars."""
    x, y = model.means_.T
    ax.scatter(x, y, s=110, c="white", marker="*", edgecolors="black", linewidths=1.0, zorder=4)


def _draw_labelled(ax: "Axes", panel: Panel, points: np.ndarray) -> None:
    """Labelled points, large and with a black edge."""
    colours = [COLOURS[k] for k in panel.y[panel.labelled]]
    x, y = points[panel.labelled].T
    ax.scatter(x, y, s=42, c=colours, edgecolors="black", linewidths=1.0, zorder=3)


def _scatter(ax: "Axes", points: np.ndarray, y: np.ndarray, size: float) -> None:
    """Points in the colour of their class; pixels also in the pdf, which stays small."""
    colours = np.array(COLOURS)[y]
    # Drawn in random order, so that no class lies on top of the others where they overlap.
    order = np.random.default_rng(0).permutation(len(points))
    x, y = points[order].T
    ax.scatter(x, y, s=size, c=colours[order], linewidths=0, rasterized=True)


def _draw_regions(
    ax: "Axes",
    limits: tuple[float, float],
    model: Flow,
    to_latent: Callable[[np.ndarray], np.ndarray],
    shade: bool = True,
) -> None:
    """Dashed border between the classes, and their regions in light colours."""
    from matplotlib.colors import ListedColormap, to_rgb

    side = np.linspace(*limits, N_GRID)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype(np.float32)
    n_classes = len(model.means_)
    if shade:
        light = [[0.72 + 0.28 * c for c in to_rgb(COLOURS[k])] for k in range(n_classes)]
        ax.imshow(
            model.predict(grid).reshape(N_GRID, N_GRID),
            extent=(*limits, *limits),
            origin="lower",
            cmap=ListedColormap(light),
            vmin=-0.5,
            vmax=n_classes - 0.5,
            interpolation="nearest",
        )
    scores = _scores(model, to_latent(grid))
    for k in range(n_classes - 1):
        # Each border once: drawn from both sides, the dashes would fill each other's gaps.
        rival = scores[:, k + 1 :].max(axis=1)
        elsewhere = scores[:, :k].max(axis=1, initial=-np.inf) > np.maximum(scores[:, k], rival)
        lead = np.where(elsewhere, np.nan, scores[:, k] - rival).reshape(N_GRID, N_GRID)
        ax.contour(side, side, lead, [0.0], colors="black", linestyles="dashed", linewidths=1.1)


def _scores(model: Flow, z: np.ndarray) -> np.ndarray:
    """Log of weight times density of each component, up to a constant, shape (N, K).

    With equal weights and std the border between two classes is the perpendicular bisector of
    their means.
    """
    std = np.asarray(model.std_, dtype=np.float64)
    squared = ((z[:, None].astype(np.float64) - model.means_) ** 2).sum(axis=-1)
    return np.log(model.weights_) - squared / (2 * std**2) - z.shape[1] * np.log(std)


def _samples(model: Flow) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latent samples of each component, what they are in data space, and their component."""
    n_classes, n_features = model.means_.shape
    noise = np.random.default_rng(0).normal(size=(n_classes, N_SAMPLES, n_features))
    z = model.means_[:, None] + np.asarray(model.std_)[:, None, None] * noise
    z = z.reshape(-1, n_features).astype(np.float32)
    return z, model.inverse_transform(z), np.repeat(np.arange(n_classes), N_SAMPLES)
