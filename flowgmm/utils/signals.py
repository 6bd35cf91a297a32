"""SIGTERM and Ctrl-C in a job: whoever has something to save saves it first.

A cluster sends SIGTERM before it takes a job's place or its time is up, and SIGKILL some seconds
later.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Interrupted", "deferred", "watch"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_received: signal.Signals | None = None
_deferring = False


class Interrupted(KeyboardInterrupt):
    """The process was asked to end.

    Arguments:
        received: The signal.
        where: What had been done, and what to do next.
    """

    def __init__(self, received: signal.Signals, where: str = "run the same command again"):
        super().__init__(f"interrupted by {received.name}: {where}")
        self.received = received


def watch() -> None:
    """From now on a signal raises `Interrupted`, in the main thread, unless it is `deferred`."""
    for number in SIGNALS:
        signal.signal(number, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number)
    if not _deferring:
        raise Interrupted(_received)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], signal.Signals | None]]:
    """Within the block signals only leave word; the block asks the function that it is given.

    Without `watch` there never is one. A signal that the block did not ask for is raised at its
    end.
    """
    global _deferring
    _deferring = True
    try:
        yield lambda: _received
    finally:
        _deferring = False
    if _received is not None:
        raise Interrupted(_received)
