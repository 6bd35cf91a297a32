"""Delimited text to columns of text cells, strict about quotes and the number of cells."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from flowgmm.tabular.records import Record, line_start, refuse_open_quotes, scan
from flowgmm.tabular.separators import choose_separator
from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Parsed", "read_delimited"]

LINE_BREAK = re.compile(r"\s*\n\s*")
# Arrow parses a block at once, and a row must lie within one.
MAX_BLOCK = 2**31 - 1


@dataclass(frozen=True)
class Parsed:
    """Cells of a text.

    Arguments:
        names: Names of the D columns, empty where the header has none.
        frame: Cells without surrounding white space, shape (N, D).
        notes: Sentences on how the text was read.
        sep: Separator.
    """

    names: list[str]
    frame: "pd.DataFrame"
    notes: list[str]
    sep: str


def read_delimited(
    text: str, where: object, sep: str | None = None, header: Sequence[str] | None = None
) -> Parsed:
    r"""Read the cells of a text.

    A cell in double quotes may hold separators, line breaks and doubled quotes; a quote inside any
    other cell is a character. Blank lines are skipped.

    Arguments:
        text: The text; lines end with ``\n``.
        where: Name of the file in messages.
        sep: Separator: a character, ``tab`` or ``\t``, or a regular expression, with which cells
            hold no line breaks; None: the one of comma, semicolon, tab and bar that fits.
        header: Names of the columns; None: those in the first line that is not blank.

    Raises:
        UserError: If the text is empty, a row has more or fewer cells than the header, or a quote
            is not closed.
    """
    sep, begin, notes = choose_separator(text, sep)
    top = list(islice(scan(text, sep, begin), 2))
    if not top or text.isspace():
        raise UserError(f"{where} is not a table (it is empty); check the file")
    if header is None:
        names = [LINE_BREAK.sub(" ", cell.strip()) for cell in top[0].cells]
    else:
        names, top = list(header), [top[0], top[0]]
        if len(names) != len(top[0].cells):
            raise UserError(
                f"{where}: expected {len(names)} columns, got {len(top[0].cells)}; correct the "
                "option `header` or `sep`"
            )
    surplus = len(top[-1].cells) == len(names) + 1
    body = _Body(text, top[0], sep, len(names), len(names) + surplus, header is None, where)
    if len(top) == 1:
        body.refuse_quotes(top[0].begin)
        raise UserError(f"{where} has no rows below its header; check the file")
    frame, n_broken = body.read()
    if n_broken:
        notes.append(f"{n_broken:,} cell{'s hold' if n_broken > 1 else ' holds'} line breaks.")
    if surplus and (frame.iloc[:, -1] == "").all():
        names.append("")  # Each row ends with a separator, the header does not.
    elif surplus:
        names.insert(0, "")
        notes.append("The first column has no name in the header: it has the names of the rows.")
    return Parsed(names, frame, notes, sep)


@dataclass(frozen=True)
class _Body:
    """The rows below the header.

    Arguments:
        text: The whole text.
        top: First row, the header if `headed`.
        sep: Separator.
        n_names: Number of names in the header.
        width: Number of cells in a row.
        headed: Whether the first row is the header.
        where: Name of the file in messages.
    """

    text: str
    top: Record
    sep: str
    n_names: int
    width: int
    headed: bool
    where: object

    @property
    def begin(self) -> int:
        """Place in the text of the first row below the header."""
        return self.top.end if self.headed else self.top.begin

    def read(self) -> tuple["pd.DataFrame", int]:
        """Return the cells, shape (N, width), and the number of those with line breaks."""
        if len(self.sep) == 1 and self.sep.isascii():
            return self._read_with_arrow()
        return self._read_with_scan()

    def _read_with_arrow(self) -> tuple["pd.DataFrame", int]:
        import pyarrow as pa
        from pyarrow import csv

        data = pa.py_buffer(self.text.encode())
        data = data.slice(len(self.text[: self.begin].encode()))
        quotes = self.text.find('"', self.top.begin) >= 0
        names = [str(j) for j in range(self.width)]
        try:
            table = csv.read_csv(
                pa.BufferReader(data),
                csv.ReadOptions(column_names=names, block_size=min(MAX_BLOCK, data.size + 1)),
                csv.ParseOptions(
                    delimiter=self.sep,
                    newlines_in_values=quotes,
                    invalid_row_handler=lambda row: "error" if row.text.strip() else "skip",
                ),
                csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.large_string()),
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid as error:
            self.refuse_quotes(self.top.begin)
            self._refuse_ragged(scan(self.text, self.sep, self.begin))
            raise UserError(
                f"{self.where} is not a table ({error}); check the file and --sep"
            ) from error
        del data
        n_broken = 0
        if quotes:
            end = len(self.text.rstrip("\n"))
            # If each line is a row, only the last one can end within quotes.
            n_lines = 1 + self.text.count("\n", self.top.begin, end)
            each = n_lines == self.headed + table.num_rows
            begin = line_start(self.text, end) if each else self.top.begin
            n_broken = self.refuse_quotes(begin)
        return _as_frame(table.columns), n_broken

    def _read_with_scan(self) -> tuple["pd.DataFrame", int]:
        import pyarrow as pa

        n_broken = self.refuse_quotes(self.top.begin)
        rows = list(scan(self.text, self.sep, self.begin))
        self._refuse_ragged(rows)
        columns = zip(*(row.cells for row in rows), strict=True)
        return _as_frame([pa.array(column, pa.large_string()) for column in columns]), n_broken

    def refuse_quotes(self, begin: int) -> int:
        """Refuse open quotes from a place on; return the number of cells with line breaks."""
        if len(self.sep) == 1:
            widths = {self.n_names, self.width}
            return refuse_open_quotes(self.text, begin, self.sep, widths, self.where)
        for row in scan(self.text, self.sep, begin):
            if row.unclosed:
                raise UserError(
                    f"{self.where}: in line {row.line} a quote is not closed; take it out"
                )
        return 0

    def _refuse_ragged(self, rows: Iterable[Record]) -> None:
        """Name the first row that has not as many cells as the header, or as most rows."""
        if self.sep.isspace():
            rows = (row for row in rows if any(map(str.strip, row.cells)))
        expected, like = self.n_names, "the header"
        if self.width > expected:
            rows = list(rows)
            n_named = sum(len(row.cells) == self.width for row in rows)
            if n_named > len(rows) / 2:
                expected, like = self.width, "most rows"  # with the names of rows
        if bad := next((row for row in rows if len(row.cells) != expected), None):
            n = len(bad.cells)
            title = ", or take out a title above the header" if self.n_names == 1 else ""
            raise UserError(
                f"{self.where} is not a table: line {bad.line} has {n} cell{'s' * (n != 1)}, "
                f"expected {expected} as in {like}; correct it, quote cells that hold "
                f"{self.sep!r}, give another --sep{title}"
            )


def _as_frame(columns: Iterable[Any]) -> "pd.DataFrame":
    """Strip the cells, and number the columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    stripped = {str(j): pc.utf8_trim_whitespace(cells) for j, cells in enumerate(columns)}
    return pa.table(stripped).to_pandas()
