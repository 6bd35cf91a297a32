"""Progress of long work: one signature for trainings, encoders, downloads and fits."""

from collections.abc import Callable

__all__ = ["Progress", "with_text"]

# Called with units done, all units (0: unknown) and a line of text.
Progress = Callable[[int, int, str], None]


def with_text(progress: Progress | None, text: str) -> Progress | None:
    """Replace the line of text, as by the name of the work; None stays None.

    Arguments:
        progress: Called with units done, all units and a line of text.
        text: The line that replaces it.
    """
    return progress and (lambda done, total, _: progress(done, total, text))
