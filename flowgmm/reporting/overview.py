"""Overview of all analyses: their numbers beside the printed ones, judged and checked."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from flowgmm.analyses.results import Found
from flowgmm.evaluation import verdicts
from flowgmm.evaluation.decisions import Bounds, decide, estimate
from flowgmm.evaluation.intervals import interval
from flowgmm.evaluation.units import UNIT_SUFFIXES
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import write_json, write_text

__all__ = ["judged", "make_overview", "overview_rows"]

DECIMALS = {"percent": 2, "count": 1, "ratio": 2, "share": 4, "nats": 2, "bits/dim": 4}


def judged(found: Found) -> list[dict[str, Any]]:
    """Numbers of an analysis with interval, verdict, and the decision on what is claimed of them.

    Arguments:
        found: An analysis that was run, with the printed numbers.

    Returns:
        Per number its entry in the analysis's json, with ``interval``, ``printed``, ``verdict``,
        ``why``, ``decision`` (`flowgmm.evaluation.decisions`; empty without a claim) and
        ``n_holds``, the seeds whose own number lies within the bounds.

    Raises:
        UserError: If a printed number belongs to none of the analysis's.
    """
    result = found.result
    names = [number["name"] for number in result["numbers"]]
    if unknown := sorted(set(found.printed) - set(names)):
        raise UserError(
            f"config/analyses.yaml: {result['name']}.printed: unknown number "
            f"{', '.join(unknown)}; expected one of {', '.join(names)}"
        )
    failed = {int(seed) for seeds in result["failed"].values() for seed in seeds}
    n_runs = len(failed.union(*result["seeds"].values()))
    return [
        _judge(number, found.printed.get(number["name"]), n_runs, len(failed), result)
        for number in result["numbers"]
    ]


def _judge(
    number: Mapping[str, Any],
    printed: Mapping[str, Any] | None,
    n_runs: int,
    n_failed: int,
    result: Mapping[str, Any],
) -> dict[str, Any]:
    values, unit, n_points = number["values"], number["unit"], number["n_points"]
    verdict = verdicts.Verdict("")
    if printed is not None:
        verdict = verdicts.judge(
            values,
            n_runs=n_runs,
            n_failed=n_failed,
            aggregate="mean",
            unit=unit,
            printed=printed["value"],
            printed_spread=printed["spread"],
            n_points=n_points,
            not_comparable=result["not_comparable"],
        )
    ours = interval(values, "mean", unit, n_points)
    bounds = Bounds(at_least=number["at_least"], at_most=number["at_most"])
    claimed = bounds != Bounds()
    return {
        **number,
        "interval": asdict(ours) if ours else None,
        "printed": None if printed is None else dict(printed),
        "verdict": verdict.word,
        "why": verdict.why,
        "decision": decide(estimate(values, value=number["value"]), bounds) if claimed else "",
        "n_holds": sum(bounds.contain(value, value) for value in values),
    }


def overview_rows(spec: Mapping[str, Any], found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Rows of the overview: one per number; one for an analysis that was not run or failed.

    Arguments:
        spec: As `flowgmm.experiments.specs.analyses.overview_spec` makes it.
        found: The analyses.
    """
    rows = []
    for name, entry in found.items():
        row = {"recipe": spec["recipe"], "analysis": name, "title": spec["titles"][name]}
        if entry.missing:
            why = {"verdict": entry.result["status"], "why": entry.result["reason"]}
            rows.append({**row, "number": "", **why})
            continue
        for number in judged(entry):
            rows.append(
                {
                    **row,
                    "number": number["title"],
                    "value": number["value"],
                    "unit": number["unit"],
                    "values": number["values"],
                    "interval": number["interval"],
                    "paper": number["printed"] and number["printed"]["value"],
                    "verdict": number["verdict"],
                    "why": number["why"],
                    "claim": _claim(number),
                    "decision": number["decision"],
                    "n_holds": number["n_holds"],
                    "n_seeds": number["n_seeds"],
                    "failed": sum(map(len, entry.result["failed"].values())),
                    "left_out": "; ".join(entry.result["left_out"].values()),
                }
            )
    return rows


def make_overview(
    spec: Mapping[str, Any], found: Mapping[str, Found], prefix: str | os.PathLike[str]
) -> None:
    """Judge all analyses and write the overview as `prefix`.md, .csv and .json.

    Arguments:
        spec: As `flowgmm.experiments.specs.analyses.overview_spec` makes it.
        found: The analyses, by name.
        prefix: Path without suffix.
    """
    rows = overview_rows(spec, found)
    prefix = os.fspath(prefix)
    write_text(f"{prefix}.csv", _csv(rows))
    write_text(f"{prefix}.md", _markdown(spec, rows, found))
    write_json(f"{prefix}.json", {"schema": 1, "spec": dict(spec), "rows": rows})


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per row; the interval in four columns, named as in the csv of a table."""
    lines = []
    for row in rows:
        line: dict[str, Any] = {}
        for key, value in row.items():
            if key == "interval":
                box = value or {}
                line |= {end: box.get(end) for end in ("low", "high")}
                line |= {"interval": box.get("kind"), "coverage": box.get("coverage")}
            else:
                line[key] = value
        line["values"] = " ".join(f"{value:g}" for value in row.get("values", ()))
        lines.append(line)
    handle = io.StringIO()
    columns = list(dict.fromkeys(key for row in lines for key in row))
    writer = csv.DictWriter(handle, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return handle.getvalue()


def _claim(number: Mapping[str, Any]) -> str:
    """The bounds of a claim in words; empty without one."""
    bounds = [
        f"{word} {number[key]:.3g}"
        for word, key in (("at least", "at_least"), ("at most", "at_most"))
        if number[key] is not None
    ]
    return " and ".join(bounds)


def _markdown(
    spec: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], found: Mapping[str, Found]
) -> str:
    lines = [f"**Analyses of the image models · recipe {spec['recipe']}**"]
    header = ["| | ours | paper | verdict | claim |", "| --- | --- | --- | --- | --- |"]
    for name, entry in found.items():
        lines += ["", f"*{spec['titles'][name]}* (`{name}`)", ""]
        if entry.missing:
            lines.append(entry.missing[0].upper() + entry.missing[1:] + ".")
            continue
        lines += header
        for row in rows:
            if row["analysis"] == name:
                cells = [row["number"], _ours(row), _text(row["paper"], row["unit"])]
                cells += [row["verdict"], _decision(row)]
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        notes = [f"not comparable: {why}" for why in entry.result["not_comparable"]]
        notes += [f"{name} left out: {why}" for name, why in entry.result["left_out"].items()]
        notes += [
            f"seed {seed} of {role} failed: {why}"
            for role, seeds in entry.result["failed"].items()
            for seed, why in seeds.items()
        ]
        lines += ["", *(f"- {note}" for note in notes)] if notes else []
    lines += [
        "",
        "Ours: mean ± std (ddof 0) over n seeds, with its 90 % interval; a ratio of counts is that "
        "of their sums. A claim is the paper's or the specification's; it holds if the whole 90 % "
        "interval is within its bounds, and does not if all of it is outside (the rule in "
        "flowgmm/evaluation/decisions.py). Verdicts: the rule in flowgmm/evaluation/verdicts.py.",
    ]
    return "\n".join(lines) + "\n"


def _ours(row: Mapping[str, Any]) -> str:
    n = "1 seed" if row["n_seeds"] == 1 else f"n = {row['n_seeds']}"
    spread = ""
    if row["n_seeds"] > 1:
        decimals, values = DECIMALS[row["unit"]], np.array(row["values"])
        spread = f" ± {values.std():.{decimals}f}"
    interval = ""
    if row["interval"] and row["n_seeds"] > 1:
        low, high = (_text(row["interval"][key], row["unit"]) for key in ("low", "high"))
        interval = f" [{low}, {high}]"
    return f"{_text(row['value'], row['unit'])}{spread}{interval} ({n})"


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    number = f"{value:.{DECIMALS[unit]}f}"
    if unit == "count" and float(value).is_integer():
        number = f"{value:.0f}"
    return number + UNIT_SUFFIXES.get(unit, f" {unit}")


def _decision(row: Mapping[str, Any]) -> str:
    if not row["decision"]:
        return ""
    return f"{row['decision']} ({row['claim']}; {row['n_holds']} of {row['n_seeds']} seeds)"
