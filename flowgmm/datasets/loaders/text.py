"""Text classification in the format of the official AG-News and Yahoo! Answers CSV files."""

import contextlib
import csv
import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from flowgmm.datasets.types import Texts
from flowgmm.utils.errors import UserError
from flowgmm.utils.seeds import derive

__all__ = ["load_text", "normalise"]

_REMOVED = re.compile(r'"')
_SPACED = re.compile(r"(['.,()!?])")
_BLANKED = re.compile(r"<br />|[;:]")


def normalise(text: str) -> str:
    """Lower case, spaces around punctuation, no quotes: the fastText normaliser.

    Source: the fastText classification examples, which the authors' text features went through.
    """
    text = _REMOVED.sub("", text.lower())
    text = _BLANKED.sub(" ", text)
    return " ".join(_SPACED.sub(r" \1 ", text).split())


def load_text(
    raw: Path,
    *,
    classes: list[str],
    fields: int,
    train: str = "train.csv",
    test: str = "test.csv",
    archive: str | None = None,
    train_rows: int | None = None,
    test_rows: int | None = None,
    encoding: str = "utf-8",
    seed: int = 0,
) -> Texts:
    """Read rows of (class from 1, `fields` text fields), all quoted, without a header.

    The fields are joined by " , ", as the authors' features have them. An empty first field is
    left out: the official files have none, the mirror's partial AG-News has rows without title.

    Arguments:
        raw: Folder with the files, plain or gzipped.
        classes: Names of classes 1..K.
        fields: Number of text fields in a row.
        train: Name of the training file; inside `archive` if that is given.
        test: Name of the test file.
        archive: Tar file that holds both.
        train_rows: Keep as many training rows, the first after a seeded shuffle; None: all.
        test_rows: Keep the first rows of the test file; None: all.
        encoding: Encoding of both files.
        seed: Number of the draw of `train_rows`.

    Raises:
        UserError: If a file is missing, cut off, in another encoding, or a row is malformed or, of
            those that are kept, without a word.

    Source: spec 2.2; the labels are parsed as integers, where the authors' script reads the last
    digit and turns Yahoo's class 10 into 0. `train_rows`: D12.
    """
    parts = []
    for name, most in ((train, None), (test, test_rows)):
        with _open(raw, name, archive, encoding) as handle:
            parts.append(_read(handle, name, len(classes), fields, most))
    (texts, y), (test_texts, test_y) = parts
    notes, chosen = [], np.arange(len(texts))
    if train_rows is not None:
        if train_rows > len(texts):
            raise UserError(f"{train}: train_rows is {train_rows}, but it has {len(texts)} rows")
        rng = np.random.RandomState(derive(f"text/{train_rows}", seed, "split"))
        chosen = rng.permutation(len(texts))[:train_rows]
        notes.append(f"{train_rows} of {len(texts)} training rows")
        texts, y = [texts[i] for i in chosen], y[chosen]
    _check_words(texts, chosen, train)
    _check_words(test_texts, np.arange(len(test_texts)), test)
    return Texts(texts, y, test_texts, test_y, list(classes), notes)


@contextlib.contextmanager
def _open(raw: Path, name: str, archive: str | None, encoding: str) -> Iterator[IO[str]]:
    """Open a file, or a member of a tar file, as text; gzip is recognised by its first bytes."""
    path = raw / (archive or name)
    try:
        with contextlib.ExitStack() as stack:
            if archive:
                tar = stack.enter_context(tarfile.open(path))
                member = tar.extractfile(name)
                if member is None:
                    raise KeyError(name)
                binary: Any = stack.enter_context(member)
            else:
                binary = stack.enter_context(path.open("rb"))
            if binary.read(2) == b"\x1f\x8b":
                binary.seek(0)
                binary = stack.enter_context(gzip.open(binary))
            else:
                binary.seek(0)
            yield stack.enter_context(io.TextIOWrapper(binary, encoding=encoding, newline=""))
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule download_file") from error
    except KeyError as error:
        raise UserError(
            f"{path}: member {name} not found; correct the option `train` or `test`"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not {encoding} (byte {error.object[error.start]:#04x}); "
            "set the option `encoding`, e.g. latin-1"
        ) from error
    except csv.Error as error:
        raise UserError(f"{path} is no CSV file ({error}); look for an unclosed quote") from error
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise UserError(
            f"{path} is cut off or damaged ({error}); delete it and fetch it again"
        ) from error


def _read(
    handle: IO[str], name: str, n_classes: int, fields: int, most: int | None
) -> tuple[list[str], np.ndarray]:
    texts: list[str] = []
    labels: list[int] = []
    for number, row in enumerate(csv.reader(handle), start=1):
        if most is not None and len(texts) == most:
            break
        if len(row) != fields + 1:
            raise UserError(
                f"{name} row {number}: expected {fields + 1} columns, got {len(row)}; "
                "is it the official CSV?"
            )
        if not row[0].strip().isdecimal() or not 1 <= int(row[0]) <= n_classes:
            raise UserError(
                f"{name} row {number}: label {row[0]!r} is not one of 1..{n_classes}; "
                "correct the file or the list `classes`"
            )
        labels.append(int(row[0]) - 1)
        texts.append(" , ".join(row[1:] if row[1] else row[2:]))
    return texts, np.asarray(labels, np.int64)


def _check_words(texts: list[str], rows: np.ndarray, name: str) -> None:
    for text, row in zip(texts, rows, strict=True):
        if not normalise(text):
            raise UserError(
                f"{name} row {row + 1}: the text is empty; take the row out of the file"
            )
