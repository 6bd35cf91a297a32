"""Spec of the rule `report`: all that its page takes from the config."""

from collections.abc import Mapping
from typing import Any

from flowgmm.experiments.paths import analysis_path, features_path, run_file
from flowgmm.experiments.project import Project, Run
from flowgmm.experiments.recipes import resolve_settings
from flowgmm.experiments.specs import rule_hash
from flowgmm.experiments.specs.analyses import (
    analysis_runs,
    analysis_skip_reason,
    overview_spec,
)
from flowgmm.experiments.specs.claims import claims_spec
from flowgmm.experiments.specs.data import skip_reason
from flowgmm.experiments.specs.departures import departures, differences, references
from flowgmm.experiments.specs.figures import figure_analyses, figure_jobs, is_shown
from flowgmm.experiments.specs.runs import jobs_of
from flowgmm.experiments.specs.tables import table_runs
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.reporting.report.looks import looks
from flowgmm.utils.io import content_hash

__all__ = ["report_files", "report_spec", "target_runs"]


def report_spec(project: Project) -> dict[str, Any]:
    """Describe claims, targets and runs of a recipe as plain JSON."""
    targets = target_runs(project)
    runs = dict.fromkeys(run for found in targets.values() for run in found)
    compared = references(project)
    scaled = [
        what
        for run in runs
        for what in resolve_settings(project, run.dataset, run.labels).scaled_down
    ]
    recipes = {
        path.stem: str(read_yaml(path)["title"])
        for path in sorted((project.root / "config" / "recipes").glob("*.yaml"))
    }
    return {
        "code": rule_hash(project, "report"),
        "looks": content_hash(looks()),
        "recipe": project.settings.recipe,
        "title": recipes[project.settings.recipe],
        "recipes": recipes,
        "scaled_down": list(dict.fromkeys(scaled)),
        "changes": project.changes,
        "claims": claims_spec(project),
        "tables": {name: entry.title for name, entry in project.tables.items()},
        "figures": {
            name: entry.title for name, entry in project.figures.items() if is_shown(project, name)
        },
        "analyses": {
            name: {
                "title": entry.title,
                "skip": analysis_skip_reason(project, name),
                "path": analysis_path(project, name),
                "runs": [_id(run) for run in analysis_runs(project, name).values()],
            }
            for name, entry in project.analyses.items()
        },
        "overview": overview_spec(project),
        "targets": {name: [_id(run) for run in found] for name, found in targets.items()},
        "runs": {_id(run): _described(project, compared, run) for run in runs},
        "departures": departures(project),
    }


def _id(run: Run) -> str:
    return f"{run.dataset}/{run.labels}/{run.method}"


def _described(project: Project, compared: Mapping[str, Project], run: Run) -> dict[str, Any]:
    """Titles, files and differences from the paper of a run."""
    n = project.dataset(run.dataset).labels[run.labels].get("n_labels")
    return {
        "title": project.method(run.method).title,
        "dataset_title": project.dataset(run.dataset).title,
        "n_labels": n if isinstance(n, int) else None,
        "features": features_path(project, run.dataset),
        "records": [run_file(project, job, "record.json") for job in jobs_of(project, run)],
        "skip": skip_reason(project, run),
        "differs": differences(project, compared, run),
    }


def target_runs(project: Project) -> dict[str, list[Run]]:
    """The runs behind each table, figure and analysis."""
    found = {name: list(table_runs(project, name)) for name in project.tables}
    analyses = {
        name: list(dict.fromkeys(analysis_runs(project, name).values()))
        for name in project.analyses
    }
    for name, entry in project.figures.items():
        runs = [job.run for job in figure_jobs(project, name)]
        runs += [run for analysis in figure_analyses(project, name) for run in analyses[analysis]]
        runs += found[entry.table] if entry.table else []
        found[name] = list(dict.fromkeys(runs))
    found["analyses"] = list(dict.fromkeys(run for runs in analyses.values() for run in runs))
    return found


def report_files(project: Project) -> list[str]:
    """Results that a report can show: tables, figures, and numbers of the analyses."""
    folder = project.results
    return [
        *(f"{folder}/tables/{name}.json" for name in project.tables),
        *(f"{folder}/figures/{name}.png" for name in project.figures),
        *(analysis_path(project, name) for name in project.analyses),
    ]
