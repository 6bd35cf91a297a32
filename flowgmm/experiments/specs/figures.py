"""Specs and inputs of the rules in `figures.smk`."""

from typing import Any

from flowgmm.experiments.entries import as_written
from flowgmm.experiments.paths import features_path, run_file
from flowgmm.experiments.project import Job, Project, Run
from flowgmm.experiments.recipes import grid_candidates, is_surrogate, resolve_settings
from flowgmm.experiments.specs import rule_hash
from flowgmm.experiments.specs.analyses import (
    analysis_runs,
    analysis_spec,
    found_paths,
    found_spec,
    run_analyses,
)
from flowgmm.experiments.specs.data import skip_reason
from flowgmm.experiments.specs.origins import origin_hash, source_paths
from flowgmm.experiments.specs.runs import jobs_of, split_paths
from flowgmm.experiments.specs.tables import table_jobs, table_runs

__all__ = [
    "figure_analyses",
    "figure_features",
    "figure_jobs",
    "figure_models",
    "figure_origin",
    "figure_sources",
    "figure_spec",
    "figure_splits",
    "figure_table",
    "is_shown",
]


def figure_sources(project: Project, name: str) -> list[str]:
    """Features, splits and candidates behind a figure."""
    return source_paths(project, *_behind(project, name))


def _behind(project: Project, figure: str) -> tuple[list[Job], list[str]]:
    """The jobs and analyses behind a figure."""
    table = project.figures[figure].table
    jobs = [*figure_jobs(project, figure), *(table_jobs(project, table) if table else [])]
    return jobs, run_analyses(project, figure_analyses(project, figure))


def figure_origin(project: Project, name: str) -> str:
    """Hash of all specs behind a figure."""
    return origin_hash(project, *_behind(project, name))


def _panel_runs(project: Project, name: str) -> list[tuple[Run, str | None]]:
    """The run behind each panel of a figure, with the reason why it is left out, or None."""
    runs = [Run(p.dataset, p.labels, p.method) for p in project.figures[name].panels or ()]
    return [(run, skip_reason(project, run)) for run in runs]


def figure_jobs(project: Project, name: str) -> list[Job]:
    """The job behind each panel of a figure that is not left out, the one with seed 0."""
    runs = _panel_runs(project, name)
    return [jobs_of(project, run)[0] for run, reason in runs if reason is None]


def figure_analyses(project: Project, name: str) -> list[str]:
    """The analyses that a figure is drawn from; none for a figure of models or a table."""
    return list(project.figures[name].analyses or ())


def figure_table(project: Project, name: str) -> list[str]:
    """The table that a figure is drawn from; none for a figure of models."""
    table = project.figures[name].table
    return [f"{project.results}/tables/{table}.json"] if table else []


def is_shown(project: Project, figure: str) -> bool:
    """True if the target `all` makes a figure.

    Not one of tuning where no neural method is tuned, nor one of analyses if none is run.
    """
    if analyses := figure_analyses(project, figure):
        return bool(found_paths(project, analyses))
    table = project.figures[figure].table
    return table is None or any(
        reason is None and grid_candidates(project, run)
        for run, reason in table_runs(project, table).items()
    )


def figure_models(project: Project, name: str) -> list[str]:
    """The model behind each panel."""
    return [run_file(project, job, "model.safetensors") for job in figure_jobs(project, name)]


def figure_features(project: Project, name: str) -> list[str]:
    """The features behind each panel."""
    return [features_path(project, job.run.dataset) for job in figure_jobs(project, name)]


def figure_splits(project: Project, name: str) -> list[str]:
    """The split behind each panel."""
    return [split_paths(project, job)[0] for job in figure_jobs(project, name)]


def figure_spec(project: Project, name: str) -> dict[str, Any]:
    """Spec of the rule `make_figure`."""
    marks: list[str] = []
    for job in figure_jobs(project, name):
        scaled = resolve_settings(project, job.run.dataset, job.run.labels).scaled_down
        marks += [f"scaled down: {', '.join(scaled)}"] if scaled else []
        marks += ["surrogate data"] if is_surrogate(project, job.run.dataset) else []
    for analysis in figure_analyses(project, name):
        marks += analysis_spec(project, analysis)["not_comparable"]
        runs = analysis_runs(project, analysis).values()
        marks += ["surrogate data"] if any(is_surrogate(project, r.dataset) for r in runs) else []
    return {
        **found_spec(project, figure_analyses(project, name)),
        "name": name,
        "figure": as_written(project.figures[name]),
        "left_out": [reason for _, reason in _panel_runs(project, name)],
        "marks": list(dict.fromkeys(marks)),
        "code": rule_hash(project, "make_figure"),
    }
