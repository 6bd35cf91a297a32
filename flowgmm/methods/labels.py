"""Labels of a semi-supervised problem: classes in order, -1 where unlabelled."""

import warnings
from numbers import Number
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

__all__ = ["check_labels", "encode_labels"]

REMEDY = (
    "mark unlabelled points with the integer -1, in an array of integers or, beside class names, "
    "of dtype object"
)
# Marks of an unlabelled point as NumPy and pandas turn them into text, beside class names.
MARKS_AS_TEXT = frozenset({"-1", "-1.0", "nan", "<NA>"})


def check_labels(y: Any) -> None:
    """Refuse labels that mark unlabelled points by anything but the integer -1.

    To be called with `y` as the user gave it, before scikit-learn's validation, whose errors are
    of labelled points.

    Arguments:
        y: Labels of any type, shape (N,).

    Raises:
        ValueError: If a label is missing (None, NaN, NA, masked), is a mark as text, or is neither
            text nor -1 in an array of dtype object.
    """
    values = np.asanyarray(y)
    if values.ndim == 0:  # no labels: left to scikit-learn
        return
    if np.ma.is_masked(values):
        raise ValueError(f"y has masked labels; {REMEDY}")
    if values.dtype.kind not in "fOTU":
        return
    for i, label in enumerate(values.ravel().tolist()):
        if fault := _fault(label, values.dtype.kind):
            raise ValueError(f"y[{i}] is {label!r}, {fault}; {REMEDY}")


def _fault(label: Any, kind: str) -> str:
    """Reason why a label cannot be told from the mark of an unlabelled point; empty if it can."""
    if isinstance(label, str):
        return "a text" if label.strip() in MARKS_AS_TEXT else ""
    # NA and NaT by name, since pandas need not be installed; NaN does not equal itself.
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return "a missing value"
    if isinstance(label, Number) and label != label:
        return "a missing value"
    if kind == "O" and not (isinstance(label, Number) and label == -1):
        # The words that scikit-learn's checks expect.
        return "neither a text nor -1 (Unknown label type in an array of dtype object)"
    return ""


def encode_labels(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separate the classes from the mark of an unlabelled point.

    Arguments:
        y: Labels of any type, shape (N,); -1 where unlabelled. Strings go with -1 in an array of
            dtype object.

    Returns:
        The sorted classes, shape (K,), and each point's index among them, shape (N,), int64; -1
        where unlabelled.

    Raises:
        ValueError: If the labels are not classes, or fewer than 2 classes have a labelled point.
    """
    unlabelled: Any = y == -1
    with warnings.catch_warnings():
        # With few labels for each class they are many for the points, and classes all the same.
        warnings.filterwarnings("ignore", message="The number of unique classes is greater")
        check_classification_targets(y[~unlabelled] if unlabelled.any() else y)
    classes, indices = np.unique(y[~unlabelled], return_inverse=True)
    if len(classes) < 2:
        hint = ""
        if len(classes) == 1 and unlabelled.any():
            hint = " (-1 is read as unlabelled: if it is a class, recode the classes as 0 and 1)"
        raise ValueError(
            f"y has {len(classes)} class{'' if len(classes) == 1 else 'es'} among its "
            f"{len(indices)} labelled points; label at least one point of each of 2 classes{hint}"
        )
    codes = np.full(len(y), -1, dtype=np.int64)
    codes[~unlabelled] = indices
    return classes, codes
