"""Columns of a table: conversion to standardised features, and back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from flowgmm.apps.fit.reading import as_text
from flowgmm.utils.errors import UserError
from flowgmm.utils.progress import Progress, with_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Column", "Columns"]

# A column is of numbers, or dates, if this share of its values can be parsed; the rest is missing.
MIN_PARSED = 0.95
# A level has a feature of its own if this share of the rows has it; at most MAX_LEVELS have.
MIN_LEVEL_SHARE = 0.01
MAX_LEVELS = 20
OTHER = "(other)"


@dataclass(frozen=True)
class Column:
    """Conversion of a column to numbers.

    Attributes:
        name: Its name.
        kind: `number`; `date` (days since 1970); `category` (one feature a level); `text` (the
            vector of a text encoder).
        fill: Value imputed for a missing number or date: the median.
        missing: Whether there is an indicator feature of missing values.
        integer: Whether all numbers, or days, are integers.
        date_format: How a date is written; None: it came as a date.
        levels: Levels of a category that have a feature; the empty one is a missing cell.
        other: Whether all further levels share the last feature.
    """

    name: str
    kind: Literal["number", "date", "category", "text"]
    fill: float = 0.0
    missing: bool = False
    integer: bool = False
    date_format: str | None = None
    levels: tuple[str, ...] = ()
    other: bool = False


@dataclass(frozen=True)
class Columns:
    """A table's columns, their features and the features' scale.

    Every feature has mean 0 and standard deviation 1 in the table that was fitted. Those of a text
    share one factor instead, by which their first principal component has standard deviation 1.

    Attributes:
        columns: Those in use, in the table's order.
        shift, scale: x = (feature - shift) / scale, shape (D,).
        encoder: Text encoder; see `flowgmm.embed.text.embed_texts`.
    """

    columns: tuple[Column, ...]
    shift: np.ndarray
    scale: np.ndarray
    encoder: str

    @classmethod
    def fit(
        cls,
        frame: "pd.DataFrame",
        text: Sequence[str] = (),
        encoder: str = "minilm",
        progress: Progress | None = None,
    ) -> tuple[Self, np.ndarray, list[str]]:
        """Infer the kind of every column, and standardise the features; labels are not used.

        Arguments:
            frame: N rows, without the label.
            text: Columns for the text encoder.
            encoder: The text encoder.
            progress: Called as the encoder proceeds.

        Returns:
            The columns, their features, shape (N, D) float32, and notes for the user.

        Raises:
            UserError: If `text` names an unknown column, or fewer than 2 features are left.
        """
        _require(frame, text, "the table")
        found, notes = [], []
        for name in frame.columns:
            column, note = _describe(frame[name], name in text)
            found += [column] if column is not None else []
            notes += [f"{name!r}: {note}"] if note else []
        if not found:
            why = "; ".join(notes[:3]) or "the label is the only one"
            raise UserError(f"no column is left to learn from ({why})")
        columns = cls(tuple(found), np.zeros(0), np.ones(0), encoder)
        blocks = columns._blocks(frame, progress)
        shift = [block.mean(axis=0) for block in blocks]
        scale = [
            np.full(block.shape[1], math.sqrt(np.linalg.eigvalsh(np.cov(block.T, ddof=0))[-1]))
            if column.kind == "text"
            else block.std(axis=0)
            for column, block in zip(found, blocks, strict=True)
        ]
        divisor = np.concatenate(scale)
        if len(divisor) < 2:
            raise UserError(
                f"column {found[0].name!r} alone is left, as one number; a flow needs two: add "
                "a column"
            )
        columns = replace(
            columns,
            shift=np.concatenate(shift),
            scale=np.where(divisor > 0, divisor, 1.0),
        )
        return columns, columns._standardised(blocks), notes

    def transform(self, frame: "pd.DataFrame", progress: Progress | None = None) -> np.ndarray:
        """Convert rows to features, shape (N, D) float32; further columns are ignored.

        Raises:
            UserError: If a column is missing, or none of its cells is a number or date as expected.
        """
        _require(frame, [column.name for column in self.columns], "the table")
        return self._standardised(self._blocks(frame, progress))

    def inverse(self, X: np.ndarray) -> "pd.DataFrame":
        """Convert features X, shape (N, D), to a table; a category gets its most likely level.

        Texts cannot be reconstructed from their vectors; their cells are empty.
        """
        import pandas as pd

        features = np.asarray(X, dtype=np.float64) * self.scale + self.shift
        result, start = {}, 0
        for column in self.columns:
            block = features[:, start : start + self._width(column)]
            start += block.shape[1]
            if column.kind == "text":
                result[column.name] = pd.Series([""] * len(X), dtype=object)
                continue
            if column.kind == "category":
                names = np.array([*column.levels, *([OTHER] if column.other else [])], dtype=object)
                result[column.name] = pd.Series(names[block.argmax(axis=1)])
                continue
            values = pd.Series(block[:, 0]).round() if column.integer else pd.Series(block[:, 0])
            if column.kind == "date":
                # Features are float32: seconds are rounding error.
                dates = pd.to_datetime(values, unit="D").dt.round("min")
                values = dates.dt.strftime(column.date_format or "%Y-%m-%dT%H:%M:%S")
            elif column.integer:
                values = values.astype("Int64")
            result[column.name] = values.mask(block[:, 1] > 0.5) if column.missing else values
        return pd.DataFrame(result)

    def to_json(self) -> dict[str, Any]:
        """JSON value that `from_json` reads."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
            "encoder": self.encoder,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        columns = tuple(
            Column(**{**column, "levels": tuple(column["levels"])}) for column in value["columns"]
        )
        return cls(columns, np.array(value["shift"]), np.array(value["scale"]), value["encoder"])

    def _standardised(self, blocks: list[np.ndarray]) -> np.ndarray:
        return ((np.concatenate(blocks, axis=1) - self.shift) / self.scale).astype(np.float32)

    def _width(self, column: Column) -> int:
        """Number of features of a column; texts share equally those that no other kind has."""
        if column.kind == "text":
            others = [other for other in self.columns if other.kind != "text"]
            n_left = len(self.shift) - sum(self._width(other) for other in others)
            return n_left // (len(self.columns) - len(others))
        return len(column.levels) + column.other if column.levels else 1 + column.missing

    def _blocks(self, frame: "pd.DataFrame", progress: Progress | None) -> list[np.ndarray]:
        """Features of each column before standardisation, shape (N, d) each."""
        return [
            _embed(as_text(frame[column.name]), self.encoder, progress)
            if column.kind == "text"
            else _one_hot(frame[column.name], column)
            if column.kind == "category"
            else _values(frame[column.name], column)
            for column in self.columns
        ]


def _require(frame: "pd.DataFrame", names: Sequence[str], where: str) -> None:
    if absent := [name for name in names if name not in frame.columns]:
        raise UserError(
            f"{where} has no column {', '.join(map(repr, absent[:5]))}; "
            f"it has {', '.join(map(repr, list(frame.columns)[:10]))}"
        )


def _describe(series: "pd.Series", is_text: bool) -> tuple[Column | None, str]:
    """Infer the column of a series (None: uninformative), and a note for the user."""
    from sklearn.preprocessing import OneHotEncoder

    name = str(series.name)
    if is_text:
        return Column(name, "text"), ""
    if _is_numeric(series) and series.nunique() > 1:
        return _number(name, _numbers(series), int(series.notna().sum()))
    text = as_text(series)
    present = text[text != ""]
    if text.nunique() < 2:
        return None, "dropped, it is the same everywhere"
    # A single value beside missing cells is a category of two levels.
    if present.nunique() > 1:
        numbers = _numbers(series)
        if numbers.notna().sum() >= MIN_PARSED * len(present):
            return _number(name, numbers, len(present))
        date_format, dates = _dates(series, present)
        if dates is not None:
            known = dates.dropna()
            whole = bool((known == known.round()).all())
            missing = bool(dates.isna().any())
            column = Column(name, "date", float(dates.median()), missing, whole, date_format)
            return column, "a date, as days"
    if present.nunique() > max(MAX_LEVELS, len(present) / 2):
        return None, (
            f"dropped, nearly all of its {present.nunique():,} texts differ: free text or an "
            f"identifier; --text {name!r} makes use of a text"
        )
    encoder = OneHotEncoder(
        min_frequency=max(1, math.ceil(MIN_LEVEL_SHARE * len(text))),
        max_categories=MAX_LEVELS + 1,
        handle_unknown="infrequent_if_exist",
    ).fit(text.to_numpy(object)[:, None])
    rare = encoder.infrequent_categories_[0]
    rare = set() if rare is None else set(rare)
    levels = tuple(level for level in encoder.categories_[0] if level not in rare)
    if not levels:
        return None, f"dropped, none of its {len(rare):,} levels has 1 % of the rows"
    note = f"{len(rare):,} rare levels taken together" if rare else ""
    return Column(name, "category", levels=levels, other=bool(rare)), note


def _number(name: str, values: "pd.Series", n_present: int) -> tuple[Column | None, str]:
    """Column of numbers (None: uninformative) and a note; `n_present` counts non-empty cells."""
    known = values.dropna()
    integer = bool((known == known.round()).all())
    if len(known) < 2 or known.nunique() < 2:
        return None, "dropped, its numbers are the same everywhere"
    consecutive = len(values) == known.nunique() == known.max() - known.min() + 1
    if integer and consecutive and len(known) >= 20:
        return None, "dropped, it numbers the rows"
    column = Column(name, "number", float(known.median()), bool(values.isna().any()), integer)
    n_missing, n_bad = len(values) - len(known), n_present - len(known)
    bad = f", {n_bad:,} of them not a finite number" if n_bad else ""
    note = f"{n_missing:,} missing values{bad}: the median stands for them, and a mark"
    return column, note if n_missing else ""


def _is_numeric(series: "pd.Series") -> bool:
    import pandas as pd

    return pd.api.types.is_any_real_numeric_dtype(series)


def _numbers(series: "pd.Series") -> "pd.Series":
    """Parse numbers, float64, NaN where missing, infinite or not a number."""
    import pandas as pd

    if _is_numeric(series):
        values = series.astype("Float64").astype("float64")
    else:
        values = pd.to_numeric(as_text(series), errors="coerce").astype("float64")
    return values.where(np.isfinite(values))


def _dates(series: "pd.Series", present: "pd.Series") -> tuple[str | None, "pd.Series | None"]:
    """Infer the format of dates, and parse them to days since 1970; None, None if not dates."""
    import pandas as pd
    from pandas.tseries.api import guess_datetime_format

    if pd.api.types.is_datetime64_any_dtype(series):
        return None, _days(series, None)
    example = str(present.iloc[0])
    # pandas would parse the name of a month, or a year, as a date.
    if len(example) < 6 or not any(map(str.isdigit, example)):
        return None, None
    for dayfirst in (False, True):
        date_format = guess_datetime_format(example, dayfirst=dayfirst)
        if date_format is not None:
            days = _days(series, date_format)
            if days.notna().sum() >= MIN_PARSED * len(present):
                return date_format, days
    return None, None


def _days(series: "pd.Series", date_format: str | None) -> "pd.Series":
    """Parse dates to days since 1970, float64, NaN where missing or not a date."""
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(series):
        series = pd.to_datetime(as_text(series), format=date_format, errors="coerce", utc=True)
    dates = pd.to_datetime(series, utc=True)
    return (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)


def _values(series: "pd.Series", column: Column) -> np.ndarray:
    """Numbers or days with imputed values, and the missing indicator, shape (N, 1 or 2)."""
    values = _numbers(series) if column.kind == "number" else _days(series, column.date_format)
    missing = values.isna()
    if missing.all() and series.notna().any():
        raise UserError(
            f"column {column.name!r}: expected a {column.kind} in each cell, as in the training "
            f"table, got e.g. {as_text(series).iloc[0]!r}; correct the column"
        )
    features = [values.fillna(column.fill)] + ([missing.astype(float)] if column.missing else [])
    return np.stack([feature.to_numpy(np.float64) for feature in features], axis=1)


def _one_hot(series: "pd.Series", column: Column) -> np.ndarray:
    """One-hot features of the levels, shape (N, L); all are 0 at an unknown level."""
    from sklearn.preprocessing import OneHotEncoder

    names = [*column.levels, *([OTHER] if column.other else [])]
    text = as_text(series)
    if column.other:
        text = text.where(text.isin(column.levels), OTHER)
    encoder = OneHotEncoder(
        categories=[np.array(names, dtype=object)], handle_unknown="ignore", sparse_output=False
    ).fit(np.array(names[:1], dtype=object)[:, None])
    return encoder.transform(text.to_numpy(object)[:, None])


def _embed(text: "pd.Series", encoder: str, progress: Progress | None) -> np.ndarray:
    """Embed texts as vectors of length 1, shape (N, D)."""
    import tempfile

    from flowgmm.datasets.loaders.text import normalise
    from flowgmm.embed.text import embed_texts

    # Encoders need at least one token.
    texts = [value if normalise(value) else "empty" for value in text]
    named = with_text(progress, "embedding the texts")
    with tempfile.TemporaryDirectory() as cache:
        vectors = np.array(embed_texts(texts, encoder, Path(cache), progress=named), np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
