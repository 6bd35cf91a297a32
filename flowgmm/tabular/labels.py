"""Labels of a table: text as the file spells it, as codes of classes."""

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowgmm.tabular.cells import as_text
from flowgmm.tabular.infer import is_mark
from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["in_order", "label_text", "mark_notes", "read_labels"]

# More classes than this look like a number or an identifier.
MAX_CLASSES = 200
# Numbers, and integers with a decimal point, as pandas writes those of a column with empty cells.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
FLOAT_INTEGER = re.compile(r"-?\d+\.0")


def label_text(series: "pd.Series", unlabelled: str | None = None) -> "pd.Series":
    """Labels as text, shape (N,), empty where unlabelled or as `unlabelled` says.

    They are spelt as in the file. Only if each of them is an integer with `.0` behind it, as pandas
    writes integers beside empty cells, the `.0` goes.
    """
    text = as_text(series)
    if all(FLOAT_INTEGER.fullmatch(name) for name in text[text != ""].unique()):
        text = text.str.removesuffix(".0")
    bare = (unlabelled or "").removesuffix(".0")
    marks = [bare, f"{bare}.0"] if bare else []
    return text.where(~text.isin(marks), "")


def read_labels(
    frame: "pd.DataFrame",
    label: str,
    where: object,
    classes: Sequence[str] | None = None,
    unlabelled: str | None = None,
) -> tuple[np.ndarray, list[str], list[str]]:
    """Read the classes of the rows; an empty cell is unlabelled.

    Arguments:
        frame: The table.
        label: Its column with the classes.
        where: Name of the table in messages.
        classes: Names of the K classes that are allowed; None: those in the column, sorted.
        unlabelled: A further cell that marks an unlabelled row; None: a mark that most rows have
            is asked about; empty: no other, every text is a class.

    Returns:
        Codes in 0..K-1, -1 where unlabelled, shape (N,); the K names; notes for the user.

    Raises:
        UserError: If the column is missing, has a class that is not in `classes`, fewer than 2
            classes, no class with 2 rows, values that look like numbers or identifiers, or most
            rows have a value that looks like a mark.
    """
    if label not in frame.columns:
        raise UserError(f"{where} has no column {label!r}; {_hint(list(frame.columns), label)}")
    if classes is None and len(frame) < 4:
        raise UserError(
            f"{where}: expected at least 2 labelled rows of each of 2 classes, "
            f"got {len(frame)} rows; add some"
        )
    text = label_text(frame[label], unlabelled)
    if unlabelled and classes is None and text.equals(label_text(frame[label])):
        raise UserError(
            f"{where}: no row has {unlabelled!r} in column {label!r}; correct --unlabelled"
        )
    labelled = text[text != ""]
    if not len(labelled):
        raise UserError(
            f"{where}: no row has a label in column {label!r}; label some of each class"
        )
    names = in_order(labelled.unique()) if classes is None else list(classes)
    codes = text.map({name: k for k, name in enumerate(names)}).fillna(-1).to_numpy(np.int64)
    place = f"{where}: column {label!r}"
    if classes is not None:
        if unknown := in_order(set(labelled) - set(names)):
            raise UserError(
                f"{where}: unknown class {unknown[0]!r} in column {label!r}; expected one of "
                f"{', '.join(names[:10])}"
            )
        return codes, names, []
    notes = [] if unlabelled is not None else mark_notes(text, place)
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    _check(place, where, names, counts)
    return codes, names, notes


def mark_notes(labels: "pd.Series", place: str) -> list[str]:
    """Notes on classes that may be marks of unlabelled rows.

    Arguments:
        labels: Text, shape (N,), empty where unlabelled.
        place: Names of table and column in messages.

    Raises:
        UserError: If most labelled rows have one, and 2 other classes are left.
    """
    counts = labels[labels != ""].value_counts()
    notes = []
    for name, n in sorted((str(name), n) for name, n in counts.items()):
        # scikit-learn's mark of an unlabelled point is -1.
        if not (name == "-1" or is_mark(name) or name.casefold() in ("unlabelled", "unlabeled")):
            continue
        option = f"--unlabelled {shlex.quote(name)}"
        if len(counts) > 2 and n > counts.sum() / 2:
            raise UserError(
                f"{place} has {name!r} in {n:,} of {counts.sum():,} labelled rows; if that marks "
                f'unlabelled rows, give {option}; if it is a class, --unlabelled ""'
            )
        notes.append(f"{name!r} in {n:,} rows is a class ({option} changes that).")
    return notes


def _check(place: str, where: object, names: list[str], counts: np.ndarray) -> None:
    """Check that labels are classes, two or more, of which a row can be held out."""
    if len(names) > MAX_CLASSES or len(names) > max(2, counts.sum() // 2):
        raise UserError(
            f"{place} has {len(names):,} different values in {counts.sum():,} "
            "labelled rows; it looks like a number or an identifier, not a class: choose another "
            "--label, or label at least 2 rows of each class"
        )
    if len(names) == 1:
        raise UserError(f"{place} has the one class {names[0]!r}; label rows of another too")
    if counts.max() == 1:
        raise UserError(
            f"{where}: each class in {place.removeprefix(f'{where}: ')} has one labelled row, so "
            "none can be held out; label at least 2 rows of a class"
        )


def _hint(columns: list[str], label: str) -> str:
    folded = {column.casefold(): column for column in columns}
    close = difflib.get_close_matches(label.casefold(), folded, n=1)
    some = f"{', '.join(map(repr, columns[:10]))}{', ...' if len(columns) > 10 else ''}"
    hint = f"did you mean {folded[close[0]]!r}?" if close else f"it has {some}; name one by --label"
    if len(columns) == 1 and (sep := next((s for s in ",;\t|" if s in columns[0]), None)):
        hint += f"; its only column suggests --sep {sep!r}"
    return hint


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names as numbers if all of them are numbers, else as text."""
    names = sorted(names)
    if all(NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=float)
    return names
