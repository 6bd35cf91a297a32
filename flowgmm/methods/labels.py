"""Labels of a semi-supervised problem: classes in order, -1 where unlabelled."""

import warnings
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

__all__ = ["encode_labels"]


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
        raise ValueError(
            f"y has {len(classes)} class{'' if len(classes) == 1 else 'es'} among its "
            f"{len(indices)} labelled points; label at least one point of each of 2 classes"
        )
    codes = np.full(len(y), -1, dtype=np.int64)
    codes[~unlabelled] = indices
    return classes, codes
