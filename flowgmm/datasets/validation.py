"""Validation of loaded data: the contract of tables and of images, whatever their source."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowgmm.datasets.types import Arrays, Images
from flowgmm.utils.errors import UserError

__all__ = ["check_arrays", "check_images", "column_names", "constant_range", "shortened"]


def check_arrays(
    data: Arrays,
    dataset: str,
    rows: Mapping[str, int] | None = None,
    columns: int | None = None,
) -> None:
    """Validate a table.

    Arguments:
        data: The loaded table.
        dataset: Name, for messages.
        rows: Expected rows of ``train`` and ``test``; None: any.
        columns: Expected number of features; None: any.

    Raises:
        UserError: If rows or columns are miscounted, a value is not finite, a column is constant,
            a label lies outside the classes, or a class is missing from the training part.
    """
    where, width = f"dataset {dataset!r}", data.X_train.shape[1]
    if columns is not None and width != columns:
        raise UserError(
            f"{where}: expected {columns} feature columns, got {width}; did the raw file change, "
            "or an option of the loader?"
        )
    parts = {"train": (data.X_train, data.y_train), "test": (data.X_test, data.y_test)}
    _check_rows(parts, data.classes, rows, where)
    for part, (X, _) in parts.items():
        if X.shape[1] != width:
            raise UserError(
                f"{where}: {part} part has {X.shape[1]} columns, the training part {width}; "
                "correct the file"
            )
        noise = constant_range(data) if part == "train" else None
        _check_values(X, column_names(data), f"{where}, {part} part", noise)


def check_images(
    data: Images,
    dataset: str,
    rows: Mapping[str, int] | None = None,
    columns: int | None = None,
) -> None:
    """Validate images.

    Arguments:
        data: The loaded images.
        dataset: Name, for messages.
        rows: Expected rows of ``train`` and ``test``; None: any.
        columns: Expected values of an image, C x H x W; None: any.

    Raises:
        UserError: If images are not uint8 of one shape, 1 or 3 channels of even height and width
            (the flow squeezes 2 x 2 pixels), rows or values are miscounted, a label lies outside
            the classes, or a class is missing from the training part.
    """
    where = f"dataset {dataset!r}"
    parts = {"train": (data.train, data.y_train), "test": (data.test, data.y_test)}
    for part, (X, _) in parts.items():
        even = X.ndim == 4 and X.shape[1] in (1, 3) and min(X.shape[2:]) > 0
        if X.dtype != np.uint8 or not even or any(side % 2 for side in X.shape[2:]):
            raise UserError(
                f"{where}: {part} part is {X.dtype} of shape {X.shape}; expected uint8 of shape "
                "(images, 1 or 3 channels, height, width), both even; correct the loader or crop "
                "the images"
            )
        if X.shape[1:] != data.train.shape[1:]:
            raise UserError(
                f"{where}: images have shape {X.shape[1:]} in the {part} part, "
                f"{data.train.shape[1:]} in the training part; make them equal"
            )
    if columns is not None and (values := math.prod(data.train.shape[1:])) != columns:
        raise UserError(
            f"{where}: expected {columns} values an image, got {values}; did the raw file change?"
        )
    _check_rows(parts, data.classes, rows, where)


def _check_rows(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    classes: list[str],
    rows: Mapping[str, int] | None,
    where: str,
) -> None:
    """Check numbers of rows, and labels: at least two classes, each in the training part."""
    if len(classes) < 2:
        raise UserError(
            f"{where}: expected at least 2 classes, got {len(classes)} ({shortened(classes)}); "
            "correct the file or the list `classes`"
        )
    for part, (X, y) in parts.items():
        expected = (rows or {}).get(part)
        if expected is not None and len(X) != expected:
            raise UserError(
                f"{where}: expected {expected} rows in the {part} part, got {len(X)}; did the raw "
                "file change? Otherwise correct `rows` in config/datasets.yaml"
            )
        if not len(X) == len(y) > 0:
            raise UserError(
                f"{where}: {part} part has shape {X.shape} with {len(y)} labels; expected "
                "at least one row and one label a row"
            )
        lowest = -1 if part == "train" else 0
        if outside := sorted(set(np.unique(y).tolist()) - set(range(lowest, len(classes)))):
            raise UserError(
                f"{where}, {part} part: label {shortened(outside)} outside the classes "
                f"0..{len(classes) - 1}; correct the file or the list `classes`"
            )
    missing = sorted(set(range(len(classes))) - set(parts["train"][1].tolist()))
    if missing:
        raise UserError(
            f"{where}: no training point of class {shortened([classes[k] for k in missing])}; "
            "take the class out of `classes` or correct the file"
        )


def _check_values(X: np.ndarray, names: list[str], where: str, noise: float | None) -> None:
    """Check that features are finite, and in the training part (`noise` given) not constant."""
    import pandas as pd
    import pandera.pandas as pa

    # pandera leaves NaN out of its checks unless told not to.
    finite = pa.Check(lambda x: bool(np.isfinite(x).all()), name="finite", ignore_na=False)
    varied = pa.Check(lambda x: bool(x.max() > x.min() + noise), name="varied", ignore_na=False)
    feature = pa.Column(None, [finite, varied] if noise is not None else [finite], nullable=True)
    frame = pd.DataFrame(X, columns=names, copy=False)
    try:
        pa.DataFrameSchema(dict.fromkeys(names, feature)).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        found = error.failure_cases
        for test, text, remedy in (
            ("finite", "NaN or infinite values", "clean the file or drop them with `drop`"),
            ("varied", "one value only", "set `drop_constant: true` in the dataset's entry"),
        ):
            if len(bad := found.loc[found["check"] == test, "column"].tolist()):
                raise UserError(f"{where}: column {shortened(bad)}: {text}; {remedy}") from None
        raise


def constant_range(data: Arrays) -> float:
    """Range of values up to which a feature of `data` counts as constant."""
    if not data.same_scale:
        return 0.0
    return 1e-6 * float(np.median(data.X_train.max(axis=0) - data.X_train.min(axis=0)))


def column_names(data: Arrays) -> list[str]:
    """Names of the D features; their numbers where they have none."""
    return data.columns or [str(i) for i in range(data.X_train.shape[1])]


def shortened(values: list[Any], most: int = 5) -> str:
    """The first few values, for a message of one line.

    Examples:
        >>> shortened([1, 2, 3, 4], most=2)
        '1, 2 and 2 more'
    """
    shown = ", ".join(str(value) for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
