"""Outputs of commands: their default name, and what they may replace."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import sha256

__all__ = ["check_copy", "check_file", "check_folder", "results_folder"]

# Format and compression at the end of a table's name.
SUFFIXES = re.compile(
    r"(\.(csv|tsv|txt|dat|parquet|npz|xlsx|xls))?(\.(gz|bz2|xz|zip|zst))?$", re.IGNORECASE
)


def results_folder(table: Path) -> Path:
    """Default folder of a table's results, which is not hidden where the table is.

    >>> [results_folder(Path(name)).name for name in ("v1.2.csv.gz", ".hidden.CSV", ".csv")]
    ['v1.2-flowgmm', 'hidden-flowgmm', 'csv-flowgmm']
    """
    name = SUFFIXES.sub("", table.name, count=1).lstrip(".") or table.name.lstrip(".")
    return Path(f"{name or 'table'}-flowgmm")


def check_file(output: Path, inputs: Collection[Path], force: bool) -> None:
    """Verify that a command may write a file.

    Arguments:
        output: The file.
        inputs: Files and folders that the command reads; their files are never replaced.
        force: Whether any other file may be replaced.

    Raises:
        UserError: If the output is an input, by whatever path, or exists and may not be replaced.
    """
    if output.exists() and not output.is_file():
        raise UserError(f"{output} is no regular file; give --output the name of a file")
    _check_inputs(output, inputs)
    _check_new(output, force)


def check_folder(
    output: Path, inputs: Collection[Path], force: bool, results: Collection[str]
) -> None:
    """Verify that a command may write a folder of results.

    Arguments:
        output: The folder.
        inputs: Files and folders that the command reads.
        force: Whether a folder of nothing but results may be replaced.
        results: Names of the files of results.

    Raises:
        UserError: If the output is or holds an input, or exists and may not be replaced.
    """
    _check_inputs(output, inputs)
    _check_new(output, force)
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is no folder; choose another --output")
    if others := sorted({child.name for child in output.iterdir()} - set(results)):
        raise UserError(
            f"{output} holds {others[0]!r}, which --force keeps; choose another --output"
        )


def check_copy(file: Path, target: Path) -> None:
    """Verify that a copy of `file` as `target` replaces nothing but an equal file.

    Raises:
        UserError: If the target exists and has other content.
    """
    if os.path.lexists(target) and not (target.is_file() and sha256(target) == sha256(file)):
        raise UserError(
            f"{target} already exists and is no copy of {file}; move it, or choose another name"
        )


def _check_new(output: Path, force: bool) -> None:
    if os.path.lexists(output) and not force:
        raise UserError(f"{output} already exists; choose another --output, or give --force")


def _check_inputs(output: Path, inputs: Collection[Path]) -> None:
    replaced = Path(os.path.realpath(output))
    for given in inputs:
        if not given.exists():  # reading it says so
            continue
        inside = Path(os.path.realpath(given)).is_relative_to(replaced)
        if inside or _identities(output) & _identities(given):
            raise UserError(f"--output {output} would replace the input {given}; choose another")


def _identities(path: Path) -> set[tuple[int, int]]:
    """Device and inode, equal for all links to a file, of a path and of the files in a folder."""
    paths = [path, *path.iterdir()] if path.is_dir() else [path]
    found = [place.stat() for place in paths if place.exists()]
    return {(stat.st_dev, stat.st_ino) for stat in found}
