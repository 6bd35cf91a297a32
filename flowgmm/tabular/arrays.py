"""Files that keep the types of their columns: Parquet and NumPy's npz."""

import re
import zipfile
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from flowgmm.tabular.files import reason_of
from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["read_npz", "read_parquet"]

# Column in which pandas stores row numbers that nobody named.
UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
SAVE = "save plain arrays, no objects, with np.savez(path, X=X, y=y)"


def read_npz(stream: BinaryIO, where: object) -> "pd.DataFrame":
    """Read the arrays `X`, shape (N, D), as columns x0, x1, ..., and optionally `y`, shape (N,).

    Of whole numbers -1 in `y` is missing, as everywhere in scikit-learn.

    Raises:
        UserError: If the file is damaged, or the arrays have other shapes or types.
    """
    import pandas as pd

    try:
        # NumPy takes any other file for a pickle, and its message says how to load one.
        if not zipfile.is_zipfile(stream):
            raise ValueError("not a zip archive")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            X = arrays["X"]
            y = arrays.get("y")
    except KeyError:
        raise UserError(f"{where} has no array 'X'; save with np.savez(path, X=X, y=y)") from None
    # A damaged file makes zipfile and NumPy raise exceptions of many types.
    except Exception as error:
        raise UserError(f"{where} cannot be read ({reason_of(error)}); {SAVE}") from error
    if (
        X.ndim != 2
        or X.dtype.kind not in "biuf"
        or (y is not None and (y.shape != X.shape[:1] or y.dtype.kind not in "biufUS"))
    ):
        y_shape = "" if y is None else f", y of shape {y.shape} and type {y.dtype}"
        raise UserError(
            f"{where}: expected X, numbers of shape (N, D), and optionally y of shape (N,), "
            f"numbers or text, got X of shape {X.shape} and type {X.dtype}{y_shape}; reshape or "
            "convert them"
        )
    frame = pd.DataFrame(_native(X), columns=[f"x{j}" for j in range(X.shape[1])])
    if y is not None:
        labels = pd.Series(_native(y, where))
        frame["y"] = labels.mask(labels == -1) if labels.dtype.kind in "if" else labels
    return frame


def _native(values: np.ndarray, where: object = "") -> np.ndarray:
    """Convert to the byte order of this machine, and bytes to text."""
    if values.dtype.kind == "S":
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: y is no text in UTF-8 ({error}); convert it") from error
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        return values.astype(np.float64)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def read_parquet(stream: BinaryIO, where: object) -> tuple["pd.DataFrame", list[str]]:
    """Read the columns of a Parquet file as numbers, dates and text.

    Decimals become floats, categories and times text, and booleans with missing cells text.
    An index that pandas stored is a column if it has a name.

    Returns:
        The table, and sentences on columns left out because their cells are lists or the like.

    Raises:
        UserError: If the file is no Parquet file or damaged.
    """
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(stream).read()
        table.validate(full=True)
    # Arrow or the system may raise anything for a damaged file.
    except Exception as error:
        raise UserError(
            f"{where} is not a Parquet file ({reason_of(error)}); write or fetch it again"
        ) from error
    names, columns, notes = [], [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if UNNAMED_INDEX.fullmatch(name):
            continue
        plain = _plain(column)
        if plain is None:
            notes.append(f"{name!r} is left out: its cells are of type {column.type}.")
        else:
            names.append(name)
            columns.append(plain)
    numbered = pa.table(columns, [str(j) for j in range(len(columns))])
    frame = numbered.to_pandas() if columns else pd.DataFrame(index=range(table.num_rows))
    return frame.set_axis(names, axis="columns"), notes


def _plain(column: "pa.ChunkedArray") -> "pa.ChunkedArray | None":
    """Convert to a type that NumPy and pandas have; None: there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = pa.chunked_array(
            [chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type
        )
    kind = column.type
    if types.is_null(kind) or types.is_decimal(kind) or types.is_float16(kind):
        return column.cast(pa.float64())
    if types.is_date(kind):
        return column.cast(pa.timestamp("ms"))
    if types.is_timestamp(kind):
        return column.cast(pa.timestamp(kind.unit))
    if types.is_boolean(kind) and column.null_count:
        return pc.if_else(column, "True", "False")
    if types.is_time(kind):
        return column.cast(pa.string())
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return column
    if types.is_binary(kind) or types.is_large_binary(kind):
        try:
            return column.cast(pa.large_string())  # as writers store text that know no text type
        except pa.ArrowInvalid:
            return None
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return column.cast(pa.large_string())
    return None
