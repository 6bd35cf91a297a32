"""Prediction of a job's time from finished jobs like it.

A job's time is counted (`flowgmm.apps.estimate.cost_model`) and multiplied by what finished jobs
like it took, relative to what was counted for them; a job that has run before takes what it took.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flowgmm.apps.estimate.cost_model import Machine, Work
from flowgmm.apps.estimate.history import Finished

__all__ = ["BASES", "Guess", "past_error", "predict"]

# Basis of a predicted time, the most reliable first.
BASES = ("measured", "scaled", "counted", "assumed")
# Number of finished jobs with the most similar work that a prediction uses.
NEIGHBOURS = 5
# Largest ratio of counted times of similar jobs: a job of seconds spends its time on the start,
# which does not predict one of hours.
MAX_RATIO = 10.0
# Seconds, besides the start, of a job whose work cannot be counted.
UNKNOWN_S = 2.0


@dataclass(frozen=True)
class Guess:
    """Predicted seconds of a job, and their basis, one of `BASES`."""

    seconds: float
    basis: str


def predict(job: Finished, history: Iterable[Finished], machine: Machine, gpu: Machine) -> Guess:
    """Predict the time of a job.

    Arguments:
        job: The job; its `seconds` are ignored.
        history: Finished jobs.
        machine: This machine.
        gpu: The GPU of jobs that use one.

    Returns:
        ``measured``: it ran here with the same work. ``scaled``: counted, times the median of
        measured / counted of the finished jobs of its rule and kind (else of its rule) that are
        the most like it. ``counted``: nothing like it has run. ``assumed``: nothing can be counted
        either.
    """

    def counted_for(job: Finished) -> float:
        return machine.seconds(job.work, job.threads, gpu if job.gpu else None)

    same = [
        f
        for f in history
        if f.rule == job.rule and f.gpu == job.gpu and (f.work is None) == (job.work is None)
    ]
    counted = counted_for(job)
    for finished in same:
        if finished.benchmark == job.benchmark and _same_work(finished.work, job.work):
            return Guess(finished.seconds, "measured")

    def distance(finished: Finished) -> tuple[float, bool]:
        ratio = counted_for(finished) / counted
        return abs(math.log(ratio)), finished.dataset != job.dataset

    near = [f for f in sorted(same, key=distance) if distance(f)[0] < math.log(MAX_RATIO)]
    nearest = ([f for f in near if f.kind == job.kind] or near)[:NEIGHBOURS]
    if not nearest:
        basis = "assumed" if job.work is None else "counted"
        return Guess(counted + (UNKNOWN_S if job.work is None else 0.0), basis)
    factor = statistics.median(f.seconds / counted_for(f) for f in nearest)
    return Guess(counted * factor, "scaled")


def _same_work(one: Work | None, other: Work | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one.products, other.products, rel_tol=0.01)


def past_error(
    history: Sequence[Finished], machine: Machine, gpu: Machine
) -> dict[str, float] | None:
    """Ratio of predicted to measured time of each finished job, predicted from the others.

    Returns:
        ``median``, ``low`` and ``high`` (the middle 80 %) of the ratio, and ``total``: that of the
        sums; None with fewer than two finished jobs.
    """
    if len(history) < 2:
        return None
    by_rule = defaultdict(list)
    for finished in history:
        by_rule[finished.rule].append(finished)
    guessed = [
        predict(job, [f for f in by_rule[job.rule] if f is not job], machine, gpu).seconds
        for job in history
    ]
    ratios = [g / max(f.seconds, 0.01) for g, f in zip(guessed, history, strict=True)]
    cuts = statistics.quantiles(ratios, n=10, method="inclusive")
    return {
        "median": statistics.median(ratios),
        "low": cuts[0],
        "high": cuts[-1],
        "total": sum(guessed) / sum(f.seconds for f in history),
    }
