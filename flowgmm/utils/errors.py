"""The two errors a user may meet: a mistake that can be put right, and a run that diverged."""

__all__ = ["DivergedError", "UserError"]


class UserError(ValueError):
    """A mistake in a config, file, label or download.

    The message is one line that names the value, the place and the remedy; scripts print it
    without a traceback and exit with status 2.
    """

    def __init__(self, message: str):
        # What a library said, which may be a part of it, can have several lines.
        super().__init__(" ".join(message.splitlines()))


class DivergedError(RuntimeError):
    """Training left the finite numbers or its bounds; the message says when and how."""
