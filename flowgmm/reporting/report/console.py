"""Print the decisions on claims to the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flowgmm.evaluation.decisions import DECISIONS

__all__ = ["claim_lines"]


def claim_lines(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines about the claims that were decided or tried, and a count of all.

    Arguments:
        claims: As `flowgmm.reporting.report.data.write_data` writes them.
    """
    lines = [
        f"{claim['id']} {claim['decision']}: {claim['title']} ({claim['why']})"
        for claim in claims
        if claim["decision"] != "not run"
    ]
    counts = Counter(claim["decision"] for claim in claims)
    told = ", ".join(f"{counts[word]} {word}" for word in DECISIONS if counts[word])
    return [*lines, f"Claims: {told}"]
