"""Reason files: what stands in place of an output that could not be made for want of data.

A reason file has the name and format (JSON or safetensors, with a checksum) of the file that it
stands for, and says why that file is absent. It is no result: reading it as one is an error.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flowgmm.utils.io import (
    REASON,
    AbsentError,
    read_json,
    read_meta,
    write_json,
    write_tensors,
    write_text,
)

__all__ = ["count_failure", "failures", "reason_in", "reason_of", "write_reason"]

# The first bytes of a reason file, whose keys are sorted; within a header, which escapes quotes.
_JSON, _HEADER = f'{{\n "{REASON}": '.encode(), f'\\"{REASON}\\": '.encode()
_HEAD_BYTES = 100


def write_reason(path: str | os.PathLike[str], reason: str, spec: Mapping[str, Any]) -> None:
    """Write a reason file.

    Arguments:
        path: Path of the file that could not be made.
        reason: Reason, one line.
        spec: Spec of the job that should have made it.
    """
    content = {REASON: reason, "spec": dict(spec)}
    if Path(path).suffix == ".safetensors":
        write_tensors(path, {}, content)
    else:
        write_json(path, content)


def reason_in(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Content of a reason file: the reason as `absent`, and `spec`; None of any other file."""
    if not Path(path).is_file():
        return None
    is_tensors = Path(path).suffix == ".safetensors"
    with open(path, "rb") as handle:
        start = handle.read(_HEAD_BYTES)
    if not (_HEADER in start if is_tensors else start.startswith(_JSON)):
        return None
    try:
        (read_meta if is_tensors else read_json)(path)
    except AbsentError as error:
        return error.content
    return None


def reason_of(paths: Iterable[str | os.PathLike[str]]) -> str | None:
    """The first reason in some files; None if none of them is a reason file."""
    found = (reason_in(path) for path in paths)
    return next((str(content[REASON]) for content in found if content is not None), None)


def failures(path: str | os.PathLike[str]) -> int:
    """Count the failed downloads of a file.

    The number stays when a later download succeeds. It is a part of the job's spec, so that a file
    that failed is tried again by the next run, and one that came is not.
    """
    try:
        return int(_counter(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def count_failure(path: str | os.PathLike[str]) -> None:
    """Count one more failed download of a file."""
    write_text(_counter(path), f"{failures(path) + 1}\n")


def _counter(path: str | os.PathLike[str]) -> Path:
    return Path(path).with_name(f".{Path(path).name}.failures")
