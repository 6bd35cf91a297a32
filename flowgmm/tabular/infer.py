"""Inference of the columns of a training table."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flowgmm.tabular.cells import Cells, as_text, is_numeric
from flowgmm.tabular.columns import Column, missing_numbers, parse
from flowgmm.tabular.dates import check_format, days_since_1970, detect_dates
from flowgmm.tabular.notes import Note, shorten
from flowgmm.tabular.numbers import NumberFormat
from flowgmm.tabular.sentinels import find_sentinels
from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Choices", "infer_columns", "is_mark"]

# A column is of numbers, or dates, if this share of its values can be parsed; the rest is missing.
MIN_PARSED = 0.95
# Or if there are more than this many different numbers and at most so many other texts.
MIN_NUMBERS, MAX_MARKS = 20, 3
# A level has a feature of its own if this share of the rows has it; at most MAX_LEVELS have.
MIN_LEVEL_SHARE = 0.01
MAX_LEVELS = 20
# Whole numbers that differ in so many rows are identifiers, whatever their name.
MIN_IDENTIFIERS = 20
IDENTIFIER = re.compile(r"(.*[ _.-])?(id|idx|index|key|nr|no|number|row|uid)([ _.-].*)?|#|№")
# The first column, without a name: an index that was written with the table.
UNNAMED = "Unnamed: 0"
# Texts that stand for a missing number.
MARKS = frozenset(
    (
        *("?", "??", ".", "..", "...", "-", "--", "---", "\u2013", "\u2014", "*", "**", "/", "\\n"),
        *("na", "n/a", "n.a.", "n.a", "#n/a", "#na", "nan", "-nan", "<na>", "nat", "null", "none"),
        *("nil", "missing", "unknown", "n.d.", "n.d", "nd", "n/d", "bdl", "bql", "lod", "<lod"),
        *("loq", "<loq", "tbd", "s/d", "k.a.", "(blank)", "blank", "void", "undefined", "error"),
        *("inf", "-inf", "+inf", "infinity", "#value!", "#div/0!", "#ref!", "#name?", "#num!"),
        "#null!",
    )
)
CENSORED = re.compile(r"[<>≤≥]=?\s*[\d.,]+")

# A column, or None if it does not inform, and notes on it.
Described = tuple[Column | None, list[Note]]


@dataclass(frozen=True)
class Choices:
    """Decisions of the user on the reading of columns.

    Attributes:
        text: Columns for the text encoder.
        keep: Columns that are kept though they look like identifiers.
        missing: Cells that stand for a missing value, in all columns.
        decimal: Decimal mark where several fit; None: as other columns have it.
        date_format: Format of dates where it fits.
        sep: Separator of the table's cells; a semicolon speaks for decimal commas.

    Raises:
        UserError: If the decimal mark is another, or the format is none of dates.
    """

    text: Sequence[str] = ()
    keep: Sequence[str] = ()
    missing: Sequence[str] = ()
    decimal: str | None = None
    date_format: str | None = None
    sep: str | None = None

    def __post_init__(self) -> None:
        if self.decimal not in (None, ".", ","):
            raise UserError(f"--decimal: expected . or , got {self.decimal!r}; correct it")
        if self.date_format is not None:
            check_format(self.date_format)


def is_mark(text: str) -> bool:
    """Check whether a text is known to stand for a missing value."""
    return text.casefold() in MARKS or CENSORED.fullmatch(text) is not None


def infer_columns(frame: "pd.DataFrame", choices: Choices) -> tuple[list[Column], list[Note]]:
    """Infer the description of every column.

    Arguments:
        frame: N rows; cells are text, or have the type that they were saved with.
        choices: Decisions of the user.

    Returns:
        The columns that inform, in the table's order, and notes on all columns.

    Raises:
        UserError: If a mark of missing values that the user gave is in no cell, or the format of
            dates fits no column.
    """
    for mark in choices.missing:
        if not any(_holds(frame[name], mark) for name in frame.columns):
            raise UserError(f"--missing {mark!r} is in no cell; correct it")
    counted = {
        name: Cells.of(as_text(frame[name])).without(choices.missing)
        for name in frame.columns
        if name not in choices.text and not is_numeric(frame[name])
    }
    decimal = choices.decimal or _decimal(counted.values(), choices.sep)
    columns, notes = [], []
    for name in frame.columns:
        if name in choices.text:
            columns.append(Column(name, "text"))
            continue
        if name in counted:
            column, found = _from_text(frame[name], counted[name], decimal, choices)
        else:
            column, found = _from_numbers(frame[name], choices)
        columns += [] if column is None else [column]
        notes += found
    if choices.date_format and choices.date_format not in {c.date_format for c in columns}:
        raise UserError(f"--date-format {choices.date_format!r} fits no column; correct it")
    return columns, notes


def _holds(series: "pd.Series", mark: str) -> bool:
    """Check whether a cell is a mark of a missing value, as text or as a number."""
    given, without = (parse(series, Column("", "number", marks=m))[1] for m in ((), (mark,)))
    return bool((given != without).any())


def _decimal(columns: Iterable[Cells], sep: str | None) -> str:
    """Decimal mark of the numbers where only one fits; else that which goes with the separator."""
    found = {cells.spelling.decides for cells in columns if _are_numbers(cells)} - {""}
    return found.pop() if len(found) == 1 else "," if sep == ";" else "."


def _are_numbers(cells: Cells) -> bool:
    """Check whether cells are numbers, but for marks of missing values and a few mistakes."""
    if not cells.n_present or not cells.spelling.n_read:
        return False
    unread = np.isnan(cells.spelling.formats[0].parse(cells.values))
    n_different = int((~unread).sum())
    few = int(unread.sum()) <= MAX_MARKS
    return n_different > 1 and (
        cells.spelling.n_read >= MIN_PARSED * cells.n_present
        or (few and n_different > MIN_NUMBERS)
        or all(map(is_mark, cells.texts(unread)))
    )


def _from_text(series: "pd.Series", cells: Cells, decimal: str, choices: Choices) -> Described:
    """Describe a column of text."""
    name = str(series.name)
    if not cells.n_present:
        return _left_out(name, "empty")
    if len(cells.values) + bool(cells.n_missing) < 2:
        return _left_out(name, "constant")
    if name == UNNAMED and name not in choices.keep:
        return _left_out(name, "first, unnamed")
    described = None
    # One value beside missing cells is a category of two levels.
    if len(cells.values) > 1:
        described = _number(name, cells, decimal, choices) or _date(series, cells, decimal, choices)
    return described or _category(name, cells, choices)


def _number(name: str, cells: Cells, decimal: str, choices: Choices) -> Described | None:
    """Describe a column of numbers; None: it is none."""
    width = _width_of_codes(cells)
    if not _are_numbers(cells) or (width and len(cells.values) <= MAX_LEVELS):
        return None
    spelling = cells.spelling.choose(decimal)
    numbers = spelling.parse(cells.values)
    column = Column(name, "number", marks=tuple(choices.missing), spelling=spelling)
    gone, unread = np.isin(numbers, missing_numbers(column)), np.isnan(numbers)
    others = cells.texts(unread)
    marks = [text for text in others if is_mark(text) or len(others) <= MAX_MARKS]
    missing = _missing(cells.n_empty, cells.n_marked + int(cells.counts[gone].sum()), others, marks)
    read = ~unread & ~gone
    spelling = spelling.with_digits(cells.values, np.where(read, numbers, np.nan))
    column = replace(
        column,
        marks=(*choices.missing, *marks),
        missing=bool(missing),
        spelling=replace(spelling, width=width),
    )
    described, notes = _numeric(
        column,
        numbers[read],
        cells.counts[read],
        lambda value: next(iter(cells.texts(numbers == value))),
        choices,
    )
    if described is not None:
        spelt = _spelt(cells, described)
        notes += [Note("spelling", name, spelt)] if spelt else []
        notes += [Note("missing", name, missing)] if missing else []
    return described, notes


def _from_numbers(series: "pd.Series", choices: Choices) -> Described:
    """Describe a column that came as numbers."""
    name = str(series.name)
    column = Column(name, "number", marks=tuple(choices.missing))
    values, present = parse(series, column)
    known = values[~np.isnan(values)]
    different, counts = np.unique(known, return_counts=True)
    if not len(known):
        return _left_out(name, "empty")
    if len(different) == 1 and len(known) < len(values):
        return _category(name, Cells.of(as_text(series)).without(choices.missing), choices)
    beyond = int(present.sum()) - len(known)
    n_empty = int(series.isna().sum())
    found = _missing(n_empty, int((~present).sum()) - n_empty, {}, [])
    missing = ", ".join(filter(None, [found, f"{beyond:,} infinite" if beyond else ""]))
    spelling = NumberFormat().with_digits_of(different)
    column = replace(column, missing=bool(missing), spelling=spelling)
    described, notes = _numeric(column, different, counts, _as_typed, choices)
    if described is not None and missing:
        notes.append(Note("missing", name, missing))
    return described, notes


def _numeric(
    column: Column,
    numbers: np.ndarray,
    counts: np.ndarray,
    text_of: Callable[[float], str],
    choices: Choices,
) -> Described:
    """Complete a column of numbers.

    Arguments:
        column: Its name, spelling and marks.
        numbers: Numbers of the different cells, shape (M,); 1 and 1.0 may both be among them.
        counts: Number of each, shape (M,).
        text_of: The text of a number in the table.
        choices: Decisions of the user.
    """
    values, places = np.unique(numbers, return_inverse=True)
    counts = np.bincount(places, weights=counts).astype(int)
    integer = bool((values == np.round(values)).all())
    if len(values) < 2:
        return _left_out(column.name, "constant")
    if column.name not in choices.keep:
        index = column.name == UNNAMED or IDENTIFIER.fullmatch(column.name.casefold())
        different = integer and counts.max() == 1
        if different and (index or len(values) >= MIN_IDENTIFIERS):
            return _left_out(column.name, "all different")
        if column.name == UNNAMED:
            return _left_out(column.name, "first, unnamed")
    notes = [
        Note("sentinel", column.name, f"{text_of(value)} in {counts[values == value][0]:,} cells")
        for value in find_sentinels(values, counts)
    ]
    fill = float(np.median(np.repeat(values, counts)))
    low, high = float(values[0]), float(values[-1])
    return replace(column, fill=fill, integer=integer, low=low, high=high), notes


def _date(series: "pd.Series", cells: Cells, decimal: str, choices: Choices) -> Described | None:
    """Describe a column of dates; None: it is none."""
    import pandas as pd

    name = str(series.name)
    column, note = Column(name, "date"), ""
    others: dict[str, int] = {}
    marks: list[str] = []
    if not pd.api.types.is_datetime64_any_dtype(series):
        texts = cells.values.to_pandas()
        found = detect_dates(
            texts, cells.counts, given=choices.date_format, day_first=decimal == ","
        )
        unread = np.isnan(days_since_1970(texts, found.format)) if found else np.ones(0)
        others = cells.texts(unread) if found else others
        if found is None or not (
            found.n_read >= MIN_PARSED * cells.n_present or all(map(is_mark, others))
        ):
            return None
        marks = [text for text in others if is_mark(text)]
        note = found.format + (f", or {found.other}" if found.other else "")
        column = replace(column, date_format=found.format, marks=(*choices.missing, *marks))
    days, _ = parse(series, column)
    known = days[~np.isnan(days)]
    if len(np.unique(known)) < 2:
        return None
    missing = _missing(cells.n_empty, cells.n_marked, others, marks)
    notes = [Note("dates", name, note or "days")]
    notes += [Note("missing", name, missing)] if missing else []
    return replace(
        column,
        fill=float(np.median(known)),
        missing=bool(missing),
        integer=bool((known == np.round(known)).all()),
        low=float(known.min()),
        high=float(known.max()),
    ), notes


def _category(name: str, cells: Cells, choices: Choices) -> Described:
    """Describe a column of a category."""
    n_levels, n_rows = len(cells.values), cells.n_present + cells.n_missing
    if name not in choices.keep:
        if n_levels == cells.n_present > 2:
            return _left_out(name, "all different")
        if n_levels > max(MAX_LEVELS, cells.n_present / 2):
            return _left_out(name, f"{n_levels:,} different")
    counts = cells.texts(np.ones(n_levels, bool)) | (
        {"": cells.n_missing} if cells.n_missing else {}
    )
    frequent = [t for t, n in counts.items() if n >= math.ceil(MIN_LEVEL_SHARE * n_rows)]
    levels = sorted(sorted(frequent, key=lambda t: (-counts[t], t))[:MAX_LEVELS])
    rare = sorted(set(counts) - set(levels))
    if not levels:
        return _left_out(name, f"none of {len(rare):,} levels has 1 % of the rows")
    column = Column(
        name, "category", marks=tuple(choices.missing), levels=tuple(levels), rare=tuple(rare)
    )
    return column, [Note("rare", name, f"{len(rare):,} of {len(counts):,}")] if rare else []


def _left_out(name: str, why: str) -> Described:
    return None, [Note("left out", name, why)]


def _missing(n_empty: int, n_marked: int, others: dict[str, int], marks: Sequence[str]) -> str:
    """Phrase on missing cells: empty ones, marks, and others, which are unreadable; may be empty.

    Arguments:
        n_empty: Empty cells.
        n_marked: Cells that the user calls missing.
        others: Texts that are no numbers, and the number of each.
        marks: Those that stand for a missing value.
    """
    phrases = [f"{n_empty:,} empty"] if n_empty else []
    phrases += [f"{n_marked:,} as --missing says"] if n_marked else []
    shown = sorted(marks, key=lambda text: -others[text])[:MAX_MARKS]
    phrases += [f"{others[text]:,} {shorten(text)!r}" for text in shown]
    if rest := sum(others[text] for text in marks) - sum(others[text] for text in shown):
        phrases.append(f"{rest:,} like them")
    if unreadable := {text: n for text, n in others.items() if text not in marks}:
        example = shorten(next(iter(unreadable)))
        phrases.append(f"{sum(unreadable.values()):,} unreadable, e.g. {example!r}")
    return ", ".join(phrases)


def _spelt(cells: Cells, column: Column) -> str:
    """An example of a spelling that is not the usual one, or not the only one; may be empty."""
    spelling = column.spelling
    usual = not (spelling.thousands or spelling.unit)
    if usual and (spelling.decimal == "." or not spelling.decimals):
        return ""
    ambiguous = not cells.spelling.decides and (spelling.thousands or spelling.decimals)
    other = "," if spelling.decimal == "." else "."
    example = spelling.write(np.array([column.fill]))[0]
    return f"{example!r}" + (f", or decimal {other!r}" if ambiguous else "")


def _width_of_codes(cells: Cells) -> int:
    """Digits of whole numbers that begin with a zero, as codes do; 0: none does."""
    import pyarrow.compute as pc

    codes = cells.values.filter(pc.match_substring_regex(cells.values, "^0[0-9]+$"))
    return int(pc.min(pc.utf8_length(codes)).as_py() or 0)


def _as_typed(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
