"""Lock and cache of a job: one process works on it, and finished outputs are kept.

Snakemake deletes the outputs of a job before it runs the job again, and it does run again a job
that finished on a cluster after Snakemake had ended. So outputs are also kept beside the checkpoint
until the whole workflow has succeeded.
"""

import contextlib
import glob
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_meta

__all__ = ["clear_cache", "run_once"]

FINISHED = "finished"


def run_once(folder: Path, outputs: Sequence[Path], make: Callable[[], None]) -> None:
    """Make the outputs of a job, or restore them from the cache if it has finished before.

    Arguments:
        folder: Folder of the job, named after the hash of all that its outputs depend on; `make`
            may keep checkpoints there.
        outputs: Files that `make` makes. The last one appears last.
        make: Function that does the job.

    Raises:
        UserError: If a file cannot be written.
    """
    with _locked(folder):
        _remove_parts(outputs)
        if not _restore(folder, outputs):
            make()
            _store(folder, outputs)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder of a job; wait for another process that has locked it.

    The lock, a file beside the folder, ends with the process, however that ends.

    Raises:
        UserError: If the file cannot be written.
    """
    from filelock import FileLock, Timeout

    path = folder.with_suffix(".lock")
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"another process works on this job: waiting for {path}", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; check the folder's permissions and free space"
        ) from error
    try:
        yield
    finally:
        # Before the release, so that a waiting process finds it missing and makes another.
        path.unlink(missing_ok=True)
        lock.release()


def _remove_parts(outputs: Sequence[Path]) -> None:
    """Remove what a killed process had written of the outputs; behind the lock no other writes."""
    for path in outputs:
        for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            part.unlink(missing_ok=True)


def _store(folder: Path, outputs: Sequence[Path]) -> None:
    """Store the outputs of a finished job in its folder, in place of all else there.

    Hard links: they take no space, and outlive the deletion of the outputs.
    """
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / FINISHED).mkdir(parents=True)
    for path in outputs:
        _link(path, part / FINISHED / path.name)
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def _restore(folder: Path, outputs: Sequence[Path]) -> bool:
    """Restore the outputs of a job from the cache; False if it has not finished before.

    Links share their bytes with the outputs, and any damage to these, so checksums are verified.
    """
    kept = [folder / FINISHED / path.name for path in outputs]
    if not all(path.is_file() for path in kept):
        return False
    try:
        for path in kept:
            (read_json if path.suffix == ".json" else read_meta)(path)
    except UserError as error:
        print(f"{error}: the job runs again", file=sys.stderr)
        shutil.rmtree(folder)
        return False
    for path, source in zip(outputs, kept, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        _link(source, path)
        # Snakemake refuses an output older than an input, which may have been made anew meanwhile.
        os.utime(path)
    return True


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def clear_cache(checkpoints: Path) -> None:
    """Remove the outputs of finished jobs; unfinished ones keep their checkpoints."""
    for kept in checkpoints.glob(f"*/{FINISHED}"):
        shutil.rmtree(kept.parent)
