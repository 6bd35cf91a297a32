"""Figures of 2-D models: data, latent image, regions and samples (Figures 1, 2 and 4)."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flowgmm.reporting.figures.parts import say
from flowgmm.reporting.plot_style import class_colour
from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


__all__ = ["Flow", "NotRun", "Panel", "draw_transport", "draw_with_and_without", "load_panel"]

N_GRID = 150  # spec 2.1
N_SAMPLES = 1000  # per component
UNKNOWN = "#777777"


class Flow(Protocol):
    """Part of a fitted `FlowGMMClassifier` that a figure uses."""

    means_: np.ndarray
    std_: np.ndarray
    weights_: np.ndarray

    def component_log_prob(self, z: np.ndarray) -> np.ndarray: ...
    def predict(self, X: np.ndarray) -> np.ndarray: ...
    def transform(self, X: np.ndarray) -> np.ndarray: ...
    def inverse_transform(self, z: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Panel:
    """A trained model and its data.

    Attributes:
        title: Shown beside or above the panel.
        x: Data, shape (N, 2).
        y: True classes in 0..K-1, shape (N,); -1 where unknown.
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


@dataclass(frozen=True)
class NotRun:
    """A panel without a model.

    Attributes:
        title: Shown beside or above the panel.
        reason: Reason not to run it.
    """

    title: str
    reason: str


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
        UserError: If a file is missing, damaged or not the panel's, the data are not 2-D, or
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


def draw_transport(panels: Sequence[Panel | NotRun]) -> "Figure":
    """One row per panel: data and regions, latent image, mixture samples, data samples.

    Source: Izmailov et al. (2020), Figures 1 and 4.
    """
    figure, axes = _axes(len(panels))
    for row, panel in zip(axes, panels, strict=True):
        if isinstance(panel, NotRun):
            say(row, f"not run ({panel.reason})", panel.title)
            continue
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


def draw_with_and_without(panels: Sequence[Panel | NotRun]) -> "Figure":
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
        if isinstance(panel, NotRun):
            say([data, latent], f"not run ({panel.reason})", panel.title)
            continue
        _draw_data(data, panel)
        _draw_latent(latent, panel)
        _frame(data, panel.x_limits)
        _frame(latent, panel.z_limits)
    names = [panel.title for panel in panels[:2]]
    _letter(axes, [text for name in names for text in (f"{name}, $x$", "$f(x)$")])
    return figure


def _axes(n_rows: int) -> tuple["Figure", np.ndarray]:
    """Make rows of four square panels, 7 inches wide."""
    import matplotlib.pyplot as plt

    height = 1.78 * n_rows + 0.3
    return plt.subplots(n_rows, 4, figsize=(7, height), squeeze=False, layout="constrained")


def _frame(ax: "Axes", limits: tuple[float, float]) -> None:
    """Make a square window without ticks: latent coordinates mean nothing in themselves."""
    ax.set(xlim=limits, ylim=limits, xticks=[], yticks=[], aspect="equal")


def _letter(axes: np.ndarray, titles: Sequence[str]) -> None:
    """Write titles over the first row."""
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, pad=4)


def _draw_data(ax: "Axes", panel: Panel) -> None:
    """Draw data over decision regions; the boundary is that of the latent space, mapped back."""
    _draw_regions(ax, panel.x_limits, panel.model, panel.model.transform)
    _scatter(ax, panel.x, panel.y, size=3)
    _draw_labelled(ax, panel, panel.x)


def _draw_latent(ax: "Axes", panel: Panel) -> None:
    """Draw the latent image of the data, the means, and the boundary between their regions."""
    _draw_regions(ax, panel.z_limits, panel.model, lambda z: z, shade=False)
    z = panel.model.transform(panel.x)
    _scatter(ax, z, panel.y, size=3)
    _draw_labelled(ax, panel, z)
    _draw_means(ax, panel.model)


def _draw_means(ax: "Axes", model: Flow) -> None:
    """Draw the means as white stars."""
    x, y = model.means_.T
    ax.scatter(x, y, s=110, c="white", marker="*", edgecolors="black", linewidths=1.0, zorder=4)


def _draw_labelled(ax: "Axes", panel: Panel, points: np.ndarray) -> None:
    """Draw labelled points large, with a black edge."""
    colours = [class_colour(k) for k in panel.y[panel.labelled]]
    x, y = points[panel.labelled].T
    ax.scatter(x, y, s=42, c=colours, edgecolors="black", linewidths=1.0, zorder=3)


def _scatter(ax: "Axes", points: np.ndarray, y: np.ndarray, size: float) -> None:
    """Draw points in the colour of their class, grey if it is unknown, -1; as pixels: small pdf."""
    colours = np.array([*(class_colour(k) for k in range(int(y.max()) + 1)), UNKNOWN])[y]
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
    """Draw dashed borders between the classes, and their regions in light colours."""
    from matplotlib.colors import ListedColormap, to_rgb

    side = np.linspace(*limits, N_GRID)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype(np.float32)
    n_classes = len(model.means_)
    if shade:
        light = [[0.72 + 0.28 * c for c in to_rgb(class_colour(k))] for k in range(n_classes)]
        ax.imshow(
            model.predict(grid).reshape(N_GRID, N_GRID),
            extent=(*limits, *limits),
            origin="lower",
            cmap=ListedColormap(light),
            vmin=-0.5,
            vmax=n_classes - 0.5,
            interpolation="nearest",
        )
    scores = np.log(model.weights_) + model.component_log_prob(to_latent(grid))
    for k in range(n_classes - 1):
        # Each border once: drawn from both sides, the dashes would fill each other's gaps.
        others = scores[:, k + 1 :].max(axis=1)
        elsewhere = scores[:, :k].max(axis=1, initial=-np.inf) > np.maximum(scores[:, k], others)
        margin = np.where(elsewhere, np.nan, scores[:, k] - others).reshape(N_GRID, N_GRID)
        ax.contour(side, side, margin, [0.0], colors="black", linestyles="dashed", linewidths=1.1)


def _samples(model: Flow) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw latent samples of each component, their images in data space, and their component."""
    n_classes, n_features = model.means_.shape
    noise = np.random.default_rng(0).normal(size=(n_classes, N_SAMPLES, n_features))
    z = model.means_[:, None] + np.asarray(model.std_)[:, None, None] * noise
    z = z.reshape(-1, n_features).astype(np.float32)
    return z, model.inverse_transform(z), np.repeat(np.arange(n_classes), N_SAMPLES)
