"""What an analysis reads and writes: models and data in, findings beside printed numbers out."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.analyses import FUNCTIONS, Data, Model, Number
from flowgmm.evaluation import verdicts
from flowgmm.evaluation.intervals import interval
from flowgmm.evaluation.units import UNIT_SUFFIXES
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import (
    read_json,
    read_meta,
    read_tensors,
    sha256,
    write_json,
    write_tensors,
    write_text,
)

__all__ = ["Found", "analyse", "overview", "read_found", "write_overview"]

DECIMALS = {"percent": 2, "count": 1, "ratio": 2, "share": 4, "nats": 2, "bits/dim": 4}


def analyse(
    spec: Mapping[str, Any],
    records: Sequence[Path],
    splits: Sequence[Path],
    features: Sequence[Path],
    output: Path,
    device: str = "auto",
) -> dict[str, Any]:
    """Run an analysis and write what it found: `output`, and its arrays beside it.

    Arguments:
        spec: As `flowgmm.experiments.project.Config.analysis_spec` makes it.
        records: Records of its runs; each has its models beside it.
        splits: Their splits.
        features: Features of the datasets of runs and data.
        output: Path of the json; the arrays' ends in ``.safetensors``.
        device: Where the models compute.

    Returns:
        What the json holds. Its `status` is ``failed``, with a `reason`, if all seeds of a run have
        failed.

    Raises:
        UserError: If an input is missing or belongs to something else.
    """
    found = {read_meta(path)["dataset"]: path for path in features}
    data = {name: Data(found[name], title) for name, title in spec["titles"].items()}
    models = {
        role: _model(run, data[run["dataset"]], records, splits, device)
        for role, run in spec["runs"].items()
    }
    reasons = [
        *spec["not_comparable"],
        *(why for other in data.values() for why in other.meta["not_comparable"]),
    ]
    result: dict[str, Any] = {
        **{key: spec[key] for key in ("name", "title", "function", "recipe", "left_out")},
        "spec": dict(spec),
        "status": "ok",
        "reason": None,
        "seeds": {role: model.seeds for role, model in models.items()},
        "failed": {
            role: {str(seed): why for seed, why in model.failed.items()}
            for role, model in models.items()
        },
        "not_comparable": list(dict.fromkeys(reasons)),
        "numbers": [],
        "details": {},
        "hashes": {os.path.relpath(path): sha256(path) for path in (*records, *splits, *features)},
    }
    arrays: dict[str, np.ndarray] = {}
    if lost := [model for model in models.values() if not model.seeds]:
        why = "; ".join(f"{m.title}: {next(iter(m.failed.values()))}" for m in lost)
        result |= {"status": "failed", "reason": f"no seed is left ({why})"}
    else:
        evaluated = {"data": {name: data[name] for name in spec["data"]}} if spec["data"] else {}
        findings = FUNCTIONS[spec["function"]](**models, **evaluated, **spec["options"])
        arrays = findings.arrays
        names = [number.name for number in findings.numbers]
        if unknown := sorted(set(spec["printed"]) - set(names)):
            raise UserError(
                f"config/analyses.yaml: {spec['name']}.printed: there is no number "
                f"{', '.join(unknown)}; it has {', '.join(names)}"
            )
        seeds = {seed for model in models.values() for seed in (*model.seeds, *model.failed)}
        n_failed = len({seed for model in models.values() for seed in model.failed})
        result["numbers"] = [
            _judged(
                number,
                spec["printed"].get(number.name),
                len(seeds),
                n_failed,
                result["not_comparable"],
            )
            for number in findings.numbers
        ]
        result["details"] = findings.details
    write_tensors(output.with_suffix(".safetensors"), arrays, {"name": spec["name"]})
    write_json(output, result)
    return result


def _model(
    run: Mapping[str, Any], data: Data, records: Sequence[Path], splits: Sequence[Path], device: str
) -> Model:
    """The seeds of a run, gathered from its jobs."""
    key = tuple(run[name] for name in ("dataset", "labels", "method"))
    blocks = [
        (path, record)
        for path in records
        for record in [read_json(path)]
        if tuple(record[name] for name in ("dataset", "labels", "method")) == key
    ]
    if not blocks:
        raise UserError(f"no record of {'/'.join(key)} was given; run the rule that makes it")
    indices = {
        meta["split"]: path
        for path in splits
        for meta in [read_meta(path)]
        if (meta["dataset"], meta["labels"]) == key[:2]
    }
    entries = sorted(
        ((path, i, entry) for path, record in blocks for i, entry in enumerate(record["runs"])),
        key=lambda item: item[2]["seed"],
    )
    good = [item for item in entries if item[2]["status"] == "ok"]
    parts = {entry["split"]: read_tensors(indices[entry["split"]])[0] for _, _, entry in good}

    def load() -> list[Any]:
        from flowgmm.methods.flow_gmm import FlowGMMClassifier

        wanted = dict(zip(("dataset", "labels", "method"), key, strict=True))
        stacks = {
            path: FlowGMMClassifier.load_stack(
                path.with_name("model.safetensors"), wanted | {"seeds": record["seeds"]}
            )
            for path, record in blocks
            if any(path == used for used, _, _ in good)
        }
        return [stacks[path][i].set_params(device=device) for path, i, _ in good]

    return Model(
        title=run["title"],
        dataset=run["dataset"],
        data=data,
        seeds=[entry["seed"] for _, _, entry in good],
        runs=[entry for _, _, entry in good],
        splits=[parts[entry["split"]] for _, _, entry in good],
        load=load,
        failed={e["seed"]: e["reason"] for _, _, e in entries if e["status"] != "ok"},
    )


def _judged(
    number: Number,
    printed: Mapping[str, Any] | None,
    n_seeds: int,
    n_failed: int,
    not_comparable: Sequence[str],
) -> dict[str, Any]:
    """A number as JSON, with its verdict and whether its claim holds."""
    verdict = verdicts.Verdict("")
    if printed is not None:
        verdict = verdicts.judge(
            number.values,
            n_runs=n_seeds,
            n_failed=n_failed,
            aggregate="mean",
            unit=number.unit,
            printed=printed["value"],
            printed_spread=printed["spread"],
            n_points=number.n_points,
            not_comparable=not_comparable,
        )
    ours = interval(number.values, "mean", number.unit, number.n_points)
    return {
        **asdict(number),
        "values": list(number.values),
        "n_seeds": len(number.values),
        "interval": asdict(ours) if ours else None,
        "printed": None if printed is None else dict(printed),
        "verdict": verdict.word,
        "why": verdict.why,
        "holds": number.holds,
        "n_holds": number.n_holds,
    }


@dataclass(frozen=True)
class Found:
    """An analysis as its figure sees it.

    Attributes:
        result: The json; of an analysis that was not run ``status`` and ``reason`` alone.
        arrays: By name.
    """

    result: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def missing(self) -> str | None:
        """Why there is nothing to draw; None if there is."""
        status = self.result["status"]
        return None if status == "ok" else f"{status}: {self.result['reason']}"

    @property
    def numbers(self) -> dict[str, dict[str, Any]]:
        """The numbers by name."""
        return {number["name"]: number for number in self.result["numbers"]}


def read_found(
    names: Sequence[str], not_run: Mapping[str, str], files: Sequence[str | os.PathLike[str]]
) -> dict[str, Found]:
    """Findings by the name of their analysis, in the order of `names`.

    Arguments:
        names: The analyses.
        not_run: Why some of them were not run.
        files: The others' json, each with its arrays beside it.
    """
    read = {}
    for path in map(Path, files):
        result = read_json(path)
        arrays, _ = read_tensors(path.with_suffix(".safetensors"))
        read[result["name"]] = Found(result, arrays)
    return {
        name: Found({"status": "not run", "reason": not_run[name]}, {})
        if name in not_run
        else read[name]
        for name in names
    }


# The overview


def overview(spec: Mapping[str, Any], found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """One row for each number of each analysis; one for an analysis without numbers.

    Arguments:
        spec: As `flowgmm.experiments.project.Config.overview_spec` makes it.
        found: The analyses.
    """
    rows = []
    for name, entry in found.items():
        row = {"recipe": spec["recipe"], "analysis": name, "title": spec["titles"][name]}
        if entry.missing:
            why = {"verdict": entry.result["status"], "why": entry.result["reason"]}
            rows.append({**row, "number": "", **why})
            continue
        for number in entry.result["numbers"]:
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
                    "holds": number["holds"],
                    "n_holds": number["n_holds"],
                    "n_seeds": number["n_seeds"],
                    "failed": sum(map(len, entry.result["failed"].values())),
                    "left_out": "; ".join(entry.result["left_out"].values()),
                }
            )
    return rows


def _claim(number: Mapping[str, Any]) -> str:
    """The bounds of a claim in words; empty without one."""
    bounds = [
        f"{word} {number[key]:.3g}"
        for word, key in (("at least", "at_least"), ("at most", "at_most"))
        if number[key] is not None
    ]
    return " and ".join(bounds)


def write_overview(
    spec: Mapping[str, Any], found: Mapping[str, Found], prefix: str | os.PathLike[str]
) -> None:
    """Write the overview as `prefix`.md, .csv and .json."""
    rows = overview(spec, found)
    prefix = os.fspath(prefix)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    handle = io.StringIO()
    writer = csv.DictWriter(handle, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        row | {"values": " ".join(f"{value:g}" for value in row.get("values", ()))} for row in rows
    )
    write_text(f"{prefix}.csv", handle.getvalue())
    write_text(f"{prefix}.md", _markdown(spec, rows, found))
    write_json(f"{prefix}.json", {"schema": 1, "spec": dict(spec), "rows": rows})


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
                cells += [row["verdict"], _holds(row)]
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
        "of their sums. A claim is the paper's or the specification's; it holds if ours is within "
        "its bounds. Verdicts: the rule in flowgmm/evaluation/verdicts.py.",
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


def _holds(row: Mapping[str, Any]) -> str:
    if row["holds"] is None:
        return ""
    word = "holds" if row["holds"] else "does not hold"
    return f"{word} ({row['claim']}; {row['n_holds']} of {row['n_seeds']} seeds)"
