"""Specs and inputs of the rules in `analyses.smk`."""

from collections.abc import Iterable, Mapping
from typing import Any

from flowgmm.experiments.entries import AnalysisRun, Printed
from flowgmm.experiments.paths import analysis_path, features_path, run_file
from flowgmm.experiments.project import Job, Project, Run
from flowgmm.experiments.recipes import replaced_labels, resolve_settings
from flowgmm.experiments.specs import rule_hash
from flowgmm.experiments.specs.data import absent_reason, skip_reason
from flowgmm.experiments.specs.runs import jobs_of, split_paths
from flowgmm.utils.errors import UserError

__all__ = [
    "analysis_data",
    "analysis_features",
    "analysis_files",
    "analysis_jobs",
    "analysis_runs",
    "analysis_skip_reason",
    "analysis_spec",
    "analysis_splits",
    "found_paths",
    "found_spec",
    "overview_spec",
    "printed_numbers",
    "run_analyses",
]

# "About 75 %" is read as printed to the nearest 5: twice this is the margin.
APPROXIMATE = 2.5


def analysis_runs(project: Project, name: str) -> dict[str, Run]:
    """The run behind each model of an analysis."""
    return {
        role: Run(run.dataset, replaced_labels(project, run.dataset, run.labels), run.method)
        for role, run in project.analysis(name).runs.items()
    }


def analysis_skip_reason(project: Project, name: str) -> str | None:
    """Reason not to run an analysis, that of its first run left out; None: it is run."""
    reasons = (skip_reason(project, run) for run in analysis_runs(project, name).values())
    return next((reason for reason in reasons if reason is not None), None)


def analysis_data(project: Project, name: str) -> dict[str, str | None]:
    """Further datasets of an analysis, each with the reason to leave it out, or None."""
    skipped = set(project.settings.skip)
    return {
        dataset: f"left out by `skip: [{dataset}]`"
        if dataset in skipped
        else absent_reason(project, dataset)
        for dataset in project.analysis(name).data or ()
    }


def _analysis_datasets(project: Project, name: str) -> list[str]:
    """All datasets that an analysis reads."""
    runs = [run.dataset for run in analysis_runs(project, name).values()]
    data = [dataset for dataset, why in analysis_data(project, name).items() if why is None]
    return list(dict.fromkeys([*runs, *data]))


def analysis_jobs(project: Project, name: str) -> list[Job]:
    """The training jobs behind an analysis."""
    runs = dict.fromkeys(analysis_runs(project, name).values())
    return [job for run in runs for job in jobs_of(project, run)]


def analysis_files(project: Project, name: str, file: str) -> list[str]:
    """``record.json`` or ``model.safetensors`` of each job."""
    return [run_file(project, job, file) for job in analysis_jobs(project, name)]


def analysis_splits(project: Project, name: str) -> list[str]:
    """The splits of its jobs."""
    paths = [path for job in analysis_jobs(project, name) for path in split_paths(project, job)]
    return list(dict.fromkeys(paths))


def analysis_features(project: Project, name: str) -> list[str]:
    """The features of all its datasets."""
    return [features_path(project, dataset) for dataset in _analysis_datasets(project, name)]


def analysis_spec(project: Project, name: str) -> dict[str, Any]:
    """Spec of the rule `run_analysis`."""
    entry, runs = project.analysis(name), analysis_runs(project, name)
    reasons = []
    for role, run in runs.items():
        labels = entry.runs[role].labels
        if run.labels != labels:
            reasons.append(f"label set {run.labels} in place of {labels}")
        scaled = resolve_settings(project, run.dataset, run.labels).scaled_down
        reasons += [f"scaled down: {', '.join(scaled)}"] if scaled else []
    return {
        "name": name,
        "title": entry.title,
        "function": entry.function,
        "recipe": project.settings.recipe,
        "runs": {
            role: {
                "dataset": run.dataset,
                "labels": run.labels,
                "method": run.method,
                "title": _run_title(project, entry.runs[role]),
            }
            for role, run in runs.items()
        },
        "data": [d for d, why in analysis_data(project, name).items() if why is None],
        "left_out": {d: why for d, why in analysis_data(project, name).items() if why is not None},
        "titles": {d: project.dataset(d).title for d in _analysis_datasets(project, name)},
        "options": entry.options,
        "not_comparable": list(dict.fromkeys(reasons)),
        "code": rule_hash(project, "run_analysis"),
    }


def _run_title(project: Project, run: AnalysisRun) -> str:
    return project.method(run.method).title if run.title is None else run.title


def overview_spec(project: Project) -> dict[str, Any]:
    """Spec of the rule `make_overview`."""
    return found_spec(project, list(project.analyses)) | {
        "code": rule_hash(project, "make_overview")
    }


def found_spec(project: Project, names: list[str]) -> dict[str, Any]:
    """Names, titles and printed numbers of analyses, with reasons not to run some of them."""
    printed = {
        name: printed_numbers(
            project.analysis(name).printed,
            project.paper_results,
            f"config/analyses.yaml: {name}",
        )
        for name in names
    }
    reasons = {name: analysis_skip_reason(project, name) for name in names}
    return {
        "recipe": project.settings.recipe,
        "analyses": names,
        "titles": {name: project.analysis(name).title for name in names},
        "not_run": {name: why for name, why in reasons.items() if why is not None},
        "printed": printed,
    }


def run_analyses(project: Project, names: Iterable[str]) -> list[str]:
    """Names without the analyses that are not run."""
    return [name for name in names if analysis_skip_reason(project, name) is None]


def found_paths(project: Project, names: Iterable[str]) -> list[str]:
    """Result files of the analyses that are run."""
    return [analysis_path(project, name) for name in run_analyses(project, names)]


def printed_numbers(
    printed: Mapping[str, str], paper_results: Mapping[str, Any], where: str
) -> dict[str, dict[str, Any]]:
    """Look up the printed numbers that belong to an analysis's own.

    Arguments:
        printed: Path in paper_results.yaml by number, its parts joined by /; a list's entries
            belong to ``{number}_0``, ``{number}_1``, ...
        paper_results: Content of that file.
        where: Entry of the analysis in the config, for messages.

    Returns:
        ``value``, ``spread`` and ``path`` by number.

    Raises:
        UserError: If nothing, or no number, is found at a path.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, path in printed.items():
        entry: Any = paper_results
        for part in path.split("/"):
            if not isinstance(entry, Mapping) or part not in entry:
                raise UserError(
                    f"{where}.printed.{name}: config/paper_results.yaml has no {path!r}; "
                    f"{part!r} was not found, correct the path"
                )
            entry = entry[part]
        spread: float | None = None
        entries: dict[str, Any] = {name: None}
        if isinstance(entry, Printed):
            spread = entry.spread or (APPROXIMATE if entry.approximate else None)
            entries = {name: entry.value}
        elif isinstance(entry, list):
            entries = {f"{name}_{i}": value for i, value in enumerate(entry)}
        for key, value in entries.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(
                    f"{where}.printed.{name}: {path!r} of config/paper_results.yaml is not a "
                    "number; name an entry with a `value`, or a list of numbers"
                )
            found[key] = {"value": value, "spread": spread, "path": path}
    return found
