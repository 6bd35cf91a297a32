"""Job of an analysis: reads models and data, writes numbers and arrays; judges nothing."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.analyses.inputs import Data, Model
from flowgmm.analyses.registry import FUNCTIONS
from flowgmm.utils.absence import reason_in
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import (
    REASON,
    read_json,
    read_meta,
    read_tensors,
    sha256,
    write_json,
    write_tensors,
)

__all__ = ["leave_out_absent", "run_analysis"]


def leave_out_absent(
    spec: Mapping[str, Any], features: Sequence[Path]
) -> tuple[dict[str, Any], list[Path]]:
    """Leave out the further datasets of an analysis whose features could not be made.

    Arguments:
        spec: As `flowgmm.experiments.specs.analyses.analysis_spec` makes it.
        features: Features of the datasets of runs and data; some may be reason files.

    Returns:
        The spec without these datasets, which its ``left_out`` names; the features of the others.
    """
    found = {path: reason_in(path) for path in features}
    absent = {r["spec"]["dataset"]: r[REASON] for r in found.values() if r is not None}
    changes = {
        "data": [name for name in spec["data"] if name not in absent],
        "left_out": {**spec["left_out"], **absent},
        "titles": {name: t for name, t in spec["titles"].items() if name not in absent},
    }
    return {**spec, **changes}, [path for path, reason in found.items() if reason is None]


def run_analysis(
    spec: Mapping[str, Any],
    records: Sequence[Path],
    splits: Sequence[Path],
    features: Sequence[Path],
    output: Path,
    device: str = "auto",
) -> dict[str, Any]:
    """Run an analysis and write its numbers to `output`, its arrays beside it.

    Arguments:
        spec: As `flowgmm.experiments.specs.analyses.analysis_spec` makes it.
        records: Records of its runs; each has its models beside it.
        splits: Their splits.
        features: Features of the datasets of runs and data.
        output: Path of the json; the arrays' ends in ``.safetensors``.
        device: Where the models compute.

    Returns:
        Content of the json. Its `status` is ``failed``, with a `reason`, if all seeds of a run have
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
        result["numbers"] = [
            {**asdict(number), "values": list(number.values), "n_seeds": len(number.values)}
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
