"""Write a table as markdown."""

from collections.abc import Sequence

from flowgmm.reporting.tables.cells import Table
from flowgmm.reporting.tables.claim import claim_grid, claim_sentences
from flowgmm.reporting.tables.layout import Grid, caption, legend

__all__ = ["markdown_text"]


def markdown_text(table: Table) -> str:
    """Markdown of a table, with its legend and notes below it."""
    grid = Grid(table)

    def text(lines: Sequence[str], numbers: Sequence[int]) -> str:
        marks = f" <sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""
        return "<br>".join(line.replace("|", "\\|") for line in lines) + marks

    lines = [f"**{caption(table)}**", ""]
    lines.append("| " + " | ".join(text([t], numbers) for t, numbers in grid.header) + " |")
    lines.append("|" + " --- |" * len(grid.header))
    for section, row in grid.body:
        if section:
            lines.append(f"| *{section}* |" + " |" * (len(row) - 1))
        lines.append("| " + " | ".join(text(cell, numbers) for cell, numbers, _ in row) + " |")
    lines += ["", legend(table)]
    if table.claim is not None:
        lines += ["", *claim_grid(table.claim), "", " ".join(claim_sentences(table.claim))]
    if grid.notes:
        lines.append("")
        lines += [f"{number}. {note}" for number, note in enumerate(grid.notes, start=1)]
    return "\n".join(lines) + "\n"
