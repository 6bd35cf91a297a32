"""Spelling of the numbers in a column: decimal mark, thousands separators, unit, digits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LARGEST", "NumberFormat", "Spelling", "detect_spelling"]

# Features are float32; numbers beyond its range are not numbers of a measurement.
LARGEST = float(np.finfo(np.float32).max)
# Characters that stand for another: the minus sign, spaces that do not break, apostrophes.
LOOKALIKES = (
    ("\u2212", "-"),
    ("[\u00a0\u2007\u2009\u202f]", " "),
    ("[\u2019\u00b4`]", "'"),
)
PERCENT = ("%", "‰")
CURRENCIES = (
    *"€$£¥₹₽₩₺₪฿₫₴₦₱",
    *("US$", "R$", "EUR", "USD", "GBP", "CHF", "JPY", "CNY", "INR", "BRL", "CAD", "AUD", "SEK"),
    *("NOK", "DKK", "PLN", "CZK", "HUF", "TRY", "ZAR", "MXN", "RUB", "kr", "zł", "Kč", "Fr."),
)
UNITS = "|".join(re.escape(unit) for unit in sorted((*PERCENT, *CURRENCIES), key=len)[::-1])
# Decimal mark and thousands separator; those before win where several read as many cells.
CONVENTIONS = ((".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"))

Decimal = Literal[".", ","]


@dataclass(frozen=True)
class NumberFormat:
    """Spelling of numbers; only cells that are spelt so are numbers.

    Attributes:
        decimal: Decimal mark, `.` or `,`.
        thousands: Separator of thousands; empty: none.
        unit: Per cent or currency sign; a currency may be absent from a cell.
        before: Whether the unit stands before the number.
        spaced: Whether a space stands between number and unit.
        decimals: Digits behind the decimal mark when written; None: six significant digits.
        width: Digits that whole numbers are filled up to with zeros.
    """

    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    before: bool = False
    spaced: bool = False
    decimals: int | None = None
    width: int = 0

    def parse(self, cells: "pa.Array") -> np.ndarray:
        """Parse N cells of text to float64, shape (N,); NaN where a cell is not spelt so.

        Numbers beyond `LARGEST` are NaN, too.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        text = _plain_characters(cells)
        if not (self.unit or self.thousands or self.decimal != "."):
            # The common case at once: text that is numbers alone.
            try:
                return _finite(pc.cast(pc.if_else(pc.equal(text, ""), None, text), pa.float64()))
            except pa.ArrowInvalid:
                pass
        text = pc.if_else(pc.match_substring_regex(text, self._pattern), text, None)
        for sign in (self.unit, " ", self.thousands):
            if sign:
                text = pc.replace_substring(text, sign, "")
        if self.decimal != ".":
            text = pc.replace_substring(text, self.decimal, ".")
        return _finite(pc.cast(text, pa.float64()))

    def write(self, values: np.ndarray) -> list[str]:
        """Spell numbers as the column does; NaN becomes an empty cell."""
        return ["" if np.isnan(value) else self._spell(float(value)) for value in values]

    def with_digits_of(self, values: np.ndarray) -> Self:
        """Add the digits, at most six, that numbers have behind the decimal mark.

        Arguments:
            values: Different numbers, shape (M,).
        """
        for decimals in range(7):
            if np.array_equal(np.round(values, decimals), values):
                return replace(self, decimals=decimals)
        return self

    def with_digits(self, cells: "pa.Array", values: np.ndarray) -> Self:
        """Add the digits that cells have behind the decimal mark; none where one has an exponent.

        Arguments:
            cells: N cells.
            values: Their numbers, shape (N,); NaN: not counted.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        text = _plain_characters(cells).filter(pa.array(~np.isnan(values)))
        if self.unit:
            text = pc.utf8_trim(pc.replace_substring(text, self.unit, ""), " ")
        if pc.any(pc.match_substring_regex(text, "[eE]")).as_py():
            return self
        place = pc.find_substring(text, self.decimal)
        digits = pc.subtract(pc.subtract(pc.utf8_length(text), place), 1)
        most = pc.max(pc.if_else(pc.less(place, 0), 0, digits)).as_py()
        return replace(self, decimals=most or 0)

    @property
    def _pattern(self) -> str:
        """Regular expression of a cell, as RE2 has them."""
        whole = r"\d+"
        if self.thousands:
            mark = re.escape(self.thousands)
            whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{mark}\d{{2,3}})*{mark}\d{{3}})"
        mark = re.escape(self.decimal)
        number = rf"(?:{whole}(?:{mark}\d*)?|{mark}\d+)(?:[eE][+-]?\d+)?"
        if not self.unit:
            return rf"^[+-]?{number}$"
        unit = re.escape(self.unit) if self.unit in PERCENT else rf"(?:{re.escape(self.unit)})?"
        if self.before:
            return rf"^(?:[+-]?{unit} ?|{unit} ?[+-]?){number}$"
        return rf"^[+-]?{number} ?{unit}$"

    def _spell(self, value: float) -> str:
        if self.decimals is None:
            text = f"{value + 0:.6g}"
        else:
            text = f"{abs(value):{',' if self.thousands else ''}.{self.decimals}f}"
            whole, _, fraction = text.partition(".")
            whole = whole.replace(",", self.thousands).zfill(self.width)
            zero = float(text.replace(",", "")) == 0
            text = ("-" if value < 0 and not zero else "") + whole + (fraction and f".{fraction}")
            if self.decimal != ".":
                whole, _, fraction = text.rpartition(".") if fraction else (text, "", "")
                text = whole + (fraction and self.decimal + fraction)
        gap = " " if self.spaced else ""
        if self.unit and self.before:
            return self.unit + gap + text
        return text + gap + self.unit if self.unit else text


@dataclass(frozen=True)
class Spelling:
    """Formats that read the most cells of a column, in order of preference.

    Attributes:
        formats: At least one.
        n_read: Cells that each of them reads.
    """

    formats: tuple[NumberFormat, ...]
    n_read: int

    @property
    def decides(self) -> str:
        """Decimal mark that all formats have; empty where several fit."""
        marks = {found.decimal for found in self.formats}
        return marks.pop() if len(marks) == 1 else ""

    def choose(self, decimal: str) -> NumberFormat:
        """Choose the format with this decimal mark where there is one."""
        return next((f for f in self.formats if f.decimal == decimal), self.formats[0])


def detect_spelling(cells: "pa.Array", counts: Sequence[int] | np.ndarray) -> Spelling:
    """Find the formats that read the most cells of a column.

    Arguments:
        cells: M different cells, none of them empty.
        counts: Number of each, shape (M,).
    """
    import pyarrow.compute as pc

    counts = np.asarray(counts)
    text = _plain_characters(cells)
    unit = _unit(text)
    # A mark that stands in no cell cannot tell formats apart.
    marks = [m for m in ",. '" if pc.any(pc.match_substring(text, m)).as_py()]
    plain = [(".", ""), (",", "")]
    tried = [c for c in CONVENTIONS if c in plain or c[1] in marks]
    found = [replace(unit, decimal=d, thousands=t) for d, t in tried]
    n_read = [int(counts[~np.isnan(f.parse(text))].sum()) for f in found]
    most = max(n_read)
    return Spelling(tuple(f for f, n in zip(found, n_read, strict=True) if n == most), most)


def _unit(text: "pa.Array") -> NumberFormat:
    """Format with the most frequent unit among cells that are a number and a unit."""
    import pyarrow.compute as pc

    body = r"[\d., ']*\d[\d., ']*"
    pattern = rf"^[+-]?(?P<pre>{UNITS})?(?P<gap1> ?)[+-]?{body}(?P<gap2> ?)(?P<post>{UNITS})?$"
    parts = pc.extract_regex(text, pattern)
    best, most = NumberFormat(), 0
    for key in ("pre", "post"):
        units = pc.value_counts(pc.struct_field(parts, key).drop_null()).to_pylist()
        for entry in units:
            if entry["values"] and entry["counts"] > most:
                best, most = (
                    NumberFormat(unit=entry["values"], before=key == "pre"),
                    entry["counts"],
                )
    if best.unit:
        literal = f"{best.unit} " if best.before else f" {best.unit}"
        spaced = pc.sum(pc.match_substring(text, literal)).as_py() or 0
        best = replace(best, spaced=2 * spaced > most)
    return best


def _plain_characters(cells: "pa.Array") -> "pa.Array":
    """Replace characters that look like an ASCII one."""
    import pyarrow.compute as pc

    if pc.all(pc.string_is_ascii(cells)).as_py() in (True, None):
        return cells
    for pattern, sign in LOOKALIKES:
        cells = pc.replace_substring_regex(cells, pattern, sign)
    return cells


def _finite(numbers: "pa.Array") -> np.ndarray:
    """Numbers as float64, NaN where null, infinite or beyond `LARGEST`."""
    import pyarrow.compute as pc

    values = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) <= LARGEST, values, np.nan)
