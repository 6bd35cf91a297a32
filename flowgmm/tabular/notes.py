"""Notes on the columns of a table: all that was decided for the user, or could not be read."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["KINDS", "Note", "grouped", "shorten"]

# Beginning of the sentence about all columns with a note of this kind, in this order.
KINDS = {
    "left out": "Left out (--keep NAME, --text NAME)",
    "spelling": "Numbers, e.g. (--decimal)",
    "dates": "Dates (--date-format)",
    "missing": "Missing, the median and a mark instead",
    "sentinel": "Repeated and far from all others (--missing VALUE?)",
    "rare": "Rare levels, as one",
    "unreadable": "Unreadable, as missing",
    "unknown": "Unknown levels",
    "outside": "Far outside the training table, cut off",
    "empty": "Missing as never in training, the median instead",
}
# Lines of a screen for all notes, its width, and characters that are shown of a cell.
MAX_LINES, WIDTH, MAX_CHARACTERS = 7, 80, 24


class Note(NamedTuple):
    """A note on a column.

    Attributes:
        kind: One of `KINDS`.
        column: Name of the column.
        text: What is noted, as a phrase.
    """

    kind: str
    column: str
    text: str


def grouped(notes: Sequence[Sequence[Any]], *, short: bool = True) -> list[str]:
    """Sentences for the user, one for each kind of note.

    Arguments:
        notes: Notes, or lists of the same three values.
        short: Whether sentences name no more columns than fit on a few lines of a screen.
    """
    phrases = {kind: _phrases(notes, kind) for kind in KINDS}
    phrases = {kind: found for kind, found in phrases.items() if found}
    if not short:
        return [_sentence(kind, found, math.inf) for kind, found in phrases.items()]
    lines, left = [], MAX_LINES - len(phrases)
    for kind, found in phrases.items():
        # One line each, and more for the first kinds as long as some are left.
        extra = 0
        while extra < left and len(_sentence(kind, found, math.inf)) > (extra + 1) * WIDTH:
            extra += 1
        left -= extra
        lines.append(_sentence(kind, found, (extra + 1) * WIDTH))
    return lines


def _phrases(notes: Sequence[Sequence[Any]], kind: str) -> list[str]:
    """Columns and what is noted on them; those of one text together."""
    columns: dict[str, list[str]] = {}
    for k, column, text in notes:
        if k == kind:
            columns.setdefault(text, []).append(shorten(column))
    return [f"{', '.join(names)} ({text})" for text, names in columns.items()]


def _sentence(kind: str, phrases: list[str], room: float) -> str:
    """Join as many phrases as there is room for, at least one, and count the others."""
    for n in range(len(phrases), 0, -1):
        more = f", {len(phrases) - n:,} more" if n < len(phrases) else ""
        text = f"{KINDS[kind]}: {', '.join(phrases[:n])}{more}."
        if len(text) <= room:
            break
    return text


def shorten(text: str) -> str:
    """Cut a cell or name to a length that a sentence can hold; line breaks become spaces."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "..."
