"""Snakemake's benchmark files: time and memory of finished jobs."""

import csv
from pathlib import Path
from typing import NamedTuple

__all__ = ["Measured", "read_benchmark"]


class Measured(NamedTuple):
    """Cost of a finished job.

    Attributes:
        seconds: Wall time.
        mb: Largest resident memory in MB; None of a job too short to be measured.
    """

    seconds: float
    mb: float | None


def read_benchmark(path: Path) -> Measured | None:
    """Read the last measurement of a benchmark file.

    Arguments:
        path: The file.

    Returns:
        None if the file was cut off while it was written: the job will run again.
    """
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.reader(handle, delimiter="\t"))
    row = dict(zip(rows[0], rows[-1], strict=False)) if len(rows) > 1 else {}
    try:
        mb = row["max_rss"]
        return Measured(float(row["s"]), None if mb in ("NA", "-") else float(mb))
    except (KeyError, ValueError):
        return None
