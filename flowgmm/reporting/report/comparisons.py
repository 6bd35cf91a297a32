"""Comparisons of a claim: parts of `config/claims.yaml`, column by column, with their estimates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowgmm.evaluation.decisions import Bounds, Estimate, decide, estimate, lead, shrinkage
from flowgmm.reporting.report.tables import place_of, run_id
from flowgmm.reporting.report.types import Decider, Place
from flowgmm.reporting.tables.cells import Cell, Table
from flowgmm.reporting.tables.claim import paired
from flowgmm.utils.errors import UserError

__all__ = ["Comparison", "bounds_of", "compare", "n_comparisons"]

# A lead is positive where ours is better.
HIGHER_IS_BETTER = {"percent": True, "nats": False, "ece": False}
LEAD_UNITS = {"percent": "points"}


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    Attributes:
        found: Its estimate; None where there is none, then `why` says why.
        decision: Of `flowgmm.evaluation.decisions.DECISIONS`.
        cells: Cells that it is read from; none of an analysis.
        runs: Ids of the runs.
        instead: What was run instead of the paper's data or sizes, as far as the cells say.
    """

    title: str
    part: Mapping[str, Any]
    found: Estimate | None
    decision: str
    why: str
    unit: str
    decided_by: Decider
    runs: tuple[str, ...] = ()
    instead: tuple[str, ...] = field(default=())


def bounds_of(part: Mapping[str, Any]) -> Bounds:
    """Bounds of a part."""
    keys = ("above", "below", "at_least", "at_most")
    return Bounds(**{key: part[key] for key in keys if key in part})


def n_comparisons(part: Mapping[str, Any]) -> int:
    """Number of comparisons that a part makes: one for each column, or one in all."""
    each = part["kind"] in ("lead", "value") and part["over"] == "runs"
    return len(part["columns"]) if each else 1


def compare(
    part: Mapping[str, Any],
    tables: Mapping[str, Table],
    analyses: Mapping[str, Mapping[str, Any]],
    n_parts: int,
) -> list[Comparison]:
    """Make the comparisons of a part.

    Arguments:
        part: From `flowgmm.experiments.specs.claims.claims_spec`.
        tables: Tables that were made, by name.
        analyses: Content of the analyses' json, by name; of one that was not run ``status`` and
            ``reason``.
        n_parts: Number of comparisons that decide the claim.
    """
    if part["kind"] == "number":
        return [_of_number(part, analyses.get(part["analysis"]), n_parts)]
    table = tables.get(part["table"])
    if table is None:
        found = _Lead(None, f"{part['table']} has not been made", "")
        columns = part["columns"] if n_comparisons(part) > 1 else [None]
        return [_comparison(part, title, found, (), ()) for title in columns]
    reader = _Reader(part, table, n_parts)
    if part["kind"] == "shrinkage":
        return [reader.shrinkage()]
    if part["over"] == "sets":
        return [reader.over_sets()]
    return [reader.column(title) for title in part["columns"]]


@dataclass(frozen=True)
class _Lead:
    """Estimate, or the reason for which there is none; `run` tells whether anything was run."""

    found: Estimate | None
    why: str
    unit: str
    run: bool = False


def _comparison(
    part: Mapping[str, Any],
    column: str | None,
    of: _Lead,
    places: Sequence[Place],
    cells: Sequence[Cell],
) -> Comparison:
    title = part["title"] if column is None else f"{part['title']}: {column}"
    decision = "undecided" if of.run else "not run"
    why = of.why
    if of.found is not None:
        decision = decide(of.found, bounds_of(part))
        why = "; ".join(text for text in (_text(of.found, of.unit, part["over"]), of.why) if text)
        # A baseline that was left out may be the best one, a set the one where ours is not.
        if of.why and decision == "holds":
            decision = "undecided"
    instead = [cell.why for cell in cells if cell.verdict == "not comparable"]
    return Comparison(
        title=title,
        part=part,
        found=of.found,
        decision=decision,
        why=why,
        unit=of.unit,
        decided_by=Decider("table", part["table"], tuple(places)),
        runs=tuple(dict.fromkeys(run_id(cell) for cell in cells if cell.runs)),
        instead=tuple(dict.fromkeys(instead)),
    )


def _text(found: Estimate, unit: str, over: str) -> str:
    """Estimate with interval and number in words."""
    noun = over if found.n != 1 else over[:-1]
    box = "" if found.low is None else f" [{found.low:+.3g}, {found.high:+.3g}]"
    single = ", which has no interval" if found.low is None else ""
    baseline = f" over {found.baseline}" if found.baseline else ""
    return f"{found.value:+.3g}{box} {unit}{baseline}, {found.n} {noun}{single}"


class _Reader:
    """Reads the comparisons of a part from its table."""

    def __init__(self, part: Mapping[str, Any], table: Table, n_parts: int) -> None:
        self.part, self.table, self.n_parts = part, table, n_parts
        self.titles = [column["title"] for column in table.spec["columns"]]
        self.rows = {
            name: i
            for i, row in enumerate(table.spec["rows"])
            for name in (row.get("method"), row.get("paper"))
            if name is not None
        }

    def column(self, title: str) -> Comparison:
        """Comparison in one column."""
        of = self._value(title) if self.part["kind"] == "value" else self._lead(title)
        return _comparison(self.part, title, of, *self._named([title]))

    def over_sets(self) -> Comparison:
        """Mean of the leads on the columns' data sets, which are a sample of their own."""
        leads = [self._lead(title) for title in self.part["columns"]]
        found = [of for of in leads if of.found is not None]
        why = "; ".join(dict.fromkeys(of.why for of in leads if of.why))
        if found:
            values = [of.found.value for of in found if of.found is not None]
            of = _Lead(estimate(values, self.n_parts), why, found[0].unit, True)
        else:
            of = _Lead(None, why, "points", any(of.run for of in leads))
        return _comparison(self.part, None, of, *self._named(self.part["columns"]))

    def shrinkage(self) -> Comparison:
        """Mean lead over all baselines in the first column minus that in the last."""
        ends = [self.part["first"], self.part["last"]]
        gaps, why = [], []
        for title in ends:
            ours, baselines, problem = self._scores(title)
            if ours and len(baselines) == len(self.part["against"]):
                gaps.append(np.mean(ours - np.array(list(baselines.values())), axis=0))
            why += [problem] if problem else []
        unit = LEAD_UNITS.get(self._cell(self.part["row"], ends[0]).unit, "")
        if len(gaps) == 2:
            of = _Lead(shrinkage(gaps[0], gaps[1], self.n_parts), "", unit, True)
        else:
            run = any(self._cell(self.part["row"], title).runs for title in ends)
            of = _Lead(None, "; ".join(dict.fromkeys(why)), unit, run)
        return _comparison(self.part, None, of, *self._named(ends))

    def _cell(self, row: str, title: str) -> Cell:
        return self.table.cells[self.rows[row]][self.titles.index(title)]

    def _named(self, titles: Sequence[str]) -> tuple[list[Place], list[Cell]]:
        """Places and cells of the part's rows in these columns."""
        names = (self.part["row"], *self.part.get("against", ()))
        pairs = [(self.rows[name], self.titles.index(title)) for title in titles for name in names]
        places = [place_of(self.table.spec, i, j) for i, j in pairs]
        return places, [self.table.cells[i][j] for i, j in pairs]

    def _value(self, title: str) -> _Lead:
        cell = self._cell(self.part["row"], title)
        values = [run["value"] for run in cell.runs]
        if not values or None in values:
            return _Lead(None, _reason(cell, self.part["row"]), cell.unit, bool(values))
        return _Lead(estimate(values, self.n_parts), "", cell.unit, True)

    def _lead(self, title: str) -> _Lead:
        cell = self._cell(self.part["row"], title)
        unit = LEAD_UNITS.get(cell.unit, cell.unit)
        ours, baselines, why = self._scores(title)
        if not baselines:
            return _Lead(None, why, unit, bool(cell.runs))
        return _Lead(lead(ours, baselines, self.n_parts), why, unit, True)

    def _scores(self, title: str) -> tuple[list[float], dict[str, list[float]], str]:
        """Scores of our runs and the baselines' on the same ones, the higher the better; reasons.

        A baseline that was not run but only printed has its printed number for each run, where ours
        is comparable with it.
        """
        cell = self._cell(self.part["row"], title)
        values = [run["value"] for run in cell.runs]
        if not values or None in values:
            return [], {}, _reason(cell, self.part["row"])
        sign = 1.0 if HIGHER_IS_BETTER[cell.unit] else -1.0
        baselines, missing = {}, []
        for name in self.part["against"]:
            scores, why = _baseline(cell, self._cell(name, title), name)
            if scores is None:
                missing.append(why)
            else:
                label = self.table.spec["rows"][self.rows[name]]["title"]
                baselines[label] = [sign * score for score in scores]
        return [sign * value for value in values], baselines, "; ".join(dict.fromkeys(missing))


def _baseline(ours: Cell, baseline: Cell, name: str) -> tuple[list[float] | None, str]:
    """Numbers of a baseline for our runs, or the reason for which it has none.

    Of a baseline that is not run the printed number stands for all runs, unless the authors ran it
    themselves: then theirs and ours differ in more than the method.
    """
    if baseline.runs:
        return paired(ours, baseline), _reason(baseline, name)
    if baseline.printed is None or baseline.printed["reported_by"] == "own":
        return None, f"{name} is not run ({baseline.why})"
    if ours.verdict == "not comparable":
        return None, f"not comparable with the printed number of {name}: {ours.why}"
    return [baseline.printed["value"]] * len(ours.runs), ""


def _reason(cell: Cell, name: str) -> str:
    """Reason for which a cell has no number for each run."""
    if not cell.runs:
        return f"{name} is not run ({cell.why})"
    return f"{name} has no number for {cell.n_missing} of {cell.n} seeds"


def _of_number(
    part: Mapping[str, Any], result: Mapping[str, Any] | None, n_parts: int
) -> Comparison:
    """Comparison of an analysis's number with its bounds."""
    name = part["analysis"]
    status = "not run" if result is None else result["status"]
    decider = Decider("analysis", name)
    if result is None or status != "ok":
        why = f"{name} has not been made" if result is None else f"{name}: {result['reason']}"
        decision = "undecided" if status == "failed" else "not run"
        return Comparison(part["title"], part, None, decision, why, "", decider)
    numbers = {number["name"]: number for number in result["numbers"]}
    runs = result["spec"]["runs"].values()
    ids = tuple(f"{run['dataset']}/{run['labels']}/{run['method']}" for run in runs)
    if part["number"] not in numbers:
        if result["left_out"]:
            why = "; ".join(f"{k} is left out: {v}" for k, v in result["left_out"].items())
            return Comparison(part["title"], part, None, "not run", why, "", decider, ids)
        raise UserError(
            f"config/claims.yaml: {name} has no number {part['number']!r}; expected one of "
            f"{', '.join(numbers)}"
        )
    number = numbers[part["number"]]
    _check_bounds(part, number)
    found = estimate(number["values"], n_parts, number["value"])
    return Comparison(
        title=part["title"],
        part=part,
        found=found,
        decision=decide(found, bounds_of(part)),
        why=_text(found, number["unit"], "runs"),
        unit=number["unit"],
        decided_by=Decider("analysis", name, (Place(name, "", number["title"]),)),
        runs=tuple(dict.fromkeys(ids)),
        instead=tuple(result["not_comparable"]),
    )


def _check_bounds(part: Mapping[str, Any], number: Mapping[str, Any]) -> None:
    """Check that an analysis that states bounds of its own states those of the claim.

    Raises:
        UserError: If they differ.
    """
    stated = [number.get(key) for key in ("at_least", "at_most")]
    claimed = [part.get("above", part.get("at_least")), part.get("below", part.get("at_most"))]
    if stated != [None, None] and stated != claimed:
        raise UserError(
            f"config/claims.yaml: {part['analysis']}/{part['number']}: expected the bounds of the "
            f"analysis, {stated[0]} and {stated[1]}, got {claimed[0]} and {claimed[1]}; correct "
            "either"
        )
