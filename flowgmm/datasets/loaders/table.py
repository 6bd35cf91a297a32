"""Tables: any CSV or Parquet file with a label column."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.datasets.splits import split_by_class
from flowgmm.datasets.types import Arrays
from flowgmm.utils.errors import UserError
from flowgmm.utils.seeds import derive

__all__ = ["class_name", "load_table", "read_csv", "read_parquet"]


def load_table(
    raw: Path,
    *,
    file: str,
    label: str,
    sep: str = ",",
    header: list[str] | None = None,
    drop: list[str] | None = None,
    one_hot: list[str] | None = None,
    classes: list[str] | None = None,
    test_fraction: float = 0.2,
    standardise: bool = True,
    encoding: str = "utf-8",
    seed: int = 0,
) -> Arrays:
    """Split a table by class into training and test part.

    Rows without a label have an unknown class; they belong to the training part.

    Arguments:
        raw: Folder with the file.
        file: Its name; ``.parquet`` is read as Parquet, all else as CSV.
        label: Column with the class.
        sep: Separator of a CSV.
        header: Names of all columns, for a CSV that has no header line; None: it has one.
        drop: Columns to leave out.
        one_hot: Columns of categories; each value becomes a column of 0 and 1, `column=value`.
        classes: Values of the label column, in the order of the classes; None: sorted.
        test_fraction: Share of the labelled rows in the test part.
        standardise: Whether each feature gets mean 0 and standard deviation 1 in the training part.
        encoding: Encoding of a CSV.
        seed: Number of the draw.

    Raises:
        UserError: If a column is missing or not numeric, a label is none of `classes`, or a class
            has fewer than two rows.
    """
    path = raw / file
    frame = (
        read_parquet(path)
        if file.endswith(".parquet")
        else read_csv(path, sep=sep, encoding=encoding, names=header)
    )
    present = [str(column) for column in frame.columns]
    if unknown := [c for c in [label, *(drop or []), *(one_hot or [])] if c not in present]:
        raise UserError(
            f"{file}: column {', '.join(unknown)} not found; it has {', '.join(present[:20])}"
        )
    values = frame[label].map(class_name, na_action="ignore")
    names = classes or sorted(values.dropna().unique())
    if outside := sorted(set(values.dropna()) - set(names)):
        raise UserError(
            f"{file}: label {', '.join(outside[:5])} in column {label!r} is not one of "
            f"{', '.join(names)}; correct the file or the option `classes`"
        )
    y = values.map({name: k for k, name in enumerate(names)}).fillna(-1).to_numpy(np.int64)
    features = _numeric(frame.drop(columns=[label, *(drop or [])]), one_hot or [], file)
    X = features.to_numpy(np.float64)
    known = np.flatnonzero(y >= 0)
    counts = np.bincount(y[known], minlength=len(names))
    if len(names) > 1 and counts.min() < 2:
        raise UserError(
            f"{file}: class {names[int(counts.argmin())]!r} has {counts.min()} rows, but each "
            "part needs one; leave it out of the file"
        )
    train, test = split_by_class(
        known, y[known], test_fraction, derive(f"table/{file}", seed, "split"), str(path)
    )
    train = np.concatenate([train, np.flatnonzero(y < 0)])
    if standardise:
        mean, std = X[train].mean(axis=0), X[train].std(axis=0)
        X = (X - mean) / np.where(std > 0, std, 1)
    notes = [f"{(y < 0).sum()} rows without a label"] if (y < 0).any() else []
    columns = [str(column) for column in features.columns]
    return Arrays(X[train], y[train], X[test], y[test], list(names), notes, columns)


def _numeric(frame: Any, one_hot: list[str], file: str) -> Any:
    """Columns of numbers, those of categories as one column per value; an empty cell is none."""
    import pandas as pd

    frame = pd.get_dummies(frame, columns=one_hot, prefix_sep="=", dtype=float)
    text = [str(c) for c in frame.columns if frame[c].dtype.kind not in "biuf"]
    if text:
        raise UserError(
            f"{file}: column {', '.join(text[:5])} is not numeric; name it in the option `drop`, "
            "or in `one_hot` if it holds categories"
        )
    return frame


def class_name(value: Any) -> str:
    """Name of a class; pandas reads integers beside empty cells as 1.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_parquet(path: Path) -> Any:
    """Call `pandas.read_parquet`; errors become `UserError`.

    Raises:
        UserError: If the file is missing or not Parquet.
    """
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule download_file") from error
    # Arrow, the system or pandas may raise anything for a damaged file.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a Parquet file ({reason}); write or fetch it again"
        ) from error


def read_csv(path: Path, *, encoding: str = "utf-8", **options: Any) -> Any:
    """Call `pandas.read_csv` on a plain or gzipped file; errors become `UserError`.

    Raises:
        UserError: If the file is missing, cut off, in another encoding, or not a table.
    """
    import pandas as pd

    try:
        with path.open("rb") as handle:
            zipped = handle.read(2) == b"\x1f\x8b"
        options |= {"encoding": encoding, "compression": "gzip" if zipped else None}
        if names := options.get("names"):
            # pandas takes surplus columns silently as an index, and missing ones as NaN.
            width = pd.read_csv(path, **{**options, "names": None}, header=None, nrows=1).shape[1]
            if width != len(names):
                raise UserError(
                    f"{path}: expected {len(names)} columns, got {width}; "
                    "correct the option `header` or `sep`"
                )
        return pd.read_csv(path, **options)
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule download_file") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not {encoding} (byte {error.object[error.start]:#04x}); "
            "set the option `encoding`, e.g. latin-1"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is cut off or damaged ({error}); fetch it again") from error
    except (ValueError, LookupError) as error:  # pandas' own errors, and an unknown encoding
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a table ({reason}); check the file and the options `sep`, `encoding`"
        ) from error
