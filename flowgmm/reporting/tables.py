"""Records of runs become cells with verdicts, and cells become csv, md, tex and json."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowgmm.evaluation import metrics, verdicts
from flowgmm.evaluation.units import SYMBOLS
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, sha256, write_json, write_text

__all__ = [
    "Cell",
    "Table",
    "make_table",
    "print_tables",
    "read_table",
    "value_text",
    "write",
]

DECIMALS = {"percent": 1, "nats": 2, "ece": 3}
RULE = "flowgmm/evaluation/verdicts.py"
SECTIONS = {"extra": "Beside the paper's rows", "quoted": "As printed, not run here"}
SUFFIXES = {"paper": "", "extra": " (not in the paper)", "quoted": " (as printed)"}
COLOURS = {"reproduced": "green", "higher": "cyan", "lower": "yellow", "failed": "red"}


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
        printed: ``value``, ``spread``, ``text``, ``reported_by`` and ``source``, or None; of a
            hyper-parameter also its ``parameter``.
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
        records: What each record says about its origin, by path.
    """

    spec: dict[str, Any]
    cells: tuple[tuple[Cell, ...], ...]
    remarks: tuple[dict[str, list[str]], ...]
    records: dict[str, dict[str, Any]]


# From records to cells


def make_table(spec: dict[str, Any], records: Sequence[str | os.PathLike[str]]) -> Table:
    """Aggregate records into the cells of a table.

    Arguments:
        spec: As `flowgmm.experiments.specs.tables.table_spec` makes it.
        records: Paths of the runs' `record.json`; several seed blocks may feed one cell.

    Raises:
        UserError: If a record has no place in the table, belongs to another recipe, repeats a
            seed, or was made from other features or by other code than its neighbour.
    """
    found: dict[tuple[str, str, str], list[tuple[str, dict[str, Any]]]] = {}
    for path in sorted(Path(os.path.relpath(record)).as_posix() for record in records):
        record = read_json(path)
        key = (record["dataset"], record["labels"], record["method"])
        found.setdefault(key, []).append((path, record))
        if record["recipe"] != spec["recipe"]:
            raise UserError(
                f"{path}: recipe {record['recipe']!r}, but {spec['name']} is made for "
                f"{spec['recipe']!r}; give it the records under results/{spec['recipe']}"
            )
    places = {
        _key(cell)
        for row, cells in zip(spec["rows"], spec["cells"], strict=True)
        for cell in cells
        if row["kind"] != "quoted"
    }
    for key, blocks in found.items():
        if key not in places:
            raise UserError(
                f"{blocks[0][0]}: {'/'.join(key)} has no place in {spec['name']}; leave it out, "
                "or add its column and row in config/tables.yaml"
            )
        _check_blocks(blocks)
    cells = tuple(
        tuple(
            _cell(spec, row, column, cell, found.get(_key(cell), []))
            for column, cell in zip(spec["columns"], cells, strict=True)
        )
        for row, cells in zip(spec["rows"], spec["cells"], strict=True)
    )
    remarks = tuple(
        _remarks(column, [r for key in map(_key, cells) for _, r in found.get(key, [])])
        for column, cells in zip(spec["columns"], zip(*spec["cells"], strict=True), strict=True)
    )
    origins = {
        path: {key: record[key] for key in ("spec", "hashes", "environment", "git", "timing")}
        | {"sha256": sha256(path), "data": record["data"]}
        for blocks in found.values()
        for path, record in blocks
    }
    return Table(spec, cells, remarks, origins)


def _key(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    return cell["dataset"], cell["labels"], cell["method"]


def _check_blocks(blocks: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Seed blocks of one cell hold different seeds of the same experiment."""
    seeds: set[int] = set()
    first_path, first = blocks[0]
    for path, record in blocks:
        if repeated := seeds & set(record["seeds"]):
            raise UserError(
                f"{path}: seed {min(repeated)} is in another record too; give each seed once"
            )
        seeds |= set(record["seeds"])
        for what in ("code", "features"):
            if record["hashes"][what] != first["hashes"][what]:
                raise UserError(
                    f"{path}: its {what} differ from those of {first_path}; run both again"
                )


def _not_comparable(record: Mapping[str, Any]) -> list[str]:
    """Why a record's numbers cannot be held against the paper's."""
    scaled = record["spec"].get("scaled_down") or []
    return [*record["data"]["not_comparable"], *_restarted(record), *_scaled_down(scaled)]


def _restarted(record: Mapping[str, Any]) -> list[str]:
    """Restarts look at far more labels than a run is said to have."""
    counts = [run["restarts"]["count"] for run in record["runs"] if run.get("restarts")]
    if not counts:
        return []
    return [f"{sum(counts)} restarts, decided with {record['data']['n_val']} validation labels"]


def _scaled_down(what: Sequence[str]) -> list[str]:
    return [f"scaled down: {', '.join(what)}"] if what else []


def _cell(
    spec: Mapping[str, Any],
    row: Mapping[str, str],
    column: Mapping[str, Any],
    cell: Mapping[str, Any],
    blocks: Sequence[tuple[str, dict[str, Any]]],
) -> Cell:
    printed = cell["printed"]
    place = {
        **{key: cell[key] for key in ("dataset", "labels", "method", "evaluate", "printed")},
        "kind": row["kind"],
        "metric": column["metric"],
        "unit": column["unit"],
    }
    if row["kind"] == "quoted":
        return Cell(**place, verdict="", why="as printed" if printed else "nothing printed")
    if not blocks:
        return Cell(**place, verdict="not run", why=cell["not_run"] or "no record was given")

    reasons = _unique(reason for _, record in blocks for reason in _not_comparable(record))
    if column["metric"] == "tuned":
        return _choice_cell(place, blocks, reasons)
    scale = 100.0 if column["unit"] == "percent" else 1.0
    runs = []
    for path, record in blocks:
        for run in record["runs"]:
            scores = (run["metrics"] or {}).get(cell["evaluate"]) or {}
            value = scores.get(column["metric"])
            value = None if value is None else scale * value
            runs.append(_run(run, path) | {"value": value, "n_points": scores.get("n")})
    runs.sort(key=lambda run: run["seed"])
    values = [run["value"] for run in runs if run["value"] is not None]
    kept = [r["value"] for r in runs if r["value"] is not None and r["status"] == "ok"]
    n_failed = sum(run["status"] != "ok" for run in runs)
    if not values and not n_failed:
        why = f"this method has no {column['metric']} on {cell['evaluate']} points"
        return Cell(**place, verdict="not run", why=why)

    n_points = min((run["n_points"] for run in runs if run["n_points"]), default=None)
    value = None if printed is None else printed["value"]
    verdict = verdicts.judge(
        values,
        n_runs=len(runs),
        n_failed=n_failed,
        aggregate=spec["aggregate"],
        unit=column["unit"],
        printed=value,
        printed_spread=None if printed is None else printed["spread"],
        n_points=n_points,
        not_comparable=reasons,
    )
    aggregate = {"median": metrics.median, "mean": lambda x: float(sum(x) / len(x))}
    spread = {"mad": metrics.mad, "std": metrics.std}
    ours = values and verdicts.interval(values, spec["aggregate"], column["unit"], n_points)
    return Cell(
        **place,
        verdict=verdict.word,
        why=verdict.why,
        value=aggregate[spec["aggregate"]](values) if values else None,
        spread=spread[spec["spread"]](values) if len(values) > 1 else None,
        n=len(runs),
        n_failed=n_failed,
        n_missing=len(runs) - len(values),
        value_ok=aggregate[spec["aggregate"]](kept) if kept else None,
        n_ok=len(kept),
        interval=asdict(ours) if ours else None,
        margin=None if value is None else verdicts.margin(column["unit"], printed["spread"]),
        runs=tuple(runs),
    )


def _run(run: Mapping[str, Any], path: str) -> dict[str, Any]:
    """What a cell keeps of one seed."""
    keys = ("seed", "split", "status", "reason", "seeds", "tuned", "n_iter")
    return {key: run.get(key) for key in keys} | {"record": path}


def _choice_cell(
    place: Mapping[str, Any],
    blocks: Sequence[tuple[str, dict[str, Any]]],
    not_comparable: Sequence[str],
) -> Cell:
    """Cell of a chosen hyper-parameter; its value is that which all runs chose, if they did."""
    runs = [
        _run(run, path) | {key: run.get(key) for key in ("tuning", "budget")}
        for path, record in blocks
        for run in record["runs"]
    ]
    runs.sort(key=lambda run: run["seed"])
    printed = place["printed"] or {"value": None, "parameter": None}
    for run in runs:
        run["value"] = (run["tuned"] or {}).get(printed["parameter"])
    values = [run["value"] for run in runs]
    if not all(run["tuned"] for run in runs) or (place["printed"] and None in values):
        return Cell(**place, verdict="not run", why="not tuned in this recipe")
    verdict = verdicts.judge_choice(values, printed=printed["value"], not_comparable=not_comparable)
    return Cell(
        **place,
        verdict=verdict.word,
        why=verdict.why,
        value=values[0] if len(set(values)) == 1 else None,
        n=len(runs),
        n_failed=sum(run["status"] != "ok" for run in runs),
        runs=tuple(runs),
    )


def _remarks(
    column: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """What a column's header has to say about its data and size, and the notes that explain it."""
    smaller = (what for r in records for what in r["spec"].get("scaled_down") or [])
    scaled = _scaled_down(_unique([*column["scaled_down"], *smaller]))
    other = _unique(reason for r in records for reason in r["data"]["not_comparable"])
    notes = _unique(note for r in records for note in r["data"]["notes"])
    labels = ["scaled down"] * bool(scaled) + ["not the paper's data"] * bool(other)
    return {"labels": labels, "notes": _unique([*column["notes"], *scaled, *other, *notes])}


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


# From cells to files


def write(table: Table, prefix: str | os.PathLike[str], changes: Sequence[str] = ()) -> list[Path]:
    """Write `prefix`.csv, .md, .tex and .json; the json leads from each cell to its runs.

    Arguments:
        table: The table.
        prefix: Path without suffix.
        changes: The command line's ``key=value``, without which the table cannot be made again.

    Returns:
        The four paths.
    """
    paths = [Path(f"{os.fspath(prefix)}.{suffix}") for suffix in ("csv", "md", "tex", "json")]
    for path, text in zip(paths, (_csv(table), _markdown(table), _latex(table)), strict=False):
        write_text(path, text)
    write_json(paths[3], {"schema": 1, "changes": list(changes)} | asdict(table))
    return paths


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table from the json that `write` made."""
    content = read_json(path)
    cells = tuple(tuple(Cell(**cell) for cell in row) for row in content["cells"])
    return Table(content["spec"], cells, tuple(content["remarks"]), content["records"])


def print_tables(paths: Sequence[str | os.PathLike[str]]) -> None:
    """Print tables from their json files to the terminal, with a count of their verdicts."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    for path in paths:
        table = read_table(path)
        grid = _Grid(table)
        shown = RichTable(title=_caption(table), title_justify="left", show_lines=True)
        for title, numbers in grid.header:
            shown.add_column(Text(title + _marks(numbers)))
        for section, row in grid.body:
            if section:
                shown.add_section()
                shown.add_row(Text(section, style="bold"))
            shown.add_row(
                *(
                    Text(
                        "\n".join([*lines[:-1], lines[-1] + _marks(numbers)]),
                        style=colour,
                    )
                    for lines, numbers, colour in row
                )
            )
        console.print(shown)
        for number, note in enumerate(grid.notes, start=1):
            console.print(f"{_marks([number])} {note}", markup=False, highlight=False)
        counts = Counter(cell.verdict for row in table.cells for cell in row if cell.verdict)
        told = ", ".join(f"{counts[word]} {word}" for word in verdicts.WORDS if counts[word])
        console.print(f"Verdicts: {told or 'nothing printed to compare with'}", highlight=False)
        console.print(
            f"Files: {Path(path).with_suffix('')}.{{csv,md,tex,json}}\n",
            highlight=False,
        )


Entry = tuple[list[str], list[int], str]  # lines, numbers of notes, colour


class _Grid:
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
        entries = [[self._entry(cell) for cell in row] for row in table.cells]
        kinds = [row["kind"] for row in spec["rows"]]
        if len(columns) > len(kinds):
            titles = [row["title"] + SUFFIXES[row["kind"]] for row in spec["rows"]]
            self.header: list[tuple[str, list[int]]] = [
                ("", []),
                *((t, []) for t in titles),
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
                title: Entry = ([spec["rows"][i]["title"]], [], "")
                self.body.append((SECTIONS.get(kinds[i], "") if new else "", [title, *row]))

    def _number(self, notes: Iterable[str]) -> list[int]:
        """Numbers of notes; a text that is there already keeps its number."""
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
        printed = None if cell.printed is None else cell.printed["text"]
        if cell.kind == "quoted":
            source = cell.printed and cell.printed["source"]
            return [printed or "-"], self._number([source] if source else []), ""
        if cell.verdict == "not run":
            lines = ["not run", f"paper {printed}"] if printed else ["not run"]
            return lines, self._number([f"not run ({cell.why})"]), ""
        lines = _choice_lines(cell) if cell.metric == "tuned" else [value_text(cell)]
        if cell.n_failed and cell.value_ok is not None:
            ok = f"{cell.value_ok:.{DECIMALS[cell.unit]}f}"
            lines.append(f"{ok} over the {cell.n_ok} that did not fail")
        verdict = f"failed ({cell.why})" if cell.verdict == "failed" else cell.verdict
        if cell.verdict == "not comparable":
            lines.append(f"not comparable to the paper's {printed}")
        elif cell.verdict:
            lines.append(f"{verdict} · paper {printed}" if printed else verdict)
        reasons = _unique(
            f"seed {run['seed']} failed: {run['reason']}"
            for run in cell.runs
            if run["status"] != "ok"
        )
        return lines, self._number(reasons), COLOURS.get(cell.verdict, "")


def value_text(cell: Cell) -> str:
    """Our number: value, spread, number of runs and of failures; or what was chosen."""
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
    """What was chosen, the printed parameter first; with counts where runs chose differently."""
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


def _caption(table: Table) -> str:
    spec = table.spec
    name = spec["name"].replace("_", " ").capitalize()
    return f"{name}: {spec['title']} · recipe {spec['recipe']}"


def _legend(table: Table) -> str:
    """One line that says how to read the table."""
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


def _marks(numbers: Sequence[int]) -> str:
    return " " + "".join(f"[{number}]" for number in numbers) if numbers else ""


def _csv(table: Table) -> str:
    """Tidy: one line per cell."""
    plain = (
        "dataset",
        "labels",
        "method",
        "kind",
        "metric",
        "evaluate",
        "unit",
        "value",
    )
    counts = ("n", "n_failed", "n_missing", "value_ok", "n_ok")
    handle = io.StringIO()
    fields = ["table", "recipe", *plain, "spread", "aggregate", "spread_kind", *counts]
    fields += [
        "low",
        "high",
        "interval",
        "coverage",
        "paper",
        "paper_spread",
        "paper_text",
    ]
    fields += ["reported_by", "margin", "verdict", "why", "remarks"]
    writer = csv.DictWriter(handle, fields, lineterminator="\n")
    writer.writeheader()
    for row in table.cells:
        for cell, remark in zip(row, table.remarks, strict=True):
            box, printed = cell.interval or {}, cell.printed or {}
            writer.writerow(
                {
                    "table": table.spec["name"],
                    "recipe": table.spec["recipe"],
                    **{key: getattr(cell, key) for key in (*plain, "spread", *counts)},
                    "aggregate": table.spec["aggregate"],
                    "spread_kind": table.spec["spread"],
                    "low": box.get("low"),
                    "high": box.get("high"),
                    "interval": box.get("kind"),
                    "coverage": box.get("coverage"),
                    "paper": printed.get("value"),
                    "paper_spread": printed.get("spread"),
                    "paper_text": printed.get("text"),
                    "reported_by": printed.get("reported_by"),
                    "margin": cell.margin,
                    "verdict": cell.verdict,
                    "why": cell.why,
                    "remarks": "; ".join(remark["notes"]),
                }
            )
    return handle.getvalue()


def _markdown(table: Table) -> str:
    grid = _Grid(table)

    def text(lines: Sequence[str], numbers: Sequence[int]) -> str:
        marks = f" <sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""
        return "<br>".join(line.replace("|", "\\|") for line in lines) + marks

    lines = [f"**{_caption(table)}**", ""]
    lines.append("| " + " | ".join(text([t], numbers) for t, numbers in grid.header) + " |")
    lines.append("|" + " --- |" * len(grid.header))
    for section, row in grid.body:
        if section:
            lines.append(f"| *{section}* |" + " |" * (len(row) - 1))
        lines.append("| " + " | ".join(text(cell, numbers) for cell, numbers, _ in row) + " |")
    lines += ["", _legend(table)]
    if grid.notes:
        lines.append("")
        lines += [f"{number}. {note}" for number, note in enumerate(grid.notes, start=1)]
    return "\n".join(lines) + "\n"


def _latex(table: Table) -> str:
    """A document of its own; the part between the two rules can be copied into another."""
    grid = _Grid(table)

    def text(lines: Sequence[str], numbers: Sequence[int]) -> str:
        marks = rf"\textsuperscript{{{', '.join(map(str, numbers))}}}" if numbers else ""
        body = r"\\".join(_escape(line) for line in lines) + marks
        return rf"\shortstack[l]{{{body}}}" if len(lines) > 1 else body

    n = len(grid.header)
    lines = [
        r"\documentclass{article}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage[a4paper,landscape,margin=1cm]{geometry}",
        r"\usepackage{booktabs}",
        r"\begin{document}",
        r"\thispagestyle{empty}\noindent\footnotesize",
        rf"\textbf{{{_escape(_caption(table))}}}\par\medskip\noindent",
        rf"\begin{{tabular}}{{{'l' * n}}}",
        r"\toprule",
        " & ".join(text([title], numbers) for title, numbers in grid.header) + r" \\",
        r"\midrule",
    ]
    for section, row in grid.body:
        if section:
            lines.append(r"\midrule")
            lines.append(rf"\multicolumn{{{n}}}{{l}}{{\emph{{{_escape(section)}}}}} \\")
        lines.append(" & ".join(text(cell, numbers) for cell, numbers, _ in row) + r" \\[2pt]")
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        rf"\par\medskip\noindent {_escape(_legend(table))}",
    ]
    for number, note in enumerate(grid.notes, start=1):
        lines.append(rf"\par\noindent\textsuperscript{{{number}}} {_escape(note)}")
    lines += [r"\end{document}", ""]
    return "\n".join(lines)


LATEX = {
    "\\": r"\textbackslash{}",
    **{char: "\\" + char for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "Π": r"$\Pi$",
    "\N{EN DASH}": "--",
    "[": "{[}",  # after \\ a bracket would be read as a length
    "]": "{]}",
}


def _escape(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(LATEX.get(char, char) for char in text)
