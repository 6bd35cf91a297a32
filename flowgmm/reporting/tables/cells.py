"""Cells of a resolved table, and the table that holds them."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Cell", "Table"]


@dataclass(frozen=True)
class Cell:
    """One method on one column: our number, the printed one, and the verdict.

    Attributes:
        kind: ``paper``, ``extra`` (not in the paper) or ``quoted`` (printed only).
        value, spread: Over the runs that have a number, in `unit`.
        n, n_failed, n_missing: Seeds run; those that failed; those without a number.
        value_ok, n_ok: The same value over the seeds that did not fail.
        interval: ``low``, ``high``, ``kind`` and ``coverage``, or None.
        margin: Distance from the printed number that still counts as the same.
        printed: ``value``, ``spread``, ``text`` and ``reported_by``, or None; of a hyper-parameter
            also its ``parameter``, of a quoted number what is known about its ``source``.
        verdict, why: One of `flowgmm.evaluation.verdicts.WORDS`, or "" where nothing is compared.
        runs: Per seed: status, reason, value, seeds, and the record it stands in; of a
            hyper-parameter also the ``tuning`` curve and its ``budget``.
    """

    method: str
    dataset: str
    labels: str
    metric: str
    evaluate: str
    unit: str
    kind: str
    printed: dict[str, Any] | None
    verdict: str
    why: str
    value: float | None = None
    spread: float | None = None
    n: int = 0
    n_failed: int = 0
    n_missing: int = 0
    value_ok: float | None = None
    n_ok: int = 0
    interval: dict[str, Any] | None = None
    margin: float | None = None
    runs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Table:
    """A resolved table.

    Attributes:
        spec: As `flowgmm.experiments.specs.tables.table_spec` makes it.
        cells: One tuple of cells per row of the spec, in the order of its columns.
        remarks: Per column: ``labels`` for its header and ``notes`` that explain them.
        records: Origin of each record, by path: its spec, hashes, environment and data.
        claim: Outcome of the table's claim, from `flowgmm.reporting.tables.claim.judge_claim`.
    """

    spec: dict[str, Any]
    cells: tuple[tuple[Cell, ...], ...]
    remarks: tuple[dict[str, list[str]], ...]
    records: dict[str, dict[str, Any]]
    claim: dict[str, Any] | None = None
