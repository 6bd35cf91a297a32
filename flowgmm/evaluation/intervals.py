"""Intervals for the median or the mean over runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["COVERAGE", "Interval", "interval"]

COVERAGE = 0.9


@dataclass(frozen=True)
class Interval:
    """An interval for the aggregate of our runs, how it was made and what it covers."""

    low: float
    high: float
    kind: str
    coverage: float


def interval(
    values: Sequence[float], aggregate: str, unit: str, n_points: int | None = None
) -> Interval | None:
    """Interval for the median or the mean over runs.

    ============================  ======================================  ==================
    runs                          interval                                coverage
    ============================  ======================================  ==================
    one, or all of them equal     Wilson's, of an accuracy on n_points    90 %
    median, fewer than 5          smallest to largest value, exact        1 - 2^(1-n)
    median, 5 or more             percentile bootstrap, 1999 resamples    90 % (86-93 found)
    mean                          Student's t                             90 %, normal runs
    ============================  ======================================  ==================

    The bootstrap of the mean covers too little at n = 5, so the mean keeps Student's t; below 5
    runs the bootstrap of the median has too few distinct values to resample.

    Arguments:
        values: The number of each run, in `unit`.
        aggregate: ``"median"`` or ``"mean"``.
        unit: Unit of the values; the binomial interval needs ``"percent"``.
        n_points: Test points behind each accuracy.

    Returns:
        None where no spread can be known: one run, and no accuracy on a known number of points.
    """
    from scipy import stats

    runs = np.asarray(values, dtype=np.float64)
    n = len(runs)
    if np.ptp(runs) == 0:
        if unit != "percent" or not n_points:
            return None
        hits = round(runs[0] / 100 * n_points)
        low, high = stats.binomtest(hits, n_points).proportion_ci(COVERAGE, method="wilson")
        return Interval(100 * low, 100 * high, "Wilson, test points only", COVERAGE)
    if aggregate == "mean":
        half = stats.t.ppf((1 + COVERAGE) / 2, n - 1) * runs.std(ddof=1) / np.sqrt(n)
        return Interval(runs.mean() - half, runs.mean() + half, "Student t of the mean", COVERAGE)
    if n < 5:
        return Interval(runs.min(), runs.max(), "range of the runs", 1 - 2.0 ** (1 - n))
    low, high = stats.bootstrap(
        (runs,),
        np.median,
        confidence_level=COVERAGE,
        n_resamples=1999,
        method="percentile",
        rng=np.random.default_rng(0),  # the same runs always give the same verdict
    ).confidence_interval
    return Interval(low, high, "bootstrap of the median", COVERAGE)
