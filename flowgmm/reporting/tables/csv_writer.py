"""Write a table as tidy csv: one line per cell."""

import csv
import io

from flowgmm.reporting.tables.cells import Table

__all__ = ["csv_text"]


def csv_text(table: Table) -> str:
    """Csv of a table, one line per cell."""
    plain = (
        "dataset",
        "labels",
        "method",
        "kind",
        "metric",
        "evaluate",
        "unit",
        "value",
    )
    counts = ("n", "n_failed", "n_missing", "value_ok", "n_ok")
    handle = io.StringIO()
    fields = ["table", "recipe", *plain, "spread", "aggregate", "spread_kind", *counts]
    fields += [
        "low",
        "high",
        "interval",
        "coverage",
        "paper",
        "paper_spread",
        "paper_text",
    ]
    fields += ["reported_by", "source", "origin", "margin", "verdict", "why", "remarks"]
    writer = csv.DictWriter(handle, fields, lineterminator="\n")
    writer.writeheader()
    for row in table.cells:
        for cell, remark in zip(row, table.remarks, strict=True):
            box, printed = cell.interval or {}, cell.printed or {}
            writer.writerow(
                {
                    "table": table.spec["name"],
                    "recipe": table.spec["recipe"],
                    **{key: getattr(cell, key) for key in (*plain, "spread", *counts)},
                    "aggregate": table.spec["aggregate"],
                    "spread_kind": table.spec["spread"],
                    "low": box.get("low"),
                    "high": box.get("high"),
                    "interval": box.get("kind"),
                    "coverage": box.get("coverage"),
                    "paper": printed.get("value"),
                    "paper_spread": printed.get("spread"),
                    "paper_text": printed.get("text"),
                    **{key: printed.get(key) for key in ("reported_by", "source", "origin")},
                    "margin": cell.margin,
                    "verdict": cell.verdict,
                    "why": cell.why,
                    "remarks": "; ".join(remark["notes"]),
                }
            )
    return handle.getvalue()
