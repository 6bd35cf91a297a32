"""Files that appear whole or not at all: tensors (safetensors), JSON, text, and their hashes."""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.errors import UserError

__all__ = [
    "atomic_path",
    "content_hash",
    "read_json",
    "read_meta",
    "read_tensors",
    "sha256",
    "write_json",
    "write_tensors",
    "write_text",
]


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name only if the block succeeds.

    The file is flushed to disk before it is renamed, so a kill or a full disk at any moment
    leaves either the old file or the new one. Permissions follow the user's umask, whatever the
    block does: some writers make their files anew, readable by their owner alone.

    Raises:
        UserError: If the folder cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; check the folder's permissions and free space"
        ) from error
    try:
        yield part
        with open(part, "rb+") as handle:
            os.fsync(handle.fileno())
        part.chmod(mode)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON with sorted keys; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON written by `write_json`.

    Raises:
        UserError: If the file is absent or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; run the rule that makes it") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from error


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write named arrays and a JSON header as one safetensors file; equal input, equal bytes."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    header = json.dumps(dict(meta or {}), sort_keys=True, allow_nan=False)
    with atomic_path(path) as part:
        save_file(arrays, part, metadata={"meta": header})


def read_tensors(
    path: str | os.PathLike[str], names: list[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read arrays (all, or those named) and the JSON header of a file from `write_tensors`.

    Raises:
        UserError: If the file is absent, damaged or lacks a name.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as handle:
            present = handle.keys()
            wanted = present if names is None else names
            if missing := sorted(set(wanted) - set(present)):
                raise UserError(f"{path} lacks {', '.join(missing)}; it has {', '.join(present)}")
            meta = json.loads((handle.metadata() or {}).get("meta", "{}"))
            return {name: handle.get_tensor(name) for name in wanted}, meta
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; run the rule that makes it") from error
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from error


def read_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON header alone of a file from `write_tensors`."""
    return read_tensors(path, names=[])[1]


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; run the rule that makes it") from error


def content_hash(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
