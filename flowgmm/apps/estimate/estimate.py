"""Estimate of a run: jobs, hours, disk and critical path of the missing part of the DAG."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowgmm.apps.estimate.cost_model import ASSUMED_GPU, Machine, count, measure
from flowgmm.apps.estimate.dry_run import DryRun, DryRunJob, make_dry_run
from flowgmm.apps.estimate.history import Finished, finished_jobs
from flowgmm.apps.estimate.predict import Guess, past_error, predict
from flowgmm.apps.estimate.schedule import critical_path, wall_time
from flowgmm.apps.estimate.sizes import data_size, output_bytes, source_bytes
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import settings_with

__all__ = ["Estimate", "estimate", "machines"]


@dataclass(frozen=True)
class Estimate:
    """Time, disk and critical path of the jobs of a dry run.

    Attributes:
        dry_run: Its jobs.
        guesses, gpu, n_bytes: Time, use of a GPU, and size of the outputs of each job.
        chain: Numbers of the jobs on the critical path.
        wall_s: Wall time on the cores of the dry run, Snakemake's own included.
        error: From `past_error`; None without finished jobs.
        n_finished: Number of finished jobs used.
        notes: What was measured and what is assumed.
    """

    dry_run: DryRun
    guesses: tuple[Guess, ...]
    gpu: tuple[bool, ...]
    n_bytes: tuple[float, ...]
    chain: tuple[int, ...]
    wall_s: float
    error: dict[str, float] | None
    n_finished: int
    notes: tuple[str, ...]


def estimate(
    root: Path,
    targets: Sequence[str],
    changes: Sequence[str] = (),
    profile: str = "local",
    cores: int | None = None,
) -> Estimate:
    """Estimate time and disk of the missing jobs of targets.

    Arguments:
        root: The repository, which is also the working directory.
        targets: Targets of Snakemake.
        changes: ``key=value`` of `config/config.yaml`.
        profile: Profile of Snakemake.
        cores: Cores to use; None: as the profile says.

    Raises:
        UserError: If the config or a target is wrong.
    """
    config = load_checked(root, settings_with(root, changes))
    begin = time.monotonic()
    arguments = ["--profile", profile, *([] if cores is None else ["--cores", str(cores)])]
    # Options that take many values come last, and `--` ends them.
    arguments += ["--config", *changes] if changes else []
    dry_run = make_dry_run([*arguments, "--", *targets])
    snakemake_s = time.monotonic() - begin

    machine, gpu_machine, has_gpu = machines()
    history = finished_jobs(config, has_gpu)
    gpu = tuple(_uses_gpu(job, has_gpu) for job in dry_run.jobs)
    guesses, sizes = [], []
    for job, on_gpu in zip(dry_run.jobs, gpu, strict=True):
        size = data_size(config, job.spec)
        work = count(job.spec, size)
        unfinished = Finished.of(
            job.spec,
            benchmark=job.benchmark or "",
            rule=job.rule,
            work=work,
            seconds=0.0,
            threads=job.threads,
            gpu=on_gpu,
        )
        guesses.append(_no_outputs(job) or predict(unfinished, history, machine, gpu_machine))
        sizes.append(output_bytes(config, job, size, work))
    seconds = [guess.seconds for guess in guesses]
    notes = list(machine.notes) + (list(gpu_machine.notes) if any(gpu) else [])
    unknown = sum(
        "/raw/" in path and not source_bytes(config, job.spec)
        for job in dry_run.jobs
        for path in job.outputs
    )
    if unknown:
        notes.append(f"size and time of {unknown} downloads are not known")
    return Estimate(
        dry_run,
        tuple(guesses),
        gpu,
        tuple(sizes),
        tuple(critical_path(dry_run, seconds)),
        wall_time(dry_run, seconds) + snakemake_s,
        past_error(history, machine, gpu_machine),
        len(history),
        tuple(notes),
    )


def machines() -> tuple[Machine, Machine, bool]:
    """Speed of this machine, of its GPU or an assumed one, and whether it has a GPU."""
    import torch

    machine = measure()
    if torch.cuda.is_available():
        return machine, replace(measure("cuda"), start_s=machine.start_s), True
    return machine, ASSUMED_GPU, False


def _uses_gpu(job: DryRunJob, has_gpu: bool) -> bool:
    """Check whether a job requests a GPU from a cluster, or uses one if the machine has it."""
    if any("gpu" in f"{key}={job.resources[key]}" for key in job.resources if key != "device"):
        return True
    neural = bool(job.spec.get("neural") or job.spec.get("encoder"))
    return has_gpu and neural and job.resources.get("device", "auto") != "cpu"


def _no_outputs(job: DryRunJob) -> Guess | None:
    """Zero seconds for a job without outputs, such as `all_tables`; None for others."""
    return None if job.outputs else Guess(0.0, "measured")
