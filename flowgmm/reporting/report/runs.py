"""Runs of the report, from the records behind tables and analyses."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.reporting.commands import make_command
from flowgmm.reporting.report import types
from flowgmm.utils.io import read_json, read_tensors

__all__ = ["flat", "read_runs"]

# Points of a training curve, and its significant digits: of 2,000 runs they take 2 MB.
POINTS, DIGITS = 50, 4


def read_runs(
    records: Sequence[Path], described: Mapping[str, Mapping[str, Any]], changes: Sequence[str]
) -> tuple[tuple[types.Run, ...], tuple[types.Tuning, ...]]:
    """Read records, those of one run together: the runs, and what was tuned of them.

    Arguments:
        records: Paths of `record.json`.
        described: By id of a run ``title``, ``dataset_title``, ``features`` (path) and
            ``differs``, from `flowgmm.experiments.specs.report.report_spec`.
        changes: The command line's ``key=value``.
    """
    found: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for path in records:
        record = read_json(path)
        key = f"{record['dataset']}/{record['labels']}/{record['method']}"
        found.setdefault(key, []).append((path, record))
    runs, tuned = [], []
    for key, blocks in sorted(found.items()):
        blocks.sort(key=lambda block: block[1]["seeds"][0])
        runs.append(_run(key, blocks, described[key], changes))
        tuned += _tuning(key, blocks)
    return tuple(runs), tuple(tuned)


def _run(
    key: str,
    blocks: Sequence[tuple[Path, dict[str, Any]]],
    described: Mapping[str, Any],
    changes: Sequence[str],
) -> types.Run:
    first, runs = blocks[0][1], [run for _, record in blocks for run in record["runs"]]
    spec, environment, git = first["spec"], first["environment"], first["git"] or {}
    data, records = first["data"], [path.as_posix() for path, _ in blocks]
    scaled = spec.get("scaled_down") or []
    return types.Run(
        id=key,
        method=first["method"],
        title=described["title"],
        dataset=first["dataset"],
        dataset_title=described["dataset_title"],
        labels=first["labels"],
        seeds=tuple(run["seed"] for run in runs),
        splits=tuple(run["split"] for run in runs),
        status=tuple(run["status"] for run in runs),
        reasons=tuple(run["reason"] for run in runs),
        metrics=_metrics(runs),
        history=_history(runs),
        confusion=_confusion(blocks, Path(described["features"]), len(data["classes"])),
        classes=tuple(map(str, data["classes"])),
        params={"preprocess": spec["preprocess"], **flat(spec["params"])},
        differs=tuple(types.Difference(**difference) for difference in described["differs"]),
        tuned=tuple(run["tuned"] for run in runs if run.get("tuned")),
        data={name: data[name] for name in data if name.startswith("n_")},
        instead=(*data["not_comparable"], *([f"scaled down: {', '.join(scaled)}"] * bool(scaled))),
        notes=tuple(data["notes"]),
        hashes={
            **{name: first["hashes"][name] for name in ("features", "code")},
            "splits": {
                number: value
                for _, record in blocks
                for number, value in record["hashes"]["splits"].items()
            },
        },
        commit=git.get("commit"),
        dirty=git.get("dirty"),
        versions=environment["versions"],
        python=environment["python"],
        platform=environment["platform"],
        device=environment["device"],
        threads=environment["threads"],
        precision=environment.get("precision"),
        minutes=sum(record["timing"]["wall_s"] for _, record in blocks) / 60,
        records=tuple(records),
        logs=tuple(log for path, _ in blocks for log in _logs(path)),
        command=make_command(changes, records[-1], records),
    )


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested hyper-parameters by dotted name.

    >>> flat({"flow": {"dropout": 0.5}, "n_init": 1})
    {'flow.dropout': 0.5, 'n_init': 1}
    """
    found: dict[str, Any] = {}
    for name, value in params.items():
        nested = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def _tuning(key: str, blocks: Sequence[tuple[Path, dict[str, Any]]]) -> list[types.Tuning]:
    """Accuracies of the candidates, means over the seeds that tried them; empty without a grid."""
    first = blocks[0][1]
    runs = [run for _, record in blocks for run in record["runs"] if run.get("tuning")]
    if not runs:
        return []
    points = []
    for candidates in zip(*(run["tuning"] for run in runs), strict=True):
        accuracies = [candidate["accuracy"] for candidate in candidates]
        mean = None if None in accuracies else float(np.mean(accuracies))
        points.append({"params": candidates[0]["params"], "accuracy": mean})
    return [
        types.Tuning(
            run=key,
            **{name: first[name] for name in ("method", "dataset", "labels")},
            points=tuple(points),
            chosen=tuple(run["tuned"] for run in runs),
            budget=runs[0].get("budget"),
        )
    ]


def _metrics(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Per metric the value of each seed."""
    named = [
        {
            f"{part} {name}": value
            for part, scores in (run["metrics"] or {}).items()
            for name, value in scores.items()
            if name != "n"
        }
        for run in runs
    ]
    names = dict.fromkeys(name for scores in named for name in scores)
    return {name: [scores.get(name) for scores in named] for name in names}


def _history(runs: Sequence[Mapping[str, Any]]) -> types.History | None:
    """Training curves of all seeds, thinned."""
    histories = [run["history"] or {} for run in runs]
    longest = max(histories, key=lambda history: len(history.get("step", ())))
    steps = longest.get("step", [])
    if not steps:
        return None
    kept = np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).round().astype(int))
    names = [name for name in longest if name != "step"]

    def curve(history: Mapping[str, Any], name: str) -> list[float | None]:
        values = history.get(name) or []
        return [_rounded(values[i]) if i < len(values) else None for i in kept]

    return types.History(
        step=tuple(int(steps[i]) for i in kept),
        series={name: [curve(history, name) for history in histories] for name in names},
    )


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def _confusion(
    blocks: Sequence[tuple[Path, dict[str, Any]]], features: Path, n_classes: int
) -> list[list[int]] | None:
    """Test points by true and predicted class over all seeds that did not fail."""
    files = [path.with_name("predictions.safetensors") for path, _ in blocks]
    if not features.is_file() or not all(file.is_file() for file in files):
        return None
    truth = _truth(features)
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    for file in files:
        arrays, _ = read_tensors(file)
        for predicted in arrays.get("test", ()):
            known = (truth >= 0) & (predicted >= 0)
            np.add.at(counts, (truth[known], predicted[known]), 1)
    return counts.tolist() if counts.any() else None


@functools.cache
def _truth(features: Path) -> np.ndarray:
    """True classes of test points, (N,); read once, since reading checks the whole file."""
    return read_tensors(features, ["y_test"])[0]["y_test"]


def _logs(record: Path) -> list[str]:
    """Existing logs of the job that made a record, results/{recipe}/runs/{job}/record.json."""
    folder = record.parent
    root = next(parent for parent in folder.parents if parent.name == "runs").parent
    job = folder.relative_to(root / "runs")
    return [path.as_posix() for path in sorted((root / "logs").glob(f"*/{job}.log"))]
