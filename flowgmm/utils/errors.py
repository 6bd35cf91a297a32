"""Errors that a user may meet: a mistake that can be put right, and a training that diverged."""

__all__ = ["DivergedError", "UserError"]


class UserError(Exception):
    """A mistake in a config, file, label or download.

    No `ValueError`: code that catches those of a library lets this one pass.

    Arguments:
        message: Names the value, the place and the remedy. Lines are joined into one; scripts print
            it without a traceback and exit with status 2.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


class DivergedError(RuntimeError):
    """Numbers of a training became infinite, NaN or left their bounds; the message says when."""
