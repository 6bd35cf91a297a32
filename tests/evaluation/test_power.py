"""Number of further seeds: it decides as often as it says, in new simulations of the rules."""

import numpy as np
import pytest

from flowgmm.evaluation.decisions import Bounds, decide, estimate
from flowgmm.evaluation.power import MOST_SEEDS, seeds_needed
from flowgmm.evaluation.verdicts import judge


def is_judged(values):
    """A verdict on a mean of accuracies beside a printed 80."""
    case = {"n_runs": len(values), "n_failed": 0, "aggregate": "mean", "unit": "percent"}
    return judge(values, printed=80.0, **case).word != "inconclusive"


def is_decided(values):
    return decide(estimate(values), Bounds(above=0.0)) != "undecided"


@pytest.mark.parametrize(
    ("values", "decides"),
    [
        ([79.0, 80.2, 82.5, 79.3], is_judged),
        ([84.0, 79.0, 85.0, 88.0], is_judged),
        ([1.0, -0.4, 1.5, 0.1, 0.6], is_decided),
    ],
)
def test_so_many_seeds_decide_in_four_of_five_cases(values, decides):
    assert not decides(values)
    more = seeds_needed(values, decides)
    rng, mean, std = np.random.default_rng(7), np.mean(values), np.std(values, ddof=1)

    def power(total):
        draws = rng.normal(mean, std, size=(400, total)).tolist()
        return np.mean([decides(draw) for draw in draws])

    assert power(len(values) + more) > 0.7
    # Half as many would not do.
    assert more == 1 or power(len(values) + more // 2) < 0.85


def test_some_are_too_close_to_the_bound_or_too_few():
    assert seeds_needed([81.49, 81.7, 81.3, 81.5], is_judged) is None
    assert seeds_needed([80.0], is_judged) is None
    assert seeds_needed([80.0] * MOST_SEEDS, is_judged) is None
