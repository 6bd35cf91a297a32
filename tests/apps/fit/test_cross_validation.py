"""Cross-validation on the labelled rows, and its figures against known values."""

import numpy as np
import pytest

from flowgmm.apps.fit import cross_validation
from flowgmm.apps.fit.table_model import make_estimator
from flowgmm.evaluation import metrics
from flowgmm.methods import cross_fit


def cross(X, codes):
    """`cross_validate` with the short training."""
    return cross_validation.cross_validate(make_estimator(X, 0), X, codes, 0)


def test_every_label_is_held_out_once_and_scored_by_every_method():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2)).astype(np.float32)
    codes = np.r_[np.zeros(11), np.ones(12), np.full(17, -1)].astype(int)
    checked = cross(X, codes)
    assert checked.rows.tolist() == list(range(23)) and set(checked.fold) == {0, 1, 2}
    assert next(iter(checked.log_proba)) == cross_validation.FLOWGMM
    for log_proba in checked.log_proba.values():
        assert np.allclose(np.exp(log_proba).sum(axis=1), 1)


def test_plenty_of_labels_are_held_out_in_part(monkeypatch):
    monkeypatch.setattr(cross_fit, "MAX_CROSS_VALIDATED", 50)
    X = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    codes = np.arange(80) % 2
    checked = cross(X, codes)
    assert len(checked.rows) == 16 and not checked.fold.any()
    # Labels that agree with the model would make it surer than it is.
    raw = checked.log_proba["FlowGMM"]
    assert np.allclose(checked.calibrated(raw.argmax(axis=1)), raw, atol=1e-6)
    assert (checked.calibrated(raw.argmin(axis=1)).max(axis=1) < raw.max(axis=1)).all()


def test_reliability_adds_up_to_the_calibration_error():
    rng = np.random.default_rng(0)
    log_proba = np.log(rng.dirichlet([1, 1, 1], 300))
    y, predicted = rng.integers(0, 3, 300), log_proba.argmax(axis=1)
    bins = cross_validation.reliability(y, predicted, log_proba, n_bins=15)
    assert sum(b["n"] for b in bins) == 300
    gap = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / 300
    assert gap == pytest.approx(metrics.expected_calibration_error(y, predicted, log_proba))


def test_interval_and_paired_test_against_known_values():
    # Wilson's interval for 8 of 10, as in Brown, Cai and DasGupta's formula.
    z, n, p = 1.959964, 10, 0.8
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert cross_validation.accuracy_interval(8, 10) == pytest.approx(expected, abs=1e-6)
    # Alone right on 6 rows against 0: 2 / 2^6, whatever happens on the other rows.
    first = np.r_[np.ones(6), np.ones(5), np.zeros(4)]
    second = np.r_[np.zeros(6), np.ones(5), np.zeros(4)]
    assert cross_validation.paired_p_value(first, second) == pytest.approx(2 / 64)
    assert cross_validation.paired_p_value(first, first) == 1
