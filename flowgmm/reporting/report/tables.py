"""Tables of the report, from the tables' own json: nothing is computed anew."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowgmm.reporting.commands import make_command
from flowgmm.reporting.report import types
from flowgmm.reporting.tables import cells
from flowgmm.reporting.tables.claim import claim_sentences
from flowgmm.reporting.tables.layout import caption, legend, value_text

__all__ = ["place_of", "report_table", "run_id", "title_of"]

COPIED = (
    *("dataset", "labels", "method", "metric", "evaluate", "unit", "kind", "value", "spread"),
    *("n", "n_failed", "n_missing", "interval", "margin", "printed", "verdict", "why"),
)


def report_table(
    table: cells.Table, changes: Sequence[str], path: Path, folder: Path
) -> types.Table:
    """Describe a table for the report.

    Arguments:
        table: The table.
        changes: The command line's ``key=value`` with which it was made.
        path: Its json.
        folder: Folder of the report.
    """
    spec = table.spec
    target = path.as_posix()
    return types.Table(
        name=spec["name"],
        title=spec["title"],
        caption=caption(table),
        legend=legend(table),
        aggregate=spec["aggregate"],
        columns=tuple(
            types.Column(
                **{key: column[key] for key in ("title", "dataset", "metric", "unit")},
                labels=tuple(remark["labels"]),
                notes=tuple(remark["notes"]),
            )
            for column, remark in zip(spec["columns"], table.remarks, strict=True)
        ),
        rows=tuple(
            types.Row(title=row["title"], kind=row["kind"], method=row.get("method"))
            for row in spec["rows"]
        ),
        cells=tuple(
            tuple(_report_cell(cell, changes, target) for cell in row) for row in table.cells
        ),
        sentences=tuple(claim_sentences(table.claim)) if table.claim else (),
        files=tuple(
            os.path.relpath(path.with_suffix(suffix), folder)
            for suffix in (".csv", ".md", ".tex", ".json")
        ),
    )


def run_id(cell: cells.Cell) -> str:
    """Id of the run behind a cell."""
    return f"{cell.dataset}/{cell.labels}/{cell.method}"


def place_of(spec: dict[str, Any], row: int, column: int) -> types.Place:
    """Place of a cell."""
    return types.Place(spec["name"], title_of(spec, "rows", row), title_of(spec, "columns", column))


def title_of(spec: dict[str, Any], axis: str, i: int) -> str:
    """Title of a row or column."""
    return str(spec[axis][i]["title"])


def _report_cell(cell: cells.Cell, changes: Sequence[str], target: str) -> types.Cell:
    records = list(dict.fromkeys(run["record"] for run in cell.runs))
    quoted = cell.kind == "quoted"
    return types.Cell(
        **{key: getattr(cell, key) for key in COPIED},
        difference=_difference(cell),
        text=value_text(cell) if cell.runs else "",
        values=tuple(
            {key: run.get(key) for key in ("seed", "split", "value", "status", "reason")}
            for run in cell.runs
        ),
        run=run_id(cell) if cell.runs else None,
        command="" if quoted else make_command(changes, target, records),
    )


def _difference(cell: cells.Cell) -> float | None:
    """Ours minus the printed value; None where the two cannot be compared."""
    if cell.value is None or cell.printed is None or cell.verdict in ("not comparable", ""):
        return None
    return float(cell.value - cell.printed["value"])
