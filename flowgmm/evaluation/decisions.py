"""Decision about a claim: the rule, written once.

A claim is one or several comparisons, its parts. Each part is a number over runs (or over data
sets): a lead of one method over others, a difference of two leads, a number of an analysis. It is
claimed to lie within bounds, above 0 as a rule. Let k be the number of parts that decide the claim,
known before anything is run. A part

    holds           if its interval lies within the bounds: Student's t, 5 % on either side
    does not hold   if it lies outside: Student's t, 5 % / k on that side
    is undecided    otherwise; with a single run there is no interval, so always
    is not run      where there are no runs

and the claim

    holds           if all parts hold
    does not hold   if a part does not
    is not run      if no part is run
    is undecided    otherwise

Error rates (by simulation, tests/evaluation/test_decisions.py). A claim with a false part is said
to hold in at most 5 % of the cases, since this part would have to hold (an intersection-union
test); a claim whose parts are all true is said not to hold in at most 5 %, by Bonferroni. The price
is power: of four parts whose lead is 2 points, with runs that scatter by 1 point, all hold in 90 %
of the cases with 5 runs and in 30 % with 3.

A lead over several baselines is that over the best of them (`flowgmm.evaluation.claims`): the
least of the baselines' lower limits, and the least of their upper limits, each at 5 % / k / (number
of baselines). Against a printed number of a baseline, whose runs nobody has, the number is taken as
it stands.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["DECISIONS", "Bounds", "Estimate", "combine", "decide", "estimate", "lead", "shrinkage"]

DECISIONS = ("holds", "does not hold", "undecided", "not run")
TAIL = 0.05


@dataclass(frozen=True)
class Estimate:
    """Number of a part over runs or data sets.

    Attributes:
        value: Mean, or what the runs' own ratio of sums is.
        low, high: Limits at 5 % each; None with a single value.
        least, most: Limits at 5 % / k each, for `does not hold`.
        n: Number of runs or data sets.
        values: By run or data set; of a lead over the best baseline.
        baseline: Best baseline of a lead.
    """

    value: float
    low: float | None
    high: float | None
    least: float | None
    most: float | None
    n: int
    values: tuple[float, ...]
    baseline: str | None = None


@dataclass(frozen=True)
class Bounds:
    """Bounds of a part: `above` and `below` exclude the bound itself, the others include it."""

    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def contain(self, low: float, high: float) -> bool:
        """Check that all of [low, high] lies within the bounds."""
        return (
            (self.above is None or low > self.above)
            and (self.below is None or high < self.below)
            and (self.at_least is None or low >= self.at_least)
            and (self.at_most is None or high <= self.at_most)
        )

    def exclude(self, low: float, high: float) -> bool:
        """Check that all of [low, high] lies beyond one of the bounds."""
        return any(
            bound is not None and high < bound for bound in (self.above, self.at_least)
        ) or any(bound is not None and low > bound for bound in (self.below, self.at_most))

    def text(self, unit: str = "") -> str:
        """Bounds in words.

        >>> Bounds(at_least=-1.5, at_most=1.5).text("points")
        'at least -1.5 and at most 1.5 points'
        """
        words = ("above", "below", "at least", "at most")
        values = (self.above, self.below, self.at_least, self.at_most)
        given = [f"{w} {v:g}" for w, v in zip(words, values, strict=True) if v is not None]
        return f"{' and '.join(given)} {unit}".strip()


def estimate(values: Sequence[float], n_parts: int = 1, value: float | None = None) -> Estimate:
    """Estimate the mean over runs or data sets.

    Arguments:
        values: By run or data set.
        n_parts: Number k of parts that decide the claim.
        value: What stands for the mean, such as a ratio of sums.

    Raises:
        ValueError: If there are no values.
    """
    if not len(values):
        raise ValueError("expected a value at least, got none")
    return _least(np.asarray(values, dtype=np.float64)[None], n_parts, value=value)


def lead(
    ours: Sequence[float], baselines: Mapping[str, Sequence[float]], n_parts: int = 1
) -> Estimate:
    """Estimate the lead of a method over the best of its baselines on the same runs.

    Arguments:
        ours: Score of each run, the higher the better.
        baselines: Scores of the same runs by baseline.
        n_parts: Number k of parts that decide the claim.

    Raises:
        ValueError: If there is no baseline, or a baseline has another number of runs.
    """
    if not baselines or any(len(scores) != len(ours) for scores in baselines.values()):
        lengths = {name: len(scores) for name, scores in baselines.items()}
        raise ValueError(f"expected baselines with {len(ours)} runs each, got {lengths}")
    scores = np.array(list(baselines.values()), dtype=np.float64)
    return _least(np.asarray(ours, dtype=np.float64) - scores, n_parts, list(baselines))


def shrinkage(first: Sequence[float], last: Sequence[float], n_parts: int = 1) -> Estimate:
    """Estimate how much a gap shrinks: its mean over some runs minus that over others (Welch's t).

    Arguments:
        first: Gap of each run of the first group.
        last: Gap of each run of the last group, which shares no runs with the first.
        n_parts: Number k of parts that decide the claim.
    """
    groups = [np.asarray(gaps, dtype=np.float64) for gaps in (first, last)]
    value, n = float(groups[0].mean() - groups[1].mean()), min(map(len, groups))
    if n < 2:
        return Estimate(value, None, None, None, None, n, (value,))
    shares = [gaps.var(ddof=1) / len(gaps) for gaps in groups]
    error = float(np.sqrt(sum(shares)))
    parts = [share**2 / (len(gaps) - 1) for share, gaps in zip(shares, groups, strict=True)]
    freedom = sum(shares) ** 2 / sum(parts) if error else n - 1
    half, wide = (_student(tail, freedom) * error for tail in (TAIL, TAIL / n_parts))
    paired = tuple((groups[0][:n] - groups[1][:n]).tolist())
    return Estimate(value, value - half, value + half, value - wide, value + wide, n, paired)


def _least(
    gaps: np.ndarray, n_parts: int, names: Sequence[str] = (), value: float | None = None
) -> Estimate:
    """Least of the means of several differences, (number of differences, n)."""
    m, n = gaps.shape
    means = gaps.mean(axis=1)
    nearest = int(means.argmin())
    low = high = least = most = None
    if n > 1:
        errors = gaps.std(axis=1, ddof=1) / np.sqrt(n)
        # Lower limits need no correction for the number of differences (`claims`).
        tails = [(-1, TAIL), (1, TAIL / m), (-1, TAIL / n_parts), (1, TAIL / n_parts / m)]
        low, high, least, most = (
            float((means + sign * _student(tail, n - 1) * errors).min()) for sign, tail in tails
        )
    mean = float(means[nearest]) if value is None else value
    baseline = names[nearest] if names else None
    return Estimate(mean, low, high, least, most, n, tuple(gaps[nearest].tolist()), baseline)


@functools.cache
def _student(tail: float, freedom: float) -> float:
    """Upper quantile of Student's t."""
    from scipy import stats

    return float(stats.t.ppf(1 - tail, freedom))


def decide(found: Estimate, bounds: Bounds) -> str:
    """Decide on a part by the rule at the top of this module."""
    if found.low is None or found.high is None or found.least is None or found.most is None:
        return "undecided"
    if bounds.contain(found.low, found.high):
        return "holds"
    return "does not hold" if bounds.exclude(found.least, found.most) else "undecided"


def combine(parts: Sequence[str]) -> str:
    """Decide on a claim from the decisions on its parts."""
    for word in ("does not hold", "undecided"):
        if word in parts:
            return word
    words = set(parts)
    return words.pop() if len(words) == 1 else "undecided" if words else "not run"
