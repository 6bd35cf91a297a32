"""Data of the report: what was made of a recipe, gathered from its files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowgmm.reporting.commands import make_command
from flowgmm.reporting.names import title_of
from flowgmm.reporting.report import types
from flowgmm.reporting.report.claims import decide_claims
from flowgmm.reporting.report.missing import missing_cells, missing_claims, missing_targets
from flowgmm.reporting.report.runs import read_runs
from flowgmm.reporting.report.tables import report_table
from flowgmm.reporting.tables.cells import Table
from flowgmm.reporting.tables.files import read_table
from flowgmm.utils.absence import reason_in
from flowgmm.utils.io import read_json, write_json

__all__ = ["gather", "missing_runs", "write_data"]


def missing_runs(spec: Mapping[str, Any]) -> list[str]:
    """Ids of the runs that have no record and are not left out.

    Arguments:
        spec: From `flowgmm.experiments.specs.report.report_spec`.
    """
    return [
        run
        for run, described in spec["runs"].items()
        if described["skip"] is None and not all(map(_is_made, described["records"]))
    ]


def gather(
    spec: Mapping[str, Any], folder: Path, estimates: Mapping[str, float], basis: str
) -> types.Report:
    """Gather all that the page of a recipe embeds; nothing is computed that a table has.

    Arguments:
        spec: From `flowgmm.experiments.specs.report.report_spec`.
        folder: Folder of the report, `results/{recipe}/report`; paths are from the folder where
            Snakemake runs.
        estimates: Estimated hours of the runs that are missing, by id.
        basis: What these estimates rest on, in words.
    """
    results = folder.parent
    files = {name: results / "tables" / f"{name}.json" for name in spec["tables"]}
    files = {name: path for name, path in files.items() if path.is_file()}
    read = {name: read_table(path) for name, path in files.items()}
    analyses = _analyses(spec["analyses"])
    changes = spec["changes"]
    found, tuning = read_runs(_records(spec, read), spec["runs"], changes)
    runs = {run.id: run for run in found}
    tables = tuple(
        report_table(read[name], read_json(path).get("changes", changes), path, folder)
        for name, path in files.items()
    )
    claims = decide_claims(spec["claims"], read, analyses, runs)
    figures = _figures(spec, folder)
    made = [*files, *(figure.name for figure in figures)]
    made += [name for name, result in analyses.items() if result["status"] == "ok"]
    return types.Report(
        **{key: spec[key] for key in ("recipe", "title")},
        scaled_down=tuple(spec["scaled_down"]),
        changes=tuple(changes),
        command=make_command(changes, "report"),
        recipes=_recipes(spec, folder),
        claims=claims,
        tables=tables,
        runs=found,
        figures=figures,
        tuning=tuning,
        curves=_curves(tables, runs, spec["runs"]),
        calibration=_calibration(tables),
        cost=_cost(spec, runs, estimates, basis),
        missing=(
            *missing_claims(claims, runs, changes),
            *missing_cells(tables, runs, estimates, changes),
            *missing_targets(spec, made, runs, estimates),
        ),
        departures={key: types.Departure(**row) for key, row in spec["departures"].items()},
        analyses=_overview(results),
    )


def write_data(report: types.Report, path: Path) -> None:
    """Write the report's data as JSON."""
    write_json(path, asdict(report))


def _is_made(record: str) -> bool:
    return Path(record).is_file() and reason_in(record) is None


def _records(spec: Mapping[str, Any], tables: Mapping[str, Table]) -> list[Path]:
    """Records of all runs: those that a table names, else those that the config asks for."""
    named: dict[str, dict[str, None]] = {}
    for table in tables.values():
        for path, origin in table.records.items():
            key = "/".join(origin["spec"][name] for name in ("dataset", "labels", "method"))
            named.setdefault(key, {})[path] = None
    paths = [
        path
        for run, described in spec["runs"].items()
        for path in named.get(run, dict.fromkeys(described["records"]))
    ]
    return [Path(path) for path in paths if _is_made(path)]


def _analyses(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Content of the analyses that were made, and reasons of those that were left out."""
    found: dict[str, dict[str, Any]] = {}
    for name, entry in entries.items():
        path = Path(entry["path"])
        if (reason := reason_in(path)) is not None:
            found[name] = {"status": "not run", "reason": reason["absent"]}
        elif path.is_file():
            found[name] = read_json(path)
        elif entry["skip"] is not None:
            found[name] = {"status": "not run", "reason": entry["skip"]}
    return found


def _overview(results: Path) -> tuple[dict[str, Any], ...]:
    """Rows of the overview of analyses, as its json has them."""
    path = results / "tables" / "analyses.json"
    return tuple(read_json(path)["rows"]) if path.is_file() else ()


def _figures(spec: Mapping[str, Any], folder: Path) -> tuple[types.Figure, ...]:
    """Figures that were made."""
    found = []
    for name, title in spec["figures"].items():
        path = folder.parent / "figures" / f"{name}.png"
        if not path.is_file():
            continue
        vector = next(
            (path.with_suffix(s) for s in (".svg", ".pdf") if path.with_suffix(s).is_file()), path
        )
        found.append(
            types.Figure(
                name=name,
                title=title,
                caption=f"{title_of(name)}: {title} · recipe {spec['recipe']}",
                file=os.path.relpath(vector, folder),
                png=os.path.relpath(path, folder),
                command=make_command(spec["changes"], name),
            )
        )
    return tuple(found)


def _recipes(spec: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], ...]:
    """Other recipes that have tables, and their reports."""
    found = []
    for name, title in spec["recipes"].items():
        results = folder.parents[1] / name
        if name == spec["recipe"] or not list(results.glob("tables/*.json")):
            continue
        page = results / "report" / "index.html"
        where = os.path.relpath(page, folder) if page.is_file() else None
        found.append({"name": name, "title": title, "page": where})
    return tuple(found)


def _curves(
    tables: Sequence[types.Table],
    runs: Mapping[str, types.Run],
    described: Mapping[str, Mapping[str, Any]],
) -> tuple[types.Curve, ...]:
    """Accuracy of every method against the number of labels, from the cells of all tables."""
    points: dict[tuple[str, str], dict[float, types.Point]] = {}
    for table in tables:
        for row, cells in zip(table.rows, table.cells, strict=True):
            for column, cell in zip(table.columns, cells, strict=True):
                if cell.run is None or (cell.metric, cell.evaluate) != ("accuracy", "test"):
                    continue
                run = runs.get(cell.run)
                x = run.data.get("n_labelled") if run else described[cell.run]["n_labels"]
                if x is None:
                    continue
                box = cell.interval
                point = types.Point(
                    x=x,
                    value=cell.value,
                    interval=(box["low"], box["high"]) if box else None,
                    n=cell.n,
                    paper=cell.printed["value"] if cell.printed else None,
                    place=types.Place(table.name, row.title, column.title),
                )
                points.setdefault((cell.dataset, cell.method), {}).setdefault(x, point)
    titles = {run.split("/")[0]: entry["dataset_title"] for run, entry in described.items()}
    methods = {run.split("/")[2]: entry["title"] for run, entry in described.items()}
    return tuple(
        types.Curve(
            dataset=dataset,
            dataset_title=titles[dataset],
            method=method,
            title=methods[method],
            unit="percent",
            points=tuple(curve[x] for x in sorted(curve)),
        )
        for (dataset, method), curve in points.items()
    )


def _calibration(tables: Sequence[types.Table]) -> tuple[types.Place, ...]:
    return tuple(
        types.Place(table.name, row.title, column.title)
        for table in tables
        for row, cells in zip(table.rows, table.cells, strict=True)
        for column, cell in zip(table.columns, cells, strict=True)
        if cell.metric in ("ece", "class_nll") and cell.value is not None
    )


def _cost(
    spec: Mapping[str, Any],
    runs: Mapping[str, types.Run],
    estimates: Mapping[str, float],
    basis: str,
) -> types.Cost:
    """Hours by target; a run of several targets counts in each, and once in the sum."""
    lines = []
    for target, ids in spec["targets"].items():
        made = [runs[run] for run in ids if run in runs]
        missing = [run for run in ids if run in estimates]
        if made or missing:
            lines.append(
                types.CostLine(
                    target=target,
                    measured=sum(run.minutes for run in made) / 60,
                    missing=sum(estimates[run] for run in missing),
                    basis=basis if missing else "",
                    n_runs=len(made),
                    n_missing=len(missing),
                )
            )
    return types.Cost(
        hours=sum(run.minutes for run in runs.values()) / 60,
        devices=tuple(dict.fromkeys(run.device for run in runs.values())),
        lines=tuple(lines),
    )
