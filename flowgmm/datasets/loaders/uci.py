"""HEPMASS and MiniBooNE, prepared as the authors of the paper prepared them."""

import gzip
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flowgmm.datasets.splits import split_by_class
from flowgmm.datasets.types import Arrays
from flowgmm.utils.errors import UserError
from flowgmm.utils.seeds import derive

__all__ = ["load_hepmass", "load_miniboone"]

_CLASSES = ["background", "signal"]
# Of HEPMASS's files of all masses, in GeV.
_MASSES = {500.0, 750.0, 1000.0, 1250.0, 1500.0}


def load_hepmass(
    raw: Path,
    *,
    train: str = "1000_train.csv.gz",
    test: str = "1000_test.csv.gz",
    train_fraction: float = 0.2,
    test_fraction: float = 0.04,
    train_rows: int | None = 140_000,
    file_rows: tuple[int, int] | None = None,
    seed: int = 0,
) -> Arrays:
    """Read the 1000 GeV files: a label and 27 features; the test file has one column more.

    As no checksum of them is published, rows and columns are counted; the files of all masses
    (`all_train.csv`, `all_test.csv`), which are another task, are refused.

    Both parts are standardised by the training part (ddof 1); then features whose smallest value
    occurs more than five times in training are left out, which is expected to leave 21.

    Arguments:
        raw: Folder with both files, plain or gzipped.
        train: Name of the training file.
        test: Name of the test file.
        train_fraction: Share of the training file's rows, drawn at random.
        test_fraction: Share of the test file's rows.
        train_rows: Number of training rows to keep, by class; None: all (D13).
        file_rows: Rows that the training and the test file have; None: any number.
        seed: Number of the draw.

    Raises:
        UserError: If a file is missing, damaged or cut off, or has other columns.

    Source: spec 2.2, after the preparation for masked autoregressive flows.
    """
    from sklearn.model_selection import train_test_split

    rng = np.random.RandomState(derive("hepmass", seed, "split"))
    n_train, n_test = file_rows or (None, None)
    X, y = _sample(_read_hepmass(raw / train, 28, n_train), train_fraction, rng)
    X_test, y_test = _sample(_read_hepmass(raw / test, 29, n_test), test_fraction, rng)
    mean, std = X.mean(axis=0), X.std(axis=0, ddof=1)
    std[std == 0] = 1
    X, X_test = (X - mean) / std, (X_test - mean) / std
    keep = ~_repeated_minimum(X)
    X, X_test = X[:, keep], X_test[:, keep]
    if train_rows is not None and train_rows != len(X):
        if train_rows > len(X):
            raise UserError(
                f"{train}: train_rows is {train_rows}, but only {len(X)} rows were drawn"
            )
        X, _, y, _ = train_test_split(X, y, train_size=train_rows, stratify=y, random_state=rng)
    notes = [_dropped(keep)]
    columns = [f"f{i}" for i in np.flatnonzero(keep)]
    return Arrays(X, y, X_test, y_test, _CLASSES, notes, columns)


def load_miniboone(
    raw: Path,
    *,
    file: str = "MiniBooNE_PID.txt",
    statistics: Literal["all", "train"] = "all",
    clean: bool = False,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Arrays:
    """Read the particle file: a line with both counts, the signal rows, the background rows.

    All signal rows and as many of the first background rows are kept, and split by class.

    Arguments:
        raw: Folder with the file.
        file: Its name.
        statistics: Rows whose mean and standard deviation (ddof 0) standardise the data: ``all``,
            as the authors have it, or ``train`` (D15).
        clean: Whether rows with feature 0 below -100, and features whose smallest value occurs
            more than five times, are left out first (D14); the authors keep both.
        test_fraction: Share of the test part.
        seed: Number of the draw.

    Raises:
        UserError: If the file is missing, cut off, or has other columns.

    Source: spec 2.2.
    """
    X, y = _read_miniboone(raw / file)
    notes = []
    if clean:
        inside = X[:, 0] >= -100
        X, y = X[inside], y[inside]
        notes.append(f"{(~inside).sum()} outlying rows dropped")
    signal = np.flatnonzero(y == 1)
    rows = np.concatenate([signal, np.flatnonzero(y == 0)[: len(signal)]])
    X, y = X[rows], y[rows]
    keep = ~_repeated_minimum(X) if clean else np.ones(X.shape[1], bool)
    X = X[:, keep]
    if clean:
        notes.append(_dropped(keep))
    train, test = split_by_class(
        np.arange(len(X)), y, test_fraction, derive("miniboone", seed, "split"), str(raw / file)
    )
    basis = X if statistics == "all" else X[train]
    std = basis.std(axis=0)
    X = (X - basis.mean(axis=0)) / np.where(std > 0, std, 1)
    columns = [f"f{i}" for i in np.flatnonzero(keep)]
    return Arrays(X[train], y[train], X[test], y[test], _CLASSES, notes, columns)


def _read_hepmass(path: Path, columns: int, rows: int | None) -> np.ndarray:
    """Label and features, shape (N, 28) float32."""
    table = _read_numbers(path, np.float32)
    if table.shape[1] != columns:
        raise UserError(
            f"{path}: expected {columns} columns, a label and 27 features (one more in the test "
            f"file), got {table.shape[1]}; is it the official file?"
        )
    masses = np.unique(table[:10_000, 28:])
    if len(masses) > 1 and set(masses.tolist()) <= _MASSES:
        raise UserError(
            f"{path}: its last column is the mass, as in all_test.csv; take 1000_test.csv.gz"
        )
    if rows is not None and len(table) != rows:
        raise UserError(
            f"{path}: expected {rows} rows, got {len(table)}; it is cut off or another file, "
            "fetch it again"
        )
    labels: Any = table[:, 0]
    if outside := sorted(set(np.unique(labels).tolist()) - {0.0, 1.0}):
        raise UserError(f"{path}: label {outside[0]} is not 0 or 1; is it the official file?")
    features: np.ndarray = table[:, :28]
    return features


def _read_numbers(path: Path, dtype: type[np.floating[Any]], sep: str = ",") -> np.ndarray:
    """Numbers below a first line, plain or gzipped, shape (N, D).

    pandas parses them at once: these files are large, and nothing else is in them.
    """
    import pandas as pd

    try:
        with path.open("rb") as handle:
            packed = handle.read(2) == b"\x1f\x8b"
        compression: Any = "gzip" if packed else None
        options: Any = {"sep": sep, "dtype": dtype, "compression": compression}
        table: np.ndarray = pd.read_csv(path, header=None, skiprows=1, **options).to_numpy()
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule download_file") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is cut off or damaged ({error}); fetch it again") from error
    except ValueError as error:  # pandas' own errors, and of a wrong encoding
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a table ({reason}); is it the official file?") from error
    return table


def _sample(
    table: np.ndarray, fraction: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """A random share of the rows, as float64 features and classes."""
    rows = rng.permutation(len(table))[: round(fraction * len(table))]
    return table[rows, 1:].astype(np.float64), table[rows, 0].astype(np.int64)


def _read_miniboone(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open(encoding="utf-8", errors="replace") as handle:
            first = handle.readline().split()
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule download_file") from error
    if len(first) != 2 or not all(count.isdecimal() for count in first):
        raise UserError(
            f"{path}: the first line should hold the counts of signal and background rows, "
            f"got {' '.join(first)[:60]!r}; is it the official file?"
        )
    n_signal, n_background = map(int, first)
    X = _read_numbers(path, np.float64, sep=r"\s+")
    if X.shape != (n_signal + n_background, 50):
        raise UserError(
            f"{path}: expected {n_signal + n_background} rows of 50 columns, got {len(X)} of "
            f"{X.shape[1]}; it is cut off, fetch it again"
        )
    return X, np.repeat([1, 0], [n_signal, n_background])


def _repeated_minimum(X: np.ndarray) -> np.ndarray:
    """Mask of features whose smallest value occurs more than five times, shape (D,)."""
    repeated: np.ndarray = (X.min(axis=0) == X).sum(axis=0) > 5
    return repeated


def _dropped(keep: np.ndarray) -> str:
    return f"{(~keep).sum()} of {len(keep)} features dropped, whose smallest value repeats"
