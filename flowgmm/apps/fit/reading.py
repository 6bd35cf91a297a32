"""Reading of a user's tables: CSV, Parquet and npz files, and the classes of their rows."""

import difflib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm.datasets.loaders.table import class_name, read_csv, read_parquet
from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["as_text", "read_labels", "read_table"]

# More classes than this look like a number or an identifier.
MAX_CLASSES = 200


def read_table(path: Path, *, sep: str = ",", encoding: str = "utf-8") -> "pd.DataFrame":
    """Read a CSV (plain or gzipped), ``.parquet`` or ``.npz`` file.

    An ``.npz`` has the array ``X``, shape (N, D), whose columns become ``x0``, ``x1``, ..., and
    optionally ``y``, shape (N,), where -1 means unlabelled as everywhere in scikit-learn.

    Raises:
        UserError: If the file is missing, damaged, of another format or empty, or two columns
            have one name.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; check the path")
    if path.suffix == ".npz":
        frame = _read_npz(path)
    elif path.suffix == ".parquet":
        frame = read_parquet(path)
    else:
        options: dict[str, Any] = {"sep": sep, "encoding": encoding}
        header = read_csv(path, header=None, nrows=1, dtype=str, **options).iloc[0].dropna()
        _refuse_duplicates(path, header.astype(str).str.strip().tolist())
        # With low_memory, pandas infers types in chunks, and a column could get several.
        frame = read_csv(path, low_memory=False, **options)
        if frame.index.nlevels > 1 or not frame.index.equals(frame.reset_index(drop=True).index):
            raise UserError(
                f"{path}: the rows have more cells than the header has names; name every column"
            )
    frame.columns = [str(column).strip() for column in frame.columns]
    _refuse_duplicates(path, list(frame.columns))
    if frame.empty:
        raise UserError(f"{path} has no rows below its header; check the file")
    return frame.reset_index(drop=True)


def _refuse_duplicates(path: Path, names: list[str]) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: two columns are named {repeated[0]!r}; rename or remove one")


def _read_npz(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        # NumPy takes any other file for a pickle, and its message says how to load one.
        if not zipfile.is_zipfile(path):
            raise ValueError("not a zip archive")
        with np.load(path, allow_pickle=False) as arrays:
            X = arrays["X"]
            y = arrays.get("y")
    except KeyError:
        raise UserError(f"{path} has no array 'X'; save with np.savez(path, X=X, y=y)") from None
    # A damaged file makes zipfile and NumPy raise exceptions of many types.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} cannot be read ({reason}); save plain arrays, no objects, with "
            "np.savez(path, X=X, y=y)"
        ) from error
    if X.ndim != 2 or X.dtype.kind not in "biuf" or (y is not None and y.shape != X.shape[:1]):
        y_shape = "" if y is None else f", y of shape {y.shape}"
        raise UserError(
            f"{path}: expected X, numbers of shape (N, D), and optionally y of shape (N,), got X "
            f"of shape {X.shape} and type {X.dtype}{y_shape}; reshape or convert them"
        )
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    if y is not None:
        labels = pd.Series(y)
        frame["y"] = labels if labels.dtype.kind not in "if" else labels.mask(labels == -1)
    return frame


def read_labels(
    frame: "pd.DataFrame", label: str, where: object, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Read the classes of the rows; an empty cell is unlabelled.

    Arguments:
        frame: The table.
        label: Its column with the classes.
        where: Name of the table in messages.
        classes: Names of the K classes that are allowed; None: those in the column, sorted.

    Returns:
        Codes in 0..K-1, -1 where unlabelled, shape (N,), and the K names.

    Raises:
        UserError: If the column is missing, has a class that is not in `classes`, fewer than 2
            classes, no class with 2 rows, or values that look like numbers or identifiers.
    """
    if label not in frame.columns:
        columns = list(frame.columns)
        folded = {column.casefold(): column for column in columns}
        close = difflib.get_close_matches(label.casefold(), folded, n=1)
        some = f"{', '.join(map(repr, columns[:10]))}{', ...' if len(columns) > 10 else ''}"
        hint = f"did you mean {folded[close[0]]!r}?" if close else f"it has {some}"
        if len(columns) == 1 and (sep := next((s for s in ";\t|" if s in columns[0]), None)):
            hint += f"; its only column suggests --sep {sep!r}"
        raise UserError(f"{where} has no column {label!r}; {hint}")
    if classes is None and len(frame) < 4:
        raise UserError(
            f"{where}: expected at least 2 labelled rows of each of 2 classes, "
            f"got {len(frame)} rows; add some"
        )
    values = as_text(frame[label].map(class_name, na_action="ignore"))
    labelled = values[values != ""]
    known = classes is not None
    names = _in_order(labelled.unique()) if classes is None else list(classes)
    if known and (unknown := _in_order(set(labelled) - set(names))):
        raise UserError(
            f"{where}: unknown class {unknown[0]!r} in column {label!r}; expected one of "
            f"{', '.join(names[:10])}"
        )
    codes = values.map({name: k for k, name in enumerate(names)}).fillna(-1).to_numpy(np.int64)
    if not len(labelled):
        raise UserError(
            f"{where}: no row has a label in column {label!r}; label some of each class"
        )
    if known:
        return codes, names
    if len(names) > MAX_CLASSES or len(names) > max(2, len(labelled) // 2):
        raise UserError(
            f"{where}: column {label!r} has {len(names):,} different values in {len(labelled):,} "
            "labelled rows; it looks like a number or an identifier, not a class: choose another "
            "--label, or label at least 2 rows of each class"
        )
    if len(names) == 1:
        raise UserError(
            f"{where}: column {label!r} has the one class {names[0]!r}; label rows of another too"
        )
    if np.bincount(codes[codes >= 0]).max() == 1:
        raise UserError(
            f"{where}: each class in column {label!r} has one labelled row, so none can be held "
            "out; label at least 2 rows of a class"
        )
    return codes, names


def as_text(series: "pd.Series") -> "pd.Series":
    """Convert cells to text without surrounding spaces, empty where missing."""
    text = series.astype(object).map(lambda value: str(value).strip(), na_action="ignore")
    return text.where(series.notna(), "")


def _in_order(names: Any) -> list[str]:
    """Sort names as numbers if all of them are numbers, else as text."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)
