"""Page of the claims: what the paper claims, the rules of `config/claims.yaml`, the decisions."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowgmm.reporting.names import title_of
from flowgmm.reporting.report.comparisons import bounds_of, n_comparisons

__all__ = ["claims_csv", "claims_page"]

INTRODUCTION = """\
# Claims

Claims of the paper, in our words, and the rule that decides each: a part holds if its 90 %
interval over runs lies within its bounds, and the claim if all parts hold. The rule, with its error
rates, is in `flowgmm/evaluation/decisions.py`; bounds are in `config/claims.yaml`, from which
`make docs` writes this page. Decisions are about what was run: `results/{recipe}/report` says what
that was, and with which numbers.
"""
COLUMNS = ("id", "decision", "estimate", "low", "high", "n", "over", "unit", "why", "instead")
NOUNS = {
    "lead": "lead of `{row}` over {against}, {table}",
    "shrinkage": "mean lead of `{row}` over {against} with {first} minus that with {last}, {table}",
    "value": "`{row}`, {table}",
    "number": "number `{number}` of the analysis `{analysis}`",
}


def claims_csv(claims: Sequence[Mapping[str, Any]]) -> str:
    """Csv of decisions, one line per claim.

    Arguments:
        claims: As `flowgmm.reporting.report.data.write_data` writes them.
    """
    handle = io.StringIO()
    writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for claim in claims:
        low, high = claim["interval"] or (None, None)
        row = {key: claim[key] for key in COLUMNS if key in claim} | {"low": low, "high": high}
        writer.writerow(row | {"instead": "; ".join(claim["instead"])})
    return handle.getvalue()


def claims_page(claims: Sequence[Mapping[str, Any]], published: Path) -> str:
    """Write out all claims with their rules, and the published decisions, as markdown.

    Arguments:
        claims: From `flowgmm.experiments.specs.claims.claims_spec`.
        published: Folder of published results, `docs/results`.
    """
    decisions = {
        path.parent.name: _decisions(path) for path in sorted(published.glob("*/claims.csv"))
    }
    lines = [INTRODUCTION, "| | claim | " + " | ".join(decisions) + " |"]
    lines.append("| --- | --- |" + " --- |" * len(decisions))
    for claim in claims:
        words = [found.get(claim["id"], "not run") for found in decisions.values()]
        link = f"[{claim['id']}](#{_anchor(claim)})"
        lines.append(" | ".join([f"| {link}", claim["title"], *words]) + " |")
    return "\n".join([*lines, "", *(_section(claim) for claim in claims)])


def _decisions(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as handle:
        return {row["id"]: row["decision"] for row in csv.DictReader(handle)}


def _anchor(claim: Mapping[str, Any]) -> str:
    return str(claim["id"]).lower().replace(".", "-")


def _section(claim: Mapping[str, Any]) -> str:
    """Sentence, scope and rules of a claim."""
    head = f'<a id="{_anchor(claim)}"></a>\n\n## {claim["id"]} {claim["title"]}'
    lines = [head, "", f"{claim['sentence']} ({claim['scope']})", ""]
    lines += ["| part | decided by | within |", "| --- | --- | --- |"]
    for part in claim["parts"]:
        title = part["title"] if part["decisive"] else f"{part['title']} (shown, not decisive)"
        lines.append(f"| {title} | {_source(part)} | {bounds_of(part).text()} |")
    if claim["figures"]:
        names = ", ".join(map(title_of, claim["figures"]))
        lines += ["", f"Shown by {names}."]
    return "\n".join([*lines, ""])


def _source(part: Mapping[str, Any]) -> str:
    """Table or analysis of a part, and over how many columns."""
    against = part.get("against", [])
    others = f"`{''.join(against)}`"
    if len(against) > 1:
        which = "all" if part["kind"] == "shrinkage" else "the best"
        others = f"{which} of {len(against)} others"
    table = title_of(part.get("table", ""))
    text = NOUNS[part["kind"]].format(**{**part, "against": others, "table": table})
    if part["over"] == "sets":
        return f"{text}, mean over its data sets"
    n = n_comparisons(part)
    return f"{text}, each of {n} columns" if n > 1 else text
