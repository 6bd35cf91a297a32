"""Separators of a text: given, told by its first line, or found."""

import itertools
import re
from collections import Counter

from flowgmm.tabular.records import cell_pattern, scan
from flowgmm.utils.errors import UserError

__all__ = ["choose_separator"]

CANDIDATES = (",", ";", "\t", "|")
# The beginning of a text that is looked at.
LINES, CHARACTERS = 64, 2**17
HEAD = re.compile(rf"(?:[^\n]*+(?:\n|\Z)){{1,{LINES}}}")
SPELT = {"tab": "\t", r"\t": "\t"}
# First line by which spreadsheets tell the separator.
SEPARATOR_LINE = re.compile(r'"?sep=([^\n"])"?[,;\t ]*(?:\n|\Z)', re.IGNORECASE)


def choose_separator(text: str, given: str | None = None) -> tuple[str, int, list[str]]:
    r"""Return the separator given, or told by a first line such as ``sep=;``, or found.

    Arguments:
        text: The text.
        given: Separator that a user gave; ``tab`` and ``\t`` are a tab, other text of several
            characters is a regular expression.

    Returns:
        The separator, the place in the text where its first row begins, and sentences on a
        separator that was not given and is no comma.

    Raises:
        UserError: If the one given is not a regular expression, or separates nothing.
    """
    told = SEPARATOR_LINE.match(text)
    begin = told.end() if told else 0
    if given is not None:
        return _as_meant(given), begin, []
    if told:
        return told[1], begin, [f"The first line says that {told[1]!r} separates the cells."]
    sep = _sniff(text)
    return sep, begin, [] if sep == "," else [f"{sep!r} separates the cells."]


def _as_meant(given: str) -> str:
    sep = SPELT.get(given, given)
    try:
        cell_pattern(sep)
        empty = len(sep) != 1 and re.match(sep, "") is not None
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"--sep {given!r} is not a regular expression ({error}); put \\ before a character "
            "that is meant as it stands"
        ) from error
    if empty or sep in ('"', "\r", "\n", "\0"):
        raise UserError(f"--sep {given!r} cannot separate cells; give a character such as ';'")
    return sep


def _sniff(text: str) -> str:
    """Choose the one of comma, semicolon, tab and bar that gives the first rows as many cells.

    Of several the one with most cells is chosen, then the comma. Where none fits all rows, it is
    one that the first row has, then the one that fits most.
    """
    found = HEAD.match(text)
    head = found[0][:CHARACTERS] if found else ""
    whole = len(head) == len(text)
    return max(CANDIDATES, key=lambda sep: _fitness(head, sep, whole))


def _fitness(head: str, sep: str, whole: bool) -> tuple[int, bool, float, int]:
    widths = [len(record.cells) for record in itertools.islice(scan(head, sep), LINES)]
    if not whole and len(widths) > 2:
        widths.pop()  # The text may be cut inside it.
    if not widths:
        return 0, False, 0.0, 1
    rows = widths[1:] or widths
    ((usual, count),) = Counter(rows).most_common(1)
    if usual == 1:
        return 0, False, 0.0, 1
    same = count == len(rows)
    # R leaves out the name of the column with the names of rows.
    fit = 2 if same and widths[0] == usual else int(same and 1 < widths[0] == usual - 1)
    return fit, widths[0] > 1, count / len(rows), usual
