"""Specs and inputs of the rules in `tables.smk`."""

from typing import Any

from flowgmm.experiments.paths import run_file
from flowgmm.experiments.project import Job, Project, Run
from flowgmm.experiments.recipes import method_settings, resolve_settings
from flowgmm.experiments.specs import rule_hash
from flowgmm.experiments.specs.data import skip_reason
from flowgmm.experiments.specs.origins import origin_hash, source_paths
from flowgmm.experiments.specs.runs import jobs_of

__all__ = [
    "table_jobs",
    "table_origin",
    "table_records",
    "table_runs",
    "table_sources",
    "table_spec",
]


def table_runs(project: Project, name: str) -> dict[Run, str | None]:
    """The runs behind a table, each with the reason why it is left out, or None."""
    from flowgmm.reporting.tables import place_of, rows_of

    entry = project.table(name)
    rows = [r for r in rows_of(name, entry, project.methods) if r["kind"] != "quoted"]
    runs: dict[Run, str | None] = {}
    for column in entry["columns"]:
        tuned = column.get("metric", entry.get("metric")) == "tuned"
        for row in rows:
            place = place_of(row, column, entry)
            run = Run(place["dataset"], place["labels"], place["method"])
            runs[run] = skip_reason(project, run.dataset, run.method)
            if tuned and not method_settings(project, run)["tune"]:
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
    from flowgmm.reporting.tables import table_spec

    runs = table_runs(project, name)
    spec = table_spec(
        name,
        project.table(name),
        project.paper_results,
        project.methods,
        recipe=project.settings["recipe"],
        not_run={
            f"{r.dataset}/{r.labels}/{r.method}": why for r, why in runs.items() if why is not None
        },
        scaled_down={
            f"{r.dataset}/{r.labels}": resolve_settings(project, r.dataset, r.labels).get(
                "scaled_down", []
            )
            for r in runs
        },
    )
    return spec | {"code": rule_hash(project, "make_table")}
