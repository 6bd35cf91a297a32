"""Columns of a table: inference of what their cells are, and reading of cells accordingly."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from flowgmm.tabular.cells import as_text, is_numeric
from flowgmm.tabular.dates import days_since_1970, write_days
from flowgmm.tabular.notes import Note, shorten
from flowgmm.tabular.numbers import LARGEST, NumberFormat
from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "OTHER",
    "Column",
    "missing_numbers",
    "parse",
    "read_levels",
    "read_numbers",
    "write_numbers",
]

OTHER = "(other)"
# A value is far outside if it is this many times the learnt range away from it.
FAR = 3.0


@dataclass(frozen=True)
class Column:
    """Description of a column: the one interpretation of its cells, in every table.

    Attributes:
        name: Its name.
        kind: `number`; `date` (days since 1970); `category` (one feature a level); `text` (the
            vector of a text encoder).
        fill: Value imputed for a missing number or date: the median.
        missing: Whether there is an indicator feature of missing values.
        integer: Whether all numbers, or days, are integers.
        low, high: Least and largest number, or day.
        spelling: Spelling of its numbers.
        date_format: Spelling of its dates; empty: ISO 8601.
        marks: Cells that stand for a missing value, beside the empty one.
        levels: Levels of a category that have a feature; the empty one is a missing cell.
        rare: Levels that share the last feature; none: there is no such feature.
    """

    name: str
    kind: Literal["number", "date", "category", "text"]
    fill: float = 0.0
    missing: bool = False
    integer: bool = False
    low: float = -LARGEST
    high: float = LARGEST
    spelling: NumberFormat = field(default_factory=NumberFormat)
    date_format: str = ""
    marks: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    rare: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of a category's features."""
        return [*self.levels, *([OTHER] if self.rare else [])]

    def to_json(self) -> dict[str, Any]:
        """JSON value that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        tuples = {key: tuple(value[key]) for key in ("marks", "levels", "rare")}
        return cls(**{**value, **tuples, "spelling": NumberFormat(**value["spelling"])})


def read_numbers(series: "pd.Series", column: Column) -> tuple[np.ndarray, list[Note]]:
    """Read a column of numbers, or of dates as days since 1970.

    Arguments:
        series: N cells, as text or as numbers or dates.
        column: Its description.

    Returns:
        Float64, shape (N,), NaN where missing or unreadable, and notes on cells that are
        unreadable, or missing as none was before, or further from the learnt range than three times
        its width; the last are taken as the nearest value allowed.

    Raises:
        UserError: If most cells are unreadable.
    """
    values, present = parse(series, column)
    bad, notes = present & np.isnan(values), []
    if bad.any():
        if bad.sum() > present.sum() / 2:
            raise UserError(
                f"column {column.name!r}: expected {_expected(column)} as in the training table, "
                f"got e.g. {_example(series, bad)}; {bad.sum():,} of {present.sum():,} cells are "
                "unreadable: correct the column"
            )
        notes.append(Note("unreadable", column.name, _count(series, bad)))
    if not column.missing and not present.all():
        notes.append(Note("empty", column.name, _cells(int((~present).sum()))))
    margin = FAR * (column.high - column.low)
    low, high = column.low - margin, column.high + margin
    with np.errstate(invalid="ignore"):
        far = (values < low) | (values > high)
    if far.any():
        notes.append(Note("outside", column.name, _count(series, far)))
        values = np.clip(values, low, high)
    return values, notes


def parse(series: "pd.Series", column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Parse the cells of a column of numbers or dates.

    Arguments:
        series: N cells, as text or as numbers or dates.
        column: Its description.

    Returns:
        Numbers or days, float64, shape (N,), NaN where there is none, and whether a cell is neither
        empty nor a mark of a missing value, shape (N,).
    """
    import pandas as pd
    import pyarrow as pa

    if column.kind == "date" and pd.api.types.is_datetime64_any_dtype(series):
        return days_since_1970(series, ""), series.notna().to_numpy(bool)
    if column.kind == "number" and is_numeric(series):
        values = series.astype("Float64").to_numpy(np.float64, na_value=np.nan)
        present = ~np.isnan(values) & ~np.isin(values, missing_numbers(column))
        return np.where(present & (np.abs(values) <= LARGEST), values, np.nan), present
    text = as_text(series)
    text = text.where(~text.isin(column.marks), "")
    present = (text != "").to_numpy(bool)
    if column.kind == "date":
        return days_since_1970(text, column.date_format), present
    values = column.spelling.parse(pa.array(text, type=pa.large_string()))
    present = present & ~np.isin(values, missing_numbers(column))
    return np.where(present, values, np.nan), present


def missing_numbers(column: Column) -> np.ndarray:
    """Numbers among the marks of a missing value; -9999 also stands for -9999.0."""
    import pyarrow as pa

    marks = pa.array(column.marks, type=pa.large_string())
    found = np.concatenate([f.parse(marks) for f in (column.spelling, NumberFormat())])
    return found[~np.isnan(found)]


def read_levels(series: "pd.Series", column: Column) -> tuple["pd.Series", list[Note]]:
    """Read a column of a category.

    Arguments:
        series: N cells.
        column: Its description.

    Returns:
        Names of features, see `Column.names`, and the text of unknown levels, shape (N,); and a
        note on those.
    """
    text = as_text(series)
    text = text.where(~text.isin(column.marks), "")
    unknown = ~text.isin((*column.levels, *column.rare, "")).to_numpy(bool)
    notes = [Note("unknown", column.name, _count(series, unknown))] if unknown.any() else []
    if column.rare:
        # Unknown levels are rare ones; a missing cell, where none was before, is no level.
        text = text.where(text.isin((*column.levels, "")), OTHER)
    return text, notes


def write_numbers(values: np.ndarray, column: Column) -> list[str]:
    """Spell numbers or days, shape (N,), as the column does; NaN becomes an empty cell."""
    whole = np.round(values) if column.integer else values
    if column.kind == "date":
        return write_days(whole, column.date_format)
    return column.spelling.write(whole)


def _expected(column: Column) -> str:
    if column.kind == "date":
        return f"dates like {column.date_format or 'ISO 8601'}"
    return f"numbers like {column.spelling.write(np.array([column.fill]))[0]}"


def _count(series: "pd.Series", rows: np.ndarray) -> str:
    return f"{_cells(int(rows.sum()))}, e.g. {_example(series, rows)}"


def _example(series: "pd.Series", rows: np.ndarray) -> str:
    first = int(np.flatnonzero(rows)[0])
    return f"{shorten(str(series.iloc[first]))!r} in row {first + 1:,}"


def _cells(n: int) -> str:
    return f"{n:,} cell{'' if n == 1 else 's'}"
