"""Tables: any file with a column of labels."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm.datasets.splits import split_by_class
from flowgmm.datasets.types import Arrays
from flowgmm.tabular.cells import as_text
from flowgmm.tabular.columns import Column, read_numbers
from flowgmm.tabular.infer import Choices, infer_columns
from flowgmm.tabular.labels import in_order, label_text
from flowgmm.tabular.notes import KINDS, grouped
from flowgmm.tabular.reading import Table, read_table
from flowgmm.utils.errors import UserError
from flowgmm.utils.seeds import derive

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["find_columns", "load_table", "read_classes", "read_raw"]


def load_table(
    raw: Path,
    *,
    file: str,
    label: str,
    sep: str | None = None,
    header: list[str] | None = None,
    drop: list[str] | None = None,
    one_hot: list[str] | None = None,
    classes: list[str] | None = None,
    test_fraction: float = 0.2,
    standardise: bool = True,
    encoding: str | None = None,
    decimal: str | None = None,
    missing: list[str] | None = None,
    unlabelled: str | None = None,
    seed: int = 0,
) -> Arrays:
    """Split a table by class into training and test part.

    Rows without a label have an unknown class; they belong to the training part.

    Arguments:
        raw: Folder with the file.
        file: Its name; see `flowgmm.tabular.reading.read_table`.
        label: Column with the class.
        sep: Separator of a CSV; None: recognised.
        header: Names of all columns, for a CSV that has no header line; None: it has one.
        drop: Columns to leave out.
        one_hot: Columns of categories; each value becomes a column of 0 and 1, `column=value`.
        classes: Values of the label column, in the order of the classes; None: sorted.
        test_fraction: Share of the labelled rows in the test part.
        standardise: Whether each feature gets mean 0 and standard deviation 1 in the training part.
        encoding: Encoding of a CSV; None: UTF-8, or as its first bytes say.
        decimal: Decimal mark where several fit; None: as other columns have it.
        missing: Cells that stand for a missing value.
        unlabelled: Label of a row of unknown class, beside the empty one.
        seed: Number of the draw.

    Raises:
        UserError: If a column is missing or not numeric, a label is none of `classes`, or a class
            has fewer than two rows.
    """
    path = raw / file
    table = read_raw(path, sep=sep, encoding=encoding, header=header)
    frame = table.frame
    find_columns(frame, [label, *(drop or []), *(one_hot or [])], file)
    y, names = read_classes(frame[label], classes, file, unlabelled)
    choices = Choices(missing=missing or (), decimal=decimal, sep=table.sep)
    features = frame.drop(columns=[label, *(drop or [])])
    X, columns, notes = _numeric(features, one_hot or [], choices, file)
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
    if (y < 0).any():
        notes = [f"{(y < 0).sum()} rows without a label", *notes]
    return Arrays(X[train], y[train], X[test], y[test], names, notes, columns)


def read_raw(path: Path, **options: Any) -> Table:
    """Read a file that the workflow fetches; see `flowgmm.tabular.reading.read_table`.

    Raises:
        UserError: If the file is missing, or no table.
    """
    if not path.is_file():
        raise UserError(f"{path} not found; run the rule download_file")
    return read_table(path, **options)


def find_columns(frame: "pd.DataFrame", names: list[str], file: str) -> None:
    """Check that a table has columns of these names.

    Raises:
        UserError: If one is missing.
    """
    present = list(frame.columns)
    if unknown := [name for name in names if name not in present]:
        raise UserError(
            f"{file}: column {', '.join(unknown)} not found; it has {', '.join(present[:20])}"
        )


def read_classes(
    labels: "pd.Series", classes: list[str] | None, file: str, unlabelled: str | None = None
) -> tuple[np.ndarray, list[str]]:
    """Read labels as codes.

    Arguments:
        labels: N cells; an empty one is an unknown class.
        classes: The K names in their order; None: those in the column, sorted as text.
        file: Name of the table in messages.
        unlabelled: A further label of an unknown class.

    Returns:
        Codes in 0..K-1, -1 where unknown, shape (N,), and the K names.

    Raises:
        UserError: If a label is none of `classes`.
    """
    text = label_text(labels, unlabelled)
    present = set(text) - {""}
    names = list(classes or sorted(present))
    if outside := sorted(present - set(names)):
        raise UserError(
            f"{file}: label {', '.join(outside[:5])} in column {labels.name!r} is not one of "
            f"{', '.join(names)}; correct the file or the option `classes`"
        )
    codes = text.map({name: k for k, name in enumerate(names)}).fillna(-1)
    return codes.to_numpy(np.int64), names


def _numeric(
    frame: "pd.DataFrame", one_hot: list[str], choices: Choices, file: str
) -> tuple[np.ndarray, list[str], list[str]]:
    """Numbers of all columns, NaN where missing; categories as one column per value.

    Returns:
        Float64, shape (N, D), the D names, those of categories behind the others, and notes.
    """
    numbers = frame.drop(columns=one_hot)
    # Identifiers, too: `drop` leaves out columns here.
    found, notes = infer_columns(numbers, replace(choices, keep=list(numbers.columns)))
    columns = {column.name: column for column in found}
    # One number beside missing cells is a category to a classifier.
    columns = {k: c for k, c in columns.items() if len({*c.levels, *c.rare} - {""}) != 1}
    if text := [name for name, column in columns.items() if column.kind != "number"]:
        raise UserError(
            f"{file}: column {', '.join(text[:5])} is not numeric; name it in the option `drop`, "
            "or in `one_hot` if it holds categories"
        )
    blocks: dict[str, np.ndarray] = {}
    for name in numbers.columns:
        # Constant columns have no description.
        blocks[name], _ = read_numbers(frame[name], columns.get(name, Column(name, "number")))
    for name in one_hot:
        cells = as_text(frame[name])
        for value in in_order(set(cells) - {""}):
            blocks[f"{name}={value}"] = (cells == value).to_numpy(np.float64)
    said = grouped(notes, kinds={kind: KINDS[kind] for kind in ("spelling", "sentinel")})
    return np.stack(list(blocks.values()), axis=1), list(blocks), said
