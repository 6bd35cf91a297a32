"""Write a table in every format, and read it again."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from flowgmm.reporting.tables.cells import Cell, Table
from flowgmm.reporting.tables.csv_writer import csv_text
from flowgmm.reporting.tables.latex_writer import latex_text
from flowgmm.reporting.tables.markdown_writer import markdown_text
from flowgmm.utils.io import read_json, write_json, write_text

__all__ = ["read_table", "write"]


def write(table: Table, prefix: str | os.PathLike[str], changes: Sequence[str] = ()) -> list[Path]:
    """Write `prefix`.csv, .md, .tex and .json; the json names the runs behind each cell.

    Arguments:
        table: The table.
        prefix: Path without suffix.
        changes: The command line's ``key=value``, without which the table cannot be made again.

    Returns:
        The four paths.
    """
    paths = [Path(f"{os.fspath(prefix)}.{suffix}") for suffix in ("csv", "md", "tex", "json")]
    for path, as_text in zip(paths, (csv_text, markdown_text, latex_text), strict=False):
        write_text(path, as_text(table))
    write_json(paths[3], {"schema": 1, "changes": list(changes)} | asdict(table))
    return paths


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table from the json that `write` made."""
    content = read_json(path)
    cells = tuple(tuple(Cell(**cell) for cell in row) for row in content["cells"])
    rest = {key: content[key] for key in ("spec", "records", "claim")}
    return Table(cells=cells, remarks=tuple(content["remarks"]), **rest)
