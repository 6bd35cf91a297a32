"""Rows of a delimited text, one after the other, and quotes that swallow rows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from flowgmm.utils.errors import UserError

__all__ = ["Record", "count_lines", "refuse_open_quotes", "scan"]

BREAK = re.compile(r"\r\n?|\n")
LINE = re.compile(r"[^\r\n]*")
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


def count_lines(text: str, begin: int = 0, end: int | None = None) -> int:
    r"""Count the line breaks in a part of a text: ``\n``, ``\r`` or both."""
    end = len(text) if end is None else end
    both = text.count("\r\n", begin, end)
    return text.count("\n", begin, end) + text.count("\r", begin, end) - both


def scan(text: str, sep: str, begin: int = 0) -> Iterator[Record]:
    """Yield the rows of a text that are not blank.

    A cell that begins with a quote goes on to the next quote that is not doubled; a quote inside
    any other cell is a character. If the separator is a regular expression, cells end with their
    line.
    """
    one = len(sep) == 1
    pattern = re.compile(
        r'(?:"(?P<quoted>[^"]*+(?:""[^"]*+)*+)(?P<closed>"?))?'
        + (
            rf"(?P<plain>[^{re.escape(sep)}\r\n]*+)"
            if one
            else rf"(?P<plain>(?:(?!{sep})[^\r\n])*+)"
        )
        + rf"(?P<end>\r\n?|\n|\Z|{re.escape(sep) if one else f'(?:{sep})'})"
    )
    line, before = 1 + count_lines(text, 0, begin), begin
    for start, stop in [(begin, len(text))] if one else _line_spans(text, begin):
        cells: list[str] = []
        unclosed = False
        for found in pattern.finditer(text, start, stop):
            if not cells:
                line, before = line + count_lines(text, before, found.start()), found.start()
            quoted, closed, plain, end = found.group("quoted", "closed", "plain", "end")
            cells.append(plain if quoted is None else quoted.replace('""', '"') + plain)
            unclosed |= closed == ""
            if end and end not in ("\r\n", "\r", "\n"):
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


def refuse_open_quotes(text: str, begin: int, sep: str, width: int, where: object) -> int:
    """Refuse cells that begin with a quote and swallow the rows below.

    Arguments:
        text: A text with a separator of one character.
        begin: Place in the text of the first row below the header.
        sep: The separator.
        width: Number of columns.
        where: Name of the file in messages.

    Returns:
        Number of cells with line breaks.

    Raises:
        UserError: If a quote is closed nowhere, if the quote that closes a cell of several lines
            has text behind it, or if such lines have the separators of whole rows and no other
            cell shows that the file's quotes enclose cells.
    """
    edge = re.escape(sep)
    pattern = re.compile(rf'"(?<![^{edge}\r\n]")([^"]*+(?:""[^"]*+)*+)("?)([^{edge}\r\n]*+)')
    n_cells, encloses, doubtful = 0, False, None
    for found in pattern.finditer(text, begin):
        inner, closed, behind = found.groups()
        several = "\n" in inner or "\r" in inner
        if not closed or (several and behind.strip()):
            reason = "the text goes on behind the next one" if closed else "it is never closed"
            raise _open_quote(text, found, where, reason)
        if not several:
            encloses = encloses or sep in inner or '""' in inner
            continue
        n_cells += 1
        if width > 1 and _like_rows(text, found, sep, width):
            doubtful = doubtful or found
        else:
            encloses = True
    if doubtful and not encloses:
        raise _open_quote(text, doubtful, where, "the lines up to the next one are like whole rows")
    return n_cells


def _like_rows(text: str, cell: re.Match[str], sep: str, width: int) -> bool:
    """Whether each line of a cell, taken whole, has the separators of a row."""
    begin = max(text.rfind("\n", 0, cell.start()), text.rfind("\r", 0, cell.start())) + 1
    after = BREAK.search(text, cell.end())
    lines = BREAK.split(text[begin : after.start() if after else len(text)])
    return all(line.count(sep) == width - 1 for line in lines)


def _open_quote(text: str, cell: re.Match[str], where: object, reason: str) -> UserError:
    line = 1 + count_lines(text, 0, cell.start())
    shown = LINE.match(text, cell.start())
    begins = shown[0][:30] if shown else ""
    return UserError(
        f"{where}: in line {line} a cell begins with a quote ({begins}), and {reason}; {REMEDY}"
    )
