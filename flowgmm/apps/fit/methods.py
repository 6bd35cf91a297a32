"""Methods that `flowgmm fit` compares: those that a model can be, and baselines."""

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.apps.fit.table_model import make_estimator
from flowgmm.utils.seeds import derive

__all__ = [
    "AUTO",
    "COMBINED",
    "FLOWGMM",
    "FOREST",
    "KEYS",
    "LOGISTIC",
    "TABPFN",
    "Method",
    "make_methods",
]

AUTO = "auto"
COMBINED, FLOWGMM, FOREST = "FlowGMM and forest", "FlowGMM", "random forest"
LOGISTIC, TABPFN = "logistic regression", "TabPFN"
# Methods that can be saved as arrays, by the value of --method.
KEYS = {"combined": COMBINED, "flowgmm": FLOWGMM, "forest": FOREST, "logistic": LOGISTIC}
N_TREES = 500
# Self-training fits to all rows up to ten times a fold; unlabelled rows beyond these are left out.
MAX_SELF_TRAINED = 5000
# TabPFN is made for at most so many classes, and on a CPU for so many labelled rows.
TABPFN_CLASSES, TABPFN_ROWS = 10, 1000


@dataclass(frozen=True)
class Method:
    """A classifier to compare.

    Attributes:
        estimator: Unfitted.
        semi_supervised: Whether it learns from rows that are marked -1.
        limit: Most unlabelled rows that it gets; None: all.
    """

    estimator: Any
    semi_supervised: bool = False
    limit: int | None = None


def make_methods(
    X: np.ndarray, codes: np.ndarray, seed: int
) -> tuple[dict[str, Method], list[str]]:
    """Make the methods, by name, in the order of the report.

    Baselines are scikit-learn's with default settings, but for boosting on few labels; the
    combination of FlowGMM and the forest is made of their predictions.

    Arguments:
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        seed: From which random states derive.

    Returns:
        The methods, and notes on those that are left out.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    from flowgmm.methods.classic import self_training
    from flowgmm.methods.forest import ForestClassifier

    state = derive("own data/baselines", seed, "initialisation")
    n_labelled = int((codes >= 0).sum())
    # Half the labels at least are left in each fold.
    n_neighbours = max(1, min(5, n_labelled // 2))
    # Its default of 20 would leave a few labels with hardly a split (docs/recipes.md).
    n_leaf = max(1, min(20, n_labelled // 4))
    methods = {
        FLOWGMM: Method(make_estimator(X, seed), semi_supervised=True),
        FOREST: Method(ForestClassifier(N_TREES, random_state=state)),
        "gradient boosting": Method(
            HistGradientBoostingClassifier(min_samples_leaf=n_leaf, random_state=state)
        ),
        "self-training": Method(self_training(), semi_supervised=True, limit=MAX_SELF_TRAINED),
        LOGISTIC: Method(LogisticRegression(max_iter=1000)),
        "k nearest neighbours": Method(KNeighborsClassifier(n_neighbours)),
        "most frequent class": Method(DummyClassifier(strategy="prior")),
    }
    if n_labelled == len(codes):
        del methods["self-training"]
    estimator, note = _find_tabpfn(n_labelled, int(codes.max()) + 1, state)
    if estimator is not None:
        methods[TABPFN] = Method(estimator)
    return methods, [note] if note else []


def _find_tabpfn(n_labelled: int, n_classes: int, state: int) -> tuple[Any, str]:
    """Make a TabPFN from installed package and weights; else None and a note, empty if expected."""
    if find_spec("tabpfn") is None:
        return None, ""
    folder = _tabpfn_folder()
    weights = sorted(folder.glob("*classifier*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not weights:
        return None, f"TabPFN left out: its weights are not in {folder}."
    if n_classes > TABPFN_CLASSES or n_labelled > TABPFN_ROWS:
        return None, (
            f"TabPFN left out: it is made for at most {TABPFN_CLASSES} classes and "
            f"{TABPFN_ROWS:,} labelled rows."
        )
    # Nothing is sent or downloaded on behalf of a comparison.
    os.environ.setdefault("TABPFN_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from tabpfn import TabPFNClassifier

    return TabPFNClassifier(model_path=str(weights[-1]), random_state=state), ""


def _tabpfn_folder() -> Path:
    """Folder where TabPFN keeps its weights."""
    if given := os.environ.get("TABPFN_MODEL_CACHE_DIR", "").strip():
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", "")) / "tabpfn"
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches/tabpfn"))
    # Unlike Path.home, expanduser takes a user without a home, who has no weights there.
    cache = os.environ.get("XDG_CACHE_HOME", "").strip() or os.path.expanduser("~/.cache")
    return Path(cache, "tabpfn")
