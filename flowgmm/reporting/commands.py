"""Commands that make results again."""

import shlex
from collections.abc import Sequence

__all__ = ["make_command"]


def make_command(changes: Sequence[str], target: str, forced: Sequence[str] = ()) -> str:
    """Command line of Snakemake for the shell.

    Arguments:
        changes: ``key=value`` of `config/config.yaml`.
        target: Target or file.
        forced: Files to make anew, though they are up to date.
    """
    # Options that take several values come before `--`.
    words = ["snakemake", "--profile", "local"]
    words += ["--config", *changes] if changes else []
    words += ["--forcerun", *forced] if forced else []
    return shlex.join([*words, "--", target])
