"""Rows of a delimited text, one after the other, and quotes that swallow rows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from flowgmm.utils.errors import UserError

__all__ = ["Record", "cell_pattern", "line_start", "refuse_open_quotes", "scan"]

LINE = re.compile(r"[^\n]*")
REMEDY = "double the quotes that are characters, or take them out"


@dataclass(frozen=True)
class Record:
    """A row of a text.

    Arguments:
        cells: Its cells without the quotes around them.
        line: Number of the line in which it begins, from 1.
        begin: Place in the text of its first character.
        end: Place in the text after its line break.
        unclosed: Whether a quote is open at its end.
    """

    cells: list[str]
    line: int
    begin: int
    end: int
    unclosed: bool


def line_start(text: str, position: int) -> int:
    """Place of the first character of the line that has a position."""
    return 1 + text.rfind("\n", 0, position)


def cell_pattern(sep: str) -> re.Pattern[str]:
    """Pattern of a cell and what ends it.

    Raises:
        re.error: If a separator of several characters is not a regular expression.
    """
    if len(sep) == 1:
        plain, end = rf"[^{re.escape(sep)}\n]*+", re.escape(sep)
    else:
        plain, end = rf"(?:(?!{sep})[^\n])*+", f"(?:{sep})"
    return re.compile(
        r'(?:"(?P<quoted>[^"]*+(?:""[^"]*+)*+)(?P<closed>"?))?'
        rf"(?P<plain>{plain})(?P<end>\n|\Z|{end})"
    )


def scan(text: str, sep: str, begin: int = 0) -> Iterator[Record]:
    """Yield the rows of a text that are not blank.

    A cell that begins with a quote goes on to the next quote that is not doubled; a quote inside
    any other cell is a character. If the separator is a regular expression, cells end with their
    line.
    """
    pattern = cell_pattern(sep)
    line, before = 1 + text.count("\n", 0, begin), begin
    for start, stop in [(begin, len(text))] if len(sep) == 1 else _line_spans(text, begin):
        cells: list[str] = []
        unclosed = False
        for found in pattern.finditer(text, start, stop):
            if not cells:
                line, before = line + text.count("\n", before, found.start()), found.start()
            quoted, closed, plain, end = found.group("quoted", "closed", "plain", "end")
            cells.append(plain if quoted is None else quoted.replace('""', '"') + plain)
            unclosed |= closed == ""
            if end and end != "\n":
                continue
            if len(cells) > 1 or cells[0].strip() or quoted is not None:
                yield Record(cells, line, before, found.end(), unclosed)
            cells, unclosed = [], False


def _line_spans(text: str, begin: int) -> Iterator[tuple[int, int]]:
    """Begin and end of the lines without the white space around them."""
    for found in LINE.finditer(text, begin):
        if content := found[0].strip():
            start = found.start() + found[0].index(content[0])
            yield start, start + len(content)


def refuse_open_quotes(text: str, begin: int, sep: str, widths: set[int], where: object) -> int:
    """Refuse cells that begin with a quote and swallow the rows below.

    Arguments:
        text: A text with a separator of one character.
        begin: Place in the text of the first row to look at.
        sep: The separator.
        widths: Numbers of cells that whole rows may have.
        where: Name of the file in messages.

    Returns:
        Number of cells with line breaks.

    Raises:
        UserError: If a quote is closed nowhere, if the quote that closes a cell of several lines
            is followed by text, or if the lines of such cells have the separators of whole rows
            and no other line with a quoted cell has more or fewer.
    """
    edge = rf"{re.escape(sep)}\n"
    # Runs of cells without anything to look at go past in one step, where most cells are quoted.
    plain = rf'(?:(?:"[^"{edge}]*+"|[^"{edge}][^{edge}]*+)?[{edge}]++)++'
    quoted = rf'"(?<![^{edge}]")([^"]*+(?:""[^"]*+)*+)("?)([^{edge}]*+)'
    many = text.count('"') > len(text) / 30
    n_cells, encloses, doubtful = 0, False, None
    for found in re.compile(f"{plain}|{quoted}" if many else quoted).finditer(text, begin):
        inner, closed, behind = found.groups("")
        several = "\n" in inner
        if found[1] is None:
            continue
        if not closed:
            raise _open_quote(text, found, where, "no quote below closes it")
        if several and behind.strip():
            raise _open_quote(text, found, where, "text follows the next quote, in another line")
        n_cells += several
        if (several or sep in inner) and not encloses:
            encloses = 1 in widths or not _like_rows(text, found, sep, widths)
            doubtful = doubtful or (None if encloses or not several else found)
    if doubtful and not encloses:
        raise _open_quote(text, doubtful, where, "the lines to the next one are whole rows")
    return n_cells


def _like_rows(text: str, cell: re.Match[str], sep: str, widths: set[int]) -> bool:
    """Tell if each line of a cell, taken whole, has the separators of a row."""
    end = text.find("\n", cell.end())
    lines = text[line_start(text, cell.start()) : end if end >= 0 else len(text)].split("\n")
    return all(1 + line.count(sep) in widths for line in lines if line.strip())


def _open_quote(text: str, cell: re.Match[str], where: object, reason: str) -> UserError:
    line = 1 + text.count("\n", 0, cell.start())
    shown = LINE.match(text, cell.start())
    begins = shown[0][:30] if shown else ""
    return UserError(
        f"{where}: in line {line} a cell begins with a quote ({begins}), and {reason}; {REMEDY}"
    )
