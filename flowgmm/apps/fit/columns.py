"""Tables of mixed columns as standardised numbers, and back."""

import difflib
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from flowgmm.datasets.loaders.table import class_name, read_csv, read_parquet
from flowgmm.utils.errors import UserError
from flowgmm.utils.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Column", "Columns", "read_labels", "read_table"]

# Share of a column's values that must be numbers, or dates, for the rest to count as missing.
MOSTLY = 0.95
# A level of a category stands alone if this share of the rows has it; at most so many do.
MIN_LEVEL_SHARE = 0.01
MAX_LEVELS = 20
# More classes than this look like a number or an identifier.
MAX_CLASSES = 200
OTHER = "(other)"


def read_table(path: Path, *, sep: str = ",", encoding: str = "utf-8") -> "pd.DataFrame":
    """Read a CSV (plain or gzipped), ``.parquet`` or ``.npz`` file.

    An ``.npz`` has the array ``X``, shape (N, D), whose columns become ``x0``, ``x1``, ..., and
    maybe ``y``, shape (N,), where -1 means unlabelled as everywhere in scikit-learn.

    Raises:
        UserError: If the file is absent, damaged, of another format, empty, or names a column
            twice.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; check the path")
    if path.suffix == ".npz":
        frame = _read_npz(path)
    elif path.suffix == ".parquet":
        frame = read_parquet(path)
    else:
        options: dict[str, Any] = {"sep": sep, "encoding": encoding}
        header = read_csv(path, header=None, nrows=1, dtype=str, **options).iloc[0].dropna()
        _refuse_twice(path, header.astype(str).str.strip().tolist())
        # In pieces, a column could get other types in other pieces.
        frame = read_csv(path, low_memory=False, **options)
        if frame.index.nlevels > 1 or not frame.index.equals(frame.reset_index(drop=True).index):
            raise UserError(
                f"{path}: the rows have more cells than the header has names; name every column"
            )
    frame.columns = [str(column).strip() for column in frame.columns]
    _refuse_twice(path, list(frame.columns))
    if frame.empty:
        raise UserError(f"{path} has no rows below its header; check the file")
    return frame.reset_index(drop=True)


def _refuse_twice(path: Path, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: column {twice[0]!r} is there twice; rename or remove one")


def _read_npz(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        # Anything else would be taken for a pickle, and the message would name a way to load it.
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive")
        with np.load(path, allow_pickle=False) as arrays:
            X = arrays["X"]
            y = arrays.get("y")
    except KeyError:
        raise UserError(f"{path} has no array 'X'; save with np.savez(path, X=X, y=y)") from None
    # Of a damaged file zipfile and NumPy may raise anything.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} cannot be read ({reason}); save plain arrays, no objects, with "
            "np.savez(path, X=X, y=y)"
        ) from error
    if X.ndim != 2 or X.dtype.kind not in "biuf" or (y is not None and y.shape != X.shape[:1]):
        raise UserError(
            f"{path}: X has shape {X.shape} and type {X.dtype}, y {y is not None and y.shape}; "
            "expected numbers of shape (N, D) and (N,)"
        )
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    if y is not None:
        labels = pd.Series(y)
        frame["y"] = labels if labels.dtype.kind not in "if" else labels.mask(labels == -1)
    return frame


def read_labels(
    frame: "pd.DataFrame", label: str, where: object, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Classes of the rows; an empty cell is unlabelled.

    Arguments:
        frame: The table.
        label: Its column with the classes.
        where: What the table is, for messages.
        classes: Names of the K classes that there may be; None: those in the column, sorted.

    Returns:
        Codes in 0..K-1, -1 where unlabelled, shape (N,), and the K names.

    Raises:
        UserError: If the column is absent, holds another class than `classes`, fewer than 2
            classes, a class with a single row, or what looks like numbers or identifiers.
    """
    if label not in frame.columns:
        columns = list(frame.columns)
        folded = {column.casefold(): column for column in columns}
        close = difflib.get_close_matches(label.casefold(), folded, n=1)
        some = f"{', '.join(map(repr, columns[:10]))}{', ...' if len(columns) > 10 else ''}"
        hint = f"did you mean {folded[close[0]]!r}?" if close else f"it has {some}"
        if len(columns) == 1 and (sep := next((s for s in ";\t|" if s in columns[0]), None)):
            hint += f"; its only column suggests --sep {sep!r}"
        raise UserError(f"{where} has no column {label!r}; {hint}")
    if classes is None and len(frame) < 4:
        raise UserError(
            f"{where} has {len(frame)} rows; the least is 2 labelled rows of each of 2 classes"
        )
    values = _text(frame[label].map(class_name, na_action="ignore"))
    labelled = values[values != ""]
    known = classes is not None
    names = _in_order(labelled.unique()) if classes is None else list(classes)
    if known and (unknown := _in_order(set(labelled) - set(names))):
        raise UserError(
            f"{where}: class {unknown[0]!r} in column {label!r} is none of the model's "
            f"{', '.join(names[:10])}"
        )
    codes = values.map({name: k for k, name in enumerate(names)}).fillna(-1).to_numpy(np.int64)
    if not len(labelled):
        raise UserError(
            f"{where}: no row has a label in column {label!r}; label some of each class"
        )
    if known:
        return codes, names
    if len(names) > MAX_CLASSES or len(names) > max(2, len(labelled) // 2):
        raise UserError(
            f"{where}: column {label!r} has {len(names):,} different values in {len(labelled):,} "
            "labelled rows; it looks like a number or an identifier, not a class: choose another "
            "--label, or label at least 2 rows of each class"
        )
    if len(names) == 1:
        raise UserError(
            f"{where}: column {label!r} has the one class {names[0]!r}; label rows of another too"
        )
    counts = np.bincount(codes[codes >= 0])
    if alone := [name for name, count in zip(names, counts, strict=True) if count == 1]:
        raise UserError(
            f"{where}: class {alone[0]!r} in column {label!r} has one labelled row, but needs 2, "
            "one to be held out; label another one or empty it"
        )
    return codes, names


def _in_order(names: Any) -> list[str]:
    """Sorted as numbers if all are, else as text."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


@dataclass(frozen=True)
class Column:
    """Conversion of a column to numbers.

    Attributes:
        name: Its name.
        kind: `number`; `date` (days since 1970); `category` (one feature a level); `text` (the
            vector of a text encoder).
        fill: What stands for a missing number or date: the median.
        missing: Whether a feature of its own says where it was missing.
        integer: Whether all numbers, or days, are whole.
        date_format: How a date is written; None: it came as a date.
        levels: Levels of a category that have a feature; the empty one is a missing cell.
        other: Whether all further levels share the last feature.
    """

    name: str
    kind: Literal["number", "date", "category", "text"]
    fill: float = 0.0
    missing: bool = False
    integer: bool = False
    date_format: str | None = None
    levels: tuple[str, ...] = ()
    other: bool = False


@dataclass(frozen=True)
class Columns:
    """A table's columns, their features and the features' scale.

    Every feature has mean 0 and standard deviation 1 in the table that was fitted, but those of a
    text share one factor, which gives the text's largest principal component that deviation.

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
        text: Sequence[str] = (),
        encoder: str = "minilm",
        progress: Progress | None = None,
    ) -> tuple[Self, np.ndarray, list[str]]:
        """Decide for every column what it is. No label is seen.

        Arguments:
            frame: N rows, without the label.
            text: Columns that go through the text encoder.
            encoder: Which one.
            progress: Of the encoder.

        Returns:
            The columns, their features, shape (N, D) float32, and notes for the user.

        Raises:
            UserError: If `text` names an unknown column, or fewer than 2 features are left.
        """
        _require(frame, text, "the table")
        found, notes = [], []
        for name in frame.columns:
            column, note = _describe(frame[name], name in text)
            found += [column] if column is not None else []
            notes += [f"{name!r}: {note}"] if note else []
        if not found:
            why = "; ".join(notes[:3]) or "the label is the only one"
            raise UserError(f"no column is left to learn from ({why})")
        columns = cls(tuple(found), np.zeros(0), np.ones(0), encoder)
        blocks = columns._blocks(frame, progress)
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
                "a column"
            )
        columns = replace(
            columns,
            shift=np.concatenate(shift),
            scale=np.where(divisor > 0, divisor, 1.0),
        )
        return columns, columns._standardised(blocks), notes

    def transform(self, frame: "pd.DataFrame", progress: Progress | None = None) -> np.ndarray:
        """Features of a table's rows, shape (N, D) float32; further columns do no harm.

        Raises:
            UserError: If a column is absent, or one of numbers or dates holds none.
        """
        _require(frame, [column.name for column in self.columns], "the table")
        return self._standardised(self._blocks(frame, progress))

    def inverse(self, X: np.ndarray) -> "pd.DataFrame":
        """Table whose features are about X, shape (N, D): the most likely level of a category.

        Texts cannot be had back from their vectors; their cells are empty.
        """
        import pandas as pd

        features = np.asarray(X, dtype=np.float64) * self.scale + self.shift
        result, start = {}, 0
        for column in self.columns:
            block = features[:, start : start + self._width(column)]
            start += block.shape[1]
            if column.kind == "text":
                result[column.name] = pd.Series([""] * len(X), dtype=object)
                continue
            if column.kind == "category":
                names = np.array([*column.levels, *([OTHER] if column.other else [])], dtype=object)
                result[column.name] = pd.Series(names[block.argmax(axis=1)])
                continue
            values = pd.Series(block[:, 0]).round() if column.integer else pd.Series(block[:, 0])
            if column.kind == "date":
                # Features are float32.
                dates = pd.to_datetime(values, unit="D").dt.round("min")
                values = dates.dt.strftime(column.date_format or "%Y-%m-%dT%H:%M:%S")
            elif column.integer:
                values = values.astype("Int64")
            result[column.name] = values.mask(block[:, 1] > 0.5) if column.missing else values
        return pd.DataFrame(result)

    def to_json(self) -> dict[str, Any]:
        """JSON value that `from_json` reads."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
            "encoder": self.encoder,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        columns = tuple(
            Column(**{**column, "levels": tuple(column["levels"])}) for column in value["columns"]
        )
        return cls(columns, np.array(value["shift"]), np.array(value["scale"]), value["encoder"])

    def _standardised(self, blocks: list[np.ndarray]) -> np.ndarray:
        return ((np.concatenate(blocks, axis=1) - self.shift) / self.scale).astype(np.float32)

    def _width(self, column: Column) -> int:
        """Number of a column's features; all texts share one encoder, and what is left."""
        if column.kind == "text":
            others = [other for other in self.columns if other.kind != "text"]
            n_left = len(self.shift) - sum(self._width(other) for other in others)
            return n_left // (len(self.columns) - len(others))
        return len(column.levels) + column.other if column.levels else 1 + column.missing

    def _blocks(self, frame: "pd.DataFrame", progress: Progress | None) -> list[np.ndarray]:
        """Features of each column before scaling, shape (N, d) each."""
        return [
            _embed(_text(frame[column.name]), self.encoder, progress)
            if column.kind == "text"
            else _one_hot(frame[column.name], column)
            if column.kind == "category"
            else _values(frame[column.name], column)
            for column in self.columns
        ]


def _require(frame: "pd.DataFrame", names: Sequence[str], where: str) -> None:
    if absent := [name for name in names if name not in frame.columns]:
        raise UserError(
            f"{where} has no column {', '.join(map(repr, absent[:5]))}; "
            f"it has {', '.join(map(repr, list(frame.columns)[:10]))}"
        )


def _describe(series: "pd.Series", as_text: bool) -> tuple[Column | None, str]:
    """Column that describes a series (None: uninformative), and a note for the user."""
    from sklearn.preprocessing import OneHotEncoder

    name = str(series.name)
    if as_text:
        return Column(name, "text"), ""
    if _is_numeric(series) and series.nunique() > 1:
        return _number(name, _numbers(series), int(series.notna().sum()))
    text = _text(series)
    present = text[text != ""]
    if text.nunique() < 2:
        return None, "dropped, it is the same everywhere"
    # Two values, one of them "missing", are two levels.
    if present.nunique() > 1:
        numbers = _numbers(series)
        if numbers.notna().sum() >= MOSTLY * len(present):
            return _number(name, numbers, len(present))
        date_format, dates = _dates(series, present)
        if dates is not None:
            known = dates.dropna()
            whole = bool((known == known.round()).all())
            missing = bool(dates.isna().any())
            column = Column(name, "date", float(dates.median()), missing, whole, date_format)
            return column, "a date, as days"
    if present.nunique() > max(MAX_LEVELS, len(present) / 2):
        return None, (
            f"dropped, nearly all of its {present.nunique():,} texts differ: free text or an "
            f"identifier; --text {name!r} makes use of a text"
        )
    encoder = OneHotEncoder(
        min_frequency=max(1, math.ceil(MIN_LEVEL_SHARE * len(text))),
        max_categories=MAX_LEVELS + 1,
        handle_unknown="infrequent_if_exist",
    ).fit(text.to_numpy(object)[:, None])
    rare = encoder.infrequent_categories_[0]
    rare = set() if rare is None else set(rare)
    levels = tuple(level for level in encoder.categories_[0] if level not in rare)
    if not levels:
        return None, f"dropped, none of its {len(rare):,} levels has 1 % of the rows"
    note = f"{len(rare):,} rare levels taken together" if rare else ""
    return Column(name, "category", levels=levels, other=bool(rare)), note


def _number(name: str, values: "pd.Series", n_present: int) -> tuple[Column | None, str]:
    known = values.dropna()
    integer = bool((known == known.round()).all())
    if len(known) < 2 or known.nunique() < 2:
        return None, "dropped, its numbers are the same everywhere"
    consecutive = len(values) == known.nunique() == known.max() - known.min() + 1
    if integer and consecutive and len(known) >= 20:
        return None, "dropped, it numbers the rows"
    column = Column(name, "number", float(known.median()), bool(values.isna().any()), integer)
    n_missing, n_bad = len(values) - len(known), n_present - len(known)
    bad = f", {n_bad:,} of them not a finite number" if n_bad else ""
    note = f"{n_missing:,} missing values{bad}: the median stands for them, and a mark"
    return column, note if n_missing else ""


def _text(series: "pd.Series") -> "pd.Series":
    """Cells as text without surrounding spaces, empty where missing."""
    text = series.astype(object).map(lambda value: str(value).strip(), na_action="ignore")
    return text.where(series.notna(), "")


def _is_numeric(series: "pd.Series") -> bool:
    import pandas as pd

    return pd.api.types.is_any_real_numeric_dtype(series)


def _numbers(series: "pd.Series") -> "pd.Series":
    """Float64, NaN where missing, infinite or no number."""
    import pandas as pd

    if _is_numeric(series):
        values = series.astype("Float64").astype("float64")
    else:
        values = pd.to_numeric(_text(series), errors="coerce").astype("float64")
    return values.where(np.isfinite(values))


def _dates(series: "pd.Series", present: "pd.Series") -> tuple[str | None, "pd.Series | None"]:
    """Format of the dates and the days since 1970; None, None if they are none."""
    import pandas as pd
    from pandas.tseries.api import guess_datetime_format

    if pd.api.types.is_datetime64_any_dtype(series):
        return None, _days(series, None)
    example = str(present.iloc[0])
    # A month's name alone, or a year, is no date.
    if len(example) < 6 or not any(map(str.isdigit, example)):
        return None, None
    for dayfirst in (False, True):
        date_format = guess_datetime_format(example, dayfirst=dayfirst)
        if date_format is not None:
            days = _days(series, date_format)
            if days.notna().sum() >= MOSTLY * len(present):
                return date_format, days
    return None, None


def _days(series: "pd.Series", date_format: str | None) -> "pd.Series":
    """Days since 1970, float64, NaN where missing or no date."""
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(series):
        series = pd.to_datetime(_text(series), format=date_format, errors="coerce", utc=True)
    dates = pd.to_datetime(series, utc=True)
    return (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)


def _values(series: "pd.Series", column: Column) -> np.ndarray:
    """A number or date, and the mark where it is missing, shape (N, 1 or 2)."""
    values = _numbers(series) if column.kind == "number" else _days(series, column.date_format)
    missing = values.isna()
    if missing.all() and series.notna().any():
        raise UserError(
            f"column {column.name!r} holds no {column.kind}, e.g. {_text(series).iloc[0]!r}, as it "
            "does in the table that the model learnt from"
        )
    features = [values.fillna(column.fill)] + ([missing.astype(float)] if column.missing else [])
    return np.stack([feature.to_numpy(np.float64) for feature in features], axis=1)


def _one_hot(series: "pd.Series", column: Column) -> np.ndarray:
    """One feature a level, shape (N, L); all are 0 at a level that is in none."""
    from sklearn.preprocessing import OneHotEncoder

    names = [*column.levels, *([OTHER] if column.other else [])]
    text = _text(series)
    if column.other:
        text = text.where(text.isin(column.levels), OTHER)
    encoder = OneHotEncoder(
        categories=[np.array(names, dtype=object)], handle_unknown="ignore", sparse_output=False
    ).fit(np.array(names[:1], dtype=object)[:, None])
    return encoder.transform(text.to_numpy(object)[:, None])


def _embed(text: "pd.Series", encoder: str, progress: Progress | None) -> np.ndarray:
    """Vectors of length 1, shape (N, D)."""
    import tempfile

    from flowgmm.datasets.loaders.text import normalise
    from flowgmm.embed.text import embed_texts

    # An encoder has no vector for nothing.
    texts = [value if normalise(value) else "empty" for value in text]
    with tempfile.TemporaryDirectory() as cache:
        vectors = np.array(embed_texts(texts, encoder, Path(cache), progress=progress), np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
