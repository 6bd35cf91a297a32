"""Signals that end a job, SIGTERM and Ctrl-C: handled after its state is saved.

A cluster sends SIGTERM when it preempts a job or its time is up, and SIGKILL some seconds later.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Interrupted", "deferred", "install_handlers"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_received: signal.Signals | None = None
_deferring = False


class Interrupted(KeyboardInterrupt):
    """The process was asked to end.

    Arguments:
        received: The signal.
        where: State of the work, and the next step for the user.
    """

    def __init__(self, received: signal.Signals, where: str = "run the same command again"):
        super().__init__(f"interrupted by {received.name}: {where}")
        self.received = received


def install_handlers() -> None:
    """Let signals raise `Interrupted` in the main thread, unless they are `deferred`."""
    for number in SIGNALS:
        signal.signal(number, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number)
    if not _deferring:
        raise Interrupted(_received)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], signal.Signals | None]]:
    """Defer signals to the end of the block, where `Interrupted` is raised.

    Yields:
        A function that returns the signal received, or None; always None without
        `install_handlers`.
    """
    global _deferring
    _deferring = True
    try:
        yield lambda: _received
    finally:
        _deferring = False
    if _received is not None:
        raise Interrupted(_received)
