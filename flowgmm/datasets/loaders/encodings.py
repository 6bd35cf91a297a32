"""Vectors of texts that the paper's authors published, a file for each part."""

from pathlib import Path

import numpy as np

from flowgmm.datasets.loaders.arrays import read_npz
from flowgmm.datasets.types import Arrays
from flowgmm.utils.errors import UserError

__all__ = ["load_encodings"]


def load_encodings(
    raw: Path, *, train: str, test: str, classes: list[str], width: int = 768
) -> Arrays:
    """Read two ``.npz`` files with ``encodings``, shape (N, width), and ``labels``, shape (N,).

    Labels count from 0, or from 1 as in the files of texts: then all of 1 to K occur, and 0 does
    not.

    Arguments:
        raw: Folder with both files.
        train: Name of the training part's file.
        test: Name of the test part's file.
        classes: Names of the K classes.
        width: Features of a vector; BERT's pooled output has 768.

    Raises:
        UserError: If a file is missing or damaged, or its arrays are of another shape or type.

    Source: spec 7, D12, D17.
    """
    X_train, y_train = _read(raw / train, width)
    X_test, y_test = _read(raw / test, width)
    found = np.unique(np.concatenate([y_train, y_test]))
    first = int(np.array_equal(found, np.arange(1, len(classes) + 1)))
    if outside := sorted(set((found - first).tolist()) - set(range(len(classes)))):
        raise UserError(
            f"{raw / train}, {test}: label {outside[0] + first} is none of {len(classes)} classes "
            f"({', '.join(classes)}); is it the authors' file?"
        )
    notes = [f"vectors of the paper's authors: {len(y_train)} and {len(y_test)} rows"]
    return Arrays(
        X_train, y_train - first, X_test, y_test - first, list(classes), notes, same_scale=True
    )


def _read(path: Path, width: int) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_npz(path, ("encodings", "labels"))
    X, y = arrays["encodings"], arrays["labels"]
    if X.dtype.kind != "f" or X.ndim != 2 or X.shape[1] != width:
        raise UserError(
            f"{path}: encodings is {X.dtype} of shape {X.shape}; expected floating-point numbers "
            f"of shape (N, {width}); is it the authors' file?"
        )
    if y.dtype.kind not in "iu" or y.shape != (len(X),):
        raise UserError(
            f"{path}: labels is {y.dtype} of shape {y.shape}; expected whole numbers of shape "
            f"({len(X)},); is it the authors' file?"
        )
    return X, y.astype(np.int64)
