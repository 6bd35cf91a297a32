"""Command-line options, one-line errors and progress lines of the rules' scripts."""

import argparse
import contextlib
import ctypes
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowgmm.datasets.download import DownloadError
from flowgmm.utils import signals
from flowgmm.utils.absence import count_failure, reason_of, write_reason
from flowgmm.utils.errors import UserError

__all__ = ["ProgressLog", "keep_freed_memory", "or_reason", "run_script"]

INTERVAL_S = 3.0
# Parameters of glibc's mallopt: when to give memory back, from which size to map it on its own.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3


class ProgressLog:
    """Write a line to standard error every few seconds, and the last one always.

    Arguments:
        name: Start of each line, which tells apart jobs that run side by side.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._written = time.monotonic() - INTERVAL_S

    def __call__(self, done: int, total: int, text: str) -> None:
        """Report that `done` of `total` units of work are done."""
        now = time.monotonic()
        if done >= total > 0 or now - self._written >= INTERVAL_S:
            self._written = now
            share = f"{done}/{total} " if total else ""
            print(f"{self._name}: {share}{text}", file=sys.stderr, flush=True)


def keep_freed_memory() -> None:
    """Let this process keep what it frees for its next allocations, where glibc allows it.

    A training step frees and asks for the same large blocks over and over; new pages each time cost
    as much as a third of its arithmetic. The numbers stay the same.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, 2**30)
        mallopt(TRIM_THRESHOLD, -1)


@contextlib.contextmanager
def or_reason(output: Path, spec: Mapping[str, Any]) -> Iterator[None]:
    """Turn a download that fails for good into a reason file, which tables show.

    Other datasets are made all the same; the next run tries again.

    Arguments:
        output: The file that cannot be downloaded.
        spec: Spec of the job.
    """
    try:
        yield
    except DownloadError as error:
        print(f"error: {error}", file=sys.stderr)
        count_failure(output)
        write_reason(output, f"data absent: {error}", spec)


def run_script(
    main: Callable[[argparse.Namespace], None],
    *options: str,
    needs: Callable[[argparse.Namespace], Iterable[str | Path]] = lambda options: (),
    makes: Callable[[argparse.Namespace], Iterable[str | Path]] = lambda options: (),
) -> None:
    """Parse options, call `main`; a user's mistake ends as one line and exit status 2.

    SIGTERM and Ctrl-C end it as one line, too, with the exit status that shells give to them: 128
    and the signal's number.

    Arguments:
        main: Called with the options' values.
        options: Names of required options; one that ends in ``*`` takes any number of values.
        needs: Inputs without which nothing can be made: where one of them is a reason file
            (`flowgmm.utils.absence`), so are all outputs, and `main` is not called.
        makes: All outputs.
    """
    parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
    for option in options:
        if option.endswith("*"):
            parser.add_argument(f"--{option[:-1]}", nargs="*", required=True)
        else:
            parser.add_argument(f"--{option}", required=True)
    signals.install_handlers()
    try:
        parsed = parser.parse_args()
        reason = reason_of(needs(parsed))
        if reason is None:
            main(parsed)
            return
        print(f"not run: {reason}", file=sys.stderr)
        for path in makes(parsed):
            write_reason(path, reason, json.loads(parsed.spec))
    except signals.Interrupted as end:
        print(end, file=sys.stderr)
        sys.exit(128 + end.received)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
