"""Results of an analysis: numbers, arrays and details, and the files that hold them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.utils.absence import reason_in
from flowgmm.utils.io import REASON, read_json, read_tensors

__all__ = ["Findings", "Found", "Number", "float32", "number", "read_found"]


@dataclass(frozen=True)
class Number:
    """A number over seeds, and perhaps a claim about it.

    Attributes:
        name: Its name within the analysis.
        title: What it is, in words.
        unit: ``percent``, ``count``, ``ratio``, ``share`` (0 to 1), ``nats``, ``bits/dim``.
        values: By seed.
        value: Their mean, unless given.
        at_least, at_most: Bounds that the paper or the specification claims.
        n_points: Points behind each value, of an accuracy.
    """

    name: str
    title: str
    unit: str
    values: tuple[float, ...]
    value: float
    at_least: float | None = None
    at_most: float | None = None
    n_points: int | None = None


def number(
    name: str,
    title: str,
    unit: str,
    values: Sequence[float] | np.ndarray,
    value: float | None = None,
    **claim: Any,
) -> Number:
    numbers = tuple(float(v) for v in values)
    mean = float(np.mean(numbers)) if value is None else float(value)
    return Number(name, title, unit, numbers, mean, **claim)


def float32(array: Any) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)


@dataclass(frozen=True)
class Findings:
    """Results of an analysis.

    Attributes:
        numbers: For the overview.
        arrays: What a figure draws.
        details: Anything else worth keeping, as JSON.
    """

    numbers: list[Number]
    arrays: dict[str, np.ndarray]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """An analysis as figures and the overview read it.

    Attributes:
        result: The json; of an analysis that was not run ``status`` and ``reason`` alone.
        arrays: By name.
        printed: The paper's ``value``, ``spread`` and ``path``, by number.
    """

    result: dict[str, Any]
    arrays: dict[str, np.ndarray]
    printed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def missing(self) -> str | None:
        """Reason for which there is nothing to draw; None if there is something."""
        status = self.result["status"]
        return None if status == "ok" else f"{status}: {self.result['reason']}"

    @property
    def numbers(self) -> dict[str, dict[str, Any]]:
        """The numbers by name."""
        return {number["name"]: number for number in self.result["numbers"]}


def read_found(
    names: Sequence[str],
    not_run: Mapping[str, str],
    files: Sequence[str | os.PathLike[str]],
    printed: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, Found]:
    """Findings by the name of their analysis, in the order of `names`.

    Arguments:
        names: The analyses.
        not_run: Why some of them were not run.
        files: The others' json, each with its arrays beside it, or a reason file
            (`flowgmm.utils.absence`).
        printed: The paper's numbers, by analysis and number.
    """
    read, not_run = {}, dict(not_run)
    for path in map(Path, files):
        if (reason := reason_in(path)) is not None:
            not_run[reason["spec"]["name"]] = reason[REASON]
            continue
        result = read_json(path)
        arrays, _ = read_tensors(path.with_suffix(".safetensors"))
        read[result["name"]] = Found(result, arrays, printed.get(result["name"], {}))
    return {
        name: Found({"status": "not run", "reason": not_run[name]}, {})
        if name in not_run
        else read[name]
        for name in names
    }
