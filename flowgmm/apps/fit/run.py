"""`flowgmm fit` from a table to a folder of results: cross-validation, final model, report."""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.apps.fit.columns import Columns
from flowgmm.apps.fit.cross_validation import (
    FLOWGMM,
    HeldOut,
    baselines,
    compare,
    cross_validate,
    ece,
    reliability,
)
from flowgmm.apps.fit.reading import read_labels, read_table
from flowgmm.apps.fit.report import draw, write_page
from flowgmm.apps.fit.table_model import (
    DESCRIPTION,
    MODEL,
    TableModel,
    make_estimator,
    predictions,
    train,
)
from flowgmm.evaluation.calibration import best_temperature
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import write_json
from flowgmm.utils.progress import Progress, with_text

__all__ = ["FILES", "Source", "fit_table"]

PREDICTIONS, REPORT, PAGE = "predictions.csv", "report.json", "report.html"
FILES = (MODEL, DESCRIPTION, PREDICTIONS, REPORT, PAGE)


@dataclass(frozen=True)
class Source:
    """Table to fit, and options for reading it.

    Attributes:
        path: CSV, Parquet or npz; see `flowgmm.apps.fit.reading.read_table`.
        label: Column with the classes; an empty cell is an unlabelled row.
        text: Columns of free text, for the text encoder.
        drop: Columns to leave out.
        test: A second table with labels, to score on.
        encoder: Text encoder; see `flowgmm.embed.text.embed_texts`.
        sep: Separator of a CSV.
        encoding: Encoding of a CSV.
    """

    path: Path
    label: str
    text: Sequence[str] = ()
    drop: Sequence[str] = ()
    test: Path | None = None
    encoder: str = "minilm"
    sep: str = ","
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Data:
    """Content of a `Source` as numbers.

    Attributes:
        columns: Conversion of its columns to features.
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        classes: The K names.
        notes: Notes on the columns, for the user.
        X_test: Features of the labelled test rows, shape (M, D); None without a test table.
        y_test: Their classes, shape (M,).
    """

    columns: Columns
    X: np.ndarray
    codes: np.ndarray
    classes: list[str]
    notes: list[str]
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None


def fit_table(
    source: Source,
    output: Path,
    *,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit FlowGMM to a table, check it on held-out labels, and write a folder of results.

    Arguments:
        source: The table, and options for reading it.
        output: The folder: predictions.csv, report.html, report.json, model.json,
            model.safetensors. It appears whole or not at all.
        seed: Seed of folds and training.
        force: Whether a folder of results may be replaced.
        progress: Called with units done, all units, and the name of the work.

    Returns:
        Content of report.json.

    Raises:
        UserError: If a file, column, label or the output folder is not as expected, or training
            diverged.
    """
    started = time.monotonic()
    with _results_folder(output, force) as folder:
        data = _read(source, progress)
        X, codes = data.X, data.codes
        held_out = cross_validate(make_estimator(X, seed), X, codes, seed, progress)
        temperature = best_temperature(codes[held_out.rows], held_out.log_proba[FLOWGMM])
        final = train(make_estimator(X, seed), X, codes, with_text(progress, "training"))
        model = TableModel(final, data.columns, source.label, data.classes, max(1.0, temperature))
        log_proba = model.log_proba(X)
        report = _report(source, data, held_out, model, log_proba)
        report |= {"seed": seed, "seconds": round(time.monotonic() - started, 1)}
        table = predictions(log_proba, data.classes)
        table.insert(1, "given", [data.classes[k] if k >= 0 else "" for k in codes])
        table.to_csv(folder / PREDICTIONS, index=False)
        model.save(folder)
        write_json(folder / REPORT, report)
        write_page(folder / PAGE, report, draw(final, data.classes, X, codes, report))
    return report


def _read(source: Source, progress: Progress | None) -> Data:
    """Read the table, describe its columns, and read the test table with them."""
    path, label, drop, text = source.path, source.label, source.drop, source.text
    frame = read_table(path, sep=source.sep, encoding=source.encoding)
    codes, classes = read_labels(frame, label, path)
    for name in (*drop, *text):
        if name == label or name not in frame.columns:
            what = "is the label" if name == label else "not found"
            raise UserError(f"{path}: column {name!r} {what}; correct --drop or --text")
    features = frame.drop(columns=[label, *drop])
    columns, X, notes = Columns.fit(features, text, source.encoder, progress)
    if source.test is None:
        return Data(columns, X, codes, classes, notes)
    table = read_table(source.test, sep=source.sep, encoding=source.encoding)
    y_test, _ = read_labels(table, label, source.test, classes)
    known = y_test >= 0
    X_test = columns.transform(table[known], progress)
    return Data(columns, X, codes, classes, notes, X_test, y_test[known])


def _report(
    source: Source, data: Data, held_out: HeldOut, model: TableModel, log_proba: np.ndarray
) -> dict[str, Any]:
    """Content of report.json, but for seed and time; `log_proba` is of all rows, shape (N, K)."""
    X, codes = data.X, data.codes
    y, raw = codes[held_out.rows], held_out.log_proba[FLOWGMM]
    calibrated = held_out.calibrated(y)
    tested = None
    if data.X_test is not None and data.y_test is not None:
        own = {FLOWGMM: model.log_proba(data.X_test)}
        tested = {
            "file": str(source.test),
            "rows": len(data.y_test),
            "methods": compare(data.y_test, {**own, **baselines(X, codes, data.X_test)}),
        }
    unlabelled = codes < 0
    return {
        "file": str(source.path),
        "label": source.label,
        "rows": len(X),
        "labelled": int((codes >= 0).sum()),
        "columns": {column.name: column.kind for column in data.columns.columns},
        "features": X.shape[1],
        "notes": data.notes,
        "classes": _per_class(codes, y, calibrated, log_proba, data.classes),
        "held_out": {
            "folds": int(held_out.fold.max()) + 1,
            "rows": len(y),
            "temperature": model.temperature,
            "ece_uncalibrated": ece(y, raw),
            "reliability": reliability(y, calibrated.argmax(axis=1), calibrated),
            "methods": compare(y, {**held_out.log_proba, FLOWGMM: calibrated}),
        },
        "test": tested,
        "sure": _confidence(log_proba[unlabelled] if unlabelled.any() else log_proba),
        "settings": model.estimator.used_params(),
    }


def _per_class(
    codes: np.ndarray,
    y: np.ndarray,
    held_out: np.ndarray,
    log_proba: np.ndarray,
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """Counts of rows labelled, held out and predicted, of each class."""
    predicted, held = log_proba.argmax(axis=1), held_out.argmax(axis=1)
    return [
        {
            "name": name,
            "labelled": int((codes == k).sum()),
            "held_out": int((y == k).sum()),
            "held_out_right": int(((y == k) & (held == k)).sum()),
            "predicted_unlabelled": int(((codes < 0) & (predicted == k)).sum()),
        }
        for k, name in enumerate(classes)
    ]


def _confidence(log_proba: np.ndarray) -> dict[str, Any]:
    """Mean probability of the predicted classes, and rows with a high and with a low one."""
    confidence = np.exp(log_proba.max(axis=1))
    return {
        "rows": len(confidence),
        "mean_probability": float(confidence.mean()),
        "at_least_90": int((confidence >= 0.9).sum()),
        "below_60": int((confidence < 0.6).sum()),
    }


@contextlib.contextmanager
def _results_folder(path: Path, force: bool) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the name only if the block succeeds.

    Raises:
        UserError: If `path` exists and may not be replaced, or cannot be written.
    """
    if path.exists() or path.is_symlink():
        if not force:
            raise UserError(f"{path} already exists; choose another --output, or give --force")
        held = [child.name for child in path.iterdir()] if path.is_dir() else [path.name]
        if others := sorted(set(held) - set(FILES)):
            raise UserError(
                f"{path} holds {others[0]!r}, which --force keeps; choose another --output"
            )
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    old = part.with_suffix(".old")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; check the folder's permissions and free space"
        ) from error
    try:
        yield part
        if path.exists():
            path.rename(old)
        try:
            part.rename(path)
        except OSError:
            if old.exists():  # restore the previous results
                old.rename(path)
            raise
    finally:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)
