"""The verdict rule: hand-made cases, and its error rates by simulation."""

import numpy as np
import pytest

from flowgmm.evaluation import verdicts
from flowgmm.evaluation.intervals import interval
from flowgmm.evaluation.metrics import mad, median

PRINTED, N_POINTS, N_TRIALS = 80.0, 7600, 300


def judge(values, **changes):
    case = {
        "n_runs": len(values),
        "n_failed": 0,
        "aggregate": "median",
        "unit": "percent",
        "printed": PRINTED,
        "n_points": N_POINTS,
    }
    return verdicts.judge(values, **(case | changes))


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([79.0, 80.0, 80.5, 81.0], "reproduced"),
        ([78.4, 80.0, 80.5, 81.0], "inconclusive"),  # one run beyond the margin
        ([81.6, 82.0, 83.0, 84.0], "higher"),
        ([50.0, 60.0, 70.0, 78.0], "lower"),
        ([50.0, 60.0, 90.0, 99.0], "inconclusive"),  # median 75, wild
        ([78.5, 81.5], "reproduced"),  # the margin itself is inside
        ([79.5] * 4, "reproduced"),  # a deterministic method: binomial interval
        ([81.0], "inconclusive"),  # 81 +- 0.74 reaches beyond 81.5
        ([80.0, 80.4, 80.2, 79.9, 80.1, 80.3], "reproduced"),
        ([70.0, 70.4, 70.2, 69.9, 70.1, 70.3], "lower"),
    ],
)
def test_hand_made_medians(values, word):
    assert judge(values).word == word


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([3.0e-4] * 4, "reproduced"),
        ([1.0e-3] * 4, "higher"),
        ([1.0e-4, 1.0e-5], "lower"),
        ([3.0e-4, 1.0e-3], "inconclusive"),
        ([1.0e-4, 1.0e-3], "inconclusive"),
    ],
)
def test_choices(values, word):
    assert verdicts.judge_choice(values, printed=0.0003).word == word
    assert verdicts.judge_choice(values, printed=None).word == ""
    compared = verdicts.judge_choice(values, printed=0.0003, not_comparable=["other data"])
    assert compared == verdicts.Verdict("not comparable", "other data")


def test_printed_spread_widens_the_margin():
    assert judge([82.0] * 4).word == "inconclusive"
    assert judge([82.0] * 4, printed_spread=1.5).word == "reproduced"
    assert verdicts.margin("percent", 82.0, 0.3) == 1.5
    assert verdicts.margin("nats", 0.83, 0.68) == 1.36


def test_nll_needs_a_spread_and_has_no_binomial_interval():
    nll = {"unit": "nats", "aggregate": "mean", "printed": 0.83, "printed_spread": 0.04}
    assert judge([0.80, 0.81, 0.79, 0.82, 0.80], **nll).word == "reproduced"
    assert judge([1.18, 1.20, 1.17, 1.25, 1.19], **nll).word == "higher"
    assert judge([0.3, 0.31, 0.29, 0.32, 0.3], **nll).word == "lower"
    assert judge([0.83], **nll).word == "inconclusive"


def test_failed_seeds_are_never_dropped():
    assert judge([80.0], n_runs=4, n_failed=3) == verdicts.Verdict("failed", "3 of 4 seeds")
    assert judge([50.0] * 3 + [80.0], n_runs=4, n_failed=3).word == "failed"
    # The three that have a number would be "reproduced" by themselves.
    kept = [79.9, 80.0, 80.1]
    assert judge(kept).word == "reproduced"
    assert judge(kept, n_runs=4, n_failed=1).word == "inconclusive"


def test_not_comparable_and_nothing_printed():
    verdict = judge([80.0] * 4, not_comparable=["another encoder", "fewer rows"])
    assert verdict == verdicts.Verdict("not comparable", "another encoder; fewer rows")
    assert judge([80.0] * 4, printed=None).word == ""
    with pytest.raises(ValueError, match="no run to judge"):
        judge([])


def test_intervals_against_independent_numbers():
    wilson = interval([90.0], "median", "percent", 100)
    # Wilson's formula by hand: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z, n, p = 1.6448536, 100, 0.9
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = [100 * (p + z**2 / (2 * n) + s * half) / (1 + z**2 / n) for s in (-1, 1)]
    assert (wilson.low, wilson.high) == pytest.approx((low, high), abs=1e-4)

    ends = interval([3.0, 1.0, 2.0, 9.0], "median", "nats")
    assert (ends.low, ends.high, ends.coverage) == (1.0, 9.0, 0.875)

    student = interval([1.0, 2.0, 3.0], "mean", "nats")
    assert student.high - 2.0 == pytest.approx(2.919986 / np.sqrt(3), abs=1e-5)  # t(0.95, 2 df)
    again = interval([1.0, 2.0, 4.0, 5.0, 7.0, 9.0], "median", "nats")
    assert again == interval([1.0, 2.0, 4.0, 5.0, 7.0, 9.0], "median", "nats")


def rates(truth, n, std, aggregate="median"):
    """Share of each verdict over simulated tables whose runs scatter around `truth`."""
    rng = np.random.default_rng(n)
    words = []
    for _ in range(N_TRIALS):
        accuracy = np.clip(truth + std * rng.normal(size=n), 0, 100) / 100
        hits = rng.binomial(N_POINTS, accuracy) if n == 1 else accuracy * N_POINTS
        words.append(judge(list(100 * hits / N_POINTS), aggregate=aggregate).word)
    return {word: words.count(word) / N_TRIALS for word in verdicts.WORDS}


# Three standard errors of a rate of 0.08 over 300 trials are 0.047.
SLACK = 0.047


@pytest.mark.parametrize("aggregate", ["median", "mean"])
@pytest.mark.parametrize("std", [0.3, 1.0, 5.0])
@pytest.mark.parametrize(("n", "bound"), [(4, 0.0625), (5, 0.08), (10, 0.08)])
def test_a_truth_at_the_margin_is_seldom_called_reproduced(n, bound, std, aggregate):
    bound = bound if aggregate == "median" else 0.05
    assert rates(PRINTED + 1.5, n, std, aggregate)["reproduced"] <= bound + SLACK
    assert rates(PRINTED + 3.0, n, std, aggregate)["reproduced"] <= bound


@pytest.mark.parametrize("aggregate", ["median", "mean"])
@pytest.mark.parametrize(("n", "bound"), [(4, 0.125), (5, 0.15), (10, 0.15)])
def test_a_truth_equal_to_the_paper_is_seldom_called_different(n, bound, aggregate):
    bound = bound if aggregate == "median" else 0.10
    for std, limit in [(0.3, 0.0), (1.5, 0.01), (20.0, bound + SLACK)]:
        found = rates(PRINTED, n, std, aggregate)
        assert found["higher"] + found["lower"] <= limit


def test_one_run_errs_seldom_about_itself_and_often_about_other_runs():
    assert rates(PRINTED + 1.5, 1, 0.0)["reproduced"] <= 0.05 + SLACK
    found = rates(PRINTED, 1, 0.0)
    assert found["higher"] + found["lower"] == 0.0
    assert found["reproduced"] > 0.8
    # What the module's docstring warns of: with an unseen spread of 3 points over runs, one run
    # is called different although the truth is the printed number.
    found = rates(PRINTED, 1, 3.0)
    assert found["higher"] + found["lower"] > 0.3


@pytest.mark.parametrize(("n", "power"), [(4, 0.99), (5, 0.99), (10, 0.99)])
def test_steady_runs_at_the_printed_number_are_reproduced(n, power):
    assert rates(PRINTED, n, 0.3)["reproduced"] >= power


def test_a_wild_method_is_not_reproduced_as_it_was_under_check_8_3():
    rng = np.random.default_rng(0)
    ours = specification = 0
    for _ in range(N_TRIALS):
        values = list(PRINTED - 10 + 12 * rng.normal(size=4))
        ours += judge(values).word == "reproduced"
        specification += abs(median(values) - PRINTED) <= max(1.5, 2 * mad(values))
    assert ours == 0
    assert specification / N_TRIALS > 0.5


def test_the_margin_needs_the_printed_number_and_is_half_of_a_count():
    assert verdicts.margin("count", 24.0) == 12.0
    assert verdicts.margin("percent", 80.0, 1.0) == 2.0
    with pytest.raises(TypeError):
        verdicts.margin("count")
