"""Arrangement of the report's data for its page: groups, places and pictures."""

import base64
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowgmm.evaluation.verdicts import WORDS
from flowgmm.reporting.names import title_of
from flowgmm.reporting.report import charts
from flowgmm.reporting.report.grid import analysis_view, cell_ids, table_view
from flowgmm.reporting.report.summary import easy, hard, sources
from flowgmm.reporting.report.vega import svg

__all__ = ["view"]

Data = Mapping[str, Any]
# Key of each cell's drawer by table, row and column.
Places = Mapping[tuple[str, str, str], str]

DECISIONS = ("holds", "does not hold", "undecided", "not run")
MEANINGS = {
    "reproduced": "Our interval lies inside the margin around the printed number.",
    "higher": "Our interval lies wholly above the margin; of the number, not of merit.",
    "lower": "Our interval lies wholly below it.",
    "inconclusive": "Our interval is too wide to say; more seeds would decide it.",
    "not comparable": "Data, size or encoder are not the paper's; no comparison is made.",
    "failed": "More than half of the seeds failed.",
    "not run": "No run, with the reason.",
    "holds": "Of a claim: the interval of what it compares lies on the claimed side.",
    "does not hold": "It lies on the other side.",
    "undecided": "It lies on both; or one comparison of several is undecided.",
}
# Cells that a comparison names before it leaves the rest to the table.
N_CELLS = 4
# A larger SVG has thousands of points; its picture in pixels looks the same and is smaller.
LARGEST_SVG = 800_000
CHARTS = (
    (
        "labels",
        "Accuracy against labels",
        "Every method on sets with several numbers of labels; bars are intervals, diamonds the "
        "paper's numbers.",
    ),
    (
        "tuning",
        "Tuning",
        "Validation accuracy of every candidate of a grid; a ring marks the chosen one.",
    ),
    (
        "calibration",
        "Calibration",
        "Dots with intervals are ours, diamonds the paper's numbers.",
    ),
)


def view(data: Data, folder: Path) -> dict[str, Any]:
    """Variables of the page's template.

    Arguments:
        data: A `flowgmm.reporting.report.types.Report` as a dict.
        folder: Folder from which its paths start.
    """
    ids = cell_ids(data["tables"], data["analyses"])
    cells = [cell for table in data["tables"] for row in table["cells"] for cell in row]
    shown = {**data, "own_command": data["command"]}
    own = {
        "claims": [_claim(claim, ids, data) for claim in data["claims"]],
        "decisions": _counts([claim["decision"] for claim in data["claims"]], DECISIONS),
        "verdicts": _counts([cell["verdict"] for cell in cells], WORDS),
        "compared": sum(bool(cell["verdict"]) for cell in cells),
        "meanings": list(MEANINGS.items()),
        "sources": sources(data),
        "tables": [table_view(t, table) for t, table in enumerate(data["tables"])],
        "analyses": analysis_view(data["analyses"]),
        "figures": [_figure(figure, folder) for figure in data["figures"]],
        "charts": _charts(data, ids),
        "missing": _missing(data["missing"], ids),
        "easy": easy(data),
        "hard": hard(data),
        "departures": _departures(data),
        "bases": list(dict.fromkeys(filter(None, (c["basis"] for c in data["cost"]["lines"])))),
        "cost_chart": _drawn(charts.cost_chart(data["cost"]["lines"])),
    }
    own["sections"] = _sections(own)
    return shown | own


def _counts(words: Sequence[str], order: Sequence[str]) -> list[tuple[str, int]]:
    """Words that occur, in order, and how often."""
    counts = Counter(words)
    return [(word, counts[word]) for word in order if counts[word]]


def _sections(own: Data) -> list[tuple[str, str]]:
    """Anchors and names of the sections that the page has."""
    return [
        ("claims", "Claims"),
        ("methodology", "Methodology"),
        ("results", "Results"),
        *([("figures", "Figures")] if own["figures"] else []),
        *((id, name) for id, name, _, _ in own["charts"]),
        ("missing", "Missing"),
        ("easy", "Easy"),
        ("hard", "Hard"),
        ("cost", "Cost"),
    ]


def _claim(claim: Data, ids: Places, data: Data) -> dict[str, Any]:
    """Claim, with links to what decides it and its parts.

    Cells stand at the parts; at a claim of one part also beside the claim.
    """
    several = len(claim["parts"]) > 1

    def linked(found: Data, with_cells: bool) -> dict[str, Any]:
        deciders = [_decider(decider, ids, data, with_cells) for decider in found["decided_by"]]
        unique = {decider["title"]: decider for decider in deciders}
        return {**found, "decided_by": deciders if with_cells else list(unique.values())}

    parts = [
        linked(part, with_cells=True) | {"chart": _drawn(charts.comparison_chart(part))}
        for part in claim["parts"]
    ]
    return linked(claim, with_cells=not several) | {"parts": parts}


def _decider(decider: Data, ids: Places, data: Data, with_cells: bool) -> dict[str, Any]:
    name = decider["name"]
    made = {entry["name"] for key in ("tables", "figures") for entry in data[key]}
    made |= {row["analysis"] for row in data["analyses"] if row["number"]}
    places = [tuple(place[key] for key in ("table", "row", "column")) for place in decider["cells"]]
    cells = [
        {"id": ids[place], "title": ": ".join(filter(None, place[1:]))}
        for place in places
        if place in ids and with_cells
    ]
    return {
        "href": name if name in made else None,
        "title": title_of(name),
        "cells": cells[:N_CELLS],
        "more": max(0, len(cells) - N_CELLS),
    }


def _figure(figure: Data, folder: Path) -> dict[str, Any]:
    """Figure with its picture: the SVG, or pixels where that is missing or larger."""
    # The folder of the page may not exist yet.
    vector, pixels = (Path(os.path.normpath(folder / figure[key])) for key in ("file", "png"))
    vector = vector.with_suffix(".svg")
    use_svg = vector.is_file() and vector.stat().st_size <= LARGEST_SVG
    path, kind = (vector, "svg+xml") if use_svg else (pixels, "png")
    encoded = base64.b64encode(path.read_bytes()).decode()
    width, height = _size(pixels)
    return {
        **figure,
        "source": f"data:image/{kind};base64,{encoded}",
        "width": width,
        "height": height,
        "caption": figure["caption"].removesuffix("."),
    }


def _size(png: Path) -> tuple[int, int]:
    """Width and height of a picture in its header, at 100 dots per inch of the 200 saved."""
    header = png.read_bytes()[:24]
    return tuple(int.from_bytes(header[i : i + 4]) // 2 for i in (16, 20))  # type: ignore[return-value]


def _charts(data: Data, ids: Places) -> list[tuple[str, str, str, list[str]]]:
    """Sections of charts: anchor, name, explanation and drawings, of those with a drawing."""
    places = {id: place for place, id in ids.items()}
    by_id = {
        f"t/{t}/{i}/{j}": cell
        for t, table in enumerate(data["tables"])
        for i, row in enumerate(table["cells"])
        for j, cell in enumerate(row)
    }
    found = [
        ids.get((place["table"], place["row"], place["column"])) for place in data["calibration"]
    ]
    cells = [
        (f"{places[id][1]}: {places[id][2]}", by_id[id])
        for id in found
        if id is not None and id in by_id
    ]
    specs = {
        "labels": charts.accuracy_charts(data["curves"]),
        "tuning": charts.tuning_charts(data["tuning"], data["runs"]),
        "calibration": charts.calibration_charts(cells),
    }
    return [
        (id, name, about, [svg(spec) for spec in specs[id]])
        for id, name, about in CHARTS
        if specs[id]
    ]


def _drawn(spec: dict[str, Any] | None) -> str | None:
    return None if spec is None else svg(spec)


def _departures(data: Data) -> dict[str, dict[str, Any]]:
    """Departures by number: those that runs of this page touch, and the others."""
    touched = {key for run in data["runs"] for d in run["differs"] for key in d["departures"]}
    keys = sorted(data["departures"], key=lambda key: (len(key), key))
    found = data["departures"]
    return {
        "touched": {key: found[key] for key in keys if key in touched},
        "others": {key: found[key] for key in keys if key not in touched},
    }


def _missing(
    items: Sequence[Data], ids: Mapping[tuple[str, str, str], str]
) -> list[dict[str, Any]]:
    """Missing results by kind; items with one reason and one command stand together."""
    groups: dict[str, dict[tuple[Any, ...], list[Data]]] = {}
    for item in items:
        keys = tuple(item[key] for key in ("reason", "command", "seeds_needed", "hours"))
        groups.setdefault(item["what"], {}).setdefault(keys, []).append(item)
    return [
        {"what": what, "entries": [_one_missing(together, ids) for together in found.values()]}
        for what, found in groups.items()
    ]


def _one_missing(items: Sequence[Data], ids: Places) -> dict[str, Any]:
    titles = []
    for item in items:
        place = item["where"]
        texts = (title_of(place["table"]), place["row"], place["column"])
        titles.append(", ".join(filter(None, texts)))
    first = items[0]
    where = (first["where"]["table"], first["where"]["row"], first["where"]["column"])
    return {
        **first,
        "title": "; ".join(titles),
        "cell": ids.get(where) if len(items) == 1 else None,
        "reason": first["reason"].removesuffix("."),
    }
