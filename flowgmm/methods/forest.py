"""Random forest whose fitted trees are plain arrays: saved without pickle, predicted by NumPy."""

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from flowgmm.methods.labels import check_labels, encode_labels
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_tensors, write_tensors

__all__ = ["ForestClassifier"]

# Tree nodes that are visited at once: as many as the processor's cache holds.
CHUNK = 2**15
ARRAYS = ("children_", "feature_", "threshold_", "proba_", "roots_")


class ForestClassifier(ClassifierMixin, BaseEstimator):
    """Random forest of scikit-learn on the labelled points, kept as plain arrays.

    Points marked -1 are unlabelled and ignored, so that it takes the place of a semi-supervised
    classifier. Probabilities equal those of `sklearn.ensemble.RandomForestClassifier`.

    Arguments:
        n_estimators: Number of trees.
        min_samples_leaf: Least number of labelled points in a leaf.
        max_features: Features that a split chooses among; see scikit-learn.
        class_weight: `balanced`, `balanced_subsample`, a weight by class, or None.
        random_state: Seed of bootstrap samples and features.
        n_jobs: Trees grown at once; None: 1.

    Attributes:
        classes_, n_features_in_: As everywhere in scikit-learn.
        children_: Left and right child of each node, itself for a leaf, shape (M, 2), int32.
        feature_: Feature that a node compares; 0 in a leaf, shape (M,), int32.
        threshold_: A point goes left if its feature, in float32, is at most this, shape (M,).
        proba_: Class probabilities of each node, shape (M, K).
        roots_: First node of each tree, shape (T,), int32.
        max_depth_: Depth of the deepest tree.

    Examples:
        >>> from sklearn.datasets import make_moons
        >>> X, y = make_moons(200, noise=0.05, random_state=0)
        >>> y[20:] = -1
        >>> ForestClassifier(n_estimators=50, random_state=0).fit(X, y).predict_proba(X).shape
        (200, 2)
    """

    def __init__(
        self,
        n_estimators: int = 500,
        min_samples_leaf: int | float = 1,
        max_features: Any = "sqrt",
        class_weight: Any = None,
        random_state: Any = None,
        n_jobs: int | None = None,
    ):
        self.n_estimators = n_estimators
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any) -> Self:
        """Grow the trees on the labelled points.

        Arguments:
            X: Points, shape (N, D).
            y: Class of each, -1 where unlabelled, shape (N,). With string classes use dtype object.

        Returns:
            The estimator.

        Raises:
            ValueError: If the input is not finite, has fewer than 2 classes, or a parameter is out
                of range.
        """
        from sklearn.ensemble import RandomForestClassifier

        check_labels(y)
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_min_samples=2)
        self.classes_, codes = encode_labels(np.asarray(y))
        forest = RandomForestClassifier(**self.get_params())
        known = codes >= 0
        # The classes themselves, since `class_weight` may name them.
        forest.fit(X[known], self.classes_[codes[known]])
        self._take([tree.tree_ for tree in forest.estimators_])
        return self

    def _take(self, trees: list[Any]) -> None:
        """Concatenate the arrays of scikit-learn's trees."""
        sizes = [tree.node_count for tree in trees]
        self.roots_ = np.cumsum([0, *sizes[:-1]]).astype(np.int32)
        # A leaf is its own child: rows that have arrived stay while others go on.
        children = []
        for root, tree in zip(self.roots_, trees, strict=True):
            pair = np.stack([tree.children_left, tree.children_right], axis=1)
            own = np.arange(tree.node_count)[:, None]
            children.append(root + np.where(pair < 0, own, pair))
        self.children_ = np.concatenate(children).astype(np.int32)
        feature = np.concatenate([tree.feature for tree in trees])
        self.feature_ = np.maximum(feature, 0).astype(np.int32)
        self.threshold_ = np.concatenate([tree.threshold for tree in trees])
        self.proba_ = np.concatenate([tree.value[:, 0] for tree in trees])
        self.max_depth_ = max(tree.max_depth for tree in trees)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Mean class probabilities of the trees' leaves, float64, shape (N, K)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        total = np.zeros((len(X), len(self.classes_)))
        for start in range(0, len(X), CHUNK):
            rows = X[start : start + CHUNK]
            values = np.ascontiguousarray(rows.T).ravel()
            n_trees = max(1, CHUNK // len(rows))
            for first in range(0, len(self.roots_), n_trees):
                leaves = self._leaves(values, len(rows), self.roots_[first : first + n_trees])
                for k, proba in enumerate(self.proba_.T):
                    total[start : start + len(rows), k] += proba[leaves].sum(axis=0)
        return total / len(self.roots_)

    def _leaves(self, values: np.ndarray, n: int, roots: np.ndarray) -> np.ndarray:
        """Leaf of each row in each of some trees, shape (T, n).

        Arguments:
            values: Features of the rows, feature by feature, shape (D n,).
            n: Number of rows.
            roots: Roots of the trees, shape (T,).
        """
        nodes = np.repeat(roots, n)
        row = np.tile(np.arange(n), len(roots))
        at = np.arange(len(nodes))
        active = nodes
        children = self.children_.ravel()
        for _ in range(self.max_depth_):
            feature = self.feature_[active].astype(np.intp)
            right = values[feature * n + row] > self.threshold_[active]
            below = children[2 * active + right]
            moved = below != active
            if not moved.any():
                break
            nodes[at] = below
            # Rows in a leaf are left out once they are many; copying costs, too.
            if moved.mean() < 0.75:
                at, row, below = at[moved], row[moved], below[moved]
            active = below
        return nodes.reshape(len(roots), n)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Log of `predict_proba`; -inf where no tree gives a class any probability."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each point, shape (N,)."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted forest as a safetensors file with a checksum (no pickle).

        Raises:
            ValueError: If a parameter is not a plain number, string, list or dict.
        """
        check_is_fitted(self)
        params = self.get_params()
        if isinstance(self.class_weight, dict):  # keys in JSON would become strings
            params["class_weight"] = {"items": list(self.class_weight.items())}
        meta = {
            "class": type(self).__name__,
            "params": params,
            "classes": self.classes_.tolist(),
            "classes_dtype": str(self.classes_.dtype),
            "n_features_in": self.n_features_in_,
            "max_depth": self.max_depth_,
        }
        try:
            write_tensors(path, {name: getattr(self, name) for name in ARRAYS}, meta)
        except TypeError as error:
            raise ValueError(
                f"cannot save: {error}; use plain numbers, strings and lists as parameters and an "
                "int as random_state"
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load what `save` wrote.

        Raises:
            UserError: If the file is absent, damaged or of another class.
        """
        if not Path(path).is_file():
            raise UserError(f"model {path} not found; train it, or check the path")
        arrays, meta = read_tensors(path)
        if meta.get("class") != cls.__name__:
            raise UserError(
                f"model {path}: expected a {cls.__name__}, got {meta.get('class', 'no model')}; "
                "check the path"
            )
        params = meta["params"]
        if isinstance(params["class_weight"], dict):
            params["class_weight"] = dict(map(tuple, params["class_weight"]["items"]))
        forest = cls(**params)
        for name in ARRAYS:
            setattr(forest, name, arrays[name])
        forest.classes_ = np.array(meta["classes"], dtype=meta["classes_dtype"])
        forest.n_features_in_ = meta["n_features_in"]
        forest.max_depth_ = meta["max_depth"]
        return forest
