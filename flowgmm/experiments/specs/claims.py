"""Claims of the paper, resolved and checked against tables, analyses and figures."""

from typing import Any

from flowgmm.experiments.entries import ClaimPart, as_written
from flowgmm.experiments.project import Project
from flowgmm.experiments.specs.tables import rows_of
from flowgmm.experiments.validation import nearest
from flowgmm.utils.errors import UserError

__all__ = ["claims_spec"]


def claims_spec(project: Project) -> list[dict[str, Any]]:
    """Describe all claims as plain JSON.

    Raises:
        UserError: If a part names a table, row, column, analysis or figure that is not found.
    """
    claims = []
    for name, entry in project.claims.items():
        where = f"config/claims.yaml: {name}"
        for figure in entry.figures:
            if figure not in project.figures:
                raise nearest(figure, project.figures, "figure", f"{where}.figures")
        parts = [_part(project, part, f"{where}.parts.{i}") for i, part in enumerate(entry.parts)]
        if not any(part["decisive"] for part in parts):
            raise UserError(f"{where}.parts: none is decisive, expected one at least; drop a false")
        claims.append({"id": name, **as_written(entry), "parts": parts})
    return claims


def _part(project: Project, part: ClaimPart, where: str) -> dict[str, Any]:
    """Describe a part, with the columns of its table and the title of its analysis."""
    content: dict[str, Any] = as_written(part)
    if part.analysis is not None:
        return content | {"source": project.analysis(part.analysis).title}
    assert part.table is not None  # the schema asks for one of the two
    table = project.table(part.table)
    rows = {
        name
        for _, row in rows_of(part.table, table, project.methods)
        for name in (row.method, row.paper)
        if name is not None
    }
    for name in (part.row, *(part.against or ())):
        if name not in rows:
            raise nearest(str(name), sorted(rows), f"row of {part.table}", where)
    titles = [column.title for column in table.columns]
    for title in (*(part.columns or ()), part.first, part.last):
        if title is not None and title not in titles:
            raise nearest(title, titles, f"column of {part.table}", where)
    return content | {"source": table.title, "columns": list(part.columns or titles)}
