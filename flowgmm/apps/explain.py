"""Provenance of a cell of a table: its runs, and the command that recomputes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import (
    Job,
    Project,
    Run,
    settings_with,
)
from flowgmm.experiments.specs.runs import train_spec
from flowgmm.experiments.validation import nearest
from flowgmm.experiments.yaml_io import dump_yaml
from flowgmm.reporting.commands import make_command
from flowgmm.reporting.tables.cells import Cell, Table
from flowgmm.reporting.tables.files import read_table
from flowgmm.reporting.tables.layout import value_text
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, sha256

__all__ = ["Explanation", "Origin", "explain", "show"]

# Seeds in a run's record; the others of a neural method derive from its random_state.
NAMED_SEEDS = ("split seed", "labels seed", "random_state")


@dataclass(frozen=True)
class Origin:
    """A block of seeds behind a cell, trained in one job.

    Attributes:
        record: Path of its record.
        content: Content of the record when the table was made: spec, hashes, environment, git
            commit, timing, data.
        logs: Existing logs of the job.
        changed: Changes since the table was made; empty: none.
    """

    record: str
    content: dict[str, Any]
    logs: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """Origins of a table's cell, and the command that recomputes it.

    Attributes:
        table: The table that was made.
        cells: The method's cells in the columns of the dataset, at least one.
        origins: Their jobs; none if nothing was run.
        command: Command line that reruns these jobs and makes the table from them.
    """

    table: Table
    cells: tuple[Cell, ...]
    origins: tuple[Origin, ...]
    command: str


def explain(
    root: Path, table: str, dataset: str, method: str, recipe: str | None = None
) -> Explanation:
    """Trace a cell to the runs behind it.

    Arguments:
        root: The repository, which is also the working directory.
        table: Name of the table.
        dataset: Name of the dataset; ``dataset/labels`` where several label sets are in the table.
        method: Name of the method.
        recipe: Recipe of the results; None: that in `config/config.yaml`.

    Raises:
        UserError: If the recipe, table, column or row is unknown, or the table is not made yet.
    """
    changes = [] if recipe is None else [f"recipe={recipe}"]
    config = load_checked(root, settings_with(root, changes))
    config.table(table)
    path = f"{config.results}/tables/{table}.json"
    if not (root / path).is_file():
        raise UserError(f"{path} not found; make it: {make_command(changes, path)}")
    made = read_table(root / path)
    changes = read_json(root / path).get("changes", changes)
    cells = _cells(made, dataset, method)
    records = sorted({run["record"] for cell in cells for run in cell.runs})
    now = load_checked(root, settings_with(root, changes))
    origins = tuple(_origin(now, record, made.records[record]) for record in records)
    return Explanation(made, cells, origins, make_command(changes, path, records))


def _cells(table: Table, dataset: str, method: str) -> tuple[Cell, ...]:
    where = table.spec["name"]
    row = [cell for cells in table.cells for cell in cells if cell.method == method]
    if not row:
        known = dict.fromkeys(cell.method for cells in table.cells for cell in cells)
        raise nearest(method, known, "method", where)
    found = tuple(c for c in row if dataset in (c.dataset, f"{c.dataset}/{c.labels}"))
    if not found:
        columns = {c.dataset for c in row} | {f"{c.dataset}/{c.labels}" for c in row}
        raise nearest(dataset, sorted(columns), "dataset", where)
    return found


def _origin(config: Project, record: str, content: dict[str, Any]) -> Origin:
    spec, folder = content["spec"], Path(record).parent
    job = folder.relative_to(f"{config.results}/runs")
    logs = sorted((config.root / config.results / "logs").glob(f"*/{job}.log"))
    changed = []
    path = config.root / record
    if not path.is_file():
        changed.append("the record was not found")
    elif sha256(path) != content["sha256"]:
        changed.append("the record has changed; make the table again")
    else:
        run = Run(spec["dataset"], spec["labels"], spec["method"])
        wanted = train_spec(config, Job(run, spec["seeds"][0], spec["seeds"][-1]))
        differ = [key for key in wanted if wanted[key] != spec.get(key)]
        if differ:
            changed.append(f"a run would redo it: its {', '.join(differ)} changed")
    return Origin(
        record,
        content,
        tuple(log.relative_to(config.root).as_posix() for log in logs),
        tuple(changed),
    )


# Showing


def show(explanation: Explanation) -> None:
    """Print an explanation.

    Arguments:
        explanation: From `explain`.
    """
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False, soft_wrap=True)
    spec = explanation.table.spec

    def say(label: str, text: Any) -> None:
        console.print(f"  {label:<9} {text}", markup=False)

    for labels in dict.fromkeys(cell.labels for cell in explanation.cells):
        cells = [cell for cell in explanation.cells if cell.labels == labels]
        first = cells[0]
        title = f"{spec['name']}, recipe {spec['recipe']}: {first.dataset}/{labels} {first.method}"
        console.print(title, markup=False, style="bold")
        for cell in cells:
            if len(cells) > 1:
                console.print(f" {_metric_name(cell)}", markup=False)
            for label, text in _cell_lines(cell, spec).items():
                say(label, text)
        if first.runs:
            table = RichTable()
            metrics = map(_metric_name, cells)
            for name in ["seed", *metrics, "steps", "tuned", "split", *NAMED_SEEDS]:
                table.add_column(name, overflow="fold")
            for runs in zip(*(cell.runs for cell in cells), strict=True):
                table.add_row(*_row(runs))
            console.print(table, soft_wrap=False)
        for run in first.runs:
            if run["status"] != "ok":
                say(f"seed {run['seed']}", f"{run['status']}: {run['reason']}")
            for resume in run.get("inexact_resumes", ()):
                say(
                    f"seed {run['seed']}",
                    f"went on inexactly after step {resume['step']}: moments of the optimizer "
                    f"{resume['moments']}, checkpoint made on {resume['device']}",
                )
    shown: dict[str, str] = {}
    for origin in explanation.origins:
        console.print(origin.record, markup=False, style="bold")
        lines = _record_lines(origin)
        for label, text in lines.items():
            same = label in ("config", "ran on") and shown.get(label) == text
            say(label, "as above" if same else text)
        shown = lines
    if explanation.origins:
        console.print("To rerun these seeds and make the table from them:")
    else:
        console.print("Once the reason above is resolved, run:")
    console.print(f"  {explanation.command}", markup=False)


def _metric_name(cell: Cell) -> str:
    return f"{cell.metric}, {cell.evaluate}"


def _row(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Row of the table of seeds: the value in each cell, steps, tuned settings, seeds."""
    run = runs[0]
    seeds = run["seeds"] or {}
    tuned = run["tuned"] and ", ".join(f"{k} = {v}" for k, v in run["tuned"].items())
    values = [r["value"] if r["value"] is None else f"{r['value']:.5g}" for r in runs]
    cells = [run["seed"], *values, run["n_iter"], tuned, run["split"]]
    cells += [seeds.get(name.removesuffix(" seed")) for name in NAMED_SEEDS]
    return ["-" if cell is None else str(cell) for cell in cells]


def _cell_lines(cell: Cell, spec: Mapping[str, Any]) -> dict[str, str]:
    """Lines that describe a cell: value, interval, printed number and verdict."""
    lines = {}
    if cell.runs:
        kind = "" if cell.metric == "tuned" else f", {spec['aggregate']} ± {spec['spread']}"
        lines["value"] = value_text(cell) + kind
    if cell.interval:
        box = cell.interval
        lines["interval"] = f"{box['low']:.4g} to {box['high']:.4g} ({box['kind']})"
    if cell.printed:
        printed = cell.printed
        source = f", from {printed['source']}" if printed.get("source") else ""
        lines["paper"] = f"{printed['text']} ({printed['reported_by']}{source})"
        if printed.get("origin"):
            lines["origin"] = printed["origin"]
    if cell.verdict or cell.why:
        lines["verdict"] = ": ".join(part for part in (cell.verdict, cell.why) if part)
    return lines


def _record_lines(origin: Origin) -> dict[str, str]:
    """Lines that describe a record: label -> text."""
    content = origin.content
    spec, hashes, data = content["spec"], content["hashes"], content["data"]
    environment, git = content["environment"], content["git"]
    versions = ", ".join(f"{name} {v}" for name, v in environment["versions"].items())
    splits = ", ".join(f"{number} {value[:12]}" for number, value in hashes["splits"].items())
    commit = "none" if git is None else git["commit"] + (" with changes" if git["dirty"] else "")
    config = {
        key: spec[key] for key in ("preprocess", "params", "tune", "tune_with") if key in spec
    }
    timing = content["timing"]
    lines = {
        "config": dump_yaml(config).strip().replace("\n", "\n            "),
        "code": f"{hashes['code'][:12]}, commit {commit}",
        "features": hashes["features"][:12],
        "splits": splits,
        "sources": ", ".join(f"{k} {v[:12]}" for k, v in data["sources"].items())
        or "none: generated or packaged",
        "data": "; ".join([*data["not_comparable"], *data["notes"]]),
        "precision": environment.get("precision") or "",
        "ran on": f"{environment['device']}, {environment['threads']} threads, "
        f"{environment['platform']}, Python {environment['python']}, {versions}",
        "took": f"{timing['wall_s']:.1f} s, {timing['fit_s']:.1f} s of them to fit",
        "log": ", ".join(origin.logs) or "not found",
        "changed": "; ".join(origin.changed) or "nothing since",
    }
    return {label: text for label, text in lines.items() if text}
