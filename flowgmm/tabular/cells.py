"""Cells of a column as text, and the different ones with their counts."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flowgmm.tabular.numbers import Spelling, detect_spelling

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Cells", "as_text", "is_numeric"]


@dataclass(frozen=True)
class Cells:
    """The different cells of a column that are not empty.

    Attributes:
        values: M texts.
        counts: Number of each, shape (M,).
        n_empty: Number of empty cells.
        n_marked: Number of cells that the user calls missing.
    """

    values: "pa.Array"
    counts: np.ndarray
    n_empty: int
    n_marked: int = 0

    @classmethod
    def of(cls, text: "pd.Series") -> Self:
        """Count the cells of a column of text."""
        import pyarrow as pa
        import pyarrow.compute as pc

        counted = pc.value_counts(pa.array(text, type=pa.large_string(), from_pandas=True))
        values, counts = counted.field("values"), counted.field("counts").to_numpy()
        present = pc.not_equal(values, "")
        kept = present.to_numpy(zero_copy_only=False)
        return cls(values.filter(present), counts[kept], int(counts[~kept].sum()))

    @property
    def n_present(self) -> int:
        """Number of cells that are not empty."""
        return int(self.counts.sum())

    @property
    def n_missing(self) -> int:
        """Number of cells that are empty or that the user calls missing."""
        return self.n_empty + self.n_marked

    @cached_property
    def spelling(self) -> Spelling:
        """Formats that read the most cells as numbers."""
        return detect_spelling(self.values, self.counts)

    def texts(self, chosen: np.ndarray) -> dict[str, int]:
        """Texts and counts of the chosen cells; `chosen` has shape (M,)."""
        import pyarrow as pa

        texts = self.values.filter(pa.array(chosen)).to_pylist()
        return dict(zip(texts, self.counts[chosen].tolist(), strict=True))

    def without(self, marks: Iterable[str]) -> Self:
        """Take cells with one of these texts, which the user calls missing, out."""
        import pyarrow as pa
        import pyarrow.compute as pc

        gone = pc.is_in(self.values, pa.array(list(marks), type=self.values.type))
        kept = ~gone.to_numpy(zero_copy_only=False)
        n_marked = self.n_marked + int(self.counts[~kept].sum())
        values = self.values.filter(pc.invert(gone))
        return type(self)(values, self.counts[kept], self.n_empty, n_marked)


def as_text(series: "pd.Series") -> "pd.Series":
    """Convert cells to text without surrounding spaces, empty where missing.

    Whole numbers are written without a decimal mark, whatever the type of their column.
    """
    import pandas as pd

    if isinstance(series.dtype, pd.StringDtype):
        return series.fillna("").str.strip()
    objects = series.astype(object)
    return objects.where(series.notna(), "").map(_text).astype("str")


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def is_numeric(series: "pd.Series") -> bool:
    """Check whether a column came as real numbers, not as text."""
    import pandas as pd

    return pd.api.types.is_any_real_numeric_dtype(series)
