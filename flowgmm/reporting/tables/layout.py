"""Lay the cells of a table out as text: header, body, legend and numbered notes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from flowgmm.evaluation.units import SYMBOLS
from flowgmm.reporting.names import title_of
from flowgmm.reporting.tables.cells import Cell, Table

__all__ = ["Grid", "caption", "legend", "value_text"]

DECIMALS = {"percent": 1, "nats": 2, "ece": 3}
RULE = "flowgmm/evaluation/verdicts.py"
SECTIONS = {"extra": "Beside the paper's rows", "quoted": "As printed, not run here"}
SUFFIXES = {"paper": "", "extra": " (not in the paper)", "quoted": " (as printed)"}
COLOURS = {"reproduced": "green", "higher": "cyan", "lower": "yellow", "failed": "red"}
Entry = tuple[list[str], list[int], str]  # lines, numbers of notes, colour


class Grid:
    """A table as text: header, body and numbered notes, the longer axis down the page.

    Attributes:
        header: Title and note numbers of each column.
        body: Section heading ("" for none) and entries of each row.
        notes: Texts of the notes, in order.
    """

    def __init__(self, table: Table) -> None:
        self.notes: list[str] = []
        spec = table.spec
        columns = [
            (self._column_title(column, remark), self._number(remark["notes"]))
            for column, remark in zip(spec["columns"], table.remarks, strict=True)
        ]
        marks = [self._number(row.get("notes", ())) for row in spec["rows"]]
        entries = [[self._entry(cell) for cell in row] for row in table.cells]
        kinds = [row["kind"] for row in spec["rows"]]
        if len(columns) > len(kinds):
            titles = [row["title"] + SUFFIXES[row["kind"]] for row in spec["rows"]]
            self.header: list[tuple[str, list[int]]] = [
                ("", []),
                *zip(titles, marks, strict=True),
            ]
            self.body = [
                ("", [([title], numbers, ""), *column])
                for (title, numbers), column in zip(
                    columns, zip(*entries, strict=True), strict=True
                )
            ]
        else:
            self.header = [("", []), *columns]
            self.body = []
            for i, row in enumerate(entries):
                new = i == 0 or kinds[i] != kinds[i - 1]
                title: Entry = ([spec["rows"][i]["title"]], marks[i], "")
                self.body.append((SECTIONS.get(kinds[i], "") if new else "", [title, *row]))

    def _number(self, notes: Iterable[str]) -> list[int]:
        """Numbers of notes; a text that was given before keeps its number."""
        numbers = []
        for note in notes:
            if note not in self.notes:
                self.notes.append(note)
            numbers.append(self.notes.index(note) + 1)
        return numbers

    @staticmethod
    def _column_title(column: Mapping[str, Any], remark: Mapping[str, list[str]]) -> str:
        labels = "; ".join(remark["labels"])
        return f"{column['title']} ({labels})" if labels else str(column["title"])

    def _entry(self, cell: Cell) -> Entry:
        owner = "source" if cell.printed and cell.printed["reported_by"] == "source" else "paper"
        printed = None if cell.printed is None else cell.printed["text"]
        notes = _origin(cell)
        if cell.kind == "quoted" or (not cell.verdict and not cell.runs):
            text = f"{printed} (source)" if owner == "source" else printed or "-"
            return [text], self._number(notes), ""
        if cell.verdict == "not run":
            lines = ["not run", f"{owner} {printed}"] if printed else ["not run"]
            return lines, self._number([f"not run ({cell.why})", *notes]), ""
        lines = _choice_lines(cell) if cell.metric == "tuned" else [value_text(cell)]
        if cell.n_failed and cell.value_ok is not None:
            ok = f"{cell.value_ok:.{DECIMALS[cell.unit]}f}"
            lines.append(f"{ok} over the {cell.n_ok} that did not fail")
        verdict = f"failed ({cell.why})" if cell.verdict == "failed" else cell.verdict
        if cell.verdict == "not comparable":
            lines.append(f"not comparable to the {owner}'s {printed}")
        elif cell.verdict:
            lines.append(f"{verdict} · {owner} {printed}" if printed else verdict)
        reasons = dict.fromkeys(
            f"seed {run['seed']} failed: {run['reason']}"
            for run in cell.runs
            if run["status"] != "ok"
        )
        return lines, self._number([*reasons, *notes]), COLOURS.get(cell.verdict, "")


def _origin(cell: Cell) -> list[str]:
    """Note on a number that comes from another paper: the source, and what it says there."""
    printed = cell.printed or {}
    if not (source := printed.get("source")):
        return []
    reason = printed.get("not_comparable")
    parts = [printed.get("origin"), reason and f"not comparable: {reason}"]
    said = "; ".join(part for part in parts if part)
    return [f"{source}: {said}" if said else source]


def value_text(cell: Cell) -> str:
    """Our number as text: value, spread, number of runs and of failures; or the choices."""
    if cell.metric == "tuned":
        return "; ".join(_choice_lines(cell))
    n = f"n = {cell.n}" if not cell.n_missing else f"n = {cell.n - cell.n_missing} of {cell.n}"
    if cell.n_failed:
        n += f", {cell.n_failed} failed"
    if cell.value is None:
        return f"no number ({n})"
    decimals = DECIMALS[cell.unit]
    spread = "" if cell.spread is None else f" ± {cell.spread:.{decimals}f}"
    return f"{cell.value:.{decimals}f}{spread} ({n})"


def _choice_lines(cell: Cell) -> list[str]:
    """Chosen parameters, the printed one first; with counts where runs chose differently."""
    first = cell.printed and cell.printed["parameter"]
    texts = []
    for run in cell.runs:
        chosen = sorted(run["tuned"].items(), key=lambda item: item[0] != first)
        texts.append(", ".join(f"{SYMBOLS.get(k, k)} = {_plain(v)}" for k, v in chosen))
    counts = Counter(texts)
    if len(counts) == 1:
        return texts[:1]
    return [f"{text} ({count} of {cell.n})" for text, count in counts.most_common()]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def caption(table: Table) -> str:
    """Name, title and recipe of a table."""
    spec = table.spec
    return f"{title_of(spec['name'])}: {spec['title']} · recipe {spec['recipe']}"


def legend(table: Table) -> str:
    """Legend of a table, in one line."""
    spec = table.spec
    if _units(table) == {"none"}:
        return (
            "Chosen by accuracy on validation points: classic methods choose for each run, neural "
            f"ones once for all runs. Verdicts: the rule in {RULE}."
        )
    spread = {"mad": "median absolute deviation (no scale factor)", "std": "std (ddof 0)"}
    units = {
        "percent": "accuracy in percent",
        "nats": "NLL in nats, lower is better",
        "ece": "calibration error, lower is better",
    }
    used = "; ".join(text for unit, text in units.items() if unit in _units(table))
    legend = f"{spec['aggregate'].capitalize()} ± {spread[spec['spread']]} over n runs; {used}."
    if any(cell.printed for row in table.cells for cell in row):
        legend += f" Verdicts: the rule in {RULE}; higher and lower mean the number."
    if spec["footnote"]:
        legend += f" The paper's footnote: {spec['footnote']}"
    return legend


def _units(table: Table) -> set[str]:
    return {column["unit"] for column in table.spec["columns"]}
