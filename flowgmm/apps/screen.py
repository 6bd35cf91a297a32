"""Screen of the commands: a progress bar, and tables as CSV."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowgmm.utils.io import write_text
from flowgmm.utils.progress import Progress

__all__ = ["progress_bar", "write_csv"]


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """Progress bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:

        def update(done: int, total: int, name: str) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name)
            bar.update(tasks[name], completed=done, total=total)

        yield update


def write_csv(frame: Any, output: Path | None) -> None:
    """Write a data frame as CSV to a file, or to the screen if there is none."""
    text = frame.to_csv(index=False, float_format="%.6g")
    if output is not None:
        write_text(output, text)
        return
    print(text, end="")
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError as error:
        print(
            f"note: {error.encoding} lacks some of these characters, shown as escapes; "
            "--output writes them as they are",
            file=sys.stderr,
        )
