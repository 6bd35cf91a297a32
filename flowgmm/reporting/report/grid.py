"""Tables and analyses of the report as grids of cells, the longer axis down the page."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from flowgmm.reporting.names import title_of
from flowgmm.reporting.tables.layout import SECTIONS, SUFFIXES

__all__ = ["analysis_view", "cell_ids", "table_view"]

Data = Mapping[str, Any]


def cell_ids(tables: Sequence[Data], analyses: Sequence[Data]) -> dict[tuple[str, str, str], str]:
    """Key of each cell's drawer by its place: table, titles of row and column.

    A number of an analysis has the place (analysis, "", its title).
    """
    found = {
        (table["name"], row["title"], column["title"]): f"t/{t}/{i}/{j}"
        for t, table in enumerate(tables)
        for i, row in enumerate(table["rows"])
        for j, column in enumerate(table["columns"])
    }
    return found | {
        (row["analysis"], "", row["number"]): f"a/{i}" for i, row in enumerate(analyses)
    }


def table_view(t: int, table: Data) -> dict[str, Any]:
    """Table as its template reads it.

    Arguments:
        t: Its position among the tables.
        table: As in `flowgmm.reporting.report.types.Report`.
    """
    cells = [
        [_cell(f"t/{t}/{i}/{j}", cell) for j, cell in enumerate(row)]
        for i, row in enumerate(table["cells"])
    ]
    rows, columns = table["rows"], table["columns"]
    own = {
        **{key: table[key] for key in ("name", "legend", "sentences", "files")},
        "heading": f"{title_of(table['name'])}: {table['title']}",
        "notes": [
            {"title": column["title"], "texts": column["notes"]}
            for column in columns
            if column["notes"]
        ],
    }
    if len(columns) > len(rows):
        titles = [row["title"] + SUFFIXES[row["kind"]] for row in rows]
        lines = [
            {"title": column["title"], "labels": column["labels"], "cells": list(line)}
            for column, line in zip(columns, zip(*cells, strict=True), strict=True)
        ]
        heads = [{"title": title, "labels": []} for title in titles]
        groups = [{"title": "", "rows": lines}]
        # Rows of several metrics have no common order.
        sortable = len({column["unit"] for column in columns}) == 1
        corner = "data"
    else:
        heads = [{"title": c["title"], "labels": c["labels"]} for c in columns]
        lines = [
            {"title": row["title"], "labels": [], "cells": line, "kind": row["kind"]}
            for row, line in zip(rows, cells, strict=True)
        ]
        groups = [
            {"title": SECTIONS.get(kind, ""), "rows": list(together)}
            for kind, together in groupby(lines, key=lambda line: line["kind"])
        ]
        sortable, corner = True, "method"
    return own | {
        "corner": corner,
        "heads": [head | {"sortable": sortable} for head in heads],
        "groups": groups,
    }


def _cell(id: str, cell: Data) -> dict[str, Any]:
    """Cell with the key of its drawer, and the number by which its row is sorted."""
    value = cell["value"]
    if value is None and cell["printed"]:
        value = cell["printed"]["value"]
    return {**cell, "id": id, "sort_value": value if isinstance(value, int | float) else ""}


def analysis_view(rows: Sequence[Data]) -> list[dict[str, Any]]:
    """Analyses with their numbers, each with the key of its drawer."""
    numbered = [_number(f"a/{i}", row) for i, row in enumerate(rows)]
    return [
        {"name": name, "title": own[0]["title"], "rows": [row for row in own if row["number"]]}
        for name, together in groupby(numbered, key=lambda row: row["analysis"])
        if (own := list(together)) and own[0]["number"]
    ]


def _number(id: str, row: Data) -> dict[str, Any]:
    return {
        **row,
        "id": id,
        "printed": row.get("paper"),
        "bounds": row.get("claim", ""),
    }
