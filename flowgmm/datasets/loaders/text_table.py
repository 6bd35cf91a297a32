"""Tables of texts: any file with a column of classes and one of texts."""

from pathlib import Path

import numpy as np

from flowgmm.datasets.loaders.table import find_columns, read_classes, read_raw
from flowgmm.datasets.loaders.text import normalise
from flowgmm.datasets.splits import split_by_class
from flowgmm.datasets.types import Texts
from flowgmm.tabular.cells import as_text
from flowgmm.utils.errors import UserError
from flowgmm.utils.seeds import derive

__all__ = ["load_text_table"]


def load_text_table(
    raw: Path,
    *,
    file: str,
    label: str,
    text: str,
    sep: str | None = None,
    classes: list[str] | None = None,
    test_fraction: float = 0.2,
    encoding: str | None = None,
    seed: int = 0,
) -> Texts:
    """Split a table of texts by class into training and test part.

    Arguments:
        raw: Folder with the file.
        file: Its name; see `flowgmm.tabular.reading.read_table`.
        label: Column with the class.
        text: Column with the text.
        sep: Separator of a text file; None: recognised.
        classes: Values of the label column, in the order of the classes; None: sorted.
        test_fraction: Share of the rows in the test part.
        encoding: Encoding of a text file; None: UTF-8, or as its first bytes say.
        seed: Number of the draw.

    Raises:
        UserError: If a column is missing, a label is none of `classes`, a text has no word, or a
            class has too few rows.
    """
    frame = read_raw(raw / file, sep=sep, encoding=encoding).frame
    find_columns(frame, [label, text], file)
    texts = as_text(frame[text]).tolist()
    # Row 1 is the header.
    if empty := [row for row, value in enumerate(texts, start=2) if not normalise(value)]:
        raise UserError(f"{file} row {empty[0]}: the text is empty; take the row out of the file")
    y, names = read_classes(frame[label], classes, file)
    known = np.flatnonzero(y >= 0)
    train, test = split_by_class(
        known, y[known], test_fraction, derive(f"text/{file}", seed, "split"), file
    )
    train = np.concatenate([train, np.flatnonzero(y < 0)])
    return Texts([texts[i] for i in train], y[train], [texts[i] for i in test], y[test], names)
