"""The two-dimensional sets: generators, and the points that the authors published (D45)."""

from pathlib import Path

import numpy as np
import pytest

from flowgmm.datasets.download import download_file
from flowgmm.datasets.loaders.toy import (
    load_circles,
    load_eight_gaussians,
    load_moons,
    load_pinwheel,
)
from flowgmm.datasets.registry import dataset_spec, load
from flowgmm.datasets.splits import draw_split
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.entries import as_written
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]
MIRROR = ROOT.parent / "shared" / "data"
ENTRIES = {name: as_written(entry) for name, entry in load_checked(ROOT).datasets.items()}
# Labelled rows of the authors' notebook (spec 9, A1b).
LABELLED = {
    "eight_gaussians": [*range(10), 11, 14, 16, 17, 19, 25, 26, 27, 30],
    "pinwheel": [*range(7), 8, 9, 10, 11, 13, 14],
}


def test_labelled_points_of_the_notebook():
    """Spec 2.1: the notebook's indices hit the classes that it means them to."""
    moons, circles = load_moons(ROOT), load_circles(ROOT)
    assert set(moons.y_train[[0, 1, 3, 4, 5]]) == {1}
    assert set(moons.y_train[[2, 6, 7, 10, 17]]) == {0}
    assert set(circles.y_train[[0, 1, 3, 4]]) == {1}
    assert set(circles.y_train[[2, 6, 7, 10, 17, 19, 34]]) == {0}
    assert np.linalg.norm(circles.X_train[circles.y_train == 0], axis=1).mean() > 0.9


def angles(X):
    """Directions in degrees, 0 to 360."""
    return np.degrees(np.arctan2(X[:, 1], X[:, 0])) % 360


def fits_eight_gaussians(X, y):
    """Share of the points of known class that lie at a centre of it."""
    sector = np.rint(angles(X) / 45).astype(int) % 8
    centres = [{4, 5}, {6, 7, 0}, {1, 2, 3}]
    return np.mean([sector[i] in centres[y[i]] for i in np.flatnonzero(y >= 0)])


def off_the_arm(X, y):
    """Degrees by which points of known class lie beside the line of their arm."""
    X, y = X[y >= 0], y[y >= 0]
    line = 72 * y - np.degrees(0.25 * np.exp(np.linalg.norm(X, axis=1) / 2))
    return (angles(X) - line + 180) % 360 - 180


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_eight_gaussians(seed):
    data = load_eight_gaussians(ROOT, seed=seed)
    assert len(data.X_train) == 1000
    assert fits_eight_gaussians(data.X_test, data.y_test) > 0.99
    radius = np.linalg.norm(data.X_test, axis=1)
    assert abs(radius.mean() - 2.85) < 0.02 and abs(radius.std() - 0.354) < 0.02


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pinwheel(seed):
    data = load_pinwheel(ROOT, seed=seed)
    for X, y in ((data.X_train, data.y_train), (data.X_test, data.y_test)):
        radius = np.linalg.norm(X, axis=1)
        assert abs(np.median(radius) - 2.0) < 0.1 and radius.max() < 4.5
        beside = off_the_arm(X, y)
        assert abs(np.median(beside)) < 1 and np.quantile(np.abs(beside), 0.9) < 12


@pytest.mark.parametrize("load_points", [load_eight_gaussians, load_pinwheel])
@pytest.mark.parametrize("dtype", [float, np.int64, np.float32])
def test_points_of_a_file(load_points, dtype, tmp_path):
    X = np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
    y = np.where(np.arange(40) % 7 == 3, np.arange(40) % 3, -1)
    np.savez(tmp_path / "p.npz", data=X, labels=y.astype(dtype))
    data, drawn = load_points(tmp_path, file="p.npz", n_test=30), load_points(tmp_path, n_test=30)
    assert np.array_equal(data.X_train, X) and np.array_equal(data.y_train, y)
    assert data.y_train.dtype == np.int64
    assert np.array_equal(data.X_test, drawn.X_test) and data.classes == drawn.classes
    assert data.notes == [
        "Training part: p.npz, whose other points have no class; the test part is drawn."
    ]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.zeros((4, 2))}, "arrays labels not found; it has data"),
        ({"data": np.zeros((4, 3)), "labels": np.zeros(4)}, r"got float64 of shape \(4, 3\)"),
        ({"data": np.zeros((4, 2)), "labels": np.zeros(3)}, r"float64 of shape \(3,\); fetch"),
        ({"data": np.zeros((4, 2)), "labels": np.full(4, 0.5)}, "labels -1, 0, 1, ... of shape"),
        ({"data": np.zeros((4, 2)), "labels": np.full(4, np.nan)}, "labels -1, 0, 1, ... of"),
        ({"data": np.zeros((4, 2), int), "labels": np.zeros(4)}, "got int64 of shape"),
    ],
)
def test_wrong_points(arrays, message, tmp_path):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        load_pinwheel(tmp_path, file="p.npz")
    assert "\n" not in str(caught.value)


def test_missing_points(tmp_path):
    with pytest.raises(UserError, match=r"p\.npz not found"):
        load_pinwheel(tmp_path, file="p.npz")


@pytest.mark.parametrize("name", LABELLED)
def test_the_authors_points(name, tmp_path):
    """They follow the generator, and the notebook's labelled rows alone have classes."""
    if not (MIRROR / "authors").is_dir():
        pytest.skip("the mirror ../shared/data not found")
    spec = dataset_spec(name, ENTRIES[name], MIRROR)
    for file, source in spec["files"].items():
        download_file(source, tmp_path / file, MIRROR)
    data = load(spec, tmp_path)
    assert np.flatnonzero(data.y_train >= 0).tolist() == LABELLED[name]
    split = draw_split(
        data.y_train, **ENTRIES[name]["labels"]["figure"], split_seed=0, labels_seed=0
    )
    assert split["labelled"].tolist() == LABELLED[name] and len(split["unlabelled"]) == 1000
    if name == "pinwheel":
        assert np.abs(off_the_arm(data.X_train, data.y_train)).max() < 20
    else:
        assert fits_eight_gaussians(data.X_train, data.y_train) == 1
    radii = [np.linalg.norm(X, axis=1) for X in (data.X_train, data.X_test)]
    assert abs(np.diff([np.median(radius) for radius in radii])[0]) < 0.1
    assert abs(np.diff([radius.std() for radius in radii])[0]) < 0.05


@pytest.mark.parametrize("name", LABELLED)
def test_generated_in_their_place(name, tmp_path):
    spec = dataset_spec(name, ENTRIES[name], None, surrogate=True)
    data = load(spec, tmp_path)
    assert spec["loader"] == name and spec["files"] == {}
    assert len(data.X_train) == 1000 and (data.y_train >= 0).all()
    assert "surrogate data" in spec["not_comparable"][0]
