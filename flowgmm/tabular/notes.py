"""Notes on the columns of a table: all that was decided for the user, or could not be read."""

import bisect
import functools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["KINDS", "Note", "grouped", "n_lines", "shorten"]

# Beginning of the sentence about all columns with a note of this kind, in this order.
KINDS = {
    "left out": "Left out (--keep, --text)",
    "spelling": "Formats of numbers (--decimal)",
    "dates": "Formats of dates (--date-format)",
    "missing": "Missing, imputed by the median",
    "sentinel": "Missing? Repeated and far from others (--missing)",
    "rare": "Rare levels, taken as one",
    "unreadable": "Unreadable, taken as missing",
    "unknown": "Unknown levels",
    "outside": "Far outside the training table, clipped",
    "empty": "Missing, unlike in the training table; imputed by the median",
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


def grouped(
    notes: Sequence[Sequence[Any]],
    *,
    lines: float = MAX_LINES,
    kinds: Mapping[str, str] = KINDS,
) -> list[str]:
    """Sentences for the user, one for each kind of note.

    Arguments:
        notes: Notes, or lists of the same three values.
        lines: Lines of a screen for all sentences. Where they do not do, some columns are named
            without what is noted, or only counted; each sentence names one at least.
        kinds: Kinds to tell, with the beginnings of their sentences.
    """
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in kinds}
    for kind, column, text in notes:
        if kind in kinds:
            found[kind].append((text, shorten(column)))
    found = {kind: entries for kind, entries in found.items() if entries}
    sentences, left = [], lines - len(found)
    for kind, entries in found.items():
        # One line each, and more for the first kinds as long as some are left.
        sentences.append(_fitting(kinds[kind], entries, 1 + max(0, left)))
        left -= n_lines(sentences[-1]) - 1
    return sentences


def n_lines(text: str) -> int:
    """Number of lines that a text takes on a screen."""
    return len(textwrap.wrap(text, WIDTH))


def _fitting(beginning: str, entries: Sequence[tuple[str, str]], room: float) -> str:
    """Say as much as fits on so many lines, and the least if nothing does."""
    n = len(entries)
    said = functools.partial(_sentence, beginning, entries)
    # Whatever is left out makes a sentence shorter.
    explained = bisect.bisect(range(n + 1), room, key=lambda k: n_lines(said(n, k))) - 1
    if explained >= 0:
        return said(n, explained)
    named = bisect.bisect(range(1, n + 1), room, key=lambda k: n_lines(said(k, 0)))
    return said(max(1, named), 0)


def _sentence(beginning: str, entries: Sequence[tuple[str, str]], n: int, explained: int) -> str:
    """Name the first n columns and count the others.

    Arguments:
        beginning: Of the sentence.
        entries: Pairs of what is noted and the column.
        n: Number of columns named.
        explained: Number of those with what is noted on them; columns of one text stand together.
    """
    columns: dict[str, list[str]] = {}
    for text, column in entries[:explained]:
        columns.setdefault(text, []).append(column)
    phrases = [f"{', '.join(names)} ({text})" for text, names in columns.items()]
    phrases += [column for _, column in entries[explained:n]]
    phrases += [f"{len(entries) - n:,} more"] if n < len(entries) else []
    return f"{beginning}: {', '.join(phrases)}."


def shorten(text: str) -> str:
    """Cut a cell or name to a length that a sentence can hold; line breaks become spaces."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "..."
