"""Memory and time that a job requests of a cluster: as measured of it or of similar finished jobs.

The measurements are Snakemake's benchmark files. They know nothing of a changed spec or another
machine, so there is head room, and both requests grow with the attempt.
"""

import math
from functools import cache
from pathlib import Path

from flowgmm.experiments.benchmark_files import Measured, read_benchmark

__all__ = ["LEAST_MB", "LEAST_MIN", "NETWORK_MB", "first", "memory_like", "time_like"]

# MB of a job around its script, which is all that a benchmark sees: Snakemake, twice, and srun.
AROUND_MB = 500
MEMORY_ROOM, TIME_ROOM = 1.5, 2.0
# Little enough for a queue's gaps; enough for the start of Python and for the warning before the
# time limit (slurm_extra in the profile).
LEAST_MB, LEAST_MIN = 2000, 10
# MB of a small job that may load CUDA's libraries.
NETWORK_MB = 3000


def first(full: int, least: int, share: float) -> int:
    """First request of a job of which nothing like it has finished.

    Arguments:
        full: MB or minutes for the paper's data and settings.
        least: MB or minutes for the smallest job.
        share: Size of the job against the paper's, 0 to 1.

    Returns:
        MB or minutes, rounded up.
    """
    return math.ceil(least + (full - least) * share)


def memory_like(benchmark: str, attempt: int, default: int, neighbours: bool) -> int:
    """Memory to ask for.

    Arguments:
        benchmark: Path of the job's benchmark file, which may be missing.
        attempt: From 1; each asks for as much again.
        default: MB where no such job has finished.
        neighbours: True if the files beside it are of similar jobs: other seeds, other candidates.

    Returns:
        MB.
    """
    mb = [mb for _, mb in _finished_like(Path(benchmark), neighbours) if mb is not None]
    if not mb:
        return default * attempt
    return max(LEAST_MB, math.ceil(MEMORY_ROOM * max(mb) + AROUND_MB)) * attempt


def time_like(benchmark: str, attempt: int, default: int, neighbours: bool) -> int:
    """Time to ask for, in minutes; the arguments are those of `memory_like`."""
    seconds = [seconds for seconds, _ in _finished_like(Path(benchmark), neighbours)]
    if not seconds:
        return default * attempt
    return max(LEAST_MIN, math.ceil(TIME_ROOM * max(seconds) / 60)) * attempt


def _finished_like(path: Path, neighbours: bool) -> list[Measured]:
    """Cost of the job itself, else of all that are like it."""
    finished = _finished(path.parent)
    if path.name in finished:
        return [finished[path.name]]
    return list(finished.values()) if neighbours else []


@cache
def _finished(folder: Path) -> dict[str, Measured]:
    """Cost by name of the benchmark file. Every file is read once."""
    found = {path.name: read_benchmark(path) for path in folder.glob("*.tsv")}
    return {name: measured for name, measured in found.items() if measured is not None}
