"""Estimated hours of single runs, for the report's list of what is missing."""

from collections.abc import Iterable, Iterator
from typing import Any

from flowgmm.apps.estimate.cost_model import count
from flowgmm.apps.estimate.estimate import machines
from flowgmm.apps.estimate.history import Finished, finished_jobs
from flowgmm.apps.estimate.predict import predict
from flowgmm.apps.estimate.sizes import data_size
from flowgmm.experiments.project import Project, Run
from flowgmm.experiments.recipes import grid_candidates
from flowgmm.experiments.specs.runs import jobs_of, train_spec
from flowgmm.experiments.specs.tuning import tune_spec

__all__ = ["run_hours"]


def run_hours(project: Project, ids: Iterable[str]) -> tuple[dict[str, float], str]:
    """Estimate the trainings of runs and of their candidates, without downloads and embeddings.

    Arguments:
        project: Validated config files.
        ids: ``dataset/labels/method`` each.

    Returns:
        Hours by id, and what they rest on, in words.
    """
    wanted = {name: Run(*name.split("/")) for name in ids}
    if not wanted:
        return {}, ""
    machine, gpu_machine, has_gpu = machines()
    history = finished_jobs(project, has_gpu)
    device, threads = project.settings.device, project.settings.threads

    def seconds(rule: str, spec: dict[str, Any]) -> float:
        work = count(spec, data_size(project, spec))
        on_gpu = has_gpu and spec["neural"] and device != "cpu"
        job = Finished.of(
            spec, benchmark="", rule=rule, work=work, seconds=0.0, threads=threads, gpu=on_gpu
        )
        return predict(job, history, machine, gpu_machine).seconds

    hours = {
        name: sum(seconds(*job) for job in _jobs(project, run)) / 3600
        for name, run in wanted.items()
    }
    notes = [*machine.notes, *(gpu_machine.notes if has_gpu else ())]
    return (
        hours,
        f"operations counted, times as of {len(history)} finished jobs; {'; '.join(notes)}",
    )


def _jobs(project: Project, run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rule and spec of each training job of a run."""
    rule = "train_stack" if project.method(run.method).neural else "fit_classic"
    for point in grid_candidates(project, run):
        yield "tune_candidate", tune_spec(project, run, point)
    for job in jobs_of(project, run):
        yield rule, train_spec(project, job)
