"""Lists of labelled points that authors published, as rows of the training part."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowgmm.utils.errors import UserError

__all__ = ["read_label_list"]


def read_label_list(path: Path, y_train: np.ndarray, classes: Sequence[str]) -> list[int]:
    """Read a list of labelled images.

    Arguments:
        path: A line for each point: ``INDEX_CLASS.png CLASS``, INDEX being its row in the training
            part.
        y_train: Classes of the training part, shape (N,).
        classes: Names of the classes.

    Returns:
        The rows, in the order of the file.

    Raises:
        UserError: If a line is of another form, names a point twice, or the class of another point.

    Source: spec 9, A2.
    """
    rows: dict[int, None] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        name, _, given = line.partition(" ")
        index = name.partition("_")[0]
        row = int(index) if index.isascii() and index.isdecimal() else -1
        known = classes[y_train[row]] if 0 <= row < len(y_train) and y_train[row] >= 0 else None
        if name != f"{index}_{given}.png" or given != known or row in rows:
            raise UserError(
                f"{path}, line {number}: expected INDEX_CLASS.png CLASS with the class of that "
                f"training row, each row once, got {line[:60]!r}; is it the list of these data?"
            )
        rows[row] = None
    return list(rows)
