"""Simulation of the schedule: wall time on cores or on a cluster, and the critical path."""

import heapq
import math
from collections.abc import Sequence

from flowgmm.apps.estimate.dry_run import DryRun

__all__ = ["critical_path", "wall_time"]


def wall_time(dry_run: DryRun, seconds: Sequence[float]) -> float:
    """Simulate a list schedule, as Snakemake makes one.

    Arguments:
        dry_run: Jobs, with the cores that each takes, and the cores that they share.
        seconds: Time of each job.

    Returns:
        Seconds until the last job ends.
    """
    needs = dry_run.needs()
    after, waiting = _followers(needs), [len(before) for before in needs]
    cores = dry_run.cores if dry_run.cores is not None else math.inf
    max_jobs = dry_run.max_jobs if dry_run.max_jobs is not None else math.inf
    taken = [min(job.threads, cores) for job in dry_run.jobs]
    rank = {i: (-job.priority, i) for i, job in enumerate(dry_run.jobs)}
    ready = sorted((i for i, before in enumerate(needs) if not before), key=rank.__getitem__)
    running: list[tuple[float, int]] = []
    now, free = 0.0, cores
    while ready or running:
        for i in list(ready):
            if taken[i] <= free and len(running) < max_jobs:
                ready.remove(i)
                free -= taken[i]
                heapq.heappush(running, (now + seconds[i], i))
        now, i = heapq.heappop(running)
        free += taken[i]
        for j in after[i]:
            waiting[j] -= 1
            if not waiting[j]:
                ready.append(j)
        ready.sort(key=rank.__getitem__)
    return now


def critical_path(dry_run: DryRun, seconds: Sequence[float]) -> list[int]:
    """Find the chain of jobs, each needed by the next, that takes the longest.

    Arguments:
        dry_run: Jobs.
        seconds: Time of each.

    Returns:
        Their numbers, the first job first.
    """
    needs = dry_run.needs()
    after, waiting = _followers(needs), [len(before) for before in needs]
    # The longest chain that ends with each job, over jobs in an order that respects the needs.
    length, last = list(seconds), [-1] * len(needs)
    order = [i for i, before in enumerate(needs) if not before]
    for i in order:
        for j in after[i]:
            if length[i] + seconds[j] > length[j]:
                length[j], last[j] = length[i] + seconds[j], i
            waiting[j] -= 1
            if not waiting[j]:
                order.append(j)
    chain: list[int] = []
    i = max(range(len(length)), key=length.__getitem__, default=-1)
    while i >= 0:
        chain.insert(0, i)
        i = last[i]
    return chain


def _followers(needs: Sequence[Sequence[int]]) -> list[list[int]]:
    """Numbers of the jobs that need each job's outputs."""
    after: list[list[int]] = [[] for _ in needs]
    for i, before in enumerate(needs):
        for j in before:
            after[j].append(i)
    return after
