"""Data of the report, as its page embeds them once: one class per JSON object.

Numbers of cells are those of the tables' own json, unrounded; texts are as the tables print them.
A number that is not known is None, never left out.
"""

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Cell",
    "Claim",
    "Column",
    "Cost",
    "CostLine",
    "Curve",
    "Decider",
    "Departure",
    "Difference",
    "Figure",
    "History",
    "Missing",
    "Part",
    "Place",
    "Point",
    "Report",
    "Row",
    "Run",
    "Table",
    "Tuning",
]


@dataclass(frozen=True)
class Place:
    """Place of a cell: table, titles of row and column; of an analysis its name and number."""

    table: str
    row: str
    column: str


@dataclass(frozen=True)
class Decider:
    """Result that decides a claim, or shows it.

    Attributes:
        kind: ``table``, ``analysis`` or ``figure``.
        name: Its name, that of an entry in `tables`, `figures`, or an analysis.
        cells: Cells of a table; none of a figure.
    """

    kind: str
    name: str
    cells: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Part:
    """Comparison that a claim consists of.

    Attributes:
        title: What is compared, in words.
        decision: ``holds``, ``does not hold``, ``undecided`` or ``not run``.
        why: Reason of the decision, in words.
        estimate, interval: In `unit`; the interval is that of 90 %, None with a single run.
        n: Number of runs, or of data sets.
        over: What `n` counts: ``runs`` or ``sets``.
        rule: Rule in words, with its numbers.
        decided_by: Tables and analyses it is read from.
        instead: What was run instead of the paper's data or sizes; none: as in the paper.
        decisive: False of a comparison that is shown and decides nothing.
        hours, runs: Compute of its runs, and their ids.
        values: By run or data set; of a lead over the best baseline.
        bounds: ``above``, ``below``, ``at_least``, ``at_most``, as far as claimed, in `unit`.
    """

    title: str
    decision: str
    why: str
    estimate: float | None
    interval: tuple[float, float] | None
    n: int
    over: str
    unit: str
    rule: str
    decided_by: tuple[Decider, ...]
    instead: tuple[str, ...]
    decisive: bool
    hours: float
    runs: tuple[str, ...]
    values: tuple[float, ...] = ()
    bounds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """Claim of the paper and its decision; the numbers are those of the part that decides.

    Attributes:
        id: ``C1`` ... ``C8``, or that of an appendix.
        sentence: The claim, in our words.
        scope: Where the paper makes it.
        parts: The comparisons; the claim holds if all decisive ones do.
        decided_by: Of all parts, and the figures that show it.
    """

    id: str
    title: str
    sentence: str
    scope: str
    decision: str
    why: str
    estimate: float | None
    interval: tuple[float, float] | None
    n: int
    over: str
    unit: str
    rule: str
    decided_by: tuple[Decider, ...]
    instead: tuple[str, ...]
    hours: float
    runs: tuple[str, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Row:
    """Row of a table; `kind` is ``paper``, ``extra`` (not in the paper) or ``quoted``."""

    title: str
    kind: str
    method: str | None


@dataclass(frozen=True)
class Column:
    """Column of a table; `labels` are words beside its title, such as ``scaled down``."""

    title: str
    dataset: str
    metric: str
    unit: str
    labels: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """Cell of a table: its json's keys, and beside them what the page shows.

    Attributes:
        difference: Ours minus the printed value; None unless comparable.
        text: Our number as the table prints it.
        values: Per seed ``seed``, ``value``, ``status`` and ``reason``.
        run: Id of its run; None: not run, or quoted.
        command: Command that makes it again, or would make it.
    """

    dataset: str
    labels: str
    method: str
    metric: str
    evaluate: str
    unit: str
    kind: str
    value: float | None
    spread: float | None
    n: int
    n_failed: int
    n_missing: int
    interval: dict[str, Any] | None
    margin: float | None
    printed: dict[str, Any] | None
    difference: float | None
    verdict: str
    why: str
    text: str
    values: tuple[dict[str, Any], ...]
    run: str | None
    command: str


@dataclass(frozen=True)
class Table:
    """Table with its cells, by row and column.

    Attributes:
        caption, legend: As the table's markdown prints them.
        sentences: Outcome of the table's own comparison with baselines, in words.
        files: Paths of its files, relative to the report's folder.
    """

    name: str
    title: str
    caption: str
    legend: str
    aggregate: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cells: tuple[tuple[Cell, ...], ...]
    sentences: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class History:
    """Training curves.

    Attributes:
        step: Steps, shape (T,), at most 60.
        series: Per name a curve for each seed, shape (S, T); NaN is None.
    """

    step: tuple[int, ...]
    series: dict[str, list[list[float | None]]]


@dataclass(frozen=True)
class Difference:
    """Hyper-parameter that differs from the paper's; `departures` are keys such as ``D4``."""

    parameter: str
    here: Any
    paper: Any
    departures: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """Run: a method on a dataset and label set, over its seeds.

    Attributes:
        id: ``dataset/labels/method``.
        seeds, splits, status, reasons: Per seed.
        metrics: Per name, such as ``test accuracy``, the value of each seed as recorded (an
            accuracy in 0..1), None where it has none.
        history: Training curves; None of a method without steps.
        confusion: Test points by true (rows) and predicted class, summed over seeds; None if the
            predictions or the truth are not on this machine.
        classes: Names of the classes.
        params: Hyper-parameters by dotted name.
        differs: What differs from the paper, with the keys of `Report.departures`.
        tuned: What each seed chose on validation points; empty without a grid.
        data: Numbers of points: ``n_train``, ``n_labelled``, ...
        instead: Why its numbers are not comparable with the paper's.
        notes: About the data.
        hashes: ``features``, ``code`` and, by number, ``splits``.
        commit, dirty: Of the sources; None outside a repository.
        minutes: Of all its jobs.
        records, logs: Paths from the folder where Snakemake ran.
        command: Command that makes its records again.
    """

    id: str
    method: str
    title: str
    dataset: str
    dataset_title: str
    labels: str
    seeds: tuple[int, ...]
    splits: tuple[int | None, ...]
    status: tuple[str, ...]
    reasons: tuple[str | None, ...]
    metrics: dict[str, list[float | None]]
    history: History | None
    confusion: list[list[int]] | None
    classes: tuple[str, ...]
    params: dict[str, Any]
    differs: tuple[Difference, ...]
    tuned: tuple[dict[str, Any], ...]
    data: dict[str, int]
    instead: tuple[str, ...]
    notes: tuple[str, ...]
    hashes: dict[str, Any]
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    python: str
    platform: str
    device: str
    threads: int
    precision: str | None
    minutes: float
    records: tuple[str, ...]
    logs: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Figure:
    """Figure; `file` (pdf) and `png` are relative to the report's folder."""

    name: str
    title: str
    caption: str
    file: str
    png: str
    command: str


@dataclass(frozen=True)
class Tuning:
    """Validation accuracy of the candidates of a run; `points` have ``params`` and ``accuracy``."""

    run: str
    method: str
    dataset: str
    labels: str
    points: tuple[dict[str, Any], ...]
    chosen: tuple[dict[str, Any], ...]
    budget: dict[str, Any] | None


@dataclass(frozen=True)
class Point:
    """Point of a curve; `value`, `interval` and `paper` as in the cell of the table."""

    x: float
    value: float | None
    interval: tuple[float, float] | None
    n: int
    paper: float | None
    place: Place


@dataclass(frozen=True)
class Curve:
    """Curve of a method: accuracy against labels."""

    dataset: str
    dataset_title: str
    method: str
    title: str
    unit: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class CostLine:
    """Cost of a table, figure or analysis.

    Attributes:
        target: Target of Snakemake.
        measured: Hours that its runs took; runs of several tables count in each.
        missing: Hours estimated for what is missing; None: not known.
        basis: What the estimate rests on, in words; empty without one.
        n_runs, n_missing: Runs made, and runs that are missing.
    """

    target: str
    measured: float
    missing: float | None
    basis: str
    n_runs: int
    n_missing: int


@dataclass(frozen=True)
class Cost:
    """Costs: each run counts once in `hours`."""

    hours: float
    devices: tuple[str, ...]
    lines: tuple[CostLine, ...]


@dataclass(frozen=True)
class Missing:
    """Result that is missing, failed, undecided or not comparable.

    Attributes:
        where: Its cell; of a whole table, figure or analysis its name is `table` and the rest is
            empty; of a claim `table` is empty, `row` its id and `column` the part's title.
        what: Verdict: ``not run``, ``failed``, ``inconclusive``, ``not comparable``, ``undecided``.
        reason: In words.
        command: What would fill it; empty if no command can.
        seeds_needed: About how many more seeds decide it with 80 % probability; None: more than
            can be said, or seeds do not decide it.
        hours: Cost of these seeds, or of the run; None: not known.
    """

    where: Place
    what: str
    reason: str
    command: str
    seeds_needed: int | None
    hours: float | None


@dataclass(frozen=True)
class Departure:
    """Departure of paper, authors' code and this project from each other (docs/spec.md, 4)."""

    topic: str
    paper: str
    code: str
    here: str
    link: str


@dataclass(frozen=True)
class Report:
    """Content of the page of a recipe.

    Attributes:
        scaled_down: Reductions of the recipe; none: full size.
        changes: Settings of the command line, ``key=value``.
        command: Command that makes the report again.
        recipes: Other recipes with results: ``name``, ``title`` and, of those with a report,
            ``page``, relative to this one's folder, else None.
        curves: Accuracy against labels.
        calibration: Cells of calibration errors and class likelihoods, by place.
    """

    recipe: str
    title: str
    scaled_down: tuple[str, ...]
    changes: tuple[str, ...]
    command: str
    recipes: tuple[dict[str, Any], ...]
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]
    tuning: tuple[Tuning, ...]
    curves: tuple[Curve, ...]
    calibration: tuple[Place, ...]
    cost: Cost
    missing: tuple[Missing, ...]
    departures: dict[str, Departure]
    analyses: tuple[dict[str, Any], ...] = field(default=())
    schema: int = 1
