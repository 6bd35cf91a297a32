"""Atomic writing and verified reading of files: tensors, JSON, text.

Files of `write_json` and `write_tensors` carry a checksum, the sha256 of their content, which
reading verifies: a disk's flipped bit or an edit never ends as a number in a table.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from flowgmm.utils.errors import UserError

__all__ = [
    "REASON",
    "AbsentError",
    "add_checksum",
    "atomic_path",
    "content_hash",
    "header",
    "read_header",
    "read_json",
    "read_meta",
    "read_tensors",
    "remove_parts",
    "sha256",
    "verify_checksum",
    "write_json",
    "write_tensors",
    "write_text",
]

# Key of the reason in a reason file (`flowgmm.utils.absence`), JSON or safetensors.
REASON = "absent"

# The end of the metadata. Quotes inside its strings are escaped, so there is one match.
_CHECKSUM = re.compile(rb'\\"sha256\\": \\"([0-9a-f]{64})\\"\}"\}')
_BLANK = "0" * 64


class AbsentError(UserError):
    """A reason file (`flowgmm.utils.absence`) was read as the file that it stands for.

    Attributes:
        content: Its content.
    """

    def __init__(self, path: str | os.PathLike[str], content: dict[str, Any]) -> None:
        super().__init__(f"{path} was not made: {content[REASON]}")
        self.content = content


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` if the block succeeds.

    The file is flushed to disk before it is renamed, so a kill or a full disk at any moment
    leaves either the old file or the new one. Permissions follow the user's umask, also where a
    writer makes its file anew, readable by its owner alone.

    Raises:
        UserError: If the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    remedy = "check the folder's permissions and free space"
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; {remedy}") from error
    try:
        yield part
        with open(part, "rb+") as handle:
            os.fsync(handle.fileno())
        part.chmod(mode)
        os.replace(part, path)
    except Exception as error:
        # Writers in other languages wrap the system's message.
        if _disk_is_full(error):
            raise UserError(f"cannot write {path}: no space left; {remedy}") from error
        raise
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folder: str | os.PathLike[str], before: float) -> None:
    """Remove the temporary files of `atomic_path` that killed processes left below a folder.

    Arguments:
        folder: The folder.
        before: Seconds since the epoch; a file written to since then may be a live process's, and
            stays.
    """
    for part in Path(folder).rglob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            if part.is_file() and part.stat().st_mtime < before:
                part.unlink()


def _disk_is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any]) -> None:
    """Write a JSON object with sorted keys and its checksum as ``sha256``.

    Raises:
        ValueError: If a number is NaN or infinite, since JSON has neither.
    """
    plain = json.loads(json.dumps(dict(value), allow_nan=False))
    plain["sha256"] = content_hash({k: v for k, v in plain.items() if k != "sha256"})
    write_text(path, json.dumps(plain, indent=1, sort_keys=True) + "\n")


def read_json(path: str | os.PathLike[str], checksum: bool = True) -> Any:
    """Read JSON and verify its checksum.

    Arguments:
        path: The file.
        checksum: Whether the file comes from `write_json`, so that it has a checksum.

    Returns:
        The value, without the checksum.

    Raises:
        AbsentError: If it is a reason file.
        UserError: If the file is missing, is not JSON, or was changed after it was written.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule that makes it") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from error
    if not checksum:
        return value
    found = value.pop("sha256", None) if isinstance(value, dict) else None
    if found is None or found != content_hash(value):
        raise UserError(f"{path} is damaged ({_mismatch(found)}); delete it and run again")
    _check_made(path, value)
    return value


def _check_made(path: str | os.PathLike[str], content: Any) -> None:
    if isinstance(content, dict) and content.keys() == {REASON, "spec"}:
        raise AbsentError(path, content)


def _mismatch(found: Any) -> str:
    return "no checksum" if found is None else "checksum does not match"


def header(meta: Mapping[str, Any]) -> dict[str, str]:
    """Metadata of a safetensors file with room for its checksum.

    A single entry, since the order of several is not determined: equal content, equal bytes.
    """
    content = {"content": dict(meta), "sha256": _BLANK}
    return {"meta": json.dumps(content, sort_keys=True, allow_nan=False)}


def read_header(handle: Any) -> dict[str, Any]:
    """Metadata of an open safetensors file, as given to `header`."""
    return dict(json.loads(handle.metadata()["meta"])["content"])


def add_checksum(path: str | os.PathLike[str]) -> None:
    """Write the checksum into a safetensors file that was saved with a `header`.

    Raises:
        ValueError: If the file has no such header.
    """
    with open(path, "rb+") as handle:
        head = _head(handle)
        match = _CHECKSUM.search(head)
        if match is None:
            raise ValueError(f"{path} has no header with room for a checksum")
        digest = _digest(handle, head, match)
        handle.seek(match.start(1))
        handle.write(digest.encode())


def verify_checksum(path: str | os.PathLike[str]) -> str | None:
    """Verify the checksum that `add_checksum` wrote.

    Returns:
        None if it matches, else the reason for a message.
    """
    with open(path, "rb") as handle:
        head = _head(handle)
        match = _CHECKSUM.search(head)
        if match is None:
            return _mismatch(None)
        right = match[1].decode() == _digest(handle, head, match)
        return None if right else _mismatch(match[1])


def _head(handle: IO[bytes]) -> bytes:
    """Length and header of a safetensors file, as bytes."""
    length = handle.read(8)
    # A damaged length may be anything; a header is never that long.
    return length + handle.read(min(int.from_bytes(length, "little"), 2**27))


def _digest(handle: IO[bytes], head: bytes, match: re.Match[bytes]) -> str:
    blank = head[: match.start(1)] + _BLANK.encode() + head[match.end(1) :]
    digest = hashlib.sha256(blank)
    handle.seek(len(head))
    while block := handle.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write named arrays and a JSON header as one safetensors file.

    Equal input gives equal bytes.
    """
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    with atomic_path(path) as part:
        save_file(arrays, part, metadata=header(meta or {}))
        add_checksum(part)


def read_tensors(
    path: str | os.PathLike[str], names: list[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Map arrays and read the JSON header of a file from `write_tensors`.

    All processes that read a file share one copy of it in memory. Writing to an array changes it
    in its own process alone, never the file.

    Arguments:
        path: The file.
        names: Arrays to map; None: all.

    Returns:
        Arrays by name, and the header.

    Raises:
        AbsentError: If it is a reason file.
        UserError: If the file or an array is missing, or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        reason = verify_checksum(path)
        if reason is not None:
            raise UserError(f"{path} is damaged ({reason}); delete it and run again")
        with safe_open(path, framework="numpy") as handle:
            _check_made(path, read_header(handle))
            present = handle.keys()
            wanted = present if names is None else names
            if missing := sorted(set(wanted) - set(present)):
                raise UserError(
                    f"{path}: arrays {', '.join(missing)} not found; it has {', '.join(present)}"
                )
            meta = read_header(handle)
        return _mapped(path, wanted), meta
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule that makes it") from error
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from error


def _mapped(path: str | os.PathLike[str], names: list[str]) -> dict[str, np.ndarray]:
    """Arrays of a verified safetensors file; safetensors' own reader would copy them."""
    if not names:
        return {}
    with open(path, "rb") as handle:
        head = _head(handle)
    entries = json.loads(head[8:])
    content = np.memmap(path, np.uint8, mode="c", offset=len(head)).view(np.ndarray)
    arrays = {}
    for name in names:
        entry = entries[name]
        kind, (low, high) = entry["dtype"], entry["data_offsets"]
        # F32: 32 bits, in NumPy f4: 4 bytes.
        dtype = "?" if kind == "BOOL" else f"<{kind[0].lower()}{int(kind[1:]) // 8}"
        arrays[name] = content[low:high].view(dtype).reshape(entry["shape"])
    return arrays


def read_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read only the JSON header of a file from `write_tensors`."""
    return read_tensors(path, names=[])[1]


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises:
        UserError: If the file is missing.
    """
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule that makes it") from error


def content_hash(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value, independent of the order of keys.

    Examples:
        >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
