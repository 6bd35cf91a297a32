"""Hashes and sources of all jobs behind a table, figure or overview."""

from collections.abc import Iterable

from flowgmm.experiments.paths import features_path, point_paths
from flowgmm.experiments.project import Job, Project
from flowgmm.experiments.recipes import grid_candidates
from flowgmm.experiments.specs.analyses import analysis_jobs, analysis_spec
from flowgmm.experiments.specs.data import features_spec
from flowgmm.experiments.specs.runs import split_numbers, split_paths, train_spec
from flowgmm.experiments.specs.splits import split_spec
from flowgmm.experiments.specs.tuning import tune_spec
from flowgmm.utils.io import content_hash

__all__ = ["origin_hash", "source_paths"]


def origin_hash(project: Project, jobs: Iterable[Job], analyses: Iterable[str] = ()) -> str:
    """Hash of all specs behind what is made of these jobs and analyses.

    Rules whose results are shown have it among their params. Else, where a job fails whose
    spec has changed, its old outputs are gone, and Snakemake takes what was made of them for
    finished: a missing file that no target needs is not made.
    """
    analyses = list(analyses)
    jobs = dict.fromkeys([*jobs, *(j for name in analyses for j in analysis_jobs(project, name))])
    runs = dict.fromkeys(job.run for job in jobs)
    return content_hash(
        [
            [analysis_spec(project, name) for name in analyses],
            [train_spec(project, job) for job in jobs],
            [
                tune_spec(project, run, point)
                for run in runs
                for point in grid_candidates(project, run)
            ],
            [features_spec(project, name) for name in dict.fromkeys(run.dataset for run in runs)],
            [
                split_spec(project, job.run.dataset, job.run.labels, number)
                for job in jobs
                for number in split_numbers(project, job)
            ],
        ]
    )


def source_paths(project: Project, jobs: Iterable[Job], analyses: Iterable[str] = ()) -> list[str]:
    """Features, splits and candidates' files behind these jobs and analyses.

    Tables and figures have them among their inputs, though only other rules read them: Snakemake
    removes a file that it could not make anew, and makes it again only if a target needs it.
    """
    jobs = [*jobs, *(job for name in analyses for job in analysis_jobs(project, name))]
    runs = dict.fromkeys(job.run for job in jobs)
    return list(
        dict.fromkeys(
            [
                *(features_path(project, run.dataset) for run in runs),
                *(path for job in jobs for path in split_paths(project, job)),
                *(path for run in runs for path in point_paths(project, run)),
            ]
        )
    )
