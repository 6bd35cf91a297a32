"""Columns of a table as standardised features, and back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flowgmm.tabular.cells import as_text
from flowgmm.tabular.columns import Column, read_levels, read_numbers, write_numbers
from flowgmm.tabular.infer import Choices, infer_columns
from flowgmm.tabular.notes import Note, grouped
from flowgmm.utils.errors import UserError
from flowgmm.utils.progress import Progress, with_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Columns"]


@dataclass(frozen=True)
class Columns:
    """A table's columns, their features and the features' scale.

    Every feature has mean 0 and standard deviation 1 in the table that was fitted. Those of a text
    share one factor instead, by which their first principal component has standard deviation 1.

    Attributes:
        columns: Those in use, in the table's order.
        shift, scale: x = (feature - shift) / scale, shape (D,).
        encoder: Text encoder; see `flowgmm.embed.text.embed_texts`.
    """

    columns: tuple[Column, ...]
    shift: np.ndarray
    scale: np.ndarray
    encoder: str

    @classmethod
    def fit(
        cls,
        frame: "pd.DataFrame",
        choices: Choices | None = None,
        encoder: str = "minilm",
        progress: Progress | None = None,
    ) -> tuple[Self, np.ndarray, list[Note]]:
        """Infer the description of every column, and standardise the features.

        Labels are not used.

        Arguments:
            frame: N rows, without the label.
            choices: Decisions of the user; None: none.
            encoder: The text encoder.
            progress: Called as the encoder proceeds.

        Returns:
            The columns, their features, shape (N, D) float32, and notes for the user.

        Raises:
            UserError: If the choices name an unknown column, or fewer than 2 features are left.
        """
        choices = choices or Choices()
        _require(frame, [*choices.text, *choices.keep], "the table")
        found, notes = infer_columns(frame, choices)
        if not found:
            why = " ".join(grouped(notes)) or "the label is the only one"
            raise UserError(f"no column is left to learn from ({why})")
        columns = cls(tuple(found), np.zeros(0), np.ones(0), encoder)
        blocks, _ = columns._blocks(frame, progress)
        shift = [block.mean(axis=0) for block in blocks]
        scale = [
            np.full(block.shape[1], math.sqrt(np.linalg.eigvalsh(np.cov(block.T, ddof=0))[-1]))
            if column.kind == "text"
            else block.std(axis=0)
            for column, block in zip(found, blocks, strict=True)
        ]
        divisor = np.concatenate(scale)
        if len(divisor) < 2:
            raise UserError(
                f"column {found[0].name!r} alone is left, as one number; a flow needs two: add "
                f"a column ({' '.join(grouped(notes)) or 'there is no other'})"
            )
        columns = replace(
            columns,
            shift=np.concatenate(shift),
            scale=np.where(divisor > 0, divisor, 1.0),
        )
        return columns, columns._standardised(blocks), notes

    def transform(
        self, frame: "pd.DataFrame", progress: Progress | None = None
    ) -> tuple[np.ndarray, list[Note]]:
        """Convert rows to features; further columns are ignored.

        A row's features do not depend on the rows beside it.

        Returns:
            Features, shape (N, D) float32, and notes on cells that are not as in the table that was
            fitted.

        Raises:
            UserError: If a column is missing, or most of its cells are unreadable.
        """
        _require(frame, [column.name for column in self.columns], "the table")
        blocks, notes = self._blocks(frame, progress)
        return self._standardised(blocks), notes

    def inverse(self, X: np.ndarray) -> "pd.DataFrame":
        """Convert features X, shape (N, D), to a table of text, spelt as the columns were.

        A category gets its most likely level. Texts cannot be reconstructed from their vectors;
        their cells are empty.
        """
        import pandas as pd

        features = np.asarray(X, dtype=np.float64) * self.scale + self.shift
        result, start = {}, 0
        for column in self.columns:
            block = features[:, start : start + self._width(column)]
            start += block.shape[1]
            if column.kind == "text":
                result[column.name] = [""] * len(X)
            elif column.kind == "category":
                names = np.array(column.names, dtype=object)
                result[column.name] = names[block.argmax(axis=1)].tolist()
            else:
                absent = column.missing & (block[:, -1] > 0.5)
                result[column.name] = write_numbers(np.where(absent, np.nan, block[:, 0]), column)
        return pd.DataFrame(result, dtype="str")

    def to_json(self) -> dict[str, Any]:
        """JSON value that `from_json` reads."""
        return {
            "columns": [column.to_json() for column in self.columns],
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
            "encoder": self.encoder,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        columns = tuple(map(Column.from_json, value["columns"]))
        return cls(columns, np.array(value["shift"]), np.array(value["scale"]), value["encoder"])

    def _standardised(self, blocks: list[np.ndarray]) -> np.ndarray:
        return ((np.concatenate(blocks, axis=1) - self.shift) / self.scale).astype(np.float32)

    def _width(self, column: Column) -> int:
        """Number of features of a column; texts share equally those that no other kind has."""
        if column.kind == "text":
            others = [other for other in self.columns if other.kind != "text"]
            n_left = len(self.shift) - sum(self._width(other) for other in others)
            return n_left // (len(self.columns) - len(others))
        return len(column.names) if column.kind == "category" else 1 + column.missing

    def _blocks(
        self, frame: "pd.DataFrame", progress: Progress | None
    ) -> tuple[list[np.ndarray], list[Note]]:
        """Features of each column before standardisation, shape (N, d) each, and notes."""
        blocks, notes = [], []
        for column in self.columns:
            series = frame[column.name]
            if column.kind == "text":
                blocks.append(_embed(as_text(series), self.encoder, progress))
                continue
            if column.kind == "category":
                levels, found = read_levels(series, column)
                blocks.append(
                    np.stack([(levels == name).to_numpy(np.float64) for name in column.names], 1)
                )
            else:
                values, found = read_numbers(series, column)
                absent = np.isnan(values)
                features = [np.where(absent, column.fill, values)]
                features += [absent.astype(np.float64)] if column.missing else []
                blocks.append(np.stack(features, axis=1))
            notes += found
        return blocks, notes


def _require(frame: "pd.DataFrame", names: Sequence[str], where: str) -> None:
    if absent := [name for name in names if name not in frame.columns]:
        raise UserError(
            f"{where} has no column {', '.join(map(repr, absent[:5]))}; "
            f"it has {', '.join(map(repr, list(frame.columns)[:10]))}: add or rename it"
        )


def _embed(text: "pd.Series", encoder: str, progress: Progress | None) -> np.ndarray:
    """Embed texts as vectors of length 1, shape (N, D)."""
    import tempfile

    from flowgmm.datasets.loaders.text import normalise
    from flowgmm.embed.text import embed_texts

    # Encoders need at least one token.
    texts = [value if normalise(value) else "empty" for value in text]
    named = with_text(progress, "embedding the texts")
    with tempfile.TemporaryDirectory() as cache:
        vectors = np.array(embed_texts(texts, encoder, Path(cache), progress=named), np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
