"""SVHN: house numbers, cropped to 32 x 32 pixels, from the official MATLAB files."""

from pathlib import Path

import numpy as np

from flowgmm.datasets.types import Images
from flowgmm.utils.errors import UserError

__all__ = ["load_svhn"]


def load_svhn(raw: Path) -> Images:
    """Read `train_32x32.mat` and `test_32x32.mat`; the files' label 10 is digit 0.

    Arguments:
        raw: Folder with both files.

    Raises:
        UserError: If a file is missing, damaged, or does not hold such images and labels.

    Source: spec 7, trap 11.
    """
    (X, y), (X_test, y_test) = (_read(raw / f"{part}_32x32.mat") for part in ("train", "test"))
    return Images(X, y, X_test, y_test, list("0123456789"))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images, shape (N, 3, 32, 32) uint8, and digits, shape (N,) int64."""
    from scipy.io import loadmat

    try:
        with path.open("rb") as handle:
            stored = loadmat(handle, variable_names=["X", "y"])
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule download_file") from error
    # SciPy's reader raises any exception for a damaged file.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as a MATLAB file ({reason}); delete it and fetch it again"
        ) from error
    if missing := [name for name in ("X", "y") if name not in stored]:
        raise UserError(
            f"{path}: {', '.join(missing)} not found; replace it with the official file"
        )
    X, y = stored["X"], stored["y"].ravel()
    if X.dtype != np.uint8 or X.shape != (32, 32, 3, len(y)):
        raise UserError(
            f"{path}: X is {X.dtype} of shape {X.shape} with {len(y)} labels; expected uint8 of "
            "shape (32, 32, 3, number of labels); replace it with the official file"
        )
    if outside := sorted(set(y.tolist()) - set(range(1, 11))):
        raise UserError(
            f"{path}: label {outside[0]} is outside 1..10; replace it with the official file"
        )
    return np.ascontiguousarray(X.transpose(3, 2, 0, 1)), y.astype(np.int64) % 10
