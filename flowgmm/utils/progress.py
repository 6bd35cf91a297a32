"""Progress of long work: one signature for trainings, encoders, downloads and fits."""

from collections.abc import Callable

__all__ = ["Progress"]

# Called with units done, all units (0: unknown) and a line of text.
Progress = Callable[[int, int, str], None]
