"""Specs and inputs of the rules in `tune.smk`: one job for each candidate of a grid.

Neural methods alone: classic ones choose inside their training job.
"""

from typing import Any

from flowgmm.experiments.paths import features_path
from flowgmm.experiments.project import Job, Project, Run
from flowgmm.experiments.recipes import grid_candidates, resolve_settings
from flowgmm.experiments.specs import rule_hash
from flowgmm.experiments.specs.runs import job_spec, split_paths
from flowgmm.experiments.validation import nearest
from flowgmm.methods import override

__all__ = ["choose_spec", "tune_spec", "tuning_inputs", "tuning_job"]


def tuning_job(project: Project, run: Run) -> Job:
    """The seeds, and with them the splits, that candidates are trained on."""
    return Job(run, 0, resolve_settings(project, run.dataset, run.labels).n_tune_seeds - 1)


def tuning_inputs(project: Project, run: Run) -> dict[str, str | list[str]]:
    """The files that a candidate's job reads, by the option of its script."""
    splits = split_paths(project, tuning_job(project, run))
    return {"features": features_path(project, run.dataset), "splits": splits}


def tune_spec(project: Project, run: Run, point: str) -> dict[str, Any]:
    """Spec of the rule `tune_candidate`.

    All candidates draw the same random numbers, which are not those of the final runs.
    """
    points = grid_candidates(project, run)
    if point not in points:
        where = f"{run.dataset}/{run.labels}, {run.method}"
        raise nearest(point, points, "candidate", where)
    experiment = f"tune/{run.dataset}/{run.labels}/{run.method}"
    spec = job_spec(project, tuning_job(project, run), experiment, "tune_candidate")
    # The grid itself, and what only matters to tables, do not determine a candidate's result.
    rest = {"evaluate": ["val"], "collapsed_below": 0.0, "candidate": points[point]}
    params = override(override(spec["params"], spec.pop("tune_with")), points[point])
    for key in ("tune", "scaled_down", "vary"):
        del spec[key]
    return {**spec, **rest, "params": params}


def choose_spec(project: Project, run: Run) -> dict[str, Any]:
    """Spec of the rule `choose_candidate`: the candidates' order decides ties."""
    return {
        "points": list(grid_candidates(project, run)),
        "code": rule_hash(project, "choose_candidate"),
    }
