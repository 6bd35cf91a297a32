"""FlowGMM on a table of one's own: fit, held-out check against simple rivals, predict, sample."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flowgmm import metrics
from flowgmm.errors import UserError
from flowgmm.files import atomic_folder, read_json, write_json
from flowgmm.seeds import derive
from flowgmm.tabular import Columns, read_labels, read_table

if TYPE_CHECKING:
    import pandas as pd

    from flowgmm.methods.flow_gmm import FlowGMMClassifier

__all__ = ["FLOWGMM", "TableModel", "fit_table"]

FLOWGMM = "FlowGMM"
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
# More labelled rows than this are not cross-validated: a part of about a fifth, or of so many
# rows, is held out.
N_FOLDS, PLENTY = 10, 5000

MODEL, DESCRIPTION = "model.safetensors", "model.json"
PREDICTIONS, REPORT, PAGE = "predictions.csv", "report.json", "report.html"
FILES = (MODEL, DESCRIPTION, PREDICTIONS, REPORT, PAGE)

# Called with what is being done, units done, all units.
Progress = Callable[[str, int, int], None]


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
        return _tempered(self.estimator.predict_log_proba(X), self.temperature)

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
        path: CSV, Parquet or npz; see `flowgmm.tabular.read_table`.
        label: Column with the classes; an empty cell is an unlabelled row.
        output: The folder: predictions.csv, report.html, report.json, model.json,
            model.safetensors. It appears whole or not at all.
        text: Columns of free text, for the text encoder.
        drop: Columns to leave out.
        test: A second table with labels, to score on.
        encoder: Text encoder; see `flowgmm.embed.embed_texts`.
        sep: Separator of a CSV.
        encoding: Of a CSV.
        seed: Of folds and training.
        force: Whether a folder of results may be replaced.
        progress: Called with what is being done, units done, all units.

    Returns:
        What report.json holds.

    Raises:
        UserError: If a file, column, label or the output folder is not as it should be, or training
            diverged.
    """
    from flowgmm import report as report_

    started = time.monotonic()
    with atomic_folder(output, FILES if force else None) as folder:
        frame = read_table(path, sep=sep, encoding=encoding)
        codes, classes = read_labels(frame, label, path)
        for name in (*drop, *text):
            if name == label or name not in frame.columns:
                what = "is the label" if name == label else "is not there"
                raise UserError(f"{path}: column {name!r} {what}; correct --drop or --text")
        features = frame.drop(columns=[label, *drop])
        embedding = _named(progress, EMBEDDING)
        columns, X, notes = Columns.fit(features, text, encoder, embedding)
        if test is not None:
            table = read_table(test, sep=sep, encoding=encoding)
            y_test, _ = read_labels(table, label, test, classes)
            known = y_test >= 0
            y_test, X_test = y_test[known], columns.transform(table[known], embedding)
        held_out = _cross_validate(X, codes, seed, progress)
        y = codes[held_out.rows]
        temperature = max(1.0, metrics.temperature(y, held_out.log_proba[FLOWGMM]))
        estimator = _train([_estimator(X, seed)], X, codes[None], "training", progress)[0]
        model = TableModel(estimator, columns, label, classes, temperature)
        log_proba = model.log_proba(X)
        tested = None
        if test is not None:
            scored = {FLOWGMM: model.log_proba(X_test), **_rivals(X, codes, X_test, len(classes))}
            tested = {"file": str(test), "rows": len(y_test), **_compare(y_test, scored)}
        calibrated = {**held_out.log_proba, FLOWGMM: held_out.calibrated(y)}
        report = {
            "file": str(path),
            "label": label,
            "rows": len(frame),
            "labelled": int((codes >= 0).sum()),
            "columns": {column.name: column.kind for column in columns.columns},
            "features": X.shape[1],
            "notes": notes,
            "classes": _per_class(codes, y, calibrated[FLOWGMM], log_proba, classes),
            "held_out": {
                "folds": int(held_out.fold.max()) + 1,
                "rows": len(y),
                "temperature": temperature,
                "ece_uncalibrated": _ece(y, held_out.log_proba[FLOWGMM]),
                "reliability": metrics.reliability(
                    y, calibrated[FLOWGMM].argmax(axis=1), calibrated[FLOWGMM]
                ),
                **_compare(y, calibrated),
            },
            "test": tested,
            "sure": _sureness(log_proba[codes < 0] if (codes < 0).any() else log_proba),
            "settings": estimator.get_params(),
            "seed": seed,
            "seconds": round(time.monotonic() - started, 1),
        }
        predictions = _predictions(log_proba, classes)
        given = [classes[k] if k >= 0 else "" for k in codes]
        predictions.insert(1, "given", given)
        model.save(folder)
        predictions.to_csv(folder / PREDICTIONS, index=False)
        write_json(folder / REPORT, report)
        picture = report_.draw(model, X, codes, report)
        report_.write_page(folder / PAGE, report, picture)
    return report


# -- held-out check ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _HeldOut:
    """What models say about labelled rows that they did not learn from.

    Attributes:
        rows: The labelled rows, shape (n,).
        fold: Fold of each, shape (n,).
        log_proba: Of each method, shape (n, K).
    """

    rows: np.ndarray
    fold: np.ndarray
    log_proba: dict[str, np.ndarray]

    def calibrated(self, y: np.ndarray) -> np.ndarray:
        """FlowGMM's, each part with the temperature that suits the others, shape (n, K)."""
        log_proba = self.log_proba[FLOWGMM]
        result = np.empty_like(log_proba)
        # One part alone is halved.
        parts = self.fold if self.fold.any() else np.arange(len(self.fold)) % 2
        for part in np.unique(parts):
            inside = parts == part
            t = metrics.temperature(y[~inside], log_proba[~inside])
            result[inside] = _tempered(log_proba[inside], max(1.0, t))
        return result


def _cross_validate(
    X: np.ndarray, codes: np.ndarray, seed: int, progress: Progress | None
) -> _HeldOut:
    """Every method on the same folds of the labelled rows; what is held out is unlabelled."""
    from sklearn.model_selection import StratifiedKFold

    rows = np.flatnonzero(codes >= 0)
    y = codes[rows]
    plenty = len(rows) > PLENTY
    n_folds = max(5, len(rows) // PLENTY) if plenty else min(N_FOLDS, int(np.bincount(y).max()))
    folds = StratifiedKFold(
        n_folds, shuffle=True, random_state=derive("own data/folds", seed, "split")
    )
    fold = np.empty(len(rows), dtype=np.int64)
    with warnings.catch_warnings():
        # A class smaller than the number of folds is spread over as many as it has rows.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held) in enumerate(folds.split(rows, y)):
            fold[held] = number
    if plenty:
        rows, fold, n_folds = rows[fold == 0], fold[fold == 0], 1
    ys = np.repeat(codes[None], n_folds, axis=0)
    ys[fold, rows] = -1
    log_proba: dict[str, np.ndarray] = {}
    # A stack needs equal numbers of labelled points; folds differ by one at most.
    n_labelled = (ys >= 0).sum(axis=1)
    for n in np.unique(n_labelled):
        members = np.flatnonzero(n_labelled == n)
        name = f"held-out check, {len(members)} of {n_folds} folds at once"
        fresh = [_estimator(X, seed, int(k)) for k in members]
        for k, estimator in zip(
            members, _train(fresh, X, ys[members], name, progress), strict=True
        ):
            inside = fold == k
            said = {
                FLOWGMM: estimator.predict_log_proba(X[rows[inside]]),
                **_rivals(X, ys[k], X[rows[inside]], int(y.max()) + 1),
            }
            for method, values in said.items():
                whole = log_proba.setdefault(method, np.empty((len(rows), values.shape[1])))
                whole[inside] = values
    return _HeldOut(rows, fold, log_proba)


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
    name: str,
    progress: Progress | None,
) -> list["FlowGMMClassifier"]:
    """Fit one stack.

    Raises:
        UserError: If one diverged.
    """
    type(estimators[0]).fit_stack(estimators, X, ys, progress=_named(progress, name))
    if failure := next((e.failure_ for e in estimators if e.failure_ is not None), None):
        raise UserError(f"FlowGMM {failure}; leave out columns with extreme values by --drop")
    return estimators


def _rivals(
    X: np.ndarray, codes: np.ndarray, X_new: np.ndarray, n_classes: int
) -> dict[str, np.ndarray]:
    """Log probabilities, shape (N, K), of scikit-learn's classifiers as they come.

    They learn from the labelled rows; the scale of the features is that of all rows.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    known = codes >= 0
    rivals = {
        "logistic regression": LogisticRegression(max_iter=1000),
        "k nearest neighbours": KNeighborsClassifier(min(5, int(known.sum()))),
        "most frequent class": DummyClassifier(strategy="prior"),
    }
    result = {}
    for name, rival in rivals.items():
        proba = rival.fit(X[known], codes[known]).predict_proba(X_new)
        result[name] = np.log(np.clip(proba, 1e-12, None))
    return result


def _compare(y: np.ndarray, log_proba: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Accuracy of each method with its interval, and FlowGMM against the others, row by row."""
    right = {name: rows.argmax(axis=1) == y for name, rows in log_proba.items()}
    methods = []
    for name, hits in right.items():
        low, high = metrics.accuracy_interval(int(hits.sum()), len(y))
        entry: dict[str, Any] = {
            "method": name,
            "right": int(hits.sum()),
            "accuracy": float(hits.mean()),
            "low": low,
            "high": high,
            "class_nll": metrics.class_nll(y, log_proba[name]),
            "ece": _ece(y, log_proba[name]),
        }
        if name != FLOWGMM:
            ours = right[FLOWGMM]
            p = metrics.paired_p_value(ours, hits)
            better = "better" if ours.sum() > hits.sum() else "worse"
            entry |= {
                "only_flowgmm_right": int((ours & ~hits).sum()),
                "only_this_right": int((hits & ~ours).sum()),
                "p_value": p,
                "flowgmm_is": better if p < 0.05 else "no difference shown",
            }
        methods.append(entry)
    return {"methods": methods}


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


def _ece(y: np.ndarray, log_proba: np.ndarray) -> float:
    return metrics.expected_calibration_error(y, log_proba.argmax(axis=1), log_proba)


def _tempered(log_proba: np.ndarray, temperature: float) -> np.ndarray:
    from scipy.special import log_softmax

    return log_softmax(log_proba / temperature, axis=1)


def _predictions(log_proba: np.ndarray, classes: Sequence[str]) -> "pd.DataFrame":
    import pandas as pd

    proba = np.exp(log_proba).round(6)
    frame = pd.DataFrame({"row": np.arange(1, len(proba) + 1)})
    frame["predicted"] = np.array(classes, dtype=object)[log_proba.argmax(axis=1)]
    for k, name in enumerate(classes):
        frame[f"p_{name}"] = proba[:, k]
    return frame


def _named(progress: Progress | None, name: str) -> Callable[[int, int, str], None] | None:
    """What a training or an encoder calls, with the work's name put in."""
    return progress and (lambda done, total, _: progress(name, done, total))
