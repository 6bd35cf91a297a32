"""The forest of plain arrays: scikit-learn's probabilities, conventions, saving, and errors."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.estimator_checks import check_classifiers_classes, parametrize_with_checks

from flowgmm.methods import forest
from flowgmm.methods.forest import ForestClassifier
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import write_tensors

EXCUSED = {
    "check_classifiers_classes": "its last case takes -1 for a class, which marks unlabelled points"
    " here; scikit-learn exempts its own semi-supervised estimators, by name",
}
SMALL = ForestClassifier(n_estimators=20, random_state=0)


@parametrize_with_checks([SMALL], expected_failed_checks=lambda _: EXCUSED)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_the_excused_check_passes_otherwise():
    check_classifiers_classes("LabelSpreading", SMALL)


@pytest.fixture(scope="module")
def problem():
    """600 points of 4 classes, of which 200 are labelled."""
    X, y = make_classification(
        600, 8, n_informative=5, n_classes=4, n_clusters_per_class=1, flip_y=0.2, random_state=0
    )
    partial = y.copy()
    partial[200:] = -1
    return X, y, partial


@pytest.mark.parametrize("chunk", [1, 700, 2**15])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"min_samples_leaf": 5, "max_features": None},
        {"class_weight": {0: 1.0, 1: 5.0, 2: 1.0, 3: 0.1}},
        {"class_weight": "balanced_subsample"},
    ],
    ids=str,
)
def test_probabilities_are_scikit_learns(problem, params, chunk, monkeypatch):
    X, y, partial = problem
    monkeypatch.setattr(forest, "CHUNK", chunk)
    ours = ForestClassifier(n_estimators=30, random_state=1, **params).fit(X, partial)
    theirs = RandomForestClassifier(n_estimators=30, random_state=1, **params)
    theirs.fit(X[:200], y[:200])
    # Points on a threshold, too, which is halfway between two labelled ones.
    on = np.repeat(X[:1], 50, axis=0)
    split = np.flatnonzero(ours.children_[:, 0] != np.arange(len(ours.children_)))[:50]
    on[np.arange(len(split)), ours.feature_[split]] = ours.threshold_[split]
    for points in (X[:50], X[550:], on):
        expected = theirs.predict_proba(points)
        np.testing.assert_allclose(ours.predict_proba(points), expected, rtol=0, atol=1e-12)
        assert np.array_equal(ours.predict(points), theirs.predict(points))


def test_a_tree_without_a_split():
    X = np.ones((6, 2))
    model = ForestClassifier(n_estimators=5, random_state=0).fit(X, [0, 0, 0, 1, 1, 1])
    assert model.max_depth_ == 0
    theirs = RandomForestClassifier(n_estimators=5, random_state=0).fit(X, [0, 0, 0, 1, 1, 1])
    assert np.array_equal(model.predict_proba(X), theirs.predict_proba(X))


@pytest.mark.parametrize(
    ("names", "class_weight"),
    [
        ([3, 5, 7, 9], {3: 2.0, 5: 1.0, 7: 1.0, 9: 1.0}),
        (["a", "b", "c", "d"], {"a": 2.0, "b": 1.0, "c": 1.0, "d": 1.0}),
        ([1.0, 2.0, 3.0, 4.0], None),
    ],
)
def test_save_and_load(problem, tmp_path, names, class_weight):
    X, _, partial = problem
    y = np.array([-1 if k < 0 else names[k] for k in partial], dtype=object)
    if not isinstance(names[0], str):
        y = y.astype(type(names[0]))
    model = ForestClassifier(n_estimators=10, class_weight=class_weight, random_state=0).fit(X, y)
    model.save(tmp_path / "forest.safetensors")
    loaded = ForestClassifier.load(tmp_path / "forest.safetensors")
    assert loaded.get_params() == model.get_params()
    assert loaded.n_features_in_ == 8 and loaded.classes_.tolist() == names
    assert loaded.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    loaded.save(tmp_path / "again.safetensors")
    first, second = (tmp_path / f"{name}.safetensors" for name in ("forest", "again"))
    assert first.read_bytes() == second.read_bytes()
    assert set(load_file(first)) == set(forest.ARRAYS)


def test_files_that_are_no_forest_are_one_line(problem, tmp_path):
    X, _, partial = problem
    path = tmp_path / "forest.safetensors"
    with pytest.raises(UserError, match="not found"):
        ForestClassifier.load(path)
    SMALL.fit(X, partial).save(path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        ForestClassifier.load(path)
    write_tensors(path, {"x": np.zeros(3)})
    with pytest.raises(UserError, match="expected a ForestClassifier, got no model"):
        ForestClassifier.load(path)
    unsaved = ForestClassifier(n_estimators=2, random_state=np.random.RandomState(0))
    with pytest.raises(ValueError, match="an int as random_state"):
        unsaved.fit(X, partial).save(path)


def test_pandas_in(problem):
    X, _, partial = problem
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(8)])
    model = ForestClassifier(n_estimators=5, random_state=0).fit(frame, partial)
    assert model.feature_names_in_.tolist() == list(frame)
    expected = ForestClassifier(n_estimators=5, random_state=0).fit(X, partial).predict(X)
    assert np.array_equal(model.predict(frame), expected)
