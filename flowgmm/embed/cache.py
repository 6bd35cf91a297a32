"""Cache of vectors: a file that is filled chunk by chunk, so that a killed embedding resumes."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path, content_hash
from flowgmm.utils.progress import Progress

__all__ = ["Encoder", "embedded", "make_folder"]


class Encoder(Protocol):
    """Function from item numbers, shape (n,), to vectors, shape (n, width) float32."""

    width: int

    def __call__(self, items: np.ndarray, /) -> np.ndarray: ...


def embedded(
    key: Any,
    cache: Path,
    sizes: np.ndarray,
    make_encoder: Callable[[], Encoder],
    *,
    chunk: int,
    unit: str,
    progress: Progress | None = None,
) -> np.ndarray:
    """Load the vectors of `key` from the cache; encode and store missing ones.

    Finished chunks are on disk before they are marked as finished, so a killed call resumes with
    the next one, and ends with the same bits. Memory holds one chunk and the encoder, not
    the vectors.

    Arguments:
        key: JSON value that holds all that determines the vectors.
        cache: Folder of the vectors, by the hash of `key`.
        sizes: Work that each of the N items takes, in any unit, shape (N,); the largest come first,
            so that the time left is not underestimated and memory peaks at once.
        make_encoder: Called if vectors are missing.
        chunk: Items per chunk: the unit of encoding, of writing and of resuming.
        unit: Name of the items in the progress, e.g. ``texts``.
        progress: Called at most every few seconds with (items done, N, line of text).

    Returns:
        Shape (N, width) float32, mapped from the file.
    """
    name = content_hash(key)
    path = cache / f"{name}.npy"
    if not path.exists():
        part, done = cache / f"{name}.part.npy", cache / f"{name}.done.npy"
        _fill(part, done, np.asarray(sizes), make_encoder(), chunk, unit, progress)
        os.replace(part, path)
        done.unlink()
    vectors: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return vectors


def _fill(
    part_path: Path,
    done_path: Path,
    sizes: np.ndarray,
    encoder: Encoder,
    chunk: int,
    unit: str,
    progress: Progress | None,
) -> None:
    """Encode the missing chunks."""
    order = np.argsort(-sizes, kind="stable")
    chunks = [order[i : i + chunk] for i in range(0, len(order), chunk)]
    part = _mapped(part_path, (len(sizes), encoder.width), np.float32)
    done = _mapped(done_path, (len(chunks),), np.bool_)
    missing = [number for number, ready in enumerate(done) if not ready]
    left = sum(int(sizes[chunks[number]].sum()) for number in missing)
    resumed = len(sizes) - sum(len(chunks[number]) for number in missing)
    seen, work, start, reported = resumed, 0, time.monotonic(), 0.0
    for number in missing:
        items = chunks[number]
        part[items] = encoder(items)
        part.flush()
        done[number] = True
        done.flush()
        seen, work = seen + len(items), work + int(sizes[items].sum())
        elapsed = time.monotonic() - start
        if progress and (elapsed - reported > 3 or seen == len(sizes)):
            reported = elapsed
            rate, remaining = (seen - resumed) / elapsed, elapsed / work * (left - work)
            progress(seen, len(sizes), f"{rate:.3g} {unit}/s, {remaining:.0f} s left")


def _mapped(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap[Any, Any]:
    """Map an array file; create it atomically, filled with zeros, if it does not exist."""
    if not path.exists():
        with atomic_path(path) as fresh:
            np.lib.format.open_memmap(fresh, mode="w+", dtype=dtype, shape=shape).flush()
    return np.lib.format.open_memmap(path, mode="r+")


def make_folder(cache: Path) -> None:
    """Make the cache's folder.

    Raises:
        UserError: If it cannot be made.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {cache}: {error.strerror}; check the folder's permissions"
        ) from error
