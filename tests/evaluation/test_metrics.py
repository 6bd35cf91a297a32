"""Metrics against hand-made cases and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from flowgmm.evaluation import metrics
from flowgmm.utils.errors import DivergedError


def test_accuracy_counts_points_not_batches():
    y = np.zeros(7600, int)
    predicted = np.r_[np.zeros(5000, int), np.ones(2600, int)]
    # The mean of the two batch means (1 and 0) would be 0.5.
    assert metrics.accuracy(y, predicted) == pytest.approx(5000 / 7600, abs=1e-12)


def test_class_nll_equals_sklearn_and_survives_saturation():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 4))
    y = rng.integers(0, 4, 200)
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert metrics.class_nll(y, np.log(proba)) == pytest.approx(log_loss(y, proba), rel=1e-10)
    # A gap of 800 nats is exactly 0 as a probability, even in float64.
    assert metrics.class_nll([0, 1], np.float32([[0, -800], [0, -800]])) == pytest.approx(400)


def test_ece_on_hand_made_bins():
    # Two points in (0.8, 0.8667] (one right), two in the last bin (both right).
    confidence = np.array([0.81, 0.85, 0.95, 0.99])
    log_proba = np.log(np.c_[confidence, 1 - confidence])
    ece = metrics.expected_calibration_error([0, 1, 0, 0], [0, 0, 0, 0], log_proba)
    assert ece == pytest.approx((abs(1 - 0.81 - 0.85) + abs(2 - 0.95 - 0.99)) / 4)


def test_ece_of_a_saturated_classifier_is_its_error_rate():
    y = np.r_[np.zeros(97, int), np.ones(3, int)]
    log_proba = np.tile([0.0, -1000.0], (100, 1))
    assert metrics.evaluate(y, np.zeros(100, int), log_proba)["ece"] == pytest.approx(0.03)


@pytest.mark.parametrize(("edge", "inside"), [(0.8, True), (0.8 + 1e-9, False)])
def test_ece_bins_are_closed_on_the_right(edge, inside):
    # 0.75 lies in (0.7333, 0.8]; errors of opposite sign cancel only within one bin.
    log_proba = np.log([[edge, 1 - edge], [0.75, 0.25]])
    ece = metrics.expected_calibration_error([0, 1], [0, 0], log_proba)
    together, apart = abs(1 - edge - 0.75) / 2, (1 - edge + 0.75) / 2
    assert ece == pytest.approx(together if inside else apart, abs=1e-8)


def test_evaluate_leaves_out_unknown_points():
    y = np.array([0, 1, -1, 1])
    predicted = np.array([0, 1, 0, 0])
    log_proba = np.log([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan], [0.6, 0.4]])
    log_density = np.array([-1.0, -2.0, np.nan, -3.0])
    result = metrics.evaluate(y, predicted, log_proba, log_density, bound=log_density - 1)
    assert result["n"] == 3
    assert result["bound"] == pytest.approx(-3.0)
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["nll"] == pytest.approx(2.0)
    assert result["class_nll"] == pytest.approx(-np.log([0.9, 0.8, 0.4]).mean())
    assert metrics.evaluate([-1, -1], [0, 1]) == {"n": 0}


def test_evaluate_reports_only_what_it_was_given():
    assert set(metrics.evaluate([0, 1], [0, 0])) == {"n", "accuracy"}
    hard = np.array([[0.0, -np.inf], [0.0, -np.inf]])
    assert set(metrics.evaluate([0, 1], [0, 0], hard)) == {"n", "accuracy", "ece"}


def test_evaluate_refuses_numbers_of_a_diverged_model():
    with pytest.raises(DivergedError, match="NaN at 1 of 2 points"):
        metrics.evaluate([0, 1], [0, 0], [[0.0, -1.0], [np.nan, 0.0]])
    with pytest.raises(DivergedError, match="not finite at 1 of 2 points"):
        metrics.evaluate([0, 1], [0, 0], log_density=[0.0, -np.inf])
    with pytest.raises(DivergedError, match="bound of the log density is not finite at 1 of 2"):
        metrics.evaluate([0, 1], [0, 0], bound=[0.0, np.nan])


def test_summaries():
    values = [80.0, 81.0, 83.0, 90.0]
    assert metrics.median(values) == 82.0
    assert metrics.mad(values) == 1.5  # of 2, 1, 1, 8; 1.4826 times that would be 2.22
    assert metrics.std([1.0, 3.0]) == 1.0  # ddof 0; ddof 1 would give 1.41
