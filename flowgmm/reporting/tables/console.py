"""Print tables to the terminal."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flowgmm.evaluation import verdicts
from flowgmm.reporting.tables.claim import claim_sentences
from flowgmm.reporting.tables.files import read_table
from flowgmm.reporting.tables.layout import Grid, caption

__all__ = ["print_tables"]


def print_tables(paths: Sequence[str | os.PathLike[str]]) -> None:
    """Print tables from their json files to the terminal, with a count of their verdicts."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    for path in paths:
        table = read_table(path)
        grid = Grid(table)
        shown = RichTable(title=caption(table), title_justify="left", show_lines=True)
        for title, numbers in grid.header:
            shown.add_column(Text(title + _marks(numbers)))
        for section, row in grid.body:
            if section:
                shown.add_section()
                shown.add_row(Text(section, style="bold"))
            shown.add_row(
                *(
                    Text(
                        "\n".join([*lines[:-1], lines[-1] + _marks(numbers)]),
                        style=colour,
                    )
                    for lines, numbers, colour in row
                )
            )
        console.print(shown)
        for number, note in enumerate(grid.notes, start=1):
            console.print(f"{_marks([number])} {note}", markup=False, highlight=False)
        if table.claim is not None:
            console.print(" ".join(claim_sentences(table.claim)), markup=False, highlight=False)
        counts = Counter(cell.verdict for row in table.cells for cell in row if cell.verdict)
        told = ", ".join(f"{counts[word]} {word}" for word in verdicts.WORDS if counts[word])
        console.print(f"Verdicts: {told or 'nothing printed to compare with'}", highlight=False)
        console.print(
            f"Files: {Path(path).with_suffix('')}.{{csv,md,tex,json}}\n",
            highlight=False,
        )


def _marks(numbers: Sequence[int]) -> str:
    return " " + "".join(f"[{number}]" for number in numbers) if numbers else ""
