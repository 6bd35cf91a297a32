"""Names of the steps of `flowgmm fit` on its progress bars."""

from flowgmm.utils.progress import Progress

__all__ = ["with_text"]


def with_text(progress: Progress | None, text: str) -> Progress | None:
    """Replace the line of text, as by the name of the work; None stays None.

    Arguments:
        progress: Called with units done, all units and a line of text.
        text: The line that replaces it.
    """
    return progress and (lambda done, total, _: progress(done, total, text))
