"""The folder that some commands need."""

from pathlib import Path

from flowgmm.utils.errors import UserError

__all__ = ["find_repository"]


def find_repository() -> Path:
    """Return the working directory of a command that needs the repository.

    Raises:
        UserError: If it is another folder.
    """
    if not Path("workflow", "Snakefile").is_file():
        raise UserError(
            f"{Path.cwd()} is not the repository of flowgmm, expected workflow/Snakefile; run this "
            "command in a clone of the repository"
        )
    return Path()
