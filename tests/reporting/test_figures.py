"""Figures, drawn from an analytic stand-in for the flow, and once from a trained stack."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from estimators import flow_gmm
from matplotlib.colors import to_rgba

from flowgmm.experiments.project import load
from flowgmm.experiments.specs.tables import describe_table
from flowgmm.reporting.figures.make import FUNCTIONS, make_figure, save
from flowgmm.reporting.figures.planar import NotRun, Panel, load_panel
from flowgmm.reporting.plot_style import class_colour
from flowgmm.reporting.tables.aggregate import make_table
from flowgmm.utils import io as files
from flowgmm.utils.absence import write_reason
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config" / "figures.yaml").read_text(encoding="utf-8"))
SCRIPTS = ROOT / "scripts"


class Shear:
    """z = (3 x_0, 3 x_1 + sin 3 x_0): as curved as a flow, and known."""

    def __init__(self, n_classes):
        angles = 2 * np.pi * np.arange(n_classes) / n_classes
        self.means_ = 3.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        self.std_ = np.ones(n_classes)
        self.weights_ = np.full(n_classes, 1 / n_classes)

    def transform(self, X):
        return np.stack([3 * X[:, 0], 3 * X[:, 1] + np.sin(3 * X[:, 0])], axis=1)

    def inverse_transform(self, z):
        return np.stack([z[:, 0] / 3, (z[:, 1] - np.sin(z[:, 0])) / 3], axis=1)

    def component_log_prob(self, z):
        squared = ((z[:, None] - self.means_) ** 2).sum(axis=-1)
        return -squared / (2 * self.std_**2) - 2 * np.log(self.std_)

    def predict(self, X):
        z = self.transform(X)
        return ((z[:, None] - self.means_) ** 2).sum(axis=-1).argmin(axis=1)


def panel_of(n_classes, n=120):
    model = Shear(n_classes)
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    x = model.inverse_transform(model.means_[y] + rng.normal(size=(n, 2)))
    labelled = np.arange(2 * n_classes)
    return Panel("sheared", x, y, labelled, model, (-2.0, 2.0), (-6.0, 6.0))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def borders(ax):
    """Vertices of the dashed lines."""
    paths = [
        path for line in ax.collections if hasattr(line, "levels") for path in line.get_paths()
    ]
    return np.concatenate([path.vertices for path in paths])


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_borders_are_equally_far_from_the_two_nearest_means(n_classes):
    panel = panel_of(n_classes)
    axes = make_figure("transport", [panel]).axes
    for vertices in (panel.model.transform(borders(axes[0])), borders(axes[1])):
        distances = np.linalg.norm(vertices[:, None] - panel.model.means_, axis=-1)
        nearest = np.sort(distances, axis=1)
        # Contours are linear within a grid cell, 0.08 wide in z; the flow is not, nor is the
        # border where three regions meet. Half a cell:
        assert np.abs(nearest[:, 0] - nearest[:, 1]).max() < 0.04
        assert len(np.unique(distances.argmin(axis=1))) == n_classes


def test_borders_follow_unequal_weights_and_std():
    panel = panel_of(2)
    panel.model.weights_ = np.array([0.9, 0.1])
    panel.model.std_ = np.array([1.0, 0.5])
    z = borders(make_figure("transport", [panel]).axes[1])
    squared = ((z[:, None] - panel.model.means_) ** 2).sum(axis=-1)
    log_joint = np.log([0.9, 0.1]) - squared / [2.0, 0.5] - 2 * np.log([1.0, 0.5])
    assert np.abs(log_joint[:, 0] - log_joint[:, 1]).max() < 0.05


def test_any_number_of_classes_is_drawn_in_as_many_colours():
    assert len({class_colour(k) for k in range(18)}) == 18
    axes = make_figure("transport", [panel_of(8)]).axes
    assert len(np.unique(axes[3].collections[0].get_facecolors(), axis=0)) == 8


@pytest.mark.parametrize("n_classes", [2, 5])
def test_points_of_unknown_class_are_grey(n_classes):
    panel = panel_of(n_classes)
    panel.y[panel.labelled[-1] + 1 :] = -1
    points, labelled = [
        c for c in make_figure("transport", [panel]).axes[0].collections if not hasattr(c, "levels")
    ]
    colours = np.unique(points.get_facecolors(), axis=0, return_counts=True)
    grey = np.ptp(colours[0][:, :3], axis=1) == 0
    assert colours[1][grey].tolist() == [120 - 2 * n_classes] and len(grey) == n_classes + 1
    assert np.ptp(labelled.get_facecolors()[:, :3], axis=1).all()


@pytest.mark.parametrize(("function", "n_panels"), [("transport", 3), ("with_and_without", 4)])
@pytest.mark.parametrize("missing", [0, 2])
def test_a_panel_without_data_says_so(function, n_panels, missing):
    panels = [panel_of(2) for _ in range(n_panels)]
    panels[missing] = NotRun("pinwheel", "data absent: the mirror lacks p.npz")
    figure = make_figure(function, panels)
    texts = [text.get_text().replace("\n", " ") for ax in figure.axes for text in ax.texts]
    assert texts == ["not run (data absent: the mirror lacks p.npz)"]
    drawn = [ax for ax in figure.axes if ax.axison]
    width = 4 if function == "transport" else 2
    assert len(drawn) == width * (n_panels - 1)


def test_regions_are_the_predictions():
    panel = panel_of(3)
    (image,) = make_figure("transport", [panel]).axes[0].get_images()
    assert image.get_array().shape == (150, 150)
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (-2.0, 2.0, -2.0, 2.0)
    for i, j in [(0, 0), (149, 0), (75, 140)]:  # row is the second coordinate
        point = np.array([[-2 + 4 * j / 149, -2 + 4 * i / 149]])
        assert image.get_array()[i, j] == panel.model.predict(point)[0]


def test_labelled_points_are_large_with_a_black_edge():
    panel = panel_of(2)
    ax = make_figure("transport", [panel]).axes[0]
    points, labelled = [c for c in ax.collections if not hasattr(c, "levels")]
    assert labelled.get_sizes()[0] > 10 * points.get_sizes()[0]
    np.testing.assert_array_equal(labelled.get_edgecolors()[0], to_rgba("black"))
    np.testing.assert_allclose(labelled.get_offsets(), panel.x[panel.labelled])
    colours = [to_rgba(class_colour(k)) for k in panel.y[panel.labelled]]
    np.testing.assert_allclose(labelled.get_facecolors(), colours)


def test_samples_are_1000_per_component_and_their_images_under_the_inverse():
    panel = panel_of(3)
    _, _, mixture, samples = make_figure("transport", [panel]).axes
    z, x = (ax.collections[0] for ax in (mixture, samples))
    assert len(z.get_offsets()) == 3000
    np.testing.assert_allclose(
        panel.model.transform(np.asarray(x.get_offsets())), z.get_offsets(), atol=1e-5
    )
    for k in range(3):
        mine = (z.get_facecolors() == to_rgba(class_colour(k))).all(axis=1)
        np.testing.assert_allclose(
            z.get_offsets()[mine].mean(axis=0), panel.model.means_[k], atol=0.15
        )
    assert mixture.get_xlim() == (-6.0, 6.0)
    assert samples.get_xlim() == (-2.0, 2.0)


@pytest.mark.parametrize(("function", "n_panels"), [("transport", 3), ("with_and_without", 4)])
def test_equal_figures_give_equal_bytes(function, n_panels, tmp_path):
    for name in ("a", "b"):
        figure = make_figure(function, [panel_of(2)] * n_panels)
        paths = save(figure, tmp_path / name)
        assert [path.name for path in paths] == [f"{name}.{kind}" for kind in ("png", "pdf", "svg")]
    for suffix in ("png", "pdf", "svg"):
        assert files.sha256(tmp_path / f"a.{suffix}") == files.sha256(tmp_path / f"b.{suffix}")
    assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()
    assert plt.imread(tmp_path / "a.png").shape[1] == 1400  # 7 inches at 200 dpi
    assert len(figure.axes) == (12 if function == "transport" else 8)


def test_marks_are_written_below():
    assert make_figure("transport", [panel_of(2)]).get_supxlabel() == ""
    marked = make_figure("transport", [panel_of(2)], ["scaled down: a", "surrogate data"])
    assert marked.get_supxlabel() == "scaled down: a; surrogate data"


def tuned(method, dataset, name, curves, chosen):
    """A cell of Table 6 whose runs chose from curves of (value, weight, accuracy)."""
    runs = [
        {
            "value": value,
            "tuning": [{"params": {name: v, "w": w}, "accuracy": a} for v, w, a in curve],
        }
        for curve, value in zip(curves, chosen, strict=True)
    ]
    return {(method, dataset): {"verdict": "reproduced", "why": "", "runs": tuple(runs)}}


def tuning_figure():
    flow = [(1e-4, 1, 0.5), (1e-4, 2, 0.7), (1e-3, 1, 0.8), (1e-3, 2, None), (1e-2, 1, None)]
    neighbours = [[(1, 0, 0.4), (3, 0, 0.6)], [(1, 0, 0.6), (3, 0, 0.2)]]
    made = tuned("flowgmm", "ag_news", "lr", [flow] * 2, [1e-3, 1e-3])
    made |= tuned("knn", "ag_news", "n_neighbors", neighbours, [3, 1])
    config = load(Path(__file__).parents[2])
    arguments = (config.table("table_6"), config.paper_results, config.methods)
    table = make_table(describe_table("table_6", *arguments, recipe="smoke"), [])
    cells = tuple(
        tuple(replace(cell, **made.get((cell.method, cell.dataset), {})) for cell in row)
        for row in table.cells
    )
    return make_figure("tuning", replace(table, cells=cells))


def test_tuning_shows_curves_choices_and_printed_values():
    figure = tuning_figure()
    axes = np.reshape(figure.axes, (4, 2))
    curve, star, cross, printed = axes[0, 0].lines
    np.testing.assert_allclose(curve.get_xydata(), [[1e-4, 70], [1e-3, 80], [1e-2, np.nan]])
    np.testing.assert_allclose(star.get_xydata(), [[1e-3, 80]])
    np.testing.assert_allclose(cross.get_xdata(), [1e-2])  # diverged
    assert printed.get_xdata()[0] == 3e-4
    assert axes[0, 0].get_xscale() == "log"
    curve, star, cross, printed = axes[0, 1].lines
    np.testing.assert_allclose(curve.get_xydata(), [[1, 50], [3, 40]])  # mean of two runs
    np.testing.assert_allclose(star.get_xydata(), [[1, 50], [3, 40]])
    assert len(cross.get_xdata()) == 0
    assert printed.get_xdata()[0] == 5
    assert axes[0, 1].get_xscale() == "linear"
    for ax in axes[1:].flat:
        assert not ax.lines
        assert ax.texts[0].get_text() == "not run: no record was given"


def test_tuning_is_a_column_wide_and_reproducible(tmp_path):
    for name in ("a", "b"):
        save(tuning_figure(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert plt.imread(tmp_path / "a.png").shape[1] == 660  # 3.3 inches at 200 dpi


def test_mistakes():
    with pytest.raises(UserError, match="function 'pie' is not known"):
        make_figure("pie", [panel_of(2)])
    with pytest.raises(UserError, match="draws pairs, got 3 panels"):
        make_figure("with_and_without", [panel_of(2)] * 3)


def test_config_names_every_function():
    assert {entry["function"] for entry in CONFIG.values()} == set(FUNCTIONS)


def test_a_panel_from_the_workflows_files(tmp_path):
    from flowgmm.methods.flow_gmm import FlowGMMClassifier

    x = panel_of(2).x.astype(np.float32)
    y = panel_of(2).y
    model = flow_gmm(n_couplings=2, hidden_size=8, n_steps=2, device="cpu", random_state=0).fit(
        x, np.where(np.arange(len(y)) < 10, y, -1)
    )
    entry = CONFIG["figure_1"]["panels"][0]
    run = {key: entry[key] for key in ("dataset", "labels", "method")}
    FlowGMMClassifier.save_stack(tmp_path / "model.safetensors", [model], run)
    files.write_tensors(tmp_path / "features", {"X_train": x, "y_train": y}, run)
    files.write_tensors(tmp_path / "split", {"labelled": np.arange(10)}, run)
    place = (tmp_path / "features", tmp_path / "split", tmp_path / "model.safetensors")
    panel = load_panel(entry, *place)
    np.testing.assert_allclose(panel.model.transform(x), model.transform(x))
    assert panel.x_limits == (-1.5, 2.5)
    assert len(make_figure("transport", [panel]).axes) == 4

    model.failure_ = "diverged: mean loss nan"
    FlowGMMClassifier.save_stack(place[2], [model], run)
    with pytest.raises(UserError, match="diverged: mean loss nan; there is nothing to draw"):
        load_panel(entry, *place)
    files.write_tensors(tmp_path / "features", {"X_train": np.c_[x, x], "y_train": y})
    with pytest.raises(UserError, match="needs 2 features, got 4"):
        load_panel(entry, *place)
    other = {**entry, "labels": "other"}
    with pytest.raises(
        UserError, match=r"split is of \{'labels': 'figure'\}, expected .*delete it"
    ):
        load_panel(other, *place)
    other = {**entry, "method": "other"}
    files.write_tensors(tmp_path / "features", {"X_train": x, "y_train": y}, run)
    with pytest.raises(
        UserError, match=r"model.safetensors .*it is of another run.*train it again"
    ):
        load_panel(other, *place)


@pytest.mark.parametrize("figure", ["figure_1", "figure_2", "figure_4"])
def test_models_that_could_not_be_made_are_no_error(figure, tmp_path, monkeypatch):
    """A download that failed for good has reasons in place of features, splits and models."""
    panels = CONFIG[figure]["panels"]
    spec = {"figure": CONFIG[figure], "left_out": [None] * len(panels), "marks": []}
    paths = [tmp_path / f"{i}.safetensors" for i in range(len(panels))]
    for path in paths:
        write_reason(path, "data absent: cannot download p.npz", {})
    names = ["--features", "--splits", "--models"]
    files = [word for name in names for word in (name, *map(str, paths))]
    rest = ["--table", "--found", "--prefix", str(tmp_path / "figure")]
    command = ["make_figure", "--spec", json.dumps(spec), *files, *rest]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(str(SCRIPTS / "make_figure.py"), run_name="__main__")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert (tmp_path / "figure.pdf").is_file()
