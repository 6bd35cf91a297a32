"""Arrays in an ``.npz`` file, with a test part of their own."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowgmm.datasets.types import Arrays
from flowgmm.utils.errors import UserError

__all__ = ["load_arrays", "read_npz"]

NAMES = ("X_train", "y_train", "X_test", "y_test")


def load_arrays(raw: Path, *, file: str, classes: list[str] | None = None) -> Arrays:
    """Read an ``.npz`` file.

    Arguments:
        raw: Folder with the file.
        file: Its name. It holds ``X_train`` (N, D), ``X_test`` (N_test, D), and ``y_train`` (N,)
            and ``y_test`` (N_test,): classes 0..K-1, -1 in the training part where unknown.
        classes: Names of the classes; None: their numbers.

    Raises:
        UserError: If the file is missing, is no such file, or an array is missing or of the wrong
            shape or type.
    """
    arrays = read_npz(raw / file, NAMES)
    for name, array in arrays.items():
        kinds, dims = ("fiub", 2) if name.startswith("X") else ("iu", 1)
        if array.dtype.kind not in kinds or array.ndim != dims:
            what = "a matrix of numbers" if dims == 2 else "whole numbers, one a row"
            raise UserError(
                f"{file}: {name} is {array.dtype} of shape {array.shape}; it must be {what}"
            )
    known = classes or [str(k) for k in range(int(arrays["y_train"].max(initial=-1)) + 1)]
    return Arrays(
        arrays["X_train"], arrays["y_train"], arrays["X_test"], arrays["y_test"], list(known)
    )


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz`` file by name; nothing in it is unpickled.

    Raises:
        UserError: If the file is missing or is no such file, or an array is missing.
    """
    if not path.is_file():
        raise UserError(f"{path} not found; run the rule that makes it")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is no .npz file; make it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as stored:
            if missing := [name for name in names if name not in stored]:
                there = ", ".join(stored) or "nothing"
                raise UserError(
                    f"{path.name}: arrays {', '.join(missing)} not found; it has {there}"
                )
            return {name: stored[name] for name in names}
    except UserError:
        raise
    # zipfile and NumPy may raise anything for a damaged file, or one of objects, which are pickles.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason}); make it again") from error
