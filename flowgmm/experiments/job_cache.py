"""A job's folder among the checkpoints: one process works on it, and what it finished is kept.

Snakemake deletes a job's outputs before it runs the job again, and it does run again a job that
finished on a cluster while no Snakemake was looking. So results are also kept beside the checkpoint
until the whole workflow has succeeded.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_meta

__all__ = ["forget_finished", "once"]

FINISHED = "finished"


def once(folder: Path, outputs: Sequence[Path], make: Callable[[], None]) -> None:
    """Have a job's outputs in their places, made by `make` or taken over from when it finished.

    Arguments:
        folder: The job's, named after the hash of all that its outputs depend on; `make` may keep
            what it likes there.
        outputs: Files that `make` makes. The last one appears last.
        make: Does the job.

    Raises:
        UserError: If a file cannot be written.
    """
    with _claimed(folder):
        if not _take_finished(folder, outputs):
            make()
            _keep_finished(folder, outputs)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold a job's folder; wait for another process that does.

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
        # While it is held: whoever waits for it sees that it is gone, and makes another.
        path.unlink(missing_ok=True)
        lock.release()


def _keep_finished(folder: Path, outputs: Sequence[Path]) -> None:
    """Keep a finished job's outputs in its folder, and nothing else.

    Hard links: they take no space, and outlive the deletion of the outputs.
    """
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / FINISHED).mkdir(parents=True)
    for path in outputs:
        _link(path, part / FINISHED / path.name)
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def _take_finished(folder: Path, outputs: Sequence[Path]) -> bool:
    """Put the outputs of a job that has finished before in their places; False if it has not.

    Links share their bytes with what was delivered, and any damage to it.
    """
    kept = [folder / FINISHED / path.name for path in outputs]
    if not all(path.is_file() for path in kept):
        return False
    try:
        for path in kept:
            (read_json if path.suffix == ".json" else read_meta)(path)
    except UserError as error:
        print(f"{error}: it is made anew", file=sys.stderr)
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


def forget_finished(checkpoints: Path) -> None:
    """Remove what finished jobs left; unfinished ones keep their checkpoints."""
    for kept in checkpoints.glob(f"*/{FINISHED}"):
        shutil.rmtree(kept.parent)
