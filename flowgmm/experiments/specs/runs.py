"""Specs and inputs of the rules in `train.smk`: training jobs."""

from typing import Any

from flowgmm.experiments.entries import as_written
from flowgmm.experiments.paths import choice_path, features_path, split_path
from flowgmm.experiments.project import Job, Project, Run, once
from flowgmm.experiments.recipes import method_settings, resolve_settings
from flowgmm.experiments.specs import rule_hash
from flowgmm.experiments.specs.splits import split_index
from flowgmm.utils.seeds import derive

__all__ = [
    "job_inputs",
    "job_spec",
    "jobs_of",
    "n_seeds",
    "split_numbers",
    "split_paths",
    "train_spec",
]


def n_seeds(project: Project, run: Run) -> int:
    """Number of runs: one per split where the split alone decides the result."""
    settings = resolve_settings(project, run.dataset, run.labels)
    if project.method(run.method).deterministic:
        return settings.n_seeds if settings.vary.split or settings.vary.labels else 1
    return settings.n_seeds


def jobs_of(project: Project, run: Run) -> list[Job]:
    """The run's seeds in blocks."""
    n, resolved = n_seeds(project, run), resolve_settings(project, run.dataset, run.labels)
    size = resolved.seeds_per_job or project.settings.seeds_per_job
    return [Job(run, first, min(first + size, n) - 1) for first in range(0, n, size)]


@once
def train_spec(project: Project, job: Job) -> dict[str, Any]:
    """Spec of the rules `train_stack` and `fit_classic`."""
    return job_spec(
        project, job, f"{job.run.dataset}/{job.run.labels}/{job.run.method}", "train_stack"
    )


def job_spec(project: Project, job: Job, experiment: str, script: str) -> dict[str, Any]:
    """Spec of a training script.

    Arguments:
        project: Validated config files.
        job: Seeds of a run.
        experiment: Name from which, with each seed, the random states are derived.
        script: Name of the script, whose code is hashed.
    """
    run = job.run
    entry, settings = project.method(run.method), method_settings(project, run)
    resolved = resolve_settings(project, run.dataset, run.labels)
    seeds = list(range(job.first, job.last + 1))
    splits = [split_index(project, run.dataset, run.labels, seed) for seed in seeds]
    # Draws of a deterministic method, such as the points of a graph, belong to the split.
    varies = resolved.vary.initialisation
    numbers = splits if entry.deterministic else seeds if varies else [0] * len(seeds)
    module = entry.estimator.rpartition(".")[0]
    own = [module] if module.startswith("flowgmm.") else []
    return {
        "dataset": run.dataset,
        "labels": run.labels,
        "method": run.method,
        "recipe": project.settings.recipe,
        "estimator": entry.estimator,
        "neural": entry.neural,
        "labelled_only": entry.labelled_only,
        "preprocess": settings.preprocess,
        "params": settings.params,
        "tune": settings.tune,
        "tune_with": settings.tune_with,
        "restart": settings.restart,
        "evaluate": resolved.evaluate,
        "collapsed_below": resolved.collapsed_below,
        "vary": as_written(resolved.vary),
        "scaled_down": [*resolved.scaled_down, *settings.scaled_down],
        "seeds": seeds,
        "splits": splits,
        "random_states": [derive(experiment, number, "initialisation") for number in numbers],
        "code": rule_hash(project, script, *own),
    }


def split_paths(project: Project, job: Job) -> list[str]:
    """The split files of a job, in ascending order of their numbers."""
    run = job.run
    return [split_path(project, run.dataset, run.labels, n) for n in split_numbers(project, job)]


def split_numbers(project: Project, job: Job) -> list[int]:
    """The numbers of a job's splits, in ascending order."""
    run, seeds = job.run, range(job.first, job.last + 1)
    return sorted({split_index(project, run.dataset, run.labels, seed) for seed in seeds})


def job_inputs(project: Project, job: Job) -> dict[str, str | list[str]]:
    """The files that a training job reads, by the option of its script."""
    features, splits = features_path(project, job.run.dataset), split_paths(project, job)
    return {"features": features, "splits": splits, "choice": choice_path(project, job.run)}
