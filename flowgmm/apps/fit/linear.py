"""A fitted logistic regression as arrays, without pickle."""

from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_tensors, write_tensors

__all__ = ["load_logistic", "save_logistic"]

ARRAYS = ("coef_", "intercept_", "classes_")


def save_logistic(path: Path, estimator: Any) -> None:
    """Write the coefficients of a fitted `LogisticRegression`.

    Arguments:
        path: The safetensors file.
        estimator: Fitted to codes 0..K-1.
    """
    arrays = {name: getattr(estimator, name) for name in ARRAYS}
    write_tensors(path, arrays, {"class": type(estimator).__name__, "C": estimator.C})


def load_logistic(path: Path) -> Any:
    """Load what `save_logistic` wrote.

    Raises:
        UserError: If the file is missing, damaged or another model's.
    """
    from sklearn.linear_model import LogisticRegression

    arrays, meta = read_tensors(path)
    if meta.get("class") != "LogisticRegression" or set(arrays) != set(ARRAYS):
        raise UserError(f"{path} is no logistic regression; run flowgmm fit again")
    estimator = LogisticRegression(C=meta["C"])
    for name, array in arrays.items():
        setattr(estimator, name, np.array(array))
    estimator.n_features_in_ = arrays["coef_"].shape[1]
    return estimator
