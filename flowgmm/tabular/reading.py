"""Tables from files: every cell is text, unless the file keeps types."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from flowgmm.tabular.arrays import read_npz, read_parquet
from flowgmm.tabular.delimited import read_delimited
from flowgmm.tabular.encodings import decode
from flowgmm.tabular.files import Content, opened, reason_of
from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "read_table"]

# Text that is no table.
MARKUP = (
    (re.compile(r"\s*<(!doctype|html|head|body|table|\?xml)\b", re.IGNORECASE), "HTML or XML"),
    (re.compile(r'\s*(\{\s*"[^"\n]*"\s*:|\[\s*(\{|\[\s*["\d\[-]))'), "JSON"),
)


@dataclass(frozen=True)
class Table:
    """A table that was read from a file.

    Arguments:
        frame: The rows. Column names are text without surrounding white space, no two the same.
        typed: Whether columns have the types of the file, NaN where missing (Parquet, npz);
            otherwise every cell is text as in the file, empty where missing, of pandas' `str`.
        notes: Sentences for the user on how the file was read.
        sep: Separator of a text file.
        encoding: Encoding of a text file.
    """

    frame: "pd.DataFrame"
    typed: bool
    notes: list[str]
    sep: str | None = None
    encoding: str | None = None


def read_table(
    path: Path,
    *,
    sep: str | None = None,
    encoding: str | None = None,
    header: Sequence[str] | None = None,
) -> Table:
    r"""Read a text file such as CSV, a Parquet file, an npz file or a spreadsheet.

    The content decides which it is. It may be compressed with gzip, bz2, xz, zstd or zip.

    Arguments:
        path: The file.
        sep: Separator of a text file: a character, ``tab`` or ``\t``, or a regular expression;
            None: the one of comma, semicolon, tab and bar that fits.
        encoding: Encoding of a text file; None: what its first bytes say, else UTF-8.
        header: Names of all columns, for a text file that has no header line.

    Raises:
        UserError: If the file is missing, damaged, of another format or empty, two columns have
            one name, or a row of a text file has more or fewer cells than the header.
    """
    with opened(path) as content, warnings.catch_warnings():
        # What is unusual about a file is in an error or a note, not in a library's warning.
        warnings.simplefilter("ignore")
        if content.kind in TYPED:
            frame, notes = TYPED[content.kind](content.stream, path)
            return _finished(Table(frame, True, notes), path)
        if content.kind != "text":
            frame, notes = _read_spreadsheet(content, path)
            return _finished(Table(frame, False, notes), path)
        text, encoding = _read_text(content.stream, path, encoding)
        cells = read_delimited(text, path, sep, header)
    notes = cells.notes
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        notes = [f"The text is in {encoding}.", *notes]
    frame = cells.frame.set_axis(cells.names, axis="columns")
    return _finished(Table(frame, False, notes, cells.sep, encoding), path)


TYPED: dict[str, Callable[[BinaryIO, object], tuple["pd.DataFrame", list[str]]]] = {
    "parquet": read_parquet,
    "npz": lambda stream, where: (read_npz(stream, where), []),
}


def _read_text(stream: BinaryIO, path: Path, encoding: str | None) -> tuple[str, str]:
    """Decode a text that can be a table."""
    if path.suffix == ".parquet":
        raise UserError(f"{path} is not a Parquet file (it is text); write or fetch it again")
    if path.suffix == ".npz":
        raise UserError(f"{path} is not a zip archive, as npz files are; save it again")
    text, encoding = decode(stream.read(), path, encoding)
    for pattern, name in MARKUP:
        if pattern.match(text):
            raise UserError(f"{path} is {name}; save the table as CSV")
    return text, encoding


def _read_spreadsheet(content: Content, path: Path) -> tuple["pd.DataFrame", list[str]]:
    """Read the first sheet where pandas can: that needs a package for the format."""
    import pandas as pd

    try:
        with pd.ExcelFile(content.stream) as book:
            sheets = book.sheet_names
            cells = book.parse(0, header=None, dtype=str, na_filter=False)
    except ImportError as error:
        raise UserError(f"{path} is a spreadsheet ({content.kind}); save it as CSV") from error
    # The packages raise errors of many types for a damaged file.
    except Exception as error:
        raise UserError(
            f"{path} is a spreadsheet ({content.kind}) that cannot be read "
            f"({reason_of(error)}); save it as CSV"
        ) from error
    cells = cells.astype("str").apply(lambda column: column.str.strip())
    filled = (cells != "").any(axis="columns").to_numpy()
    if not filled.any():
        raise UserError(f"{path} is not a table (its first sheet is empty); check the file")
    top = int(filled.argmax())
    notes = [f"The first of {len(sheets)} sheets is read: {sheets[0]!r}."] * (len(sheets) > 1)
    frame = cells.iloc[top + 1 :].set_axis(cells.iloc[top].tolist(), axis="columns")
    return frame.reset_index(drop=True), notes


def _finished(table: Table, path: Path) -> Table:
    """Name the columns, leave out empty ones without a name, and count empty rows."""
    names = [str(name).strip() for name in table.frame.columns]
    frame, notes = table.frame, list(table.notes)
    numbers = [j for j, name in enumerate(names) if name or not _is_empty(frame, j).all()]
    if n := len(names) - len(numbers):
        notes.append(f"{n} empty column{'s' * (n > 1)} without a name: left out.")
        frame = frame.iloc[:, numbers]
    frame = frame.set_axis([names[j] or f"Unnamed: {j}" for j in numbers], axis="columns")
    names = list(frame.columns)
    if repeated := sorted(name for name, n in Counter(names).items() if n > 1):
        raise UserError(f"{path}: two columns are named {repeated[0]!r}; rename or remove one")
    if not len(frame):
        raise UserError(f"{path} has no rows below its header; check the file")
    if not names:
        raise UserError(f"{path} has no columns; check the file")
    empty = _is_empty(frame, 0)
    for j in range(1, len(names)):
        if not empty.any():
            break
        empty &= _is_empty(frame, j)
    if n := int(empty.sum()):
        notes.append(f"{n:,} row{'s are' if n > 1 else ' is'} entirely empty.")
    return replace(table, frame=frame, notes=notes)


def _is_empty(frame: "pd.DataFrame", j: int) -> "pd.Series":
    column = frame.iloc[:, j]
    return column.isna() | (column == "")
