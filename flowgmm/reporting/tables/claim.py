"""Claim of a table that a method is the best: paired leads by column, and the text about them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flowgmm.evaluation.claims import find_lead, summarise
from flowgmm.reporting.tables.cells import Cell

__all__ = ["claim_grid", "claim_sentences", "judge_claim", "paired"]

RULE = "flowgmm/evaluation/claims.py"


def judge_claim(spec: Mapping[str, Any], cells: Sequence[Sequence[Cell]]) -> dict[str, Any] | None:
    """Compare the claim's method with each group of baselines, column by column.

    A baseline without a number for each run of the method is left out of the column. A column is
    left out where a run of the method has no number, which is said, and where it or all baselines
    have no runs.

    Arguments:
        spec: As `flowgmm.experiments.specs.tables.table_spec` makes it.
        cells: The table's cells, by row and column.

    Returns:
        ``title`` of the method; ``failed``: titles of columns where one of its runs has no number;
        ``groups`` of baselines: ``title``, ``n_baselines``, ``sets``, with the lead and who was
        ``left_out`` on each, and their ``summary``, None without sets. None if nothing is claimed.
    """
    claim = spec["claim"]
    if claim is None:
        return None
    by_method = {
        row["method"]: line
        for row, line in zip(spec["rows"], cells, strict=True)
        if row["kind"] != "quoted" and "method" in row
    }
    groups = []
    for group in claim["against"]:
        methods, sets, leads = group["methods"], [], []
        for i, column in enumerate(spec["columns"]):
            ours = by_method[claim["method"]][i]
            values = [run["value"] for run in ours.runs]
            if not values or None in values:
                continue
            baselines = {method: paired(ours, by_method[method][i]) for method in methods}
            found = {claim["titles"][m]: v for m, v in baselines.items() if v is not None}
            if not found:
                continue
            leads.append(find_lead(values, found))
            place = {"dataset": ours.dataset, "labels": ours.labels, "title": column["title"]}
            left_out = [claim["titles"][m] for m, v in baselines.items() if v is None]
            sets.append(place | asdict(leads[-1]) | {"left_out": left_out})
        summary = asdict(summarise(leads)) if leads else None
        head = {"title": group["title"], "n_baselines": len(methods)}
        groups.append({**head, "sets": sets, "summary": summary})
    failed = [
        column["title"]
        for column, cell in zip(spec["columns"], by_method[claim["method"]], strict=True)
        if cell.n_missing
    ]
    return {"title": claim["titles"][claim["method"]], "failed": failed, "groups": groups}


def paired(ours: Cell, baseline: Cell) -> list[float] | None:
    """Baseline's values on the runs of our cell: of the same seed or, run once a split, split.

    Returns:
        None where it has no number for one of the runs.
    """
    seeds = {run["seed"]: run["value"] for run in baseline.runs}
    splits = {run["split"]: run["value"] for run in baseline.runs if run["split"] is not None}
    values = [seeds.get(run["seed"], splits.get(run["split"])) for run in ours.runs]
    numbers = [value for value in values if value is not None]
    return numbers if len(numbers) == len(values) else None


def claim_sentences(claim: Mapping[str, Any]) -> list[str]:
    """Sentences of a claim's outcome, one per group of baselines, and the rule."""
    lines = []
    for group in claim["groups"]:
        found = group["summary"]
        start = f"{claim['title']} against {group['title']}:"
        if found is None:
            lines.append(f"{start} nothing to compare.")
            continue
        sets = "1 set" if found["n"] == 1 else f"{found['n']} sets"
        lines.append(
            f"{start} ahead on {found['n_ahead']} of {sets}; shown to be the best on "
            f"{found['n_best']}, not to be on {found['n_not_best']}; mean lead "
            f"{found['mean']:+.1f}{_limits(found)} points over the sets: {found['word']}."
        )
    if claim["failed"]:
        where = "; ".join(claim["failed"])
        lines.append(f"Left out, since a run of {claim['title']} has no number: {where}.")
    text = "Leads: means over runs on the same splits, 90 % intervals; the rule is in"
    return [*lines, f"{text} {RULE}."]


def claim_grid(claim: Mapping[str, Any]) -> list[str]:
    """Markdown table of the leads: a row per data set, a column per group of baselines."""
    groups = claim["groups"]
    titles = dict.fromkeys(found["title"] for group in groups for found in group["sets"])
    heads = [group["title"] for group in groups]
    lines = [
        f"| Lead of {claim['title']} over | " + " | ".join(heads) + " |",
        "|" + " --- |" * (1 + len(groups)),
    ]
    for title in titles:
        entries = []
        for group in groups:
            several = group["n_baselines"] > 1
            texts = [_lead(found, several) for found in group["sets"] if found["title"] == title]
            entries.append("".join(texts) or "-")
        lines.append(
            "| " + " | ".join(text.replace("|", "\\|") for text in (title, *entries)) + " |"
        )
    return lines


def _lead(found: Mapping[str, Any], several: bool) -> str:
    text = f"{found['difference']:+.1f}{_limits(found)}: {found['word']}"
    text += f" ({found['baseline']})" if several else ""
    return text + (f"; without {', '.join(found['left_out'])}" if found["left_out"] else "")


def _limits(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return ""
    return f" [{found['low']:+.1f}, {found['high']:+.1f}]"
