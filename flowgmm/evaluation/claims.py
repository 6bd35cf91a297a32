"""Claim that a method is the best, on each data set and over all: the rule, written once.

Let d_j be the mean over runs of the difference of a method's score to that of baseline j on the
same runs, and let D be the least of the true differences: the method is the best by D, or behind
the best by -D. The interval for D needs no correction for having looked for the best baseline:

    low     least of the baselines' lower limits, each at 95 %
    high    least of the baselines' upper limits, each at 100 % - 5 % / (number of baselines)

with Student's t over runs. If D belongs to baseline j, then `low` exceeds it only if j's own limit
does, in 5 % of the cases; `high` is below it only if some baseline's limit is, by Bonferroni in at
most 5 %. So the interval covers D in at least 90 % (tests/evaluation/test_claims.py), and

    best        the interval is above 0
    not best    the interval is below 0
    open        otherwise

The runs differ in labels and initialisation and share the test points, so this is about these test
points. Over data sets, the mean of the estimates of D has Student's t interval over the sets:
another sample, of sets. An estimate of D is below it on average, never above, since the best
baseline is looked for on the same runs: the mean is no flattery. The claim

    holds           if that interval is above 0
    does not hold   if it is below 0
    is open         otherwise
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowgmm.evaluation.decisions import lead
from flowgmm.evaluation.intervals import interval

__all__ = ["Lead", "Summary", "find_lead", "summarise"]


@dataclass(frozen=True)
class Lead:
    """Lead of a method over the best baseline on one data set.

    Attributes:
        baseline: Name of the best baseline.
        difference: Mean difference to it; positive: the method is better.
        low, high: 90 % interval for the lead; None with a single run.
        n: Number of runs.
        word: ``best``, ``not best`` or ``open``.
    """

    baseline: str
    difference: float
    low: float | None
    high: float | None
    n: int
    word: str


@dataclass(frozen=True)
class Summary:
    """Leads over several data sets.

    Attributes:
        n: Number of sets.
        n_ahead: Sets on which the method has the highest mean.
        n_best, n_not_best: Sets on which an interval shows that it is the best, or is not.
        mean: Mean lead.
        low, high: Its 90 % interval over sets; None with a single set.
        word: ``holds``, ``does not hold`` or ``open``.
    """

    n: int
    n_ahead: int
    n_best: int
    n_not_best: int
    mean: float
    low: float | None
    high: float | None
    word: str


def find_lead(ours: Sequence[float], baselines: Mapping[str, Sequence[float]]) -> Lead:
    """Compare a method with the best of its baselines on the same runs.

    Arguments:
        ours: Score of each run, the higher the better.
        baselines: Scores of the same runs by baseline.

    Raises:
        ValueError: If there is no baseline, or a baseline has another number of runs.
    """
    found = lead(ours, baselines)
    word = _word(found.low, found.high, "best", "not best")
    return Lead(str(found.baseline), found.value, found.low, found.high, found.n, word)


def _word(low: float | None, high: float | None, above: str, below: str) -> str:
    """Word for an interval wholly above or below 0, else ``open``."""
    if low is None or high is None or low <= 0 <= high:
        return "open"
    return above if low > 0 else below


def summarise(leads: Sequence[Lead]) -> Summary:
    """Count and average the leads on several data sets.

    Raises:
        ValueError: If there is none.
    """
    if not leads:
        raise ValueError("expected the lead on one data set at least, got none")
    words = [lead.word for lead in leads]
    differences = [lead.difference for lead in leads]
    # Of one set, or of equal leads, there is no spread over sets.
    over_sets = interval(differences, "mean", "points") if len(leads) > 1 else None
    low = None if over_sets is None else float(over_sets.low)
    high = None if over_sets is None else float(over_sets.high)
    return Summary(
        n=len(leads),
        n_ahead=sum(difference > 0 for difference in differences),
        n_best=words.count("best"),
        n_not_best=words.count("not best"),
        mean=float(np.mean(differences)),
        low=low,
        high=high,
        word=_word(low, high, "holds", "does not hold"),
    )
