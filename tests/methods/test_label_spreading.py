"""Label spreading: against the formulas written out, against scikit-learn, and its conventions."""

import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.semi_supervised import LabelSpreading
from sklearn.utils.estimator_checks import check_classifiers_classes, parametrize_with_checks

from flowgmm.methods import label_spreading
from flowgmm.methods.label_spreading import KNNLabelSpreading, RBFLabelSpreading

# The checks fit as few as 10 points, so that 16 neighbours are too many for them.
ESTIMATORS = [RBFLabelSpreading(), KNNLabelSpreading(n_neighbors=5)]
EXCUSED = {
    "check_classifiers_classes": "its last case takes -1 for a class, which marks unlabelled points"
    " here; scikit-learn exempts its own semi-supervised estimators, by name",
    "check_estimators_dtypes": "its integer data hold a row of zeros, which has no direction",
}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda _: EXCUSED)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_classes_check_with_scikit_learns_own_exemption(estimator):
    check_classifiers_classes("LabelSpreading", estimator)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_any_numeric_type(estimator, dtype):
    X = (1 + 3 * np.random.default_rng(0).uniform(size=(20, 5))).astype(dtype)
    y = np.array([1, 2] * 10)
    expected = clone(estimator).fit(X.astype(np.float64), y).predict_proba(X.astype(np.float64))
    np.testing.assert_array_equal(clone(estimator).fit(X, y).predict_proba(X), expected)


@pytest.fixture
def problem():
    """120 points of 3 classes in 5 dimensions; 4 labelled points a class; 30 new points."""
    X, y = make_blobs(150, n_features=5, centers=3, cluster_std=4.0, random_state=3)
    partial = np.full(120, -1)
    for k in range(3):
        rows = np.flatnonzero(y[:120] == k)[:4]
        partial[rows] = k
    return X[:120], partial, X[120:], y


def dense_scores(X, partial, X_new, gamma, rho):
    """The formulas of Zhou et al. entry by entry: F of the training points, scores of new ones."""

    def kernel(a, b):
        return np.exp(-gamma * (1 - a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)))

    n = len(X)
    W = np.array([[0.0 if i == j else kernel(X[i], X[j]) for j in range(n)] for i in range(n)])
    d = W.sum(1)
    S = np.diag(d**-0.5) @ W @ np.diag(d**-0.5)
    Y = np.array([[float(label == k) for k in range(partial.max() + 1)] for label in partial])
    F = np.linalg.inv((1 + rho) * np.eye(n) - S) @ Y
    new = np.array([[kernel(t, x) for x in X] for t in X_new])
    return F, S, Y, new.sum(1)[:, None] ** -0.5 * (new @ (d[:, None] ** -0.5 * F))


def by_row(scores):
    return scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize(("gamma", "rho"), [(2.0, 1 / 16), (4.0, 0.5), (150.0, 0.9)])
def test_rbf_equals_the_dense_formulas(problem, gamma, rho):
    X, partial, X_new, _ = problem
    F, S, Y, new = dense_scores(X, partial, X_new, gamma, rho)
    model = RBFLabelSpreading(gamma=gamma, rho=rho).fit(X, partial)
    np.testing.assert_allclose(model.scores_, F, rtol=1e-8, atol=1e-14)
    np.testing.assert_array_equal(model.transduction_, F.argmax(1))
    np.testing.assert_allclose(model.predict_proba(X_new), by_row(new), rtol=1e-8, atol=1e-12)
    np.testing.assert_array_equal(model.predict(X_new), new.argmax(1))
    # Zhou's form, with alpha = 1 / (1 + rho), differs by the factor 1 + rho alone.
    zhou = np.linalg.inv(np.eye(len(S)) - S / (1 + rho)) @ Y
    np.testing.assert_allclose(model.scores_ * (1 + rho), zhou, rtol=1e-8, atol=1e-14)


def test_rbf_transduction_equals_scikit_learn(problem):
    """exp(-gamma (1 - cos)) is scikit-learn's kernel with gamma / 2 on unit vectors."""
    X, partial, _, _ = problem
    model = RBFLabelSpreading(gamma=6.0, rho=0.25).fit(X, partial)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    other = LabelSpreading(gamma=3.0, alpha=1 / 1.25, max_iter=10_000, tol=1e-13).fit(unit, partial)
    np.testing.assert_allclose(model.label_distributions_, other.label_distributions_, atol=1e-10)
    np.testing.assert_array_equal(model.transduction_, other.transduction_)


def test_conjugate_gradients_and_blocks_change_nothing(problem, monkeypatch):
    X, partial, X_new, _ = problem
    direct = RBFLabelSpreading(rho=1 / 16).fit(X, partial)
    expected = direct.predict_proba(X_new)
    monkeypatch.setattr(label_spreading, "LARGEST_CHOLESKY", 10)
    monkeypatch.setattr(label_spreading, "STRIP", 50)  # the last one is smaller
    monkeypatch.setattr(label_spreading, "BLOCK_ENTRIES", 7 * len(X))
    iterative = RBFLabelSpreading(rho=1 / 16).fit(X, partial)
    assert direct.n_iter_ == 1 < iterative.n_iter_ < 200
    np.testing.assert_allclose(iterative.scores_, direct.scores_, rtol=1e-8)
    np.testing.assert_allclose(iterative.predict_proba(X_new), expected, rtol=1e-8)


def test_prediction_never_holds_the_whole_kernel(problem, monkeypatch):
    X, partial, X_new, _ = problem
    model = RBFLabelSpreading().fit(X, partial)
    monkeypatch.setattr(label_spreading, "BLOCK_ENTRIES", 7 * len(X))
    sizes = []
    inductive = model._inductive
    monkeypatch.setattr(
        model, "_inductive", lambda X, graph: sizes.append(len(X)) or inductive(X, graph)
    )
    assert len(model.predict(X_new)) == sum(sizes) == len(X_new)
    assert max(sizes) == 7


def test_small_scores_are_exact():
    """Two far groups at a large gamma: what crosses is tiny but exact, as Neumann's series says.

    The series F = sum_j S^j Y / (1 + rho)^(j + 1) adds positive terms alone.
    """
    angles = np.radians([0, 1, 2, 90, 91, 92])
    X = np.column_stack([np.cos(angles), np.sin(angles)])
    partial = np.array([0, -1, -1, 1, -1, -1])
    _, S, Y, _ = dense_scores(X, partial, X, 300.0, 0.5)
    terms, series = Y / 1.5, np.zeros_like(Y)
    for _ in range(250):
        series += terms
        terms = S @ terms / 1.5
    model = RBFLabelSpreading(gamma=300.0, rho=0.5).fit(X, partial)
    assert np.all((series[:3, 1] > 0) & (series[:3, 1] < 1e-120))
    np.testing.assert_allclose(model.scores_, series, rtol=1e-10)
    assert model.predict(X).tolist() == [0, 0, 0, 1, 1, 1]


def test_a_point_far_from_all_others_gets_the_nearest_class():
    """exp(-gamma (1 - cos)) is 0 in float64 for all its neighbours; their ratios are not."""
    graph, new = (np.radians(angles) for angles in ([0, 1, 40, 41], [200, -119]))
    X, X_new = (np.column_stack([np.cos(a), np.sin(a)]) for a in (graph, new))
    model = RBFLabelSpreading(gamma=500.0).fit(X, np.array([0, -1, 1, -1]))
    assert model.predict(X_new).tolist() == [1, 0]
    assert not model.unreached(X_new).any()


def test_knn_equals_scikit_learn(problem):
    X, partial, X_new, _ = problem
    model = KNNLabelSpreading(n_neighbors=16, alpha=0.3).fit(X, partial)
    unit, unit_new = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in (X, X_new))
    other = LabelSpreading(kernel="knn", n_neighbors=16, alpha=0.3).fit(unit, partial)
    assert model.n_unreached_ == 0
    np.testing.assert_allclose(model.label_distributions_, other.label_distributions_, atol=1e-12)
    np.testing.assert_allclose(model.predict_proba(X_new), other.predict_proba(unit_new))
    assert model.n_iter_ == other.n_iter_


@pytest.mark.parametrize("spread", [1.0, 1e-6])
@pytest.mark.parametrize("k", [1, 5, 60, 200])
def test_nearest_points_are_those_of_float64(k, spread):
    """Also where float32 cannot tell them apart; in blocks, whatever their size."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1, 30)) + spread * rng.normal(size=(200, 30))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    found = label_spreading._Nearest(X, k)(X[:40])
    distances = np.linalg.norm(X[:40, None] - X[None], axis=2)
    kth = np.sort(distances, axis=1)[:, [k - 1]]
    assert all(len(set(row)) == k for row in found)
    assert (np.take_along_axis(distances, found, 1) <= kth + 1e-9).all()


def test_knn_equals_scikit_learn_where_float32_is_too_coarse():
    """Two groups whose directions differ by 1e-5 within: cosines differ by 1e-10."""
    rng = np.random.default_rng(0)
    X = np.repeat(np.eye(2, 20), 60, axis=0) + 1e-5 * rng.normal(size=(120, 20))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    partial = np.full(120, -1)
    partial[[0, 5, 60, 70]] = 0, 0, 1, 1
    model = KNNLabelSpreading(n_neighbors=4, alpha=0.5).fit(X, partial)
    other = LabelSpreading(kernel="knn", n_neighbors=4, alpha=0.5, max_iter=1000).fit(X, partial)
    np.testing.assert_allclose(
        model.label_distributions_.round(9), other.label_distributions_.round(9), atol=1e-9
    )


def test_knn_never_holds_n_by_n_numbers(monkeypatch):
    """Peak of a fit and a prediction at 6,000 points: far below the 144 MB of a float32 square."""
    X = np.random.default_rng(0).normal(size=(6000, 8)).astype(np.float32)
    y = np.where(np.arange(6000) < 20, np.arange(6000) % 2, -1)
    monkeypatch.setattr(label_spreading, "BLOCK_ENTRIES", 2**19)
    tracemalloc.start()
    try:
        KNNLabelSpreading(n_neighbors=8).fit(X, y).predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def test_rbf_holds_half_a_matrix(monkeypatch):
    """Above the limit of Cholesky: 4 n^2 bytes and what grows with n, where it took 8 n^2."""
    n = 3000
    X = np.random.default_rng(0).normal(size=(n, 4))
    y = np.where(np.arange(n) < 20, np.arange(n) % 2, -1)
    monkeypatch.setattr(label_spreading, "LARGEST_CHOLESKY", 1000)
    tracemalloc.start()
    try:
        RBFLabelSpreading(n_unlabelled=n).fit(X, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5.5 * n**2


def test_knn_converges_at_any_alpha(problem):
    X, partial, _, _ = problem
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert KNNLabelSpreading(alpha=0.95).fit(X, partial).n_iter_ > 30


def test_knn_counts_points_that_no_label_reaches():
    """Three groups in three directions, one of them without a label; class "b" has more labels."""
    rng = np.random.default_rng(0)
    X = np.repeat(np.eye(3), 10, axis=0) + 0.01 * rng.normal(size=(30, 3))
    partial = np.full(30, -1, dtype=object)
    partial[0], partial[10], partial[11] = "a", "b", "b"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = KNNLabelSpreading(n_neighbors=9, alpha=0.5).fit(X, partial)
        proba = model.predict_proba(np.eye(3))
        assert model.predict(np.eye(3)).tolist() == ["a", "b", "b"]
        assert model.unreached(np.eye(3)).tolist() == [False, False, True]
    np.testing.assert_array_equal(proba[2], [0.0, 1.0])
    missed = model.label_distributions_[20:]
    assert model.n_unreached_ >= 10
    np.testing.assert_array_equal(missed, np.tile([0.0, 1.0], (10, 1)))
    assert set(model.transduction_[20:]) == {"b"}


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
class TestBoth:
    def test_beats_chance_by_far_on_digits(self, estimator):
        X, y = load_digits(return_X_y=True)
        partial = y[:1000].copy()
        partial[100:] = -1
        model = clone(estimator)
        if isinstance(model, RBFLabelSpreading):
            model.set_params(gamma=50.0)
        assert np.mean(model.fit(X[:1000], partial).predict(X[1000:]) == y[1000:]) > 0.8

    def test_graph_holds_all_labelled_and_a_seeded_choice(self, estimator, problem):
        X, partial, _, _ = problem

        def graph(seed):
            model = clone(estimator).set_params(n_unlabelled=20, random_state=seed)
            model.fit(X, partial)
            assert len(model.transduction_) == len(model.label_distributions_) == 32
            return model.graph_indices_.tolist()

        assert set(np.flatnonzero(partial >= 0)) < set(graph(0))
        assert len(set(graph(0))) == 32
        assert graph(0) == graph(0) != graph(1)

    def test_without_unlabelled_points(self, estimator, problem):
        X, _, X_new, y = problem
        model = clone(estimator).fit(X, y[:120])
        np.testing.assert_array_equal(model.graph_indices_, np.arange(120))
        assert np.mean(model.predict(X_new) == y[120:]) > 0.8

    def test_labels_may_be_strings_or_have_gaps(self, estimator, problem):
        X, partial, X_new, _ = problem
        expected = clone(estimator).fit(X, partial).predict(X_new)
        for names in (np.array([3, 7, 20]), np.array(["x", "y", "z"], dtype=object)):
            y = np.where(partial < 0, -1, names[partial])
            model = clone(estimator).fit(X, y)
            assert model.classes_.tolist() == names.tolist()
            np.testing.assert_array_equal(model.predict(X_new), names[expected])

    def test_length_of_a_row_does_not_matter(self, estimator, problem):
        X, partial, X_new, _ = problem
        lengths = np.logspace(-200, 200, len(X))[:, None]
        model = clone(estimator).fit(X * lengths, partial)
        expected = clone(estimator).fit(X, partial)
        np.testing.assert_allclose(
            model.predict_proba(X_new), expected.predict_proba(X_new), atol=1e-9
        )

    def test_zero_row(self, estimator, problem):
        X, partial, X_new, _ = problem
        model = clone(estimator).fit(X, partial)
        X_new[4] = 0
        with pytest.raises(ValueError, match=r"^row 4 of X is all zeros .*drop such rows"):
            model.predict(X_new)
        X[7] = 0
        with pytest.raises(ValueError, match=r"^row 7 of X is all zeros"):
            clone(estimator).fit(X, partial)

    def test_too_few_classes(self, estimator, problem):
        X, partial, _, _ = problem
        with pytest.raises(ValueError, match="y has 0 classes among its 0 labelled points; label"):
            clone(estimator).fit(X, np.full_like(partial, -1))
        with pytest.raises(ValueError, match="y has 1 class among its 4 labelled points; label"):
            clone(estimator).fit(X, np.where(partial == 1, 1, -1))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (RBFLabelSpreading(gamma=0), "gamma=0 must be above 0"),
        (RBFLabelSpreading(rho=-0.5), "rho=-0.5 must be above 0"),
        (RBFLabelSpreading(n_unlabelled=-1), "n_unlabelled=-1 must be 0 or more"),
        (RBFLabelSpreading(gamma=1e9), "gamma=.* leaves row 0 of X without any neighbour; lower"),
        (KNNLabelSpreading(alpha=1.0), "alpha=1.0 must lie between 0 and 1"),
        (KNNLabelSpreading(n_neighbors=0), "n_neighbors=0 must be 1 or more"),
        (KNNLabelSpreading(n_neighbors=500), "n_neighbors=500, but .* n_samples=120; lower"),
    ],
)
def test_bad_hyper_parameters(estimator, message, problem):
    X, partial, _, _ = problem
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, partial)
