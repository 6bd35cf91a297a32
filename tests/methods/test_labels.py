"""Labels as people write them: one line says how to mark unlabelled points, in every estimator."""

import warnings

import numpy as np
import pandas as pd
import pytest
from estimators import flow_gmm, mlp, pi_model
from sklearn.base import clone
from sklearn.datasets import make_blobs

from flowgmm.methods.classic import self_training
from flowgmm.methods.flow_forest import FlowForestClassifier
from flowgmm.methods.forest import ForestClassifier
from flowgmm.methods.label_spreading import KNNLabelSpreading, RBFLabelSpreading
from flowgmm.methods.labels import check_labels, encode_labels

SMALL = {"n_steps": 5, "hidden_size": 8}
ESTIMATORS = [
    flow_gmm(n_couplings=2, **SMALL),
    mlp(**SMALL),
    pi_model(**SMALL),
    ForestClassifier(n_estimators=3),
    FlowForestClassifier(flow_gmm(n_couplings=2, **SMALL), ForestClassifier(n_estimators=3)),
    RBFLabelSpreading(),
    KNNLabelSpreading(n_neighbors=3),
    self_training(),
]
X, TRUTH = make_blobs(30, centers=2, random_state=0)
KNOWN = np.arange(30) < 12
NAMES = np.array(["oak", "elm"], dtype=object)[TRUTH]
REMEDY = "mark unlabelled points with the integer -1, in an array of integers or"


def marked(mark: object, of: np.ndarray = NAMES) -> list[object]:
    """A list of labels, with a mark where they are unknown."""
    return [label if known else mark for label, known in zip(of.tolist(), KNOWN, strict=True)]


def as_object(labels: list[object]) -> np.ndarray:
    return np.array(labels, dtype=object)


FAULTS = {
    "list of names and -1": marked(-1),
    "array of names and -1": np.array(marked(-1)),
    "names and -1.0": marked(-1.0),
    "names and -1 with a space": as_object(marked(" -1")),
    "Series of names and -1 as text": pd.Series(marked("-1")),
    "numbers as text": np.array(marked(-1, TRUTH)).astype(str),
    "list of names and NaN": marked(np.nan),
    "names and None": as_object(marked(None)),
    "names and NA": as_object(marked(pd.NA)),
    "names and NaN": as_object(marked(np.nan)),
    "names and NaT": as_object(marked(pd.NaT)),
    "numbers and NaN": np.where(KNOWN, TRUTH, np.nan),
    "numbers and NaN in float32": np.where(KNOWN, TRUTH, np.nan).astype(np.float32),
    "numbers and None": marked(None, TRUTH),
    "numbers and NA": marked(pd.NA, TRUTH),
    "masked numbers": np.ma.array(TRUTH, mask=~KNOWN),
    "Series of names with missing ones": pd.Series(marked(None)),
    "Series of strings with missing ones": pd.Series(marked(None), dtype="string"),
    "Categorical with missing values": pd.Categorical(marked(None)),
    "Series of categories with missing values": pd.Series(marked(None)).astype("category"),
    "nullable integers with missing values": pd.Series(marked(None, TRUTH), dtype="Int64"),
    "nullable booleans with missing values": pd.Series(marked(None, TRUTH), dtype="boolean"),
    "column with missing values": pd.DataFrame({"y": marked(None)}),
    "names and numbers": as_object(marked(3)),
    "integers as objects": as_object(marked(-1, TRUTH)),
    "truth values and -1": as_object(marked(-1, TRUTH == 1)),
}


@pytest.mark.parametrize("y", FAULTS.values(), ids=FAULTS)
def test_the_error_says_how_to_mark_unlabelled_points(y):
    with pytest.raises(ValueError, match=rf"^y(\[\d+\] is | has masked).*; {REMEDY}") as caught:
        check_labels(y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    "y",
    [FAULTS[name] for name in ("list of names and -1", "numbers and NaN", "names and None")],
    ids=["text", "NaN", "None"],
)
def test_every_estimator_says_it(estimator, y):
    with pytest.raises(ValueError, match=REMEDY):
        clone(estimator).fit(X, y)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("dtype", [int, np.float32, object])
def test_minus_one_and_one_are_recoded(estimator, dtype):
    y = np.where(TRUTH, 1, -1).astype(dtype)
    with pytest.raises(ValueError, match="-1") as caught:
        clone(estimator).fit(X, y)
    if dtype is object:
        assert REMEDY in str(caught.value)
    else:
        assert "-1 is read as unlabelled" in str(caught.value)
        assert "recode the classes as 0 and 1" in str(caught.value)


def test_one_class_without_unlabelled_points_is_no_matter_of_the_mark():
    with pytest.raises(ValueError, match=r"y has 1 class .* of 2 classes$"):
        encode_labels(np.ones(5, int))


RIGHT = {
    "integers": marked(-1, TRUTH),
    "floats": np.array(marked(-1, TRUTH), float),
    "names": as_object(marked(-1)),
    "names and -1.0": as_object(marked(-1.0)),
    "names and a NumPy integer": as_object(marked(np.int64(-1))),
    "Series of names": pd.Series(as_object(marked(-1))),
    "nullable integers": pd.Series(marked(-1, TRUTH), dtype="Int64"),
    "integers that mask nothing": np.ma.array(marked(-1, TRUTH)),
}


@pytest.mark.parametrize("y", RIGHT.values(), ids=RIGHT)
def test_labels_as_they_should_be(y):
    model = ForestClassifier(n_estimators=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = model.fit(X, y).predict(X)
    expected = NAMES if isinstance(model.classes_[0], str) else TRUTH
    assert np.mean(predicted == expected) > 0.9
    assert len(model.classes_) == 2


@pytest.mark.parametrize(
    "y", [NAMES.tolist(), NAMES.astype(str), pd.Series(NAMES), pd.Categorical(NAMES)], ids=type
)
def test_text_without_unlabelled_points(y):
    assert ForestClassifier(n_estimators=5).fit(X, y).classes_.tolist() == ["elm", "oak"]
