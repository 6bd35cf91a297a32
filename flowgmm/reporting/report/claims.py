"""Claims of the report: their comparisons, decided and combined."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flowgmm.evaluation.decisions import DECISIONS, combine
from flowgmm.reporting.report.comparisons import Comparison, bounds_of, compare, n_comparisons
from flowgmm.reporting.report.types import Claim, Decider, Part, Run
from flowgmm.reporting.tables.cells import Table

__all__ = ["decide_claims"]

# The part that is shown for the claim is the first of the first kind.
DECIDING = ("does not hold", "undecided", "not run", "holds")


def decide_claims(
    claims: Sequence[Mapping[str, Any]],
    tables: Mapping[str, Table],
    analyses: Mapping[str, Mapping[str, Any]],
    runs: Mapping[str, Run],
) -> tuple[Claim, ...]:
    """Decide on all claims.

    Arguments:
        claims: From `flowgmm.experiments.specs.claims.claims_spec`.
        tables: Tables that were made, by name.
        analyses: Content of the analyses' json, by name.
        runs: Runs of the report, by id.
    """
    return tuple(_claim(claim, tables, analyses, runs) for claim in claims)


def _claim(
    claim: Mapping[str, Any],
    tables: Mapping[str, Table],
    analyses: Mapping[str, Mapping[str, Any]],
    runs: Mapping[str, Run],
) -> Claim:
    n_parts = sum(n_comparisons(part) for part in claim["parts"] if part["decisive"])
    parts = [
        _part(comparison, n_parts if part["decisive"] else 1, runs)
        for part in claim["parts"]
        for comparison in compare(part, tables, analyses, n_parts if part["decisive"] else 1)
    ]
    decisive = [part for part in parts if part.decisive]
    decision = combine([part.decision for part in decisive])
    shown = min(decisive, key=lambda part: DECIDING.index(part.decision))
    ids = tuple(dict.fromkeys(run for part in parts for run in part.runs))
    figures = [Decider("figure", figure) for figure in claim["figures"]]
    return Claim(
        **{key: claim[key] for key in ("id", "title", "sentence", "scope")},
        decision=decision,
        why=_why(decisive, shown),
        **{key: getattr(shown, key) for key in ("estimate", "interval", "n", "over", "unit")},
        rule=shown.rule,
        decided_by=tuple(dict.fromkeys([*(d for p in decisive for d in p.decided_by), *figures])),
        instead=tuple(dict.fromkeys(text for part in decisive for text in part.instead)),
        hours=_hours(ids, runs),
        runs=ids,
        parts=tuple(parts),
    )


def _part(comparison: Comparison, n_parts: int, runs: Mapping[str, Run]) -> Part:
    found, part = comparison.found, comparison.part
    box = None
    if found is not None and found.low is not None and found.high is not None:
        box = (found.low, found.high)
    instead = [text for run in comparison.runs if run in runs for text in runs[run].instead]
    return Part(
        title=comparison.title,
        decision=comparison.decision,
        why=comparison.why,
        estimate=None if found is None else found.value,
        interval=box,
        values=() if found is None else found.values,
        n=0 if found is None else found.n,
        over=part["over"],
        unit=comparison.unit,
        bounds={k: v for k, v in asdict(bounds_of(part)).items() if v is not None},
        rule=_rule(part, comparison.unit, n_parts),
        decided_by=(comparison.decided_by,),
        instead=tuple(dict.fromkeys(instead or comparison.instead)),
        decisive=part["decisive"],
        hours=_hours(comparison.runs, runs),
        runs=comparison.runs,
    )


def _rule(part: Mapping[str, Any], unit: str, n_parts: int) -> str:
    """Rule of a part in words."""
    bounds = bounds_of(part).text(unit)
    level = f"{100 - 10 / n_parts:.4g} %"
    return (
        f"holds if the 90 % interval over {part['over']} is {bounds}; does not hold if the "
        f"{level} interval is not"
    )


def _why(decisive: Sequence[Part], shown: Part) -> str:
    """Reason of a claim's decision: that of its only part, or a count and that of one part."""
    if len(decisive) == 1:
        return shown.why
    counts = Counter(part.decision for part in decisive)
    told = ", ".join(_counted(counts[word], word) for word in DECISIONS if counts[word])
    return f"of {len(decisive)} comparisons {told}; {shown.title}: {shown.why}"


def _counted(n: int, word: str) -> str:
    """Number of parts and their decision, in words."""
    plural = {"holds": "hold", "does not hold": "do not hold"}
    return f"{n} {word if n == 1 else plural.get(word, word)}"


def _hours(ids: Sequence[str], runs: Mapping[str, Run]) -> float:
    return sum(runs[run].minutes for run in ids if run in runs) / 60
