"""Accuracy and class NLL of the bare classifiers on development tables, beside what people use.

Ten real tables, three regimes (10 labels a class; 40 or 200 labels at random, two a class at
least), several draws; a third of the rows is for testing, the others are unlabelled. Numbers of a
set are means over its draws; ranks are of the accuracy of all methods on a set.

    python benchmarks/tables.py --data ../shared/data --json tables.json
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import make_parser, write_results
from scipy.stats import rankdata
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from flowgmm import (
    DropoutMLPClassifier,
    FlowForestClassifier,
    FlowGMMClassifier,
    ForestClassifier,
)
from flowgmm.apps.fit.columns import Columns

REGIMES = ("10c", "40", "200")
# Rows of a set, at most: it bounds the time.
MOST_ROWS = 4000
FLOOR = 1e-6

METHODS: dict[str, Callable[[int], Any]] = {
    "FlowForestClassifier()": lambda s: FlowForestClassifier(random_state=s),
    "FlowGMMClassifier()": lambda s: FlowGMMClassifier(random_state=s),
    "random forest": lambda s: ForestClassifier(500, random_state=s),
    "gradient boosting": lambda s: HistGradientBoostingClassifier(random_state=s),
    "logistic regression": lambda s: LogisticRegression(max_iter=1000),
    "MLP with dropout": lambda s: DropoutMLPClassifier(random_state=s),
}
SEES_UNLABELLED = ("FlowForestClassifier()", "FlowGMMClassifier()")


def load_sets(folder: Path) -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    """Yield name, columns and classes of each development set."""
    for path in sorted((folder / "tables").glob("*.csv.gz")):
        frame = pd.read_csv(path)
        yield path.name.split(".")[0], frame.drop(columns="y"), frame["y"].astype(str).to_numpy()
    magic = pd.read_csv(folder / "uci_magic" / "magic04.data", header=None)
    magic.columns = [f"x{i}" for i in range(10)] + ["y"]
    yield "magic", magic.drop(columns="y"), magic["y"].to_numpy()
    for loader in (load_breast_cancer, load_digits, load_wine):
        X, y = loader(return_X_y=True)
        yield loader.__name__[5:], pd.DataFrame(X).add_prefix("x"), y.astype(str)


def draw(y: np.ndarray, regime: str, rng: np.random.Generator) -> np.ndarray:
    """Choose labelled rows, shape (L,)."""
    rows = rng.permutation(len(y))
    by_class = [rows[y[rows] == k] for k in np.unique(y)]
    if regime == "10c":
        return np.concatenate([members[:10] for members in by_class])
    at_least = np.concatenate([members[:2] for members in by_class])
    others = rows[~np.isin(rows, at_least)]
    return np.concatenate([at_least, others[: max(0, int(regime) - len(at_least))]])


def score(model: Any, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Accuracy and balanced accuracy in percent, class NLL in nats."""
    proba = model.predict_proba(X)
    codes = np.searchsorted(model.classes_, y)
    proba = np.clip(proba, FLOOR, None)
    proba /= proba.sum(axis=1, keepdims=True)
    predicted = model.classes_[proba.argmax(axis=1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        balanced = balanced_accuracy_score(y, predicted)
    nll = -np.log(proba[np.arange(len(y)), codes]).mean()
    return {
        "accuracy": 100 * float((predicted == y).mean()),
        "balanced": 100 * float(balanced),
        "class_nll": float(nll),
    }


def measure(frame: pd.DataFrame, y: np.ndarray, regime: str, seed: int) -> dict[str, Any]:
    """Fit all methods to one draw of a set."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(y))[:MOST_ROWS]
    _, X, _ = Columns.fit(frame.iloc[rows].reset_index(drop=True))
    y = np.unique(y, return_inverse=True)[1][rows]
    n_train = 7 * len(y) // 10
    X_train, y_train, X_test, y_test = X[:n_train], y[:n_train], X[n_train:], y[n_train:]
    labelled = draw(y_train, regime, rng)
    if len(labelled) > n_train // 2:
        return {}
    hidden = np.full(n_train, -1)
    hidden[labelled] = y_train[labelled]
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    found = {}
    for name, make in METHODS.items():
        known = slice(None) if name in SEES_UNLABELLED else labelled
        start = time.perf_counter()
        model = make(seed).fit(X_train[known], hidden[known])
        found[name] = score(model, X_test, y_test) | {"seconds": time.perf_counter() - start}
    return found


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Means over sets, mean ranks, and the worst difference to logistic regression, by regime."""
    summary: dict[str, Any] = {}
    for regime in REGIMES:
        means = {}  # set -> method -> metric
        for name, regimes in results.items():
            draws = [one for one in regimes.get(regime, []) if one]
            if draws:
                means[name] = {
                    method: {
                        metric: float(np.mean([one[method][metric] for one in draws]))
                        for metric in draws[0][method]
                    }
                    for method in METHODS
                }
        if not means:
            continue  # a set too small for so many labels
        accuracy = np.array([[s[m]["accuracy"] for m in METHODS] for s in means.values()])
        ranks = rankdata(-accuracy, axis=1).mean(axis=0)
        linear = accuracy[:, list(METHODS).index("logistic regression")]
        summary[regime] = {
            method: {
                **{
                    metric: round(float(np.mean([s[method][metric] for s in means.values()])), 3)
                    for metric in ("accuracy", "balanced", "class_nll", "seconds")
                },
                "rank": round(float(ranks[i]), 2),
                "worst_to_linear": round(float((accuracy[:, i] - linear).min()), 2),
                "sets": len(means),
            }
            for i, method in enumerate(METHODS)
        }
    return summary


def main() -> None:
    """Measure, print a table for each regime, write a file."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with tables and uci_magic")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {}
    for name, frame, y in load_sets(args.data):
        results[name] = {
            regime: [measure(frame, y, regime, args.first_seed + k) for k in range(args.draws)]
            for regime in REGIMES
        }
        print(name, json.dumps(summarise({name: results[name]})["40"]), flush=True)
        write_results(args.json, {"summary": summarise(results), "sets": results})
    for regime, methods in summarise(results).items():
        print(f"\n{regime}: accuracy, balanced, class NLL, rank, worst to linear, seconds")
        for method, s in sorted(methods.items(), key=lambda item: item[1]["rank"]):
            print(
                f"  {method:24} {s['accuracy']:.1f} {s['balanced']:.1f} {s['class_nll']:.3f} "
                f"{s['rank']:.2f} {s['worst_to_linear']:+.1f} {s['seconds']:.1f}"
            )


if __name__ == "__main__":
    main()
