"""Sentences of the report that sum its data up: where they come from, what was easy and hard."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from flowgmm.reporting.report.formats import hours_text

__all__ = ["easy", "hard", "sources"]

Data = Mapping[str, Any]
# Reasons listed before the rest is counted.
N_REASONS = 8


def sources(data: Data) -> str:
    """Versions, commits and machines of the runs, in a sentence or two."""
    runs = data["runs"]
    if not runs:
        return "No run stands behind this page yet."
    commits = sorted({(run["commit"] or "unknown")[:10] for run in runs})
    devices = sorted({run["device"] for run in runs})
    versions: dict[str, set[str]] = {}
    for run in runs:
        for name, version in run["versions"].items():
            versions.setdefault(name, set()).add(version)
    libraries = ", ".join(
        f"{name} {'/'.join(sorted(versions[name]))}"
        for name in ("torch", "scikit-learn", "numpy")
        if name in versions
    )
    changed = sum(bool(run["dirty"]) for run in runs)
    commit = f"Commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}"
    text = f"{commit}; {libraries}; on {', '.join(devices)}."
    return text + (f" {changed} runs were made with uncommitted changes." if changed else "")


def easy(data: Data) -> list[str]:
    """Sentences about what went without trouble."""
    runs, cells = data["runs"], _cells(data)
    whole = sum(all(status == "ok" for status in run["status"]) for run in runs)
    texts = []
    if runs:
        minutes = sorted(run["minutes"] for run in runs)
        texts.append(f"{whole} of {len(runs)} runs finished with every seed.")
        middle = hours_text(minutes[len(minutes) // 2] / 60)
        texts.append(f"The median run took {middle} for all its seeds.")
    same = Counter(name for name, cell in cells if cell["verdict"] == "reproduced")
    if same:
        found = ", ".join(f"{count} in {name.replace('_', ' ')}" for name, count in same.items())
        texts.append(f"Printed numbers reproduced: {found}.")
    texts.append(f"One command makes everything on this page: {data['command']}")
    return texts


def hard(data: Data) -> list[str]:
    """Sentences about failed seeds, missing data and what cannot be compared."""
    texts = []
    failed = [
        (run, [reason for reason in run["reasons"] if reason])
        for run in data["runs"]
        if any(status != "ok" for status in run["status"])
    ]
    for run, reasons in failed[:N_REASONS]:
        count = sum(status != "ok" for status in run["status"])
        why = f": {Counter(reasons).most_common(1)[0][0]}" if reasons else ""
        texts.append(f"{run['id']}: {count} of {len(run['status'])} seeds failed{why}.")
    if len(failed) > N_REASONS:
        texts.append(f"Seeds of {len(failed) - N_REASONS} other runs failed, too.")
    for word, start in (
        ("not comparable", "cannot be compared with the paper's"),
        ("not run", "could not be run"),
    ):
        whys = Counter(cell["why"] for _, cell in _cells(data) if cell["verdict"] == word)
        texts += [
            f"{count} number{'s' if count > 1 else ''} {start}: {why}."
            for why, count in whys.most_common(N_REASONS)
        ]
    if absent := sum(item["what"] == "not run" for item in data["missing"]):
        texts.append(
            f"{absent} results have not been made here; they are listed above, with costs."
        )
    return texts or ["Nothing failed, and every printed number could be compared."]


def _cells(data: Data) -> list[tuple[str, Data]]:
    return [
        (table["name"], cell) for table in data["tables"] for row in table["cells"] for cell in row
    ]
