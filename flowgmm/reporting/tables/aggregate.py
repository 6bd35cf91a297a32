"""Aggregate records of runs into the cells of a table."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowgmm.evaluation import metrics, verdicts
from flowgmm.evaluation.intervals import interval
from flowgmm.reporting.tables.cells import Cell, Table
from flowgmm.reporting.tables.claim import judge_claim
from flowgmm.utils.absence import reason_in
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import REASON, read_json, sha256

__all__ = ["make_table"]

INEXACT = (
    "some seeds went on from a checkpoint with reduced moments or of another device, so that a "
    "rerun gives other bits; `flowgmm why` names them"
)


def make_table(spec: dict[str, Any], records: Sequence[str | os.PathLike[str]]) -> Table:
    """Aggregate records into the cells of a table.

    Arguments:
        spec: As `flowgmm.experiments.specs.tables.table_spec` makes it.
        records: Paths of the runs' `record.json`; several seed blocks may feed one cell. A reason
            file (`flowgmm.utils.absence`) among them makes a cell `not run` with this reason.

    Raises:
        UserError: If a record belongs to no cell of the table, belongs to another recipe, repeats a
            seed, or was made from other features or by other code than its neighbour.
    """
    found: dict[tuple[str, str, str], list[tuple[str, dict[str, Any]]]] = {}
    absent: dict[tuple[str, str, str], str] = {}
    for path in sorted(Path(os.path.relpath(record)).as_posix() for record in records):
        if (reason := reason_in(path)) is not None:
            absent[_key(reason["spec"])] = reason[REASON]
            continue
        record = read_json(path)
        key = (record["dataset"], record["labels"], record["method"])
        found.setdefault(key, []).append((path, record))
        if record["recipe"] != spec["recipe"]:
            raise UserError(
                f"{path}: recipe {record['recipe']!r}, but {spec['name']} is made for "
                f"{spec['recipe']!r}; give it the records under results/{spec['recipe']}"
            )
    known = {
        _key(cell)
        for row, cells in zip(spec["rows"], spec["cells"], strict=True)
        for cell in cells
        if row["kind"] != "quoted" and not cell["left_out"]
    }
    for key, blocks in found.items():
        if key not in known:
            raise UserError(
                f"{blocks[0][0]}: {'/'.join(key)} is not a cell of {spec['name']}; leave it out, "
                "or add its column and row in config/tables.yaml"
            )
        _check_blocks(blocks)
    cells = tuple(
        tuple(
            _cell(spec, row, column, cell, found.get(_key(cell), []), absent.get(_key(cell)))
            for column, cell in zip(spec["columns"], cells, strict=True)
        )
        for row, cells in zip(spec["rows"], spec["cells"], strict=True)
    )
    remarks = tuple(
        _remarks(column, [r for key in map(_key, cells) for _, r in found.get(key, [])])
        for column, cells in zip(spec["columns"], zip(*spec["cells"], strict=True), strict=True)
    )
    origins = {
        path: {key: record[key] for key in ("spec", "hashes", "environment", "git", "timing")}
        | {"sha256": sha256(path), "data": record["data"]}
        for blocks in found.values()
        for path, record in blocks
    }
    return Table(spec, cells, remarks, origins, judge_claim(spec, cells))


def _key(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    return cell["dataset"], cell["labels"], cell["method"]


def _check_blocks(blocks: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Seed blocks of one cell hold different seeds of the same experiment."""
    seeds: set[int] = set()
    first_path, first = blocks[0]
    for path, record in blocks:
        if repeated := seeds & set(record["seeds"]):
            raise UserError(
                f"{path}: seed {min(repeated)} is in another record too; give each seed once"
            )
        seeds |= set(record["seeds"])
        for what in ("code", "features"):
            if record["hashes"][what] != first["hashes"][what]:
                raise UserError(
                    f"{path}: its {what} differ from those of {first_path}; run both again"
                )


def _not_comparable(record: Mapping[str, Any]) -> list[str]:
    """Reasons for which a record's numbers cannot be compared with the paper's."""
    scaled = record["spec"].get("scaled_down") or []
    return [*record["data"]["not_comparable"], *_restarted(record), *_scaled_down(scaled)]


def _restarted(record: Mapping[str, Any]) -> list[str]:
    """Reason that restarts give: they evaluate far more labels than a run is said to have."""
    counts = [run["restarts"]["count"] for run in record["runs"] if run.get("restarts")]
    if not counts:
        return []
    return [f"{sum(counts)} restarts, decided with {record['data']['n_val']} validation labels"]


def _scaled_down(what: Sequence[str]) -> list[str]:
    return [f"scaled down: {', '.join(what)}"] if what else []


def _cell(
    spec: Mapping[str, Any],
    row: Mapping[str, str],
    column: Mapping[str, Any],
    cell: Mapping[str, Any],
    blocks: Sequence[tuple[str, dict[str, Any]]],
    absent: str | None,
) -> Cell:
    printed = cell["printed"]
    place = {
        **{key: cell[key] for key in ("dataset", "labels", "method", "evaluate", "printed")},
        "kind": row["kind"],
        "metric": column["metric"],
        "unit": column["unit"],
    }
    if cell["left_out"]:
        word = "not run" if printed else ""
        return Cell(**place, verdict=word, why="not among the row's data sets")
    if row["kind"] == "quoted":
        return Cell(**place, verdict="", why="as printed" if printed else "nothing printed")
    if not blocks:
        return Cell(
            **place, verdict="not run", why=cell["not_run"] or absent or "no record was given"
        )

    reasons = _unique(reason for _, record in blocks for reason in _not_comparable(record))
    if column["metric"] == "tuned":
        return _choice_cell(place, blocks, reasons)
    scale = 100.0 if column["unit"] == "percent" else 1.0
    runs = []
    for path, record in blocks:
        for run in record["runs"]:
            scores = (run["metrics"] or {}).get(cell["evaluate"]) or {}
            value = scores.get(column["metric"])
            value = None if value is None else scale * value
            runs.append(_run(run, path) | {"value": value, "n_points": scores.get("n")})
    runs.sort(key=lambda run: run["seed"])
    values = [run["value"] for run in runs if run["value"] is not None]
    kept = [r["value"] for r in runs if r["value"] is not None and r["status"] == "ok"]
    n_failed = sum(run["status"] != "ok" for run in runs)
    if not values and not n_failed:
        why = f"this method has no {column['metric']} on {cell['evaluate']} points"
        return Cell(**place, verdict="not run", why=why)

    n_points = min((run["n_points"] for run in runs if run["n_points"]), default=None)
    value, said_spread = (None, None) if printed is None else _said(printed)
    verdict = verdicts.judge(
        values,
        n_runs=len(runs),
        n_failed=n_failed,
        aggregate=spec["aggregate"],
        unit=column["unit"],
        printed=value,
        printed_spread=said_spread,
        n_points=n_points,
        not_comparable=[*reasons, *_other_setting(printed)],
    )
    aggregate = {"median": metrics.median, "mean": lambda x: float(sum(x) / len(x))}
    spread = {"mad": metrics.mad, "std": metrics.std}
    ours = values and interval(values, spec["aggregate"], column["unit"], n_points)
    return Cell(
        **place,
        verdict=verdict.word,
        why=verdict.why,
        value=aggregate[spec["aggregate"]](values) if values else None,
        spread=spread[spec["spread"]](values) if len(values) > 1 else None,
        n=len(runs),
        n_failed=n_failed,
        n_missing=len(runs) - len(values),
        value_ok=aggregate[spec["aggregate"]](kept) if kept else None,
        n_ok=len(kept),
        interval=asdict(ours) if ours else None,
        margin=None if value is None else verdicts.margin(column["unit"], value, said_spread),
        runs=tuple(runs),
    )


def _said(printed: Mapping[str, Any]) -> tuple[float, float | None]:
    """Printed number and its spread; of a quoted one the source's where the paper has none."""
    spread = printed["spread"]
    return printed["value"], printed.get("source_spread") if spread is None else spread


def _other_setting(printed: Mapping[str, Any] | None) -> list[str]:
    """Reason why a quoted number is not of the setting that the row's runs have."""
    reason = printed and printed.get("not_comparable")
    return [reason] if reason else []


def _run(run: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Entry of one seed in a cell."""
    keys = ("seed", "split", "status", "reason", "seeds", "n_iter")
    tuned = run.get("tuned") and _short(run["tuned"])
    entry = {key: run.get(key) for key in keys} | {"tuned": tuned, "record": path}
    if "inexact_resumes" in run:
        entry["inexact_resumes"] = run["inexact_resumes"]
    return entry


def _short(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by their own names, as the paper prints them: ``training__lr`` is `lr`."""
    return {name.rpartition("__")[2]: value for name, value in params.items()}


def _choice_cell(
    place: Mapping[str, Any],
    blocks: Sequence[tuple[str, dict[str, Any]]],
    not_comparable: Sequence[str],
) -> Cell:
    """Cell of a chosen hyper-parameter; it has a value if all runs chose the same."""
    runs = [
        _run(run, path)
        | {
            "tuning": [
                {**point, "params": _short(point["params"])} for point in run.get("tuning") or ()
            ],
            "budget": run.get("budget"),
        }
        for path, record in blocks
        for run in record["runs"]
    ]
    runs.sort(key=lambda run: run["seed"])
    printed = place["printed"] or {"value": None, "parameter": None}
    for run in runs:
        run["value"] = (run["tuned"] or {}).get(printed["parameter"])
    values = [run["value"] for run in runs]
    if not all(run["tuned"] for run in runs) or (place["printed"] and None in values):
        return Cell(**place, verdict="not run", why="not tuned in this recipe")
    verdict = verdicts.judge_choice(values, printed=printed["value"], not_comparable=not_comparable)
    return Cell(
        **place,
        verdict=verdict.word,
        why=verdict.why,
        value=values[0] if len(set(values)) == 1 else None,
        n=len(runs),
        n_failed=sum(run["status"] != "ok" for run in runs),
        runs=tuple(runs),
    )


def _remarks(
    column: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Labels of a column's header about its data and size, and the notes that explain them."""
    smaller = (what for r in records for what in r["spec"].get("scaled_down") or [])
    scaled = _scaled_down(_unique([*column["scaled_down"], *smaller]))
    other = _unique(reason for r in records for reason in r["data"]["not_comparable"])
    notes = _unique(note for r in records for note in r["data"]["notes"])
    if any("inexact_resumes" in run for r in records for run in r["runs"]):
        notes.append(INEXACT)
    labels = ["scaled down"] * bool(scaled) + ["not the paper's data"] * bool(other)
    return {"labels": labels, "notes": _unique([*column["notes"], *scaled, *other, *notes])}


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
