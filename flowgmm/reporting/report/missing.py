"""List of what is missing: not run, failed, undecided or not comparable, and what would fill it."""

from collections.abc import Mapping, Sequence
from typing import Any

from flowgmm.evaluation.decisions import Bounds, decide, estimate
from flowgmm.evaluation.power import seeds_needed
from flowgmm.evaluation.verdicts import judge
from flowgmm.reporting.commands import make_command
from flowgmm.reporting.report.types import Cell, Claim, Decider, Missing, Part, Place, Run, Table

__all__ = ["missing_cells", "missing_claims", "missing_targets"]

LISTED = ("not run", "failed", "inconclusive", "not comparable")
KINDS = {"tables": "table", "figures": "figure", "analyses": "analysis"}
DECIDED = ("holds", "does not hold")
FULL_SIZE, TUNED = "official", "tuned"
# What a change of the command line makes incomparable, by words of the reason.
ENCODERS = ("text_encoder", "image_encoder")


class _Costs:
    """Hours of runs and of single seeds."""

    def __init__(self, runs: Mapping[str, Run], estimates: Mapping[str, float]) -> None:
        self.runs, self.estimates = runs, estimates

    def of_run(self, run: str) -> float | None:
        """Estimated hours of a run that is missing."""
        return self.estimates.get(run)

    def of_seeds(self, ids: Sequence[str], n: int) -> float | None:
        """Hours of further seeds of these runs, as the finished ones took."""
        known = [self.runs[run] for run in ids if run in self.runs]
        if not known:
            return None
        return sum(n * run.minutes / len(run.seeds) for run in known) / 60


def missing_cells(
    tables: Sequence[Table],
    runs: Mapping[str, Run],
    estimates: Mapping[str, float],
    changes: Sequence[str],
) -> list[Missing]:
    """List the cells of tables that are not decided.

    Arguments:
        tables: Tables of the report.
        runs: Runs of the report, by id.
        estimates: Estimated hours of runs that are missing, by id.
        changes: The command line's ``key=value``.
    """
    costs = _Costs(runs, estimates)
    found = []
    for table in tables:
        for row, cells in zip(table.rows, table.cells, strict=True):
            for column, cell in zip(table.columns, cells, strict=True):
                if row.kind == "quoted" or cell.verdict not in LISTED:
                    continue
                where = Place(table.name, row.title, column.title)
                found.append(_missing_cell(where, table, cell, costs, changes))
    return found


def _missing_cell(
    where: Place, table: Table, cell: Cell, costs: _Costs, changes: Sequence[str]
) -> Missing:
    run = f"{cell.dataset}/{cell.labels}/{cell.method}"
    seeds, hours = None, None
    command = make_command(_changed(changes, cell.why), table.name)
    if cell.verdict == "not run":
        hours = costs.of_run(run)
    elif cell.verdict == "failed":
        command = cell.command
    elif cell.verdict == "inconclusive":
        command = ""
        if (seeds := _seeds_for_verdict(cell, table.aggregate)) is not None:
            hours = costs.of_seeds([run], seeds)
            command = _with_seeds(changes, cell.n + seeds, table.name)
    return Missing(where, cell.verdict, cell.why, command, seeds, hours)


def _seeds_for_verdict(cell: Cell, aggregate: str) -> int | None:
    """Further seeds that probably give a verdict; None where seeds would not."""
    values = [run["value"] for run in cell.values if run["value"] is not None]
    printed = cell.printed or {}
    if cell.n_missing or cell.unit not in ("percent", "nats", "ece") or len(set(values)) < 2:
        return None

    def decides(draw: list[float]) -> bool:
        verdict = judge(
            draw,
            n_runs=len(draw),
            n_failed=0,
            aggregate=aggregate,
            unit=cell.unit,
            printed=printed["value"],
            printed_spread=printed["spread"] or printed.get("source_spread"),
        )
        return verdict.word != "inconclusive"

    return seeds_needed(values, decides)


def missing_claims(
    claims: Sequence[Claim], runs: Mapping[str, Run], changes: Sequence[str]
) -> list[Missing]:
    """List the undecided parts that decide claims; of those that are not run a table is missing.

    Arguments:
        claims: Claims of the report.
        runs: Runs of the report, by id.
        changes: The command line's ``key=value``.
    """
    costs = _Costs(runs, {})
    found = []
    for claim in claims:
        decisive = [part for part in claim.parts if part.decisive]
        for part in decisive:
            if part.decision != "undecided":
                continue
            target = _target(part.decided_by[0])
            seeds, hours = None, None
            command = make_command(_changed(changes, "; ".join([part.why, *part.instead])), target)
            if part.over == "runs":
                seeds = _seeds_for_decision(part, len(decisive))
            if seeds is not None:
                hours = costs.of_seeds(part.runs, seeds)
                command = _with_seeds(changes, part.n + seeds, target)
            where = Place("", claim.id, part.title)
            found.append(Missing(where, part.decision, part.why, command, seeds, hours))
    return found


def _target(decider: Decider) -> str:
    """Target of Snakemake that makes a table or the analyses."""
    return decider.name if decider.kind == "table" else "analyses"


def _seeds_for_decision(part: Part, n_parts: int) -> int | None:
    """Further seeds that probably decide a part; None where seeds would not."""
    bounds = Bounds(**part.bounds)

    def decides(draw: list[float]) -> bool:
        return decide(estimate(draw, n_parts), bounds) in DECIDED

    return seeds_needed(part.values, decides) if len(set(part.values)) > 1 else None


def missing_targets(
    spec: Mapping[str, Any],
    made: Sequence[str],
    runs: Mapping[str, Run],
    estimates: Mapping[str, float],
) -> list[Missing]:
    """List the tables, figures and analyses that have not been made.

    Arguments:
        spec: From `flowgmm.experiments.specs.report.report_spec`.
        made: Names of those that have.
        runs: Runs of the report, by id.
        estimates: Estimated hours of runs that are missing, by id.
    """
    found = []
    for kind in KINDS:
        for name in spec[kind]:
            if name in made:
                continue
            skip = spec[kind][name]["skip"] if kind == "analyses" else None
            needed = spec[kind][name]["runs"] if kind == "analyses" else spec["targets"][name]
            hours = [estimates[run] for run in needed if run in estimates]
            reason = skip or f"the {KINDS[kind]} has not been made"
            target = "analyses" if kind == "analyses" else name
            command = make_command(_changed(spec["changes"], reason), target)
            place = Place(name, "", "")
            found.append(
                Missing(place, "not run", reason, command, None, sum(hours) if hours else None)
            )
    return found


def _changed(changes: Sequence[str], reason: str) -> list[str]:
    """Settings of the command line without those that are the reason."""
    kept = dict(change.split("=", 1) for change in changes)
    if "left out by `skip" in reason:
        kept.pop("skip", None)
    if "encoder" in reason:
        kept = {key: value for key, value in kept.items() if key not in ENCODERS}
    if "scaled down" in reason or "label set" in reason or "restarts" in reason:
        kept |= {"recipe": FULL_SIZE}
    if "not tuned" in reason:
        kept |= {"recipe": TUNED}
    if "`offline`" in reason:
        kept.pop("offline", None)
    return [f"{key}={value}" for key, value in kept.items()]


def _with_seeds(changes: Sequence[str], n: int, target: str) -> str:
    """Command that runs more seeds."""
    kept = [change for change in changes if not change.startswith("n_seeds=")]
    return make_command([*kept, f"n_seeds={n}"], target)
