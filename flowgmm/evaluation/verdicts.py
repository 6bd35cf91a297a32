"""The rule that compares our number with the printed one; the only place where it is written.

Let p be the printed number, s its printed spread (of a quoted number whose spread the paper left
out, the source's) and d the margin:

    d = max(1.5 percentage points (0.15 nats; 0.015 for a calibration error; 0.01 for a share;
            half of a printed count), 2 s)

and let [low, high] be an interval for what our runs aggregate to (see
`flowgmm.evaluation.intervals`). Then

    reproduced      [low, high] lies inside [p - d, p + d]
    higher, lower   [low, high] lies wholly above p + d, wholly below p - d
    inconclusive    otherwise: more runs are needed

"Higher" and "lower" are about the number, not about merit: a higher NLL is a worse one.
Before any comparison:

    failed          more than half of the seeds failed
    not comparable  the data, their size or the encoder are not the paper's, or a quoted number's
                    source had another setting; with the reasons
    inconclusive    a seed diverged and so has no number: leaving it out would flatter the rest
    not run         there is no run; with the reason

Why this rule. It is an equivalence test: `reproduced` has to be shown, by an interval that fits
inside the margin, and is not what remains when nothing was found. The term 2 s stands for the
uncertainty of the printed number itself (90 % half-widths: 1.5 MAD for a median of 4, 1.1 standard
deviations for a mean of 5). The specification's check 8.3 adds our own spread to the tolerance
and compares the bare medians, so a method that scatters widely would always count as reproduced.
Here our spread widens the interval instead, and a wild method ends as `inconclusive`.

The interval covers the variation over runs on the given test points. With one run (or a
method that gives the same number for every seed) there is no such variation to see; the interval
is then the binomial one of the test points, and the verdict is about that run.

Error rates (by simulation, tests/evaluation/test_verdicts.py). A truth at the margin is called
`reproduced` in at most 6 % (4 runs) or 8 % (5, 10 runs) of the cases, one beyond it less often. A
truth equal to the printed number is called `higher` or `lower` in under 1 % while the runs
scatter by no more than the margin, and in at most 13 % however wildly they scatter. With one run
these rates (5 %, 0 %) hold for the noise of the test points alone: an unseen spread of 1 point over
runs makes the first 26 %. The price is power: 4 runs that scatter by 0.75 points around the
printed number are called `reproduced` in 83 % of the cases, by 1.5 points in 23 %.

Counts that the paper prints are of rare test points in one run, whose scatter over runs is many
times that of the points: hence half of them, as a margin. A share of 0.01 is what the printed
digits of class weights resolve.

A hyper-parameter is chosen from a grid and has no spread. It is `reproduced` if every run chose the
printed value, `higher` (`lower`) if every run chose a larger (smaller) one, else `inconclusive`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowgmm.evaluation.intervals import interval

__all__ = [
    "MARGINS",
    "WORDS",
    "Verdict",
    "judge",
    "judge_choice",
    "margin",
]

WORDS = (
    "reproduced",
    "higher",
    "lower",
    "inconclusive",
    "not comparable",
    "failed",
    "not run",
)
MARGINS = {"percent": 1.5, "nats": 0.15, "ece": 0.015, "share": 0.01, "count": 0.0}


@dataclass(frozen=True)
class Verdict:
    """One of `WORDS`, or "" where nothing was printed, and the reason in words."""

    word: str
    why: str = ""


def margin(unit: str, printed: float, printed_spread: float | None = None) -> float:
    """Distance from the printed number that still counts as the same, in `unit`.

    Arguments:
        unit: Key of `MARGINS`.
        printed: The paper's number.
        printed_spread: The paper's spread; None if it prints none.
    """
    relative = printed / 2 if unit == "count" else 0.0
    return max(MARGINS[unit], relative, 2 * (printed_spread or 0.0))


def judge(
    values: Sequence[float],
    *,
    n_runs: int,
    n_failed: int,
    aggregate: str,
    unit: str,
    printed: float | None,
    printed_spread: float | None = None,
    n_points: int | None = None,
    not_comparable: Sequence[str] = (),
) -> Verdict:
    """Verdict on one cell by the rule at the top of this module.

    Arguments:
        values: Numbers of the runs that have one (collapsed runs included), in `unit`.
        n_runs: Seeds that were run.
        n_failed: Seeds whose status is failed, with or without a number.
        aggregate: ``"median"`` or ``"mean"``.
        unit: Key of `MARGINS`.
        printed: The paper's number; None if it prints none.
        printed_spread: The paper's spread; None if it prints none.
        n_points: Test points behind each accuracy.
        not_comparable: Reasons why the numbers cannot be held against each other.
    """
    if n_runs == 0:
        raise ValueError("no run to judge; give the reason with Verdict('not run', why) instead")
    if 2 * n_failed > n_runs:
        return Verdict("failed", f"{n_failed} of {n_runs} seeds")
    if printed is None:
        return Verdict("", "no printed number")
    if not_comparable:
        return Verdict("not comparable", "; ".join(not_comparable))
    if (n_missing := n_runs - len(values)) > 0:
        return Verdict("inconclusive", f"{n_missing} of {n_runs} seeds have no number")
    ours = interval(values, aggregate, unit, n_points)
    if ours is None:
        return Verdict("inconclusive", "the spread over runs is not known")
    d = margin(unit, printed, printed_spread)
    why = f"{ours.kind} [{ours.low:.2f}, {ours.high:.2f}], printed {printed:g} ± {d:g}"
    if printed - d <= ours.low and ours.high <= printed + d:
        return Verdict("reproduced", why)
    if ours.low > printed + d:
        return Verdict("higher", why)
    if ours.high < printed - d:
        return Verdict("lower", why)
    return Verdict("inconclusive", why)


def judge_choice(
    values: Sequence[float], *, printed: float | None, not_comparable: Sequence[str] = ()
) -> Verdict:
    """Verdict on a hyper-parameter by the rule at the top of this module.

    Arguments:
        values: What each run chose.
        printed: The paper's choice; None if it prints none.
        not_comparable: Reasons why the choices cannot be held against each other.
    """
    if printed is None:
        return Verdict("", "no printed choice")
    if not_comparable:
        return Verdict("not comparable", "; ".join(not_comparable))
    chosen = ", ".join(f"{value:g}" for value in values)
    why = f"chosen {chosen}, printed {printed:g}"
    signs = {0 if np.isclose(value, printed) else np.sign(value - printed) for value in values}
    words = {0: "reproduced", 1: "higher", -1: "lower"}
    return Verdict(words[signs.pop()] if len(signs) == 1 else "inconclusive", why)
