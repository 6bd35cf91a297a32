"""A fitted method with the columns of its table: predictions, samples, files of the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flowgmm.apps.fit.columns import Columns
from flowgmm.apps.fit.linear import load_logistic, save_logistic
from flowgmm.tabular.notes import Note
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, write_json
from flowgmm.utils.progress import Progress
from flowgmm.utils.seeds import derive

if TYPE_CHECKING:
    import pandas as pd

    from flowgmm.methods.flow_gmm import FlowGMMClassifier

__all__ = [
    "DESCRIPTION",
    "GENERATIVE",
    "MODEL",
    "TableModel",
    "make_estimator",
    "predictions",
    "train",
]

MODEL, DESCRIPTION = "model.safetensors", "model.json"
# Methods with a density, that samples can be drawn from.
GENERATIVE = ("combined", "flowgmm")
# Least class probability of a prediction; a forest gives 0.
FLOOR = 1e-12


@dataclass(frozen=True)
class TableModel:
    """A fitted method with the conversion of its table's columns.

    Attributes:
        method: `combined`, `flowgmm`, `forest` or `logistic`.
        estimator: Its estimator, fitted to codes 0..K-1.
        columns: Conversion of the columns to features.
        label: Column with the classes.
        classes: Their K names.
    """

    method: str
    estimator: Any
    columns: Columns
    label: str
    classes: list[str]

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `model.json`; nothing is pickled."""
        if self.method == "logistic":
            save_logistic(folder / MODEL, self.estimator)
        else:
            self.estimator.save(folder / MODEL)
        description = {
            "method": self.method,
            "label": self.label,
            "classes": self.classes,
            **self.columns.to_json(),
        }
        write_json(folder / DESCRIPTION, description)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a model from the folder that `save` wrote.

        Raises:
            UserError: If a file is missing or damaged.
        """
        if not (folder / DESCRIPTION).is_file():
            raise UserError(
                f"{folder / DESCRIPTION} not found; expected a folder that flowgmm fit has written"
            )
        description = read_json(folder / DESCRIPTION)
        try:
            columns = Columns.from_json(description)
            label, classes = description["label"], description["classes"]
            method = description["method"]
            load = _loaders()[method]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder / DESCRIPTION} is damaged ({error!r}); run flowgmm fit again"
            ) from error
        return cls(method, load(folder / MODEL), columns, label, classes)

    def log_proba(self, X: np.ndarray) -> np.ndarray:
        """Calibrated log probabilities in nats, shape (N, K), of features, shape (N, D)."""
        return np.maximum(self.estimator.predict_log_proba(X), np.log(FLOOR))

    def predict(
        self, frame: "pd.DataFrame", progress: Progress | None = None
    ) -> tuple["pd.DataFrame", list[Note]]:
        """Predict the class of every row, with the probability of each class.

        Returns:
            See `predictions`, and notes on cells that are not as in the table that was fitted.

        Raises:
            UserError: If a column is missing, or most of its cells are unreadable.
        """
        X, notes = self.columns.transform(frame, progress)
        return predictions(self.log_proba(X), self.classes), notes

    def sample(
        self, n: int, wanted: str | None = None, temperature: float = 1.0, seed: int = 0
    ) -> "pd.DataFrame":
        """Draw rows of the table, with the label.

        Approximate: a category is the most likely level of a drawn point, and the input noise of
        the training widens the distribution of numbers.

        Arguments:
            n: Number of rows.
            wanted: Their class; None: drawn by the class weights.
            temperature: Factor on the standard deviation of the latent noise.
            seed: Seed of the draw.

        Raises:
            UserError: If the method has no density, the class is unknown or a number is out of
                range.
        """
        if self.method not in GENERATIVE:
            raise UserError(
                f"the model is of the method {self.method}, which has no density to draw from; "
                f"run flowgmm fit with --method {' or '.join(GENERATIVE)}"
            )
        if wanted is not None and wanted not in self.classes:
            raise UserError(f"unknown class {wanted!r}; expected one of {', '.join(self.classes)}")
        if n < 1 or temperature < 0 or seed < 0:
            raise UserError(
                f"expected n of 1 or more, temperature and seed of 0 or more, got {n}, "
                f"{temperature:g} and {seed}"
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


def _loaders() -> dict[str, Callable[[Path], Any]]:
    """Readers of the files of each method."""
    from flowgmm.methods.flow_forest import FlowForestClassifier
    from flowgmm.methods.flow_gmm import FlowGMMClassifier
    from flowgmm.methods.forest import ForestClassifier

    return {
        "combined": FlowForestClassifier.load,
        "flowgmm": FlowGMMClassifier.load,
        "forest": ForestClassifier.load,
        "logistic": load_logistic,
    }


def make_estimator(X: np.ndarray, seed: int) -> "FlowGMMClassifier":
    """Make an unfitted estimator with the settings for tables.

    Arguments:
        X: Features, shape (N, D).
        seed: From which its random state derives.
    """
    from flowgmm import presets
    from flowgmm.methods.preset_parts import MAX_MODELLED

    state = derive("own data/-1", seed, "initialisation")
    if X.shape[1] > MAX_MODELLED:
        return presets.wide_tables(random_state=state)
    return presets.tables(random_state=state)


def train(
    estimator: "FlowGMMClassifier", X: np.ndarray, codes: np.ndarray, progress: Progress | None
) -> "FlowGMMClassifier":
    """Fit the final model.

    Arguments:
        estimator: Unfitted.
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        progress: Called with steps done, all steps, and the losses.

    Returns:
        The estimator, fitted.

    Raises:
        UserError: If it diverged.
    """
    from flowgmm.methods.stack import fit_stack

    fit_stack([estimator], X, codes[None], progress=progress)
    if estimator.failure_ is not None:
        raise UserError(
            f"FlowGMM {estimator.failure_}; leave out columns with extreme values by --drop"
        )
    return estimator


def predictions(log_proba: np.ndarray, classes: Sequence[str]) -> "pd.DataFrame":
    """Table of row number (from 1), predicted class and probability of each class.

    Arguments:
        log_proba: In nats, shape (N, K).
        classes: The K names.
    """
    import pandas as pd

    proba = np.exp(log_proba).round(6)
    frame = pd.DataFrame({"row": np.arange(1, len(proba) + 1)})
    frame["predicted"] = np.array(classes, dtype=object)[log_proba.argmax(axis=1)]
    for k, name in enumerate(classes):
        frame[f"p_{name}"] = proba[:, k]
    return frame
