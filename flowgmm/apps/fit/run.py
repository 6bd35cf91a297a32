"""`flowgmm fit` from a table to a folder of results: cross-validation, final model, report."""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.apps.fit.columns import Columns
from flowgmm.apps.fit.comparison import choose, compare, reliability
from flowgmm.apps.fit.cross_validation import HeldOut, cross_validate, fit_baselines
from flowgmm.apps.fit.finals import fit_finals
from flowgmm.apps.fit.methods import AUTO, COMBINED, FLOWGMM, KEYS, Method, make_methods
from flowgmm.apps.fit.report import draw, write_page
from flowgmm.apps.fit.table_model import (
    DESCRIPTION,
    MODEL,
    TableModel,
    predictions,
)
from flowgmm.apps.outputs import check_folder
from flowgmm.tabular.infer import Choices
from flowgmm.tabular.labels import read_labels
from flowgmm.tabular.notes import Note
from flowgmm.tabular.reading import read_table
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
        path: See `flowgmm.tabular.reading.read_table`.
        label: Column with the classes; an empty cell is an unlabelled row.
        unlabelled: A further cell of an unlabelled row; see `flowgmm.tabular.labels.read_labels`.
        drop: Columns to leave out.
        choices: Decisions on the reading of the columns.
        test: A second table with labels, to score on.
        encoder: Text encoder; see `flowgmm.embed.text.embed_texts`.
        sep: Separator of a CSV; None: recognised.
        encoding: Encoding of a CSV; None: UTF-8, or as its first bytes say.
    """

    path: Path
    label: str
    unlabelled: str | None = None
    drop: Sequence[str] = ()
    choices: Choices = field(default_factory=Choices)
    test: Path | None = None
    encoder: str = "minilm"
    sep: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Data:
    """Content of a `Source` as numbers.

    Attributes:
        columns: Conversion of its columns to features.
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        classes: The K names.
        reading: Sentences for the user on the reading of file and labels.
        notes: Notes on the columns.
        X_test: Features of the labelled test rows, shape (M, D); None without a test table.
        y_test: Their classes, shape (M,).
        test_notes: Notes on the test table's columns.
    """

    columns: Columns
    X: np.ndarray
    codes: np.ndarray
    classes: list[str]
    reading: list[str]
    notes: list[Note]
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    test_notes: Sequence[Note] = ()


def fit_table(
    source: Source,
    output: Path,
    *,
    method: str = AUTO,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare methods on held-out labels of a table, fit one, and write a folder of results.

    Arguments:
        source: The table, and options for reading it.
        output: The folder: predictions.csv, report.html, report.json, model.json,
            model.safetensors. It appears whole or not at all.
        method: `combined` (FlowGMM and a random forest), `flowgmm`, `forest`, `logistic`, or
            `auto`; see `flowgmm.apps.fit.comparison.choose`.
        seed: Seed of folds and training.
        force: Whether a folder of results may be replaced.
        progress: Called with units done, all units, and the name of the work.

    Returns:
        Content of report.json.

    Raises:
        UserError: If a file, column, label, the method or the output folder is not as expected, or
            training diverged.
    """
    if method not in (AUTO, *KEYS):
        raise UserError(
            f"unknown --method {method!r}; expected one of {', '.join([AUTO, *KEYS])} (the other "
            "methods are for comparison)"
        )
    started = time.monotonic()
    inputs = [source.path] if source.test is None else [source.path, source.test]
    check_folder(output, inputs, force, FILES)
    with _results_folder(output) as folder:
        data = _read(source, progress)
        X, codes = data.X, data.codes
        methods, notes = make_methods(X, codes, seed)
        held_out = cross_validate(methods, X, codes, seed, progress)
        chosen, reason = choose(method, codes[held_out.rows], held_out.log_proba)
        finals = fit_finals(methods, held_out, X, codes, with_text(progress, "training"))
        key = next(key for key, name in KEYS.items() if name == chosen)
        model = TableModel(key, finals[chosen], data.columns, source.label, data.classes)
        log_proba = model.log_proba(X)
        report = _report(source, data, held_out, model, log_proba)
        report |= {"choice": reason, "left_out": [*notes, *held_out.notes]}
        report["test"] = _score_test(source, data, methods, finals, chosen)
        report |= {"seed": seed, "seconds": round(time.monotonic() - started, 1)}
        table = predictions(log_proba, data.classes)
        table.insert(1, "given", [data.classes[k] if k >= 0 else "" for k in codes])
        table.to_csv(folder / PREDICTIONS, index=False)
        model.save(folder)
        write_json(folder / REPORT, report)
        write_page(folder / PAGE, report, draw(finals[FLOWGMM], data.classes, X, codes, report))
    return report


def _read(source: Source, progress: Progress | None) -> Data:
    """Read the table, describe its columns, and read the test table with them."""
    path, label, drop, choices = source.path, source.label, source.drop, source.choices
    table = read_table(path, sep=source.sep, encoding=source.encoding)
    codes, classes, about_labels = read_labels(
        table.frame, label, path, unlabelled=source.unlabelled
    )
    for option, names in (("drop", drop), ("text", choices.text), ("keep", choices.keep)):
        for name in names:
            if name == label or name not in table.frame.columns:
                what = "is the label" if name == label else "not found"
                raise UserError(f"{path}: column {name!r} {what}; correct --{option}")
    features = table.frame.drop(columns=[label, *drop])
    choices = replace(choices, sep=table.sep)
    columns, X, notes = Columns.fit(features, choices, source.encoder, progress)
    data = Data(columns, X, codes, classes, [*table.notes, *about_labels], notes)
    if source.test is None:
        return data
    tested = read_table(source.test, sep=source.sep, encoding=source.encoding)
    y_test, _, _ = read_labels(tested.frame, label, source.test, classes, source.unlabelled)
    known = y_test >= 0
    X_test, test_notes = columns.transform(tested.frame[known], progress)
    return replace(data, X_test=X_test, y_test=y_test[known], test_notes=test_notes)


def _report(
    source: Source, data: Data, held_out: HeldOut, model: TableModel, log_proba: np.ndarray
) -> dict[str, Any]:
    """Content of report.json but for the choice of the method, the test table, seed and time.

    `log_proba` is of all rows, shape (N, K).
    """
    X, codes = data.X, data.codes
    y, chosen = codes[held_out.rows], KEYS[model.method]
    own = held_out.log_proba[chosen]
    unlabelled = codes < 0
    estimator = model.estimator
    return {
        "file": _shown(source.path),
        "label": source.label,
        "rows": len(X),
        "labelled": int((codes >= 0).sum()),
        "columns": {column.name: column.kind for column in data.columns.columns},
        "features": X.shape[1],
        "reading": data.reading,
        "notes": data.notes,
        "method": chosen,
        "classes": _per_class(codes, y, own, log_proba, data.classes),
        "held_out": {
            "folds": int(held_out.fold.max()) + 1,
            "rows": len(y),
            "temperature": getattr(estimator, "temperature_", None),
            "weight": getattr(estimator, "weight", None),
            "reliability": reliability(y, own.argmax(axis=1), own),
            "methods": compare(y, held_out.log_proba, chosen),
        },
        "sure": _confidence(log_proba[unlabelled] if unlabelled.any() else log_proba),
        "settings": _settings(estimator),
    }


def _settings(estimator: Any) -> dict[str, Any]:
    """Parameters that the estimator was fitted with; of FlowGMM those of the parts in use."""
    flow = getattr(estimator, "flow_gmm_", estimator)
    used = flow.used_params() if hasattr(flow, "used_params") else {}
    given = estimator.get_params(deep=False).items()
    return used | {k: v for k, v in given if v is None or isinstance(v, bool | int | float | str)}


def _shown(path: Path) -> str:
    """Path as text; bytes of its name that are no UTF-8, and could not be written, as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _score_test(
    source: Source,
    data: Data,
    methods: dict[str, Method],
    finals: dict[str, Any],
    chosen: str,
) -> dict[str, Any] | None:
    """Scores on the test table; None without one."""
    if source.test is None or data.X_test is None or data.y_test is None:
        return None
    log_proba = {name: finals[name].predict_log_proba(data.X_test) for name in (COMBINED, FLOWGMM)}
    log_proba |= fit_baselines(methods, data.X, data.codes, data.X_test)
    return {
        "file": _shown(source.test),
        "rows": len(data.y_test),
        "notes": list(data.test_notes),
        "methods": compare(data.y_test, log_proba, chosen),
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
def _results_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the name only if the block succeeds.

    Raises:
        UserError: If `path` cannot be written.
    """
    if path.is_symlink():
        path = path.resolve()
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
