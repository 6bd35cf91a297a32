"""Run targets of Snakemake with bars and time left; what fails is shown whole."""

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowgmm.apps.estimate.estimate import estimate
from flowgmm.apps.run.events import command, parse
from flowgmm.apps.run.progress import Failure, State

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["run_targets"]

# Lines of the output that are kept for a failure outside all jobs.
KEPT = 5000
# What jobs and the workflow say to people, whatever the screen.
SAID = ("not run: ", "error: ", "warning: ")
# Seconds between lines where the screen is no terminal.
EVERY_S = 15.0


def run_targets(
    root: Path,
    targets: Sequence[str],
    changes: Sequence[str] = (),
    options: Sequence[str] = (),
    verbose: bool = False,
) -> int:
    """Run targets; progress goes to standard error.

    Arguments:
        root: The repository, which is also the working directory.
        targets: Targets of Snakemake.
        changes: ``key=value`` of `config/config.yaml`.
        options: Further options of Snakemake.
        verbose: Show Snakemake's own lines instead of bars.

    Returns:
        Exit status of Snakemake.

    Raises:
        UserError: If the config or a target is wrong.
    """
    from rich.console import Console

    # Options that take many values come last, and `--` ends them.
    config = ["--config", *changes] if changes else []
    arguments = ["--profile", "local", *options, *config, "--", *targets]
    if verbose:
        call = [sys.executable, "-m", "snakemake", *arguments]
        return subprocess.run(call, check=False).returncode
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with console.status("estimating what is to be done"):
        plan = estimate(root, targets, changes)
    state = State(plan.dry_run, tuple(guess.seconds for guess in plan.guesses))
    if not state.total:
        console.print("Nothing to do: all targets exist and are up to date.")
        return 0
    about = _time(plan.wall_s)
    console.print(f"{state.total} jobs, about {about}; --verbose shows Snakemake's own lines")
    lines: deque[str] = deque(maxlen=KEPT)
    begin = time.monotonic()
    code = _watch(arguments, state, lines, console)
    if code:
        _show_failures(console, state.failures, lines)
    else:
        console.print(f"{state.n_done} jobs in {_time(time.monotonic() - begin)}")
    for line in dict.fromkeys(text for text in lines if text.startswith(SAID)):
        console.print(line, markup=False)
    return code


def _watch(arguments: Sequence[str], state: State, lines: deque[str], console: "Console") -> int:
    """Run Snakemake and show its progress until it ends."""
    process = subprocess.Popen(
        command(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    assert process.stdout is not None
    screen = _bars if console.is_terminal else _lines
    try:
        for _ in screen(_read(process.stdout, state, lines), state, console):
            pass
    except KeyboardInterrupt as end:
        # The terminal's Ctrl-C reaches Snakemake, too, which ends its jobs; a SIGTERM does not.
        if getattr(end, "received", signal.SIGINT) != signal.SIGINT:
            process.terminate()
        console.print("stopping; trainings keep their checkpoints")
        lines.extend(line.rstrip("\n") for line in process.stdout)
        process.wait()
        raise
    return process.wait()


def _read(output: Iterator[str], state: State, lines: deque[str]) -> Iterator[None]:
    """Feed the state with the output, line by line."""
    for text in output:
        line = text.rstrip("\n")
        if (event := parse(line)) is not None:
            state.event(event)
        else:
            state.line(line)
            lines.append(line)
        yield


def _bars(changes: Iterator[None], state: State, console: "Console") -> Iterator[None]:
    """Show a bar of all jobs and one of each that runs."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
    from rich.text import Text

    class Left(ProgressColumn):
        """Time left of all jobs, beside the first bar."""

        max_refresh = 1.0

        def render(self, task: Task) -> Text:
            return Text(f"{_time(state.seconds_left())} left" if task.id == 0 else "")

    count = TextColumn("{task.completed:.0f}/{task.total:.0f}")
    columns = (TextColumn("{task.description}"), BarColumn(), count, Left())
    with Progress(*columns, console=console, transient=True) as progress:
        whole = progress.add_task("all jobs", total=state.total)
        shown: dict[int, TaskID] = {}
        n_failed = 0
        for change in changes:
            progress.update(whole, completed=state.n_done)
            for key in [key for key in shown if key not in state.running]:
                progress.remove_task(shown.pop(key))
            for key, job in state.running.items():
                if key not in shown and job.total:
                    shown[key] = progress.add_task(f"  {job.name}", total=job.total)
                if key in shown:
                    progress.update(shown[key], completed=job.done, total=job.total)
            for failure in state.failures[n_failed:]:
                progress.console.print(f"failed: {failure.name}", markup=False)
            n_failed = len(state.failures)
            yield change


def _lines(changes: Iterator[None], state: State, console: "Console") -> Iterator[None]:
    """Write a line now and then, where the screen is no terminal."""
    last = time.monotonic()
    for change in changes:
        if time.monotonic() - last >= EVERY_S:
            last = time.monotonic()
            console.print(
                f"{state.n_done} of {state.total} jobs, {_time(state.seconds_left())} left"
            )
        yield change


def _show_failures(console: "Console", failures: Sequence[Failure], lines: Sequence[str]) -> None:
    """Show each failed job with its whole log; of a failure outside all jobs all of the output."""
    for failure in failures:
        console.print(f"\nfailed: {failure.name}", markup=False, style="bold red")
        logs = [Path(log) for log in failure.logs if Path(log).is_file()]
        for log in logs:
            console.print(f"{log}:", markup=False)
            console.print(log.read_text(encoding="utf-8", errors="replace"), markup=False)
        if not any(log.stat().st_size for log in logs):
            console.print(f"no log; its command was: {failure.command}", markup=False)
    if failures:
        console.print(
            "Once the reason above is resolved, the same command goes on from here; jobs that are "
            "done are not done again."
        )
    else:
        for line in lines:
            console.print(line, markup=False)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
