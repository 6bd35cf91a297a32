"""FlowGMM on a table of one's own: fit, held-out check against simple rivals, predict, sample."""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flowgmm.apps.fit.columns import Columns, read_labels, read_table
from flowgmm.apps.fit.cross_validation import (
    FLOWGMM,
    compare,
    cross_validate,
    ece,
    reliability,
    rivals,
)
from flowgmm.evaluation.calibration import best_temperature, tempered
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, write_json
from flowgmm.utils.progress import Progress
from flowgmm.utils.seeds import derive

if TYPE_CHECKING:
    import pandas as pd

    from flowgmm.methods.flow_gmm import FlowGMMClassifier

__all__ = ["TableModel", "fit_table"]

EMBEDDING = "embedding the texts"

# docs/recipes.md has the experiments behind these.
SETTINGS: dict[str, Any] = {
    "preprocess": "none",  # the features have one scale already
    "hidden_size": 64,
    "unlabelled_weight": 10.0,
    "label_weight": 100.0,
    "consistency_weight": 0.0,
    "balance_weight": 0.0,
    "input_noise": 0.5,
    "n_steps": 400,
    "labelled_batch": 256,
}
# More features than this, as of a text, go through their principal components.
MOST_FEATURES = 128
WIDE: dict[str, Any] = {
    "preprocess": "pca",
    "pca_components": 32,
    "n_couplings": 2,
    "unlabelled_weight": 100.0,
    "consistency_weight": 100.0,
}

MODEL, DESCRIPTION = "model.safetensors", "model.json"
PREDICTIONS, REPORT, PAGE = "predictions.csv", "report.json", "report.html"
FILES = (MODEL, DESCRIPTION, PREDICTIONS, REPORT, PAGE)

# Called with units done, all units, what is being done.


@dataclass(frozen=True)
class TableModel:
    """A fitted FlowGMM with all it takes to read the table it is for.

    Attributes:
        estimator: Of codes 0..K-1.
        columns: Of the table.
        label: Column with the classes.
        classes: Their K names.
        temperature: The class probabilities p become p^(1/T), normalised.
    """

    estimator: "FlowGMMClassifier"
    columns: Columns
    label: str
    classes: list[str]
    temperature: float

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `model.json`; nothing is pickled."""
        self.estimator.save(folder / MODEL)
        description = {
            "label": self.label,
            "classes": self.classes,
            "temperature": self.temperature,
            **self.columns.to_json(),
        }
        write_json(folder / DESCRIPTION, description)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: If a file is absent or damaged.
        """
        from flowgmm.methods.flow_gmm import FlowGMMClassifier

        if not (folder / DESCRIPTION).is_file():
            raise UserError(
                f"{folder} is no folder with a model ({DESCRIPTION} is not there); "
                "flowgmm fit makes one"
            )
        description = read_json(folder / DESCRIPTION)
        try:
            columns = Columns.from_json(description)
            label, classes = description["label"], description["classes"]
            temperature = float(description["temperature"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder / DESCRIPTION} is damaged ({error!r}); run flowgmm fit again"
            ) from error
        estimator = FlowGMMClassifier.load(folder / MODEL)
        return cls(estimator, columns, label, classes, temperature)

    def log_proba(self, X: np.ndarray) -> np.ndarray:
        """Log probabilities of the classes in nats, shape (N, K), of features, shape (N, D)."""
        return tempered(self.estimator.predict_log_proba(X), self.temperature)

    def predict(self, frame: "pd.DataFrame", progress: Progress | None = None) -> "pd.DataFrame":
        """Row number (from 1), predicted class and probability of each class, for every row.

        Raises:
            UserError: If the table lacks a column.
        """
        log_proba = self.log_proba(self.columns.transform(frame, _named(progress, EMBEDDING)))
        return _predictions(log_proba, self.classes)

    def sample(
        self, n: int, wanted: str | None = None, temperature: float = 1.0, seed: int = 0
    ) -> "pd.DataFrame":
        """Draw rows of the table, with the label.

        Approximate: a category is the likeliest level of a drawn point, and training's input noise
        widens the numbers.

        Arguments:
            n: How many.
            wanted: Their class; None: each is drawn.
            temperature: Factor on the standard deviation of the latent noise.
            seed: Of the draw.

        Raises:
            UserError: If the class is unknown or a number is out of range.
        """
        if wanted is not None and wanted not in self.classes:
            raise UserError(f"class {wanted!r} is none of the model's {', '.join(self.classes)}")
        if n < 1 or temperature < 0 or seed < 0:
            raise UserError(
                f"n is 1 or more, temperature and seed are 0 or more; got {n}, {temperature:g} and "
                f"{seed}"
            )
        X, codes = self.estimator.sample(
            n,
            None if wanted is None else self.classes.index(wanted),
            temperature,
            derive("own data/sample", seed, "augmentation"),
        )
        frame = self.columns.inverse(X)
        frame[self.label] = [self.classes[k] for k in codes]
        return frame


def fit_table(
    path: Path,
    label: str,
    output: Path,
    *,
    text: Sequence[str] = (),
    drop: Sequence[str] = (),
    test: Path | None = None,
    encoder: str = "minilm",
    sep: str = ",",
    encoding: str = "utf-8",
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit FlowGMM to a table, check it on held-out labels, and write a folder of results.

    Arguments:
        path: CSV, Parquet or npz; see `flowgmm.apps.fit.columns.read_table`.
        label: Column with the classes; an empty cell is an unlabelled row.
        output: The folder: predictions.csv, report.html, report.json, model.json,
            model.safetensors. It appears whole or not at all.
        text: Columns of free text, for the text encoder.
        drop: Columns to leave out.
        test: A second table with labels, to score on.
        encoder: Text encoder; see `flowgmm.embed.text.embed_texts`.
        sep: Separator of a CSV.
        encoding: Of a CSV.
        seed: Of folds and training.
        force: Whether a folder of results may be replaced.
        progress: Called with units done, all units, what is being done.

    Returns:
        What report.json holds.

    Raises:
        UserError: If a file, column, label or the output folder is not as it should be, or training
            diverged.
    """
    from flowgmm.apps.fit.report import draw, write_page

    started = time.monotonic()
    embedding = _named(progress, EMBEDDING)
    with _results_folder(output, force) as folder:
        frame = read_table(path, sep=sep, encoding=encoding)
        codes, classes = read_labels(frame, label, path)
        for name in (*drop, *text):
            if name == label or name not in frame.columns:
                what = "is the label" if name == label else "is not there"
                raise UserError(f"{path}: column {name!r} {what}; correct --drop or --text")
        features = frame.drop(columns=[label, *drop])
        columns, X, notes = Columns.fit(features, text, encoder, embedding)
        if test is not None:
            table = read_table(test, sep=sep, encoding=encoding)
            y_test, _ = read_labels(table, label, test, classes)
            known = y_test >= 0
            y_test, X_test = y_test[known], columns.transform(table[known], embedding)
        checked = cross_validate(
            X,
            codes,
            seed,
            lambda folds, ys, name: _train(
                [_estimator(X, seed, int(fold)) for fold in folds], X, ys, _named(progress, name)
            ),
        )
        y, raw = codes[checked.rows], checked.log_proba[FLOWGMM]
        calibrated = checked.calibrated(y)
        final = _train([_estimator(X, seed)], X, codes[None], _named(progress, "training"))[0]
        model = TableModel(final, columns, label, classes, max(1.0, best_temperature(y, raw)))
        log_proba = model.log_proba(X)
        held_out = {
            "folds": int(checked.fold.max()) + 1,
            "rows": len(y),
            "temperature": model.temperature,
            "ece_uncalibrated": ece(y, raw),
            "reliability": reliability(y, calibrated.argmax(axis=1), calibrated),
            "methods": compare(y, {**checked.log_proba, FLOWGMM: calibrated}),
        }
        tested = test and {
            "file": str(test),
            "rows": len(y_test),
            "methods": compare(
                y_test, {FLOWGMM: model.log_proba(X_test), **rivals(X, codes, X_test)}
            ),
        }
        report = {
            "file": str(path),
            "label": label,
            "rows": len(frame),
            "labelled": int((codes >= 0).sum()),
            "columns": {column.name: column.kind for column in columns.columns},
            "features": X.shape[1],
            "notes": notes,
            "classes": _per_class(codes, y, calibrated, log_proba, classes),
            "held_out": held_out,
            "test": tested,
            "sure": _sureness(log_proba[codes < 0] if (codes < 0).any() else log_proba),
            "settings": final.get_params(),
            "seed": seed,
            "seconds": round(time.monotonic() - started, 1),
        }
        predictions = _predictions(log_proba, classes)
        predictions.insert(1, "given", [classes[k] if k >= 0 else "" for k in codes])
        predictions.to_csv(folder / PREDICTIONS, index=False)
        model.save(folder)
        write_json(folder / REPORT, report)
        write_page(folder / PAGE, report, draw(model, X, codes, report))
    return report


def _estimator(X: np.ndarray, seed: int, number: int = -1) -> "FlowGMMClassifier":
    """Unfitted; `number` is the fold, -1 the model that is kept."""
    from flowgmm.methods.flow_gmm import FlowGMMClassifier

    settings = SETTINGS | (WIDE if X.shape[1] > MOST_FEATURES else {})
    return FlowGMMClassifier(
        **settings, random_state=derive(f"own data/{number}", seed, "initialisation")
    )


def _train(
    estimators: list["FlowGMMClassifier"],
    X: np.ndarray,
    ys: np.ndarray,
    progress: Progress | None,
) -> list["FlowGMMClassifier"]:
    """Fit one stack.

    Raises:
        UserError: If one diverged.
    """
    type(estimators[0]).fit_stack(estimators, X, ys, progress=progress)
    if failure := next((e.failure_ for e in estimators if e.failure_ is not None), None):
        raise UserError(f"FlowGMM {failure}; leave out columns with extreme values by --drop")
    return estimators


def _per_class(
    codes: np.ndarray,
    y: np.ndarray,
    held_out: np.ndarray,
    log_proba: np.ndarray,
    classes: Sequence[str],
) -> list[dict[str, Any]]:
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


def _sureness(log_proba: np.ndarray) -> dict[str, Any]:
    confidence = np.exp(log_proba.max(axis=1))
    return {
        "rows": len(confidence),
        "mean_probability": float(confidence.mean()),
        "at_least_90": int((confidence >= 0.9).sum()),
        "below_60": int((confidence < 0.6).sum()),
    }


def _predictions(log_proba: np.ndarray, classes: Sequence[str]) -> "pd.DataFrame":
    import pandas as pd

    proba = np.exp(log_proba).round(6)
    frame = pd.DataFrame({"row": np.arange(1, len(proba) + 1)})
    frame["predicted"] = np.array(classes, dtype=object)[log_proba.argmax(axis=1)]
    for k, name in enumerate(classes):
        frame[f"p_{name}"] = proba[:, k]
    return frame


def _named(progress: Progress | None, name: str) -> Progress | None:
    """Progress of a training or an encoder, with the work's name as text."""
    return progress and (lambda done, total, _: progress(done, total, name))


@contextlib.contextmanager
def _results_folder(path: Path, force: bool) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the name only if the block succeeds.

    Raises:
        UserError: If `path` is there and may not be replaced, or cannot be written.
    """
    if path.exists() or path.is_symlink():
        if not force:
            raise UserError(f"{path} is there already; choose another --output, or give --force")
        held = [child.name for child in path.iterdir()] if path.is_dir() else [path.name]
        if others := sorted(set(held) - set(FILES)):
            raise UserError(
                f"{path} holds {others[0]!r}, which --force leaves alone; choose another --output"
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
            if old.exists():  # what was there before is not lost
                old.rename(path)
            raise
    finally:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)
