"""Cross-fitting: every label held out once, hidden from its model, classes in their columns."""

import numpy as np
import pytest
from estimators import flow_gmm
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from flowgmm.methods import cross_fit as module
from flowgmm.methods.cross_fit import (
    LOG_FLOOR,
    cross_fit,
    hidden_labels,
    make_folds,
    seen_when_held_out,
)
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.stack import fit_stack
from flowgmm.utils.errors import DivergedError


def small_flow():
    """A FlowGMM that trains in no time."""
    return flow_gmm(n_couplings=2, hidden_size=8, n_steps=5, random_state=0)


def problem(counts, n_unlabelled=17):
    """Random points; codes with so many labels of each class."""
    codes = np.r_[np.repeat(np.arange(len(counts)), counts), np.full(n_unlabelled, -1)]
    rng = np.random.default_rng(0)
    rng.shuffle(codes)
    return rng.normal(size=(len(codes), 2)).astype(np.float32) + codes[:, None], codes


def test_folds_hold_every_label_once_with_alike_shares():
    _, codes = problem([11, 22])
    fold = make_folds(codes, 5, 0)
    assert ((fold >= 0) == (codes >= 0)).all()
    for k in range(5):
        assert np.bincount(codes[fold == k]).tolist() in ([2, 4], [2, 5], [3, 4], [2, 4], [3, 5])
    assert not np.array_equal(fold, make_folds(codes, 5, 1))
    ys = hidden_labels(codes, fold)
    assert ((ys == -1) == ((codes == -1) | (fold == np.arange(5)[:, None]))).all()


def test_folds_are_no_more_than_labels_of_the_largest_class():
    assert make_folds(problem([3, 2])[1], 10, 0).max() == 2
    # A single label: fewer folds, and a mark on the point whose class the others do not have.
    _, codes = problem([20, 1])
    fold = make_folds(codes, 10, 0)
    assert fold.max() == module.FOLDS_OF_SINGLES - 1
    assert np.array_equal(seen_when_held_out(codes, fold), codes[fold >= 0] == 0)
    assert (make_folds(problem([1, 1])[1], 10, 0) == -1).all()


def test_plenty_of_labels_are_held_out_in_part(monkeypatch):
    monkeypatch.setattr(module, "MAX_CROSS_VALIDATED", 50)
    X, codes = problem([40, 40])
    fold = make_folds(codes, 10, 0)
    assert fold.max() == 0 and np.bincount(codes[fold == 0]).tolist() == [8, 8]
    assert cross_fit(LogisticRegression(), X, codes, fold).shape == (16, 2)


def test_a_neural_estimator_is_trained_without_the_labels_it_is_scored_on():
    X, codes = problem([11, 12])
    fold = make_folds(codes, 3, 0)
    found = cross_fit(small_flow(), X, codes, fold, random_states=[4, 5, 6])
    for k, (state, y) in enumerate(zip([4, 5, 6], hidden_labels(codes, fold), strict=True)):
        expected = small_flow().set_params(random_state=state).fit(X, y).predict_log_proba(X)
        inside = fold[fold >= 0] == k
        np.testing.assert_allclose(found[inside], expected[fold == k], atol=1e-4)


def test_a_plain_estimator_gets_the_labelled_points_or_all():
    X, codes = problem([11, 12])
    fold = make_folds(codes, 3, 0)
    y = hidden_labels(codes, fold)[0]
    seen = []

    class Spy(LogisticRegression):
        def fit(self, X, y):
            seen.append(y)
            return super().fit(X[y >= 0], y[y >= 0])

    found = cross_fit(Spy(), X, codes, fold)
    known = y >= 0
    expected = LogisticRegression().fit(X[known], y[known]).predict_log_proba(X[fold == 0])
    np.testing.assert_allclose(found[fold[fold >= 0] == 0], expected)
    assert np.array_equal(seen[0], y[known])
    cross_fit(Spy(), X, codes, fold, semi_supervised=True)
    assert np.array_equal(seen[3], y)


@pytest.mark.parametrize(
    "estimator", [small_flow(), KNeighborsClassifier(1)], ids=lambda e: type(e).__name__
)
def test_a_class_that_a_fold_does_not_know_has_no_probability(estimator):
    X, codes = problem([9, 1, 8])
    fold = make_folds(codes, 10, 0)
    found = cross_fit(clone(estimator), X, codes, fold)
    assert found.shape == (18, 3) and np.isfinite(found).all()
    assert np.allclose(np.exp(found).sum(axis=1), 1)
    rows = np.flatnonzero(fold >= 0)
    alone = fold[rows] == fold[codes == 1]
    assert (found[alone, 1] == LOG_FLOOR).all()
    if isinstance(estimator, FlowGMMClassifier):  # one neighbour is sure of everything
        assert (found[~alone, 1] > LOG_FLOOR).all()


def test_a_fold_with_one_class_left_predicts_it():
    X, codes = problem([9, 1])
    fold = make_folds(codes, 3, 0)
    found = cross_fit(small_flow(), X, codes, fold)
    alone = fold[fold >= 0] == fold[codes == 1]
    assert (found[alone] == [0, LOG_FLOOR]).all() and (found[~alone] < 0).all()


def test_divergence_is_an_error(monkeypatch):
    X, codes = problem([9, 8])

    def diverge(models, X, ys, progress):
        fit_stack(models, X, ys)
        models[-1].failure_ = "diverged at step 3"

    monkeypatch.setattr(module, "fit_stack", diverge)
    with pytest.raises(DivergedError, match=r"diverged at step 3; .* extreme values"):
        cross_fit(small_flow(), X, codes, make_folds(codes, 3, 0))
