"""Tables of texts: a CSV file with a header, a column of classes and one of texts."""

from pathlib import Path

import numpy as np

from flowgmm.datasets.loaders.table import class_name, read_csv
from flowgmm.datasets.loaders.text import normalise
from flowgmm.datasets.splits import split_by_class
from flowgmm.datasets.types import Texts
from flowgmm.utils.errors import UserError
from flowgmm.utils.seeds import derive

__all__ = ["load_text_table"]


def load_text_table(
    raw: Path,
    *,
    file: str,
    label: str,
    text: str,
    sep: str = ",",
    classes: list[str] | None = None,
    test_fraction: float = 0.2,
    encoding: str = "utf-8",
    seed: int = 0,
) -> Texts:
    """Split a table of texts by class into training and test part.

    Arguments:
        raw: Folder with the file.
        file: Its name; plain or gzipped.
        label: Column with the class.
        text: Column with the text.
        sep: Separator.
        classes: Values of the label column, in the order of the classes; None: sorted.
        test_fraction: Share of the rows in the test part.
        encoding: Encoding of the file.
        seed: Number of the draw.

    Raises:
        UserError: If a column is missing, a label is none of `classes`, a text has no word, or a
            class has too few rows.
    """
    frame = read_csv(raw / file, sep=sep, encoding=encoding)
    present = [str(column) for column in frame.columns]
    if unknown := [column for column in (label, text) if column not in present]:
        raise UserError(
            f"{file}: column {', '.join(unknown)} not found; it has {', '.join(present[:20])}"
        )
    texts = frame[text].fillna("").astype(str).tolist()
    # Row 1 is the header.
    if empty := [row for row, value in enumerate(texts, start=2) if not normalise(value)]:
        raise UserError(f"{file} row {empty[0]}: the text is empty; take the row out of the file")
    values = frame[label].map(class_name)
    names = classes or sorted(values.unique())
    if outside := sorted(set(values) - set(names)):
        raise UserError(
            f"{file}: label {', '.join(outside[:5])} in column {label!r} is not one of "
            f"{', '.join(names)}; correct the file or the option `classes`"
        )
    y = values.map({name: k for k, name in enumerate(names)}).to_numpy(np.int64)
    train, test = split_by_class(
        np.arange(len(y)), y, test_fraction, derive(f"text/{file}", seed, "split"), file
    )
    return Texts(
        [texts[i] for i in train], y[train], [texts[i] for i in test], y[test], list(names)
    )
