"""Printing of an estimate: a table of rules, wall time, critical path and past error."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowgmm.apps.estimate.estimate import Estimate
from flowgmm.apps.estimate.predict import BASES

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["show"]


def show(result: Estimate) -> None:
    """Print an estimate."""
    from rich.console import Console

    console = Console(highlight=False)
    jobs = result.dry_run.jobs
    made = [i for i, job in enumerate(jobs) if job.outputs]
    if not made:
        console.print("Nothing to do: all targets exist and are up to date.")
        return
    console.print(_table(result, made))
    cores = result.dry_run.cores
    where = "a cluster, without its queue" if cores is None else f"{cores} cores"
    console.print(f"Wall time on {where}: {_time(result.wall_s)}")
    seconds = [guess.seconds for guess in result.guesses]
    console.print(f"Critical path, {_time(sum(seconds[i] for i in result.chain))}:")
    for i in result.chain:
        if jobs[i].outputs:
            console.print(f"  {_time(seconds[i]):>8}  {jobs[i].name}", markup=False)
    if result.error is not None:
        e = result.error
        console.print(
            f"Own error so far, predicted / measured over {result.n_finished} finished jobs, each "
            f"predicted from the others: median {e['median']:.2f}, 80 % within {e['low']:.2f} to "
            f"{e['high']:.2f}, sum {e['total']:.2f}"
        )
    else:
        console.print("No jobs have finished here yet: every time is counted or assumed.")
    for note in result.notes:
        console.print(f"({note})", markup=False)


def _table(result: Estimate, made: Sequence[int]) -> "Table":
    """Table of the jobs `made` by rule, the longest first, with totals."""
    from rich.table import Table

    jobs, seconds = result.dry_run.jobs, [guess.seconds for guess in result.guesses]
    by_rule = defaultdict(list)
    for i in made:
        by_rule[jobs[i].rule].append(i)

    def row(members: Sequence[int]) -> list[str]:
        cpu = sum(seconds[i] * jobs[i].threads for i in members) / 3600
        gpu = sum(seconds[i] for i in members if result.gpu[i]) / 3600
        disk = sum(result.n_bytes[i] for i in members)
        return [str(len(members)), f"{cpu:.2f}", f"{gpu:.2f}", _size_text(disk), bases(members)]

    def bases(members: Sequence[int]) -> str:
        spent = dict.fromkeys(BASES, 0.0)
        for i in members:
            spent[result.guesses[i].basis] += seconds[i]
        total = sum(spent.values()) or 1.0
        return ", ".join(f"{100 * s / total:.0f} % {b}" for b, s in spent.items() if s)

    table = Table("rule", show_footer=True)
    table.columns[0].footer = "total"
    for title in ("jobs", "CPU hours", "GPU hours", "disk", "times are"):
        table.add_column(title, justify="right" if title != "times are" else "left")
    for rule, members in sorted(
        by_rule.items(), key=lambda item: -sum(seconds[i] for i in item[1])
    ):
        table.add_row(rule, *row(members))
    for column, footer in zip(table.columns[1:], row(made), strict=True):
        column.footer = footer
    return table


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _size_text(n_bytes: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
