"""Entries of the config files: one frozen class per object of the schemas, one constructor for all.

A class has the keys of its schema (`workflow/schemas`), which explain themselves in
`config/README.md`. A key that was left out is None, or what the code takes in its place.

Some objects stay read-only mappings. Label sets, raw files, stand-ins, row counts and the options
of encoders and surrogates go into specs as they were written, and from there as keyword arguments
into functions of `flowgmm.datasets` and `flowgmm.embed`: attributes would be unpacked where they
were packed. Settings of a recipe's levels are overlaid key by key, and there a key that was left
out and a null differ: they become `RunSettings` and `MethodSettings` once they are merged. Of
`paper_results.yaml`, into which paths lead, the numbers are entries; facts around them are free.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from flowgmm.utils.frozen import FrozenDict, FrozenList, freeze

__all__ = [
    "LIKE_DATASET",
    "Analysis",
    "AnalysisRun",
    "Claim",
    "ClaimPart",
    "Column",
    "Dataset",
    "Figure",
    "Method",
    "MethodSettings",
    "Panel",
    "PaperClaim",
    "Printed",
    "Recipe",
    "Row",
    "RunSettings",
    "Settings",
    "Table",
    "Vary",
    "as_written",
    "make_entries",
    "make_entry",
    "make_printed",
]

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Content of `config.yaml`, with the command line's changes."""

    recipe: str
    mirror: str | None
    text_encoder: str
    image_encoder: str
    skip: Sequence[str]
    seeds_per_job: int
    device: str
    threads: int
    n_seeds: int | None = None
    container: str | None = None
    offline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Entry of `datasets.yaml`: origin, loader and label sets of a dataset."""

    title: str
    kind: str
    licence: str
    loader: str
    options: Mapping[str, Any] | None = None
    files: Mapping[str, Mapping[str, Any]] | None = None
    alternative_files: Sequence[Mapping[str, Any]] | None = None
    label_lists: Mapping[str, Mapping[str, Any]] | None = None
    authors: Mapping[str, Any] | None = None
    raw: str | None = None
    rows: Mapping[str, int] | None = None
    columns: int | None = None
    drop_constant: bool | None = None
    embedding: Mapping[str, Any] | None = None
    notes: Sequence[str] | None = None
    not_comparable: Sequence[str] | None = None
    surrogate: Mapping[str, Any] | None = None
    labels: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Entry of `methods.yaml`: estimator of a method, and what it needs."""

    title: str
    estimator: str
    base: str | None = None
    neural: bool
    labelled_only: bool
    deterministic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Row of a table; what it says goes before what the column says."""

    method: str | None = None
    title: str
    labels: str | None = None
    evaluate: str | None = None
    paper: str | None = None
    datasets: Sequence[str] | None = None
    notes: Sequence[str] | None = None


# A null of `Column.paper` is a value: nothing is printed.
LIKE_DATASET = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Column of a table: dataset, label set, and what is shown of the runs on them."""

    dataset: str
    labels: str
    title: str
    method: str | None = None
    metric: str | None = None
    evaluate: str | None = None
    paper: str | None = LIKE_DATASET
    notes: Sequence[str] = field(default_factory=FrozenList)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Claim that a table's method is the best of each group of methods, itself included."""

    method: str
    against: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Entry of `tables.yaml`: rows, columns and aggregation of a table."""

    title: str
    paper: str | None = None
    aggregate: str
    spread: str
    metric: str | None = None
    evaluate: str
    columns: Sequence[Column]
    rows: Sequence[str | Row]
    extra_rows: Sequence[str | Row] = field(default_factory=FrozenList)
    quoted: Sequence[Row] = field(default_factory=FrozenList)
    claim: Claim | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Panel of a figure that shows a trained model."""

    dataset: str
    labels: str
    method: str
    title: str
    x_limits: Sequence[float]
    z_limits: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Entry of `figures.yaml`: a figure of models, of a table or of analyses."""

    title: str
    function: str
    analyses: Sequence[str] | None = None
    table: str | None = None
    panels: Sequence[Panel] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRun:
    """Run whose model an analysis reads; without a title it has the method's."""

    dataset: str
    labels: str
    method: str
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Entry of `analyses.yaml`: a function, and the models and data that it is given."""

    title: str
    function: str
    runs: Mapping[str, AnalysisRun]
    data: Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=FrozenDict)
    printed: Mapping[str, str] = field(default_factory=FrozenDict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPart:
    """Comparison that a claim of the paper consists of, and the bounds within which it holds."""

    title: str
    kind: str
    table: str | None = None
    row: str | None = None
    against: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    over: str = "runs"
    first: str | None = None
    last: str | None = None
    analysis: str | None = None
    number: str | None = None
    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    decisive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperClaim:
    """Entry of `claims.yaml`: a claim of the paper, and what decides it."""

    title: str
    sentence: str
    scope: str
    figures: Sequence[str] = field(default_factory=FrozenList)
    parts: Sequence[ClaimPart]


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """Number of the paper in `paper_results.yaml`, with its digits as printed."""

    value: float | None
    spread: float | None
    printed: str | None = None
    unit: str | None = None
    aggregation: str
    reported_by: str
    source: str | None = None
    origin: str | None = None
    source_spread: float | None = None
    not_comparable: str | None = None
    where: str | None = None
    labeled_only: bool | None = None
    spread_kind_uncertain: bool | None = None
    approximate: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A file of `recipes/`: settings by level, each overlaid by the next."""

    title: str
    extends: str | None = None
    surrogate: Sequence[str] | None = None
    analyses: Mapping[str, str] = field(default_factory=FrozenDict)
    all: Mapping[str, Any] = field(default_factory=FrozenDict)
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=FrozenDict)
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=FrozenDict)
    label_sets: Mapping[str, Mapping[str, Any]] = field(default_factory=FrozenDict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vary:
    """Random choices that change with the seed."""

    split: bool
    labels: bool
    initialisation: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of all runs on a dataset and label set, once a recipe's levels are merged."""

    n_seeds: int
    seeds_per_job: int | None = None
    n_tune_seeds: int = 1
    vary: Vary
    evaluate: Sequence[str]
    collapsed_below: float = 0.0
    scaled_down: Sequence[str] = field(default_factory=FrozenList)
    notes: Sequence[str] = field(default_factory=FrozenList)
    split: Mapping[str, Any] = field(default_factory=FrozenDict)
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=FrozenDict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSettings:
    """Settings of one method in `RunSettings`, laid over those of the method it is based on."""

    preprocess: str = "none"
    params: Mapping[str, Any] = field(default_factory=FrozenDict)
    restart: str = "none"
    tune: Mapping[str, Sequence[Any]] | None = None
    tune_with: Mapping[str, Any] = field(default_factory=FrozenDict)
    scaled_down: Sequence[str] = field(default_factory=FrozenList)


def make_entry(kind: type[Entry], value: Mapping[str, Any]) -> Entry:
    """Make an entry, and the entries inside it, from an object that its schema accepts.

    Arguments:
        kind: Class of the entry.
        value: Content of the config file.

    Examples:
        >>> table = make_entry(Column, {"dataset": "moons", "labels": "10", "title": "Moons"})
        >>> table.title, table.metric, table.notes
        ('Moons', None, [])
    """
    hints = _hints(kind)  # type: ignore[arg-type]  # mypy takes no type for hashable
    return kind(**{key: _typed(hints[key], inner) for key, inner in value.items()})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Type hints of a class; looking them up took most of the time."""
    return get_type_hints(kind)


def make_entries(kind: type[Entry], values: Mapping[str, Any]) -> Mapping[str, Entry]:
    """Make the entries of a config file, by name."""
    return FrozenDict({name: make_entry(kind, value) for name, value in values.items()})


def make_printed(content: Any) -> Any:
    """Make the content of `paper_results.yaml`, with an entry in place of each printed number."""
    if isinstance(content, Mapping):
        if "value" in content:
            return make_entry(Printed, content)
        return FrozenDict({key: make_printed(inner) for key, inner in content.items()})
    return freeze(content)


def as_written(entry: Any) -> Any:
    """Give an entry as a mapping of its keys, as specs have it; what is None is left out."""
    if isinstance(entry, FrozenList):
        return [as_written(value) for value in entry]
    if not is_dataclass(entry):
        return entry
    values = {item.name: getattr(entry, item.name) for item in fields(entry)}
    return {key: as_written(value) for key, value in values.items() if value is not None}


def _typed(hint: Any, value: Any) -> Any:
    """Read-only value, with an entry in place of each object for which the type has a class."""
    for part in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        inner = get_args(part)
        if isinstance(value, Mapping):
            if is_dataclass(part) and isinstance(part, type):
                return make_entry(part, value)
            if get_origin(part) is Mapping:
                return FrozenDict({key: _typed(inner[1], item) for key, item in value.items()})
        if isinstance(value, list) and get_origin(part) is Sequence:
            return FrozenList(_typed(inner[0], item) for item in value)
    return freeze(value)
