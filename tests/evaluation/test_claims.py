"""Claim to be the best: hand-made cases, and the interval's coverage by simulation."""

import numpy as np
import pytest

from flowgmm.evaluation.claims import find_lead, summarise
from flowgmm.evaluation.intervals import interval

BASELINES = {"knn": [70.0, 72.0, 71.0, 73.0], "mlp": [78.0, 81.0, 79.0, 80.0]}


def test_lead_over_the_best_baseline_is_paired():
    lead = find_lead([80.0, 82.5, 81.5, 82.0], BASELINES)
    expected = interval([2.0, 1.5, 2.5, 2.0], "mean", "percent")
    assert (lead.baseline, lead.difference, lead.n) == ("mlp", 2.0, 4)
    assert lead.low == pytest.approx(expected.low)
    assert lead.high > expected.high  # two baselines
    assert lead.word == "best"


@pytest.mark.parametrize(
    ("ours", "word"),
    [
        ([75.0, 77.5, 76.5, 77.0], "not best"),
        ([79.0, 80.0, 80.0, 79.5], "open"),
        ([90.0, 70.0, 95.0, 75.0], "open"),
    ],
)
def test_words(ours, word):
    assert find_lead(ours, BASELINES).word == word


def test_one_run_shows_nothing():
    lead = find_lead([90.0], {"knn": [70.0]})
    assert (lead.difference, lead.low, lead.high, lead.word) == (20.0, None, None, "open")


@pytest.mark.parametrize("baselines", [{}, {"knn": [70.0, 71.0]}])
def test_runs_that_do_not_pair_are_refused(baselines):
    with pytest.raises(ValueError, match="expected baselines with 3 runs each, got"):
        find_lead([1.0, 2.0, 3.0], baselines)


@pytest.mark.parametrize(
    "truth",
    [
        pytest.param([0.0] * 6, id="all equal"),
        pytest.param([0.0, -1.0, -3.0, -3.0, -5.0, -8.0], id="equal to the best"),
        pytest.param([1.0, 1.0, 1.0, -2.0, -2.0, -2.0], id="three better"),
        pytest.param([-2.0, -2.1, -2.2, -4.0, -6.0, -9.0], id="the best"),
    ],
)
def test_interval_covers_the_lead(truth):
    """In 90 % at least, however many baselines are about as good as the best."""
    rng, lead, n_trials, n = np.random.default_rng(0), -max(truth), 600, 10
    found = []
    for _ in range(n_trials):
        shared = rng.normal(scale=3.0, size=n)  # runs on lucky labels are good for all
        scores = [80 + shared + mean + rng.normal(scale=2.0, size=n) for mean in truth]
        ours = 80 + shared + rng.normal(scale=2.0, size=n)
        found.append(find_lead(ours, {str(j): s for j, s in enumerate(scores)}))
    covered = np.mean([found_lead.low <= lead <= found_lead.high for found_lead in found])
    assert covered > 0.88  # 90 % less the noise of 600 trials
    words = [found_lead.word for found_lead in found]
    if lead <= 0:
        assert words.count("best") < 0.07 * n_trials
    if lead >= 0:
        assert words.count("not best") < 0.07 * n_trials
    # The pairing takes out what the runs share: else hardly any case would be decided.
    if lead == 2.0:
        assert words.count("best") > 0.4 * n_trials
    assert np.mean([found_lead.difference for found_lead in found]) < lead + 0.1


def test_summary_over_sets():
    leads = [
        find_lead([72.0, 74.0, 73.5], {"knn": [70.0, 72.0, 71.0]}),
        find_lead([70.0, 72.0, 71.5], {"knn": [80.0, 82.0, 81.0]}),
        find_lead([70.0, 72.0, 73.0], {"knn": [72.0, 71.0, 70.0]}),
    ]
    summary = summarise(leads)
    assert (summary.n, summary.n_ahead, summary.n_best, summary.n_not_best) == (3, 2, 1, 1)
    assert summary.mean == pytest.approx(np.mean([lead.difference for lead in leads]))
    assert summary.low < summary.mean < summary.high
    assert summary.word == "open"
    alone = summarise(leads[:1])
    assert (alone.n, alone.low, alone.high, alone.word) == (1, None, None, "open")
    ahead = [find_lead([80.0, 81.0 + k], {"knn": [70.0, 72.0]}) for k in range(3)]
    assert summarise(ahead).word == "holds"
    behind = [find_lead([60.0, 61.0 + k], {"knn": [70.0, 72.0]}) for k in range(3)]
    assert summarise(behind).word == "does not hold"
    with pytest.raises(ValueError, match="got none"):
        summarise([])
