"""The rule that decides claims: hand-made cases, and its error rates by simulation."""

import numpy as np
import pytest

from flowgmm.evaluation.claims import find_lead, summarise
from flowgmm.evaluation.decisions import Bounds, combine, decide, estimate, lead, shrinkage
from flowgmm.evaluation.intervals import interval

N_TRIALS = 600
# Three standard errors of a rate of 0.05 over 600 trials.
SLACK = 0.027
ABOVE = Bounds(above=0.0)


@pytest.mark.parametrize(
    ("values", "bounds", "word"),
    [
        ([1.0, 1.2, 0.8, 1.1], ABOVE, "holds"),
        ([-1.0, -1.2, -0.8, -1.1], ABOVE, "does not hold"),
        ([1.0, -1.2, 0.8, -1.1], ABOVE, "undecided"),
        ([5.0], ABOVE, "undecided"),  # one run has no interval
        ([0.0, 0.0, 0.0], ABOVE, "undecided"),  # a tie is no lead
        ([0.0, 0.0, 0.0], Bounds(at_least=0.0, at_most=0.0), "holds"),
        ([0.1, 0.1, 0.1], Bounds(at_least=0.0, at_most=0.0), "does not hold"),
        ([0.2, -0.1, 0.1, 0.0], Bounds(at_least=-1.5, at_most=1.5), "holds"),
        ([2.2, 2.1, 2.4, 2.0], Bounds(at_least=-1.5, at_most=1.5), "does not hold"),
        ([-3.0, 3.0, 1.0, -1.0], Bounds(at_least=-1.5, at_most=1.5), "undecided"),
        ([-0.3, -0.2, -0.25], Bounds(below=0.0), "holds"),
        ([4.0, 4.2, 3.9, 4.1], Bounds(at_least=3.0), "holds"),
        ([1.0, 1.1, 0.9], Bounds(at_least=3.0), "does not hold"),
    ],
)
def test_hand_made_parts(values, bounds, word):
    assert decide(estimate(values), bounds) == word


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["holds", "not run"], "undecided"),
        (["undecided", "not run"], "undecided"),
        (["holds", "undecided", "does not hold", "not run"], "does not hold"),
        (["not run", "not run"], "not run"),
        ([], "not run"),
    ],
)
def test_a_claim_holds_if_all_its_parts_do(parts, word):
    assert combine(parts) == word


def test_limits_are_those_of_the_tables():
    """One interval for a number wherever it stands."""
    values, baselines = [1.0, 2.0, 4.0, 3.0], {"a": [0.0, 2.0, 3.0, 1.0], "b": [1.0, 1.0, 1.0, 4.0]}
    found, box = estimate(values, 4), interval(values, "mean", "percent")
    assert (found.low, found.high) == pytest.approx((box.low, box.high))
    assert found.least < found.low < found.value < found.high < found.most
    ours, table = lead(values, baselines), find_lead(values, baselines)
    assert (ours.low, ours.high, ours.value) == (table.low, table.high, table.difference)
    assert ours.baseline == table.baseline
    leads = [find_lead([v + k for v in values], baselines) for k in (0, 1, 5)]
    sets = estimate([one.difference for one in leads])
    summary = summarise(leads)
    assert (sets.value, sets.low, sets.high) == pytest.approx(
        (summary.mean, summary.low, summary.high)
    )


def test_a_ratio_of_sums_keeps_the_interval_of_the_ratios():
    found = estimate([2.9, 1.1, 1.1], value=1.39)
    assert found.value == 1.39
    assert (found.low, found.high) == (
        estimate([2.9, 1.1, 1.1]).low,
        estimate([2.9, 1.1, 1.1]).high,
    )


def test_nothing_is_estimated_of_nothing():
    with pytest.raises(ValueError, match="got none"):
        estimate([])
    with pytest.raises(ValueError, match="expected baselines with 2 runs each"):
        lead([1.0, 2.0], {"a": [1.0]})


def rates(truths, n, std=1.0, bounds=ABOVE):
    """Share of each decision on a claim of several parts, over simulated runs."""
    rng = np.random.default_rng(n + len(truths))
    words = []
    for _ in range(N_TRIALS):
        draws = [truth + std * rng.normal(size=n) for truth in truths]
        words.append(combine([decide(estimate(d, len(truths)), bounds) for d in draws]))
    return {word: words.count(word) / N_TRIALS for word in ("holds", "does not hold", "undecided")}


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize(
    "truths",
    [
        pytest.param([0.0], id="one part at its bound"),
        pytest.param([0.0, 9.0, 9.0, 9.0], id="one of four at its bound"),
        pytest.param([-1.0, 9.0, 9.0, 9.0], id="one of four false"),
        pytest.param([0.0] * 15, id="fifteen at their bounds"),
    ],
)
def test_a_claim_with_a_false_part_seldom_holds(truths, n):
    assert rates(truths, n)["holds"] <= 0.05 + SLACK


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize(
    "truths",
    [
        pytest.param([0.0], id="one part just true"),
        pytest.param([0.0] * 4, id="four just true"),
        pytest.param([0.0] * 15, id="fifteen just true"),
        pytest.param([0.0, 1.0, 5.0], id="one of three just true"),
    ],
)
def test_a_claim_whose_parts_are_all_true_is_seldom_refused(truths, n):
    assert rates(truths, n)["does not hold"] <= 0.05 + SLACK


@pytest.mark.parametrize("n", [3, 5])
def test_an_equality_is_not_shown_at_its_margin(n):
    margin = Bounds(at_least=-1.5, at_most=1.5)
    assert rates([1.5], n, bounds=margin)["holds"] <= 0.05 + SLACK
    assert rates([0.0], n, std=0.2, bounds=margin)["holds"] > 0.99


def test_power_is_as_the_docstring_says():
    assert rates([2.0] * 4, 5)["holds"] == pytest.approx(0.9, abs=0.06)
    assert rates([2.0] * 4, 3)["holds"] == pytest.approx(0.3, abs=0.08)
    assert rates([-2.0, 2.0, 2.0, 2.0], 5)["does not hold"] > 0.5


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.2, 3.0)])
def test_shrinkage_of_a_gap_that_stays_is_seldom_shown(scales):
    rng, words = np.random.default_rng(0), []
    for _ in range(N_TRIALS):
        first, last = (2.0 + scale * rng.normal(size=3) for scale in scales)
        words.append(decide(shrinkage(first, last), ABOVE))
    assert words.count("holds") <= 0.05 * N_TRIALS + SLACK * N_TRIALS
    assert words.count("does not hold") <= 0.05 * N_TRIALS + SLACK * N_TRIALS
    assert decide(shrinkage([3.0, 3.2, 2.9], [0.1, 0.0, 0.2]), ABOVE) == "holds"
    assert decide(shrinkage([3.0], [0.1]), ABOVE) == "undecided"
