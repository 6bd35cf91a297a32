"""Scores against known values, paired tests, and the choice of a method."""

import numpy as np
import pytest

from flowgmm.apps.fit import comparison
from flowgmm.apps.fit.comparison import choose, compare
from flowgmm.apps.fit.methods import COMBINED, FLOWGMM, FOREST, LOGISTIC
from flowgmm.evaluation import metrics

N = 60


def answers(**wrong):
    """True classes, and log probabilities of methods that are wrong on so many rows."""
    y = np.arange(N) % 2
    names = {"combined": COMBINED, "flowgmm": FLOWGMM, "forest": FOREST, "logistic": LOGISTIC}
    log_proba = {}
    for name, n in wrong.items():
        said = np.where(np.arange(N) < n, 1 - y, y)
        log_proba[names.get(name, name)] = np.log(np.where(np.eye(2)[said] == 1, 0.8, 0.2))
    return y, log_proba


def test_every_method_is_compared_with_the_chosen_one():
    first, *others = compare(*answers(combined=10, flowgmm=11, forest=2, knn=30), chosen=COMBINED)
    assert first["method"] == COMBINED and "p_value" not in first
    assert [entry["chosen_is"] for entry in others] == ["no difference shown", "worse", "better"]
    forest = others[1]
    assert (forest["only_chosen_right"], forest["only_this_right"]) == (0, 8)
    assert forest["difference"] == pytest.approx(8 / N)
    assert forest["p_value"] == pytest.approx(2 / 2**8)
    first, *_ = compare(*answers(combined=10, forest=2), chosen=FOREST)
    assert first["method"] == FOREST and first["right"] == N - 2


def test_auto_is_the_combination_unless_the_folds_speak_against_it():
    for wrong in ({"forest": 10}, {"forest": 8, "logistic": 7}, {"forest": 30}, {"boosting": 0}):
        name, reason = choose("auto", *answers(combined=10, **wrong))
        assert name == COMBINED and "do not speak against it" in reason
    name, reason = choose("auto", *answers(combined=20, flowgmm=12, forest=10, boosting=0))
    assert name == FOREST and "by 16.7 points" in reason
    name, reason = choose("flowgmm", *answers(combined=0, flowgmm=60))
    assert name == FLOWGMM and "as --method says" in reason


def test_reliability_adds_up_to_the_calibration_error():
    rng = np.random.default_rng(0)
    log_proba = np.log(rng.dirichlet([1, 1, 1], 300))
    y, predicted = rng.integers(0, 3, 300), log_proba.argmax(axis=1)
    bins = comparison.reliability(y, predicted, log_proba, n_bins=15)
    assert sum(b["n"] for b in bins) == 300
    gap = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / 300
    assert gap == pytest.approx(metrics.expected_calibration_error(y, predicted, log_proba))


def test_interval_and_paired_test_against_known_values():
    # Wilson's interval for 8 of 10, as in Brown, Cai and DasGupta's formula.
    z, n, p = 1.959964, 10, 0.8
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert comparison.accuracy_interval(8, 10) == pytest.approx(expected, abs=1e-6)
    # Alone right on 6 rows against 0: 2 / 2^6, whatever happens on the other rows.
    first = np.r_[np.ones(6), np.ones(5), np.zeros(4)]
    second = np.r_[np.zeros(6), np.ones(5), np.zeros(4)]
    assert comparison.paired_p_value(first, second) == pytest.approx(2 / 64)
    assert comparison.paired_p_value(first, first) == 1
