"""Label spreading over a graph of unit vectors (Zhou et al. 2004), with inductive prediction."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.semi_supervised import LabelSpreading
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from flowgmm.methods.labels import check_labels, encode_labels

__all__ = ["KNNLabelSpreading", "RBFLabelSpreading"]

# Cholesky is exact even for tiny scores but O(n^3): 18 s for a fit of 10,000 points on 2 cores,
# where conjugate gradients, O(n^2), take 5 s. Above this many points the latter take over.
LARGEST_CHOLESKY = 12_000
# Rows of the matrix that are kept together above that: enough for fast products.
STRIP = 512
# Candidates beside the neighbours, among which float64 chooses; points searched for at a time.
SPARE, SEARCHED = 16, 256
# Types that are taken as they are; only the graph and blocks of new points become float64.
TYPES = [np.float64, np.float32]
# Entries of one block of the kernel between new points and the graph: 128 MB in float64.
BLOCK_ENTRIES = 2**24


class _GraphClassifier(ClassifierMixin, BaseEstimator):
    """Base of both graph classifiers: choice of points, unit norm, points no label reaches."""

    n_unlabelled: int
    random_state: Any

    def fit(self, X: Any, y: Any) -> Self:
        """Spread the labels over a graph of all labelled and `n_unlabelled` unlabelled points.

        Arguments:
            X: Points, shape (N, D); no row may be zero.
            y: Labels, shape (N,); -1 where unlabelled.

        Raises:
            ValueError: If a hyper-parameter is out of range, a row is zero or fewer than 2 classes
                have a labelled point.
        """
        self._check_parameters()
        if self.n_unlabelled < 0:
            raise ValueError(f"n_unlabelled={self.n_unlabelled} must be 0 or more")
        check_labels(y)
        X, y = validate_data(self, X, y, dtype=TYPES)
        self.classes_, codes = encode_labels(y)
        self.graph_indices_ = self._draw_graph(codes)
        # As given: in float32 half of what its unit vectors take.
        self.X_ = X[self.graph_indices_]
        codes = codes[self.graph_indices_]
        self._majority = int(np.bincount(codes[codes >= 0]).argmax())
        scores = self._spread(self._graph(), codes)
        self.n_unreached_ = int((scores.sum(1) == 0).sum())
        self.label_distributions_ = self._distributions(scores)
        self.transduction_ = self.classes_[self.label_distributions_.argmax(1)]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Share of each class in what reaches a point, shape (N, K).

        A point that no label reaches gets probability 1 for the most frequent labelled class.
        """
        return self._distributions(self._scores(X))

    def predict(self, X: Any) -> np.ndarray:
        """Class with the largest share, shape (N,); training points are treated as new ones."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def unreached(self, X: Any) -> np.ndarray:
        """Mask of points that no label reaches: their predictions mean nothing, shape (N,)."""
        return self._scores(X).sum(1) == 0

    def _draw_graph(self, codes: np.ndarray) -> np.ndarray:
        """Rows of the graph, ascending: all labelled points, a random part of the others."""
        unlabelled = np.flatnonzero(codes < 0)
        if len(unlabelled) > self.n_unlabelled:
            rng = check_random_state(self.random_state)
            unlabelled = rng.choice(unlabelled, self.n_unlabelled, replace=False)
        return np.sort(np.concatenate([np.flatnonzero(codes >= 0), unlabelled]))

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=TYPES, reset=False)
        numbers, graph = np.arange(len(X)), self._graph()
        return np.concatenate(
            [
                self._inductive(_unit_rows(X[rows], numbers[rows]), graph)
                for rows in _blocks(len(X), max(graph.shape))
            ]
        )

    def _graph(self) -> Any:
        """Unit vectors of the graph's points, shape (n, D), or what finds the nearest of them."""
        return _unit_rows(self.X_, self.graph_indices_)

    def _distributions(self, scores: np.ndarray) -> np.ndarray:
        total = scores.sum(1, keepdims=True)
        majority = np.eye(len(self.classes_))[self._majority]
        return np.divide(scores, total, out=np.tile(majority, (len(scores), 1)), where=total > 0)

    @abstractmethod
    def _check_parameters(self) -> None:
        """Raise ValueError if a hyper-parameter is out of range."""

    @abstractmethod
    def _spread(self, graph: Any, codes: np.ndarray) -> np.ndarray:
        """Scores (n, K) >= 0 of the graph's points from their codes (n,); 0: unreached."""

    @abstractmethod
    def _inductive(self, X: np.ndarray, graph: Any) -> np.ndarray:
        """Scores (B, K) >= 0 of new unit vectors (B, D); rows up to a positive factor."""


class RBFLabelSpreading(_GraphClassifier):
    """Label spreading over a full graph with a Gaussian kernel of the angle.

    With W_ij = exp(-gamma (1 - cos(x_i, x_j))), W_ii = 0, degrees d and S = D^-1/2 W D^-1/2, the
    scores F solve ((1 + rho) I - S) F = Y, where Y is one-hot for labelled points and 0 for the
    others. That is Zhou's F = (I - alpha S)^-1 Y with alpha = 1/(1 + rho), up to a factor. A new
    point t scores sum_i W_ti d_i^-1/2 F_i; its own degree is a factor that no prediction depends
    on. Everything is float64; the graph takes 8 n^2 bytes, and half of that above 12,000 points.

    Arguments:
        gamma: Inverse width of the kernel, > 0.
        rho: Weight of the given labels, > 0.
        n_unlabelled: Unlabelled points in the graph; a random choice if there are more.
        random_state: Seed of that choice.

    Attributes:
        classes_: Sorted classes, shape (K,).
        graph_indices_: Rows of X in the graph, ascending, shape (n,).
        scores_: F of the graph's points, shape (n, K).
        label_distributions_: F with rows that sum to 1, shape (n, K).
        transduction_: Class of each point of the graph, shape (n,).
        n_unreached_: Points of the graph that no label reaches.
        n_iter_: Iterations of conjugate gradients; 1 where the solution is direct.
        n_features_in_: D.

    Source: Zhou et al. (2004), "Learning with local and global consistency"; Izmailov et al.
    (2020), section 5.1.
    """

    def __init__(
        self,
        gamma: float = 4.0,
        rho: float = 0.5,
        n_unlabelled: int = 10_000,
        random_state: Any = None,
    ) -> None:
        self.gamma = gamma
        self.rho = rho
        self.n_unlabelled = n_unlabelled
        self.random_state = random_state

    def _check_parameters(self) -> None:
        for name in ("gamma", "rho"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")

    def _spread(self, graph: np.ndarray, codes: np.ndarray) -> np.ndarray:
        # The matrix up to its diagonal, in strips of rows; Cholesky needs it whole, as one strip.
        n = len(graph)
        size = n if n <= LARGEST_CHOLESKY else STRIP
        spans = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        # Each becomes cosines, W, S and at last the system, since together they may take 1.6 GB.
        strips = []
        degrees = np.zeros(n)
        for rows in spans:
            strip = graph[rows] @ graph[: rows.stop].T
            strip -= 1
            strip *= self.gamma
            np.exp(strip, out=strip)
            np.fill_diagonal(strip[:, rows], 0)
            degrees[rows] += strip.sum(1)
            degrees[: rows.start] += strip[:, : rows.start].sum(0)
            strips.append(strip)
        if not degrees.all():
            row = self.graph_indices_[degrees == 0][0]
            raise ValueError(
                f"gamma={self.gamma} leaves row {row} of X without any neighbour; lower gamma"
            )
        weights = 1 / np.sqrt(degrees)
        for rows, strip in zip(spans, strips, strict=True):
            strip *= -weights[: rows.stop]
            strip *= weights[rows, None]
            np.fill_diagonal(strip[:, rows], 1 + self.rho)
        targets = (codes[:, None] == range(len(self.classes_))) * 1.0
        self.scores_ = self._solve(spans, strips, targets)
        self._weighted = weights[:, None] * self.scores_
        return self.scores_

    def _solve(
        self, spans: list[slice], strips: list[np.ndarray], targets: np.ndarray
    ) -> np.ndarray:
        """Solve matrix F = targets for all classes at once.

        No entry off the matrix's diagonal is positive, so that F >= 0, and Cholesky's sums hold
        no cancellation: small scores are as exact as large ones.

        Arguments:
            spans: Rows of each strip.
            strips: Columns up to the last of these rows; overwritten.
            targets: Shape (n, K).
        """
        if len(strips) == 1:
            self.n_iter_ = 1
            # The transpose of a symmetric matrix is the column-major form LAPACK can overwrite.
            factor = scipy.linalg.cho_factor(strips[0].T, overwrite_a=True, check_finite=False)
            return scipy.linalg.cho_solve(factor, targets, check_finite=False)
        self.n_iter_ = 0

        def count(_: np.ndarray) -> None:
            self.n_iter_ += 1

        shape = targets.shape[::-1]  # a class after the other: products take two thirds of the time

        def product(flat: np.ndarray) -> np.ndarray:
            given, result = flat.reshape(shape), np.zeros(shape)
            for rows, strip in zip(spans, strips, strict=True):
                result[:, rows] += given[:, : rows.stop] @ strip.T
                result[:, : rows.start] += given[:, rows] @ strip[:, : rows.start]
            return result.ravel()

        # One system of n K unknowns instead of K systems: one pass over the matrix per iteration.
        operator = scipy.sparse.linalg.LinearOperator(
            (targets.size, targets.size), matvec=product, dtype=np.float64
        )
        solution, failed = scipy.sparse.linalg.cg(
            operator, targets.T.ravel(), rtol=1e-12, callback=count
        )
        if failed:
            raise RuntimeError(
                f"conjugate gradients did not converge in {failed} iterations at rho={self.rho}; "
                "raise rho or lower n_unlabelled"
            )
        return np.maximum(solution.reshape(shape).T, 0)

    def _inductive(self, X: np.ndarray, graph: np.ndarray) -> np.ndarray:
        kernel = X @ graph.T
        # Relative to the nearest point, so that a large gamma does not make a whole row 0.
        kernel -= kernel.max(1, keepdims=True)
        kernel *= self.gamma
        np.exp(kernel, out=kernel)
        return kernel @ self._weighted


class KNNLabelSpreading(_GraphClassifier):
    """scikit-learn's label spreading over the graph of nearest neighbours of unit vectors.

    A label may fail to reach a point, since the graph need not be connected; such a point gets the
    most frequent labelled class.

    Arguments:
        n_neighbors: Neighbours of each point in the graph.
        alpha: Share that a point takes from its neighbours, between 0 and 1.
        n_unlabelled: Unlabelled points in the graph; a random choice if there are more.
        random_state: Seed of that choice.

    Attributes:
        classes_: Sorted classes, shape (K,).
        graph_indices_: Rows of X in the graph, ascending, shape (n,).
        label_distributions_: Share of each class in each point of the graph, shape (n, K).
        transduction_: Class of each point of the graph, shape (n,).
        n_unreached_: Points of the graph that no label reaches.
        n_iter_: Iterations until the labels converged.
        n_features_in_: D.

    Source: Izmailov et al. (2020), section 5.1 and appendix; `sklearn.semi_supervised`.
    """

    def __init__(
        self,
        n_neighbors: int = 16,
        alpha: float = 0.3,
        n_unlabelled: int = 10_000,
        random_state: Any = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.alpha = alpha
        self.n_unlabelled = n_unlabelled
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.n_neighbors < 1:
            raise ValueError(f"n_neighbors={self.n_neighbors} must be 1 or more")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha={self.alpha} must lie between 0 and 1")

    def _graph(self) -> Any:
        return _Nearest(super()._graph(), self.n_neighbors)

    def _spread(self, graph: Any, codes: np.ndarray) -> np.ndarray:
        n, k = len(codes), self.n_neighbors
        if k > n:
            raise ValueError(
                f"n_neighbors={k}, but the graph has n_samples={n}; "
                "lower n_neighbors or raise n_unlabelled"
            )
        # Of itself a point is the first neighbour, as in scikit-learn.
        matrix = scipy.sparse.csr_array(
            (np.ones(n * k), graph(graph.points).ravel(), np.arange(0, n * k + 1, k)), shape=(n, n)
        )
        # scikit-learn's default of 30 iterations is too few for an alpha above 0.6.
        spreading = LabelSpreading(kernel=lambda *_: matrix, alpha=self.alpha, max_iter=1000).fit(
            graph.points, codes
        )
        self.n_iter_ = spreading.n_iter_
        self._shares = spreading.label_distributions_
        return self._shares

    def _inductive(self, X: np.ndarray, graph: Any) -> np.ndarray:
        return self._shares[graph(X)].sum(1)


class _Nearest:
    """The nearest of some points: found in float32, in half the time, and settled in float64.

    Arguments:
        points: Unit vectors, shape (n, D) float64.
        k: Neighbours to find, at most n.
    """

    def __init__(self, points: np.ndarray, k: int) -> None:
        self.points, self.k, self.shape = points, k, points.shape
        self._narrow = points.astype(np.float32)
        # Of a product of unit vectors in float32, in whatever order it is summed, and their own.
        self._error = (points.shape[1] + 3) * float(np.finfo(np.float32).eps)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Numbers of the k nearest points of each unit vector, shape (B, k), in any order.

        Where points are equally near, within rounding of float64, any of them.
        """
        result = np.empty((len(X), self.k), np.intp)
        for start in range(0, len(X), SEARCHED):
            rows = slice(start, start + SEARCHED)
            self._search(X[rows], result[rows])
        return result

    def _search(self, X: np.ndarray, result: np.ndarray) -> None:
        n, k = len(self.points), self.k
        cosines = X.astype(np.float32) @ self._narrow.T
        # As many groups have a point at least as near as `least`, so that the neighbours are among
        # the few that are; cheaper than to order all points.
        count = min(n, k + SPARE)
        size = min(64, max(1, n // (2 * count)))
        groups = cosines[:, : n // size * size].reshape(len(X), -1, size).max(2)
        least = np.partition(groups, -count, axis=1)[:, -count]
        for x, near, bound, found in zip(X, cosines >= least[:, None], least, result, strict=True):
            few = np.flatnonzero(near)
            exact = self.points[few] @ x
            best = np.argpartition(exact, -k)[-k:]
            # A point that float32 puts below the bound may be nearer than the last one.
            if exact[best].min() <= bound + self._error and len(few) < n:
                few, exact = np.arange(n), self.points @ x
                best = np.argpartition(exact, -k)[-k:]
            found[:] = few[best]


def _unit_rows(X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """X with rows of length 1, in float64; `rows` are their numbers, for the error."""
    X = np.asarray(X, np.float64)
    largest = np.abs(X).max(1, keepdims=True)
    if not largest.all():
        raise ValueError(
            f"row {rows[np.flatnonzero(largest == 0)[0]]} of X is all zeros and has no direction; "
            "drop such rows or standardise the columns"
        )
    # Scaled first, since the squares of very small or large values leave float64.
    X = X / largest
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def _blocks(n: int, width: int) -> Iterator[slice]:
    """Slices over n rows whose kernels to `width` points stay below `BLOCK_ENTRIES`."""
    size = max(1, BLOCK_ENTRIES // width)
    return (slice(start, start + size) for start in range(0, n, size))
