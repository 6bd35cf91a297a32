"""Specs and inputs of the rules in `tables.smk`."""

from collections.abc import Mapping, Sequence
from typing import Any

from flowgmm.evaluation.units import METRIC_UNITS, SYMBOLS
from flowgmm.experiments.entries import (
    LIKE_DATASET,
    Column,
    Method,
    Printed,
    Row,
    Table,
    as_written,
)
from flowgmm.experiments.paths import run_file
from flowgmm.experiments.project import Job, Project, Run
from flowgmm.experiments.recipes import method_settings, resolve_settings
from flowgmm.experiments.specs import rule_hash
from flowgmm.experiments.specs.data import skip_reason
from flowgmm.experiments.specs.origins import origin_hash, source_paths
from flowgmm.experiments.specs.runs import jobs_of
from flowgmm.experiments.validation import nearest
from flowgmm.utils.errors import UserError

__all__ = [
    "cell_keys",
    "describe_table",
    "has_cell",
    "rows_of",
    "table_jobs",
    "table_origin",
    "table_records",
    "table_runs",
    "table_sources",
    "table_spec",
]

# Kinds of rows, by the key that lists them.
KINDS = {"rows": "paper", "extra_rows": "extra", "quoted": "quoted"}
# What is said about a printed number.
PRINTED = ("reported_by", "source", "origin", "source_spread", "not_comparable")
# Estimators' names of hyper-parameters that the paper prints by a symbol.
PARAMETERS = {symbol: name for name, symbol in SYMBOLS.items()}


def table_runs(project: Project, name: str) -> dict[Run, str | None]:
    """The runs behind a table, each with the reason why it is left out, or None."""
    entry = project.table(name)
    rows = [row for kind, row in rows_of(name, entry, project.methods) if kind != "quoted"]
    runs: dict[Run, str | None] = {}
    for column in entry.columns:
        tuned = (column.metric or entry.metric) == "tuned"
        for row in rows:
            if not has_cell(row, column):
                continue
            keys = cell_keys(row, column, entry)
            run = Run(keys["dataset"], keys["labels"], keys["method"])
            runs[run] = skip_reason(project, run)
            if tuned and not method_settings(project, run).tune:
                runs[run] = "not tuned in this recipe"
    return runs


def table_jobs(project: Project, name: str) -> list[Job]:
    """The training jobs behind a table."""
    runs = table_runs(project, name)
    return [job for run, reason in runs.items() if reason is None for job in jobs_of(project, run)]


def table_records(project: Project, name: str) -> list[str]:
    """The record files that a table is made of."""
    return [run_file(project, job, "record.json") for job in table_jobs(project, name)]


def table_sources(project: Project, name: str) -> list[str]:
    """Features, splits and candidates behind a table."""
    return source_paths(project, table_jobs(project, name))


def table_origin(project: Project, name: str) -> str:
    """Hash of all specs behind a table."""
    return origin_hash(project, table_jobs(project, name))


def table_spec(project: Project, name: str) -> dict[str, Any]:
    """Spec of the rule `make_table`."""
    runs = table_runs(project, name)
    settings = {
        f"{r.dataset}/{r.labels}": resolve_settings(project, r.dataset, r.labels) for r in runs
    }
    spec = describe_table(
        name,
        project.table(name),
        project.paper_results,
        project.methods,
        recipe=project.settings.recipe,
        not_run={
            f"{r.dataset}/{r.labels}/{r.method}": why for r, why in runs.items() if why is not None
        },
        scaled_down={data: found.scaled_down for data, found in settings.items()},
        notes={data: found.notes for data, found in settings.items()},
    )
    return spec | {"code": rule_hash(project, "make_table")}


def rows_of(name: str, entry: Table, methods: Mapping[str, Method]) -> list[tuple[str, Row]]:
    """List the rows of a table, each with its kind: ``paper``, ``extra`` or ``quoted``.

    Arguments:
        name: Key of the table.
        entry: Its entry in `config/tables.yaml`.
        methods: Entries of `config/methods.yaml`, for the titles.

    Raises:
        UserError: If the method of a row is unknown, or a cell has no method.
    """
    rows = []
    groups = (("rows", entry.rows), ("extra_rows", entry.extra_rows), ("quoted", entry.quoted))
    for key, group in groups:
        for row in group:
            if isinstance(row, str):
                if row not in methods:
                    raise UserError(
                        f"config/tables.yaml: {name}.{key}: method {row!r} is not in "
                        "config/methods.yaml; add it there, or write {method: ..., title: ...}"
                    )
                row = Row(method=row, title=methods[row].title)
            bare = [column.title for column in entry.columns if column.method is None]
            if row.method is None and bare:
                raise UserError(
                    f"config/tables.yaml: {name}.{key}: neither row {row.title!r} nor column "
                    f"{bare[0]!r} has a method; give it to one of them"
                )
            rows.append((KINDS[key], row))
    return rows


def has_cell(row: Row, column: Column) -> bool:
    """True if a row has a cell in a column; it may name data sets, or one of their label sets."""
    names = {column.dataset, f"{column.dataset}/{column.labels}"}
    return row.datasets is None or not names.isdisjoint(row.datasets)


def cell_keys(row: Row, column: Column, entry: Table) -> dict[str, str]:
    """Give dataset, label set, method and points of a cell; the row overrides the column."""
    method = row.method or column.method
    assert method is not None  # `rows_of` checks it
    return {
        "dataset": column.dataset,
        "labels": row.labels or column.labels,
        "method": method,
        "evaluate": row.evaluate or column.evaluate or entry.evaluate,
    }


def describe_table(
    name: str,
    entry: Table,
    paper_results: Mapping[str, Any],
    methods: Mapping[str, Method],
    *,
    recipe: str,
    not_run: Mapping[str, str] | None = None,
    scaled_down: Mapping[str, Sequence[str]] | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Resolve a table, without its records, to plain JSON.

    Arguments:
        name: Key of the table.
        entry: Its entry in `config/tables.yaml`.
        paper_results: Content of `config/paper_results.yaml`.
        methods: Entries of `config/methods.yaml`, for the titles.
        recipe: Name of the recipe.
        not_run: Reason by ``"dataset/labels/method"`` for runs that are left out.
        scaled_down: Reductions by ``"dataset/labels"``.
        notes: What else the recipe says of its runs, by ``"dataset/labels"``.

    Raises:
        UserError: If a method is unknown or missing, a column has no metric, its printed numbers
            are not found, or the claim does not fit the table.
    """
    rows = rows_of(name, entry, methods)
    columns = [
        _describe_column(
            name, entry, column, [row for _, row in rows], scaled_down or {}, notes or {}
        )
        for column in entry.columns
    ]
    paper = _printed_table(name, entry, columns, paper_results)

    def cell(row: Row, written: Column, column: Mapping[str, Any]) -> dict[str, Any]:
        named = cell_keys(row, written, entry)
        run = "/".join(named[part] for part in ("dataset", "labels", "method"))
        return {
            **named,
            "printed": _printed(paper["results"].get(column["paper"], {}), row, column, name),
            "not_run": (not_run or {}).get(run),
            "left_out": not has_cell(row, written),
        }

    return {
        "name": name,
        "title": entry.title,
        "recipe": recipe,
        "aggregate": entry.aggregate,
        "spread": entry.spread,
        "footnote": paper.get("footnote"),
        "claim": _described_claim(name, entry, rows),
        "columns": columns,
        "rows": [{**as_written(row), "kind": kind} for kind, row in rows],
        "cells": [
            [cell(row, *pair) for pair in zip(entry.columns, columns, strict=True)]
            for _, row in rows
        ],
    }


def _described_claim(
    name: str, entry: Table, rows: Sequence[tuple[str, Row]]
) -> dict[str, Any] | None:
    """Describe the claim of a table, with the titles of its methods; None without one."""
    if entry.claim is None:
        return None
    where = f"config/tables.yaml: {name}.claim"
    titles = {row.method: row.title for kind, row in rows if kind != "quoted" and row.method}
    named = [entry.claim.method, *(m for group in entry.claim.against.values() for m in group)]
    for method in named:
        if method not in titles:
            raise nearest(method, titles, "row", where)
    for column in entry.columns:
        if (column.metric or entry.metric) != "accuracy":
            raise UserError(
                f"{where}: column {column.title!r} is not of accuracies, which it compares; leave "
                "out the column or the claim"
            )
    # A list, since specs are written with sorted keys.
    against = [{"title": t, "methods": list(group)} for t, group in entry.claim.against.items()]
    return {
        "method": entry.claim.method,
        "against": against,
        "titles": {method: titles[method] for method in named},
    }


def _describe_column(
    name: str,
    entry: Table,
    column: Column,
    rows: Sequence[Row],
    scaled_down: Mapping[str, Sequence[str]],
    notes: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Describe the head of a column: metric, unit, notes, and the column of the printed table."""
    metric = column.metric or entry.metric
    if metric is None:
        raise UserError(
            f"config/tables.yaml: {name}: column {column.title!r} has no metric; give it "
            f"one of {', '.join(METRIC_UNITS)}, or the table"
        )
    printed = column.dataset if column.paper == LIKE_DATASET else column.paper
    cells = [cell_keys(row, column, entry) for row in rows if has_cell(row, column)]
    data = [f"{cell['dataset']}/{cell['labels']}" for cell in cells]
    return {
        "dataset": column.dataset,
        "title": column.title,
        "metric": metric,
        "unit": METRIC_UNITS[metric],
        "paper": None if entry.paper is None else printed,
        "notes": list(dict.fromkeys([*column.notes, *_said(notes, data)])),
        "scaled_down": list(dict.fromkeys(_said(scaled_down, data))),
    }


def _said(of: Mapping[str, Sequence[str]], data: Sequence[str]) -> list[str]:
    return [text for name in data for text in of.get(name, [])]


def _printed_table(
    name: str,
    entry: Table,
    columns: Sequence[Mapping[str, Any]],
    paper_results: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Find the table of `config/paper_results.yaml` with all columns; empty if none is named."""
    if entry.paper is None:
        return {"results": {}}
    paper: Mapping[str, Any] = paper_results.get(entry.paper, {})
    if "results" not in paper:
        raise UserError(
            f"config/tables.yaml: {name}: config/paper_results.yaml has no table "
            f"{entry.paper!r} with results; correct `paper`, or leave it out"
        )
    results = paper["results"]
    for column in columns:
        if column["paper"] is not None and column["paper"] not in results:
            raise UserError(
                f"config/tables.yaml: {name}: column {column['title']!r} points at "
                f"{column['paper']!r}, which was not found in {entry.paper} of "
                f"config/paper_results.yaml; it has {', '.join(results)}"
            )
    return paper


def _printed(
    results: Mapping[str, Any], row: Row, column: Mapping[str, Any], name: str
) -> dict[str, Any] | None:
    """Find the paper's number for a cell, with its digits as printed; None: not printed."""
    number = results.get(row.paper or row.method or "")
    if column["metric"] == "tuned":
        return None if number is None else _chosen(number, column, name)
    if isinstance(number, Mapping):  # by metric; the paper calls both likelihoods NLL
        number = number.get(column["metric"].removeprefix("class_"))
    elif column["metric"] != "accuracy":
        number = None  # tables with one number per method print accuracies
    # Else a hyper-parameter, in a table that shows other things.
    if not isinstance(number, Printed) or number.value is None:
        return None
    spread = "" if number.spread is None else f" ± {number.spread}"
    return {
        "value": number.value,
        "spread": number.spread,
        "text": f"{number.value}{spread}" if number.printed is None else number.printed,
        **{key: said for key in PRINTED if (said := getattr(number, key)) is not None},
    }


def _chosen(number: Any, column: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Describe the hyper-parameter that the paper chose."""
    numbers = number if isinstance(number, Mapping) else {}
    symbol, value = next(iter(numbers.items()), ("", None))
    if not isinstance(value, int | float):
        raise UserError(
            f"config/tables.yaml: {name}: column {column['title']!r} shows tuned hyper-parameters, "
            "of which its printed table has none; correct `paper` or `metric`"
        )
    return {
        "value": value,
        "spread": None,
        "text": f"{symbol} = {value:g}",
        "reported_by": "own",
        "parameter": PARAMETERS.get(symbol, symbol),
    }
