"""Building estimators from a config, choosing hyper-parameters, and the lazy package."""

import inspect
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

import flowgmm
from flowgmm.experiments.tuning import choose_on_validation
from flowgmm.methods import build
from flowgmm.methods.flow_forest import FlowForestClassifier
from flowgmm.methods.label_spreading import RBFLabelSpreading
from flowgmm.utils.errors import UserError


def test_build_passes_parameters_and_seed():
    model = build(
        "flowgmm.methods.label_spreading.RBFLabelSpreading", {"gamma": 8.0}, random_state=3
    )
    assert isinstance(model, RBFLabelSpreading)
    assert (model.gamma, model.rho, model.random_state) == (8.0, 0.5, 3)


def test_build_leaves_the_seed_out_where_there_is_none():
    model = build("sklearn.neighbors.KNeighborsClassifier", {"n_neighbors": 3}, random_state=3)
    assert isinstance(model, KNeighborsClassifier)
    assert model.n_neighbors == 3


@pytest.mark.parametrize(
    ("preprocess", "step"), [("unit_norm", Normalizer), ("standardise", StandardScaler)]
)
def test_build_preprocesses_in_a_pipeline(preprocess, step):
    model = build("sklearn.linear_model.LogisticRegression", {"C": 2.0}, preprocess, 5)
    assert isinstance(model, Pipeline)
    assert isinstance(model["preprocess"], step)
    assert isinstance(model["estimator"], LogisticRegression)
    assert (model["estimator"].C, model["estimator"].random_state) == (2.0, 5)


def test_build_gives_an_estimator_its_own_preprocessing():
    flow_forest = "flowgmm.methods.flow_forest.flow_forest"
    model = build(flow_forest, {"training": {"n_steps": 5}, "pca_components": 2}, "pca", 3)
    assert isinstance(model, FlowForestClassifier)
    assert (model.random_state, model.flow_gmm.training.n_steps) == (3, 5)
    assert (model.flow_gmm.preprocess, model.flow_gmm.pca_components) == ("pca", 2)
    assert build(flow_forest, {}).flow_gmm.preprocess == "none"
    flow_gmm = "flowgmm.methods.flow_gmm.FlowGMMClassifier"
    assert build(flow_gmm, {"preprocess": "pca"}).preprocess == "pca"


def test_build_self_training_learns_from_unlabelled_points():
    X, y = make_blobs(200, centers=3, random_state=0)
    partial = y.copy()
    partial[20:] = -1
    model = build(
        "flowgmm.methods.classic.self_training",
        {"C": 0.5, "threshold": 0.9, "max_iter": 5},
        "standardise",
        random_state=1,
    )
    inner = model["estimator"]
    assert isinstance(inner, SelfTrainingClassifier)
    assert (inner.estimator.C, inner.estimator.random_state) == (0.5, 1)
    assert (inner.threshold, inner.max_iter) == (0.9, 5)
    model.fit(X, partial)
    assert np.sum(inner.labeled_iter_ > 0) > 20
    assert np.mean(model.predict(X) == y) > 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("os.system", {}), "'os.system' is not below flowgmm.methods. or sklearn."),
        (("sklearn.svm.NoSuch", {}), "'sklearn.svm.NoSuch' does not exist; check the spelling"),
        (("flowgmm.methods.nothing.A", {}), "'flowgmm.methods.nothing.A' does not exist"),
        (("flowgmm.methods.build.x", {}), "'flowgmm.methods.build.x' does not exist"),
        (("flowgmm.methods.PACKAGES", {}), "'flowgmm.methods.PACKAGES' does not exist"),
        (
            ("sklearn.neighbors.KNeighborsClassifier", {"k": 3}),
            "KNeighborsClassifier has no parameter k; it has n_neighbors, ",
        ),
        (
            ("sklearn.linear_model.LogisticRegression", {"random_state": 1}),
            "random_state=1 among the parameters .* remove it",
        ),
        (
            ("sklearn.svm.SVC", {}, "pca"),
            "preprocess='pca' of sklearn.svm.SVC is unknown; use none",
        ),
    ],
)
def test_build_names_the_mistake(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        build(*arguments)
    assert "\n" not in str(caught.value)


class Threshold:
    """Predicts x > at; a stand-in whose accuracy is known."""

    def __init__(self, at, unused=0):
        self.at = at

    def fit(self, X, y):
        return self

    def predict(self, X):
        return (X[:, 0] > self.at).astype(int)


X_VAL, Y_VAL = np.arange(10.0)[:, None], (np.arange(10) > 4).astype(int)


def choose(grid, y_val=Y_VAL):
    return choose_on_validation(Threshold, grid, X_VAL, Y_VAL, X_VAL, y_val)


def test_choice_is_the_most_accurate_and_the_first_on_a_tie():
    choice = choose({"unused": ["b", "a"], "at": [9, 4.5, 4.2]})
    assert choice.params == {"unused": "b", "at": 4.5}
    assert [point["accuracy"] for point in choice.curve] == [0.5, 1, 1, 0.5, 1, 1]
    assert [point["params"]["at"] for point in choice.curve] == [9, 4.5, 4.2] * 2
    assert choice.curve[3]["params"] == {"unused": "a", "at": 9}
    json.dumps(choice.curve)


def test_choice_ignores_unlabelled_training_points_of_a_real_method():
    X, y = make_blobs(300, n_features=4, centers=3, cluster_std=3.0, random_state=1)
    partial = y[:200].copy()
    partial[12:] = -1
    grid = {"gamma": [2.0, 8.0], "rho": [0.25, 0.5]}
    choice = choose_on_validation(RBFLabelSpreading, grid, X[:200], partial, X[200:], y[200:])
    assert len(choice.curve) == 4
    assert max(point["accuracy"] for point in choice.curve) > 0.7
    assert choice.params in [point["params"] for point in choice.curve]


def test_choice_has_no_way_in_for_test_points():
    names = list(inspect.signature(choose_on_validation).parameters)
    assert names == ["make", "grid", "X", "y", "X_val", "y_val"]


def test_choice_refuses_an_empty_grid_and_unlabelled_validation_points():
    with pytest.raises(UserError, match="grid has no values for at; give"):
        choose({"at": []})
    with pytest.raises(UserError, match="1 of 10 validation points are unlabelled; choosing"):
        choose({"at": [1]}, np.where(np.arange(10) == 3, -1, Y_VAL))


def in_subprocess(code):
    """Standard output of Python code run in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    """Processor time, which does not depend on what else the machine does."""
    code = (
        "import sys, time; start = time.process_time(); import flowgmm;"
        "seconds = time.process_time() - start; import flowgmm.methods;"
        "print(seconds, sorted({'torch', 'numpy', 'sklearn'} & {*sys.modules}))"
    )
    seconds, heavy = in_subprocess(code).split(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 0.1


def test_classic_methods_do_without_torch():
    code = (
        "import sys; from flowgmm import RBFLabelSpreading, KNNLabelSpreading;"
        "from flowgmm.methods import build; build('sklearn.svm.SVC', {}, 'standardise', 0);"
        "print('torch' in sys.modules)"
    )
    assert in_subprocess(code) == "False"


@pytest.mark.parametrize("name", flowgmm.__all__)
def test_every_public_name_is_there(name):
    assert name in dir(flowgmm)
    assert getattr(flowgmm, name) is not None


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'flowgmm' has no attribute 'FlowGMM'"):
        _ = flowgmm.FlowGMM


def test_few_labels_of_many_classes_are_no_warning():
    from flowgmm.methods.labels import encode_labels

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classes, codes = encode_labels(np.array([0, 1, 2, 3, 3, -1]))
    assert classes.tolist() == [0, 1, 2, 3]
    assert codes.tolist() == [0, 1, 2, 3, 3, -1]
