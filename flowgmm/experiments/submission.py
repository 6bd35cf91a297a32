"""Submission of jobs to Slurm by Snakemake: requests are checked first, mistakes not repeated.

Snakemake submits a job that failed again, with more memory and time, whatever the reason. Where
more cannot help, a job is given up after the first attempt.
"""

import re
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flowgmm.experiments.slurm import (
    Partition,
    Refusal,
    Request,
    gpus_of,
    read_partitions,
    refusal,
)
from flowgmm.utils.errors import UserError

__all__ = ["check_before_submission", "check_requests", "give_up_mistakes", "mistake_in", "refused"]

# End of a log, in which the last line lies.
TAIL_BYTES = 8192
# Most reasons that one error names.
SHOWN = 3


def check_before_submission() -> None:
    """Let Snakemake run `check_requests` before it starts, and end with one line if that refuses.

    When it makes its executor the jobs are known and none has run. A hook of the workflow would do,
    but of those Snakemake knows the outermost workflow's alone, not a module's.
    """
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    make = RemoteExecutor.__init__

    def checked(executor: Any, workflow: Any, *arguments: Any, **options: Any) -> None:
        try:
            check_requests(workflow)
        except UserError as error:
            sys.exit(f"error: {error}")
        make(executor, workflow, *arguments, **options)

    RemoteExecutor.__init__ = checked


def check_requests(workflow: Any) -> None:
    """Verify that the cluster can hold what a workflow's jobs ask for, now and when they grew.

    Arguments:
        workflow: Snakemake's workflow with its DAG. Nothing is asked of any executor but Slurm's.

    Raises:
        UserError: If no partition can hold a request, with the key of the profile to change; if
            there is no Slurm.
    """
    if workflow.executor_plugin.name != "slurm":
        return
    needed = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    found = {id(job): job for job in (workflow.dag.get_job_group(job) or job for job in needed)}
    if not found:
        return
    limits = {name: workflow.global_resources.get(name).value for name in ("mem_mb", "runtime")}
    requests = sorted({request_of(job) for job in found.values()}, key=str)
    reasons = refused(requests, limits, read_partitions())
    if reasons:
        more = f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        raise UserError(
            f"nothing was submitted, as the cluster cannot hold it: {'; '.join(reasons[:SHOWN])}"
            f"{more}. Change the profile (slurm/config.yaml), or let `flowgmm doctor --write` do it"
        )


def request_of(job: Any) -> Request:
    """Request of one of Snakemake's jobs or groups."""
    asked = job.resources
    return Request(
        f"group {job.groupid}" if job.is_group() else job.rule.name,
        str(asked.get("slurm_partition") or ""),
        cpus=int(asked.get("cpus_per_task") or job.threads),
        mb=int(asked.get("mem_mb") or 0),
        minutes=int(asked.get("runtime") or 0),
        gpus=max(gpus_of(str(asked.get("gres") or "")), int(asked.get("gpu") or 0)),
    )


def refused(
    requests: Iterable[Request], limits: Mapping[str, Any], partitions: Mapping[str, Partition]
) -> list[str]:
    """Reasons why partitions cannot hold requests, or what these may grow to.

    Arguments:
        requests: Requests of the first attempts.
        limits: The profile's ``mem_mb`` and ``runtime``, up to which every further attempt may
            ask for more; None: not bounded.
        partitions: Partitions of the cluster by name.

    Returns:
        One reason for each key of the profile that has to change.
    """
    grown = [
        Request("an attempt with all that the profile allows", name, **{resource: limit})
        for name in sorted({request.partition for request in requests})
        for resource, limit in (("mb", limits["mem_mb"]), ("minutes", limits["runtime"]))
        if limit is not None
    ]
    by_key: dict[str, Refusal] = {}
    for request in [*grown, *requests]:
        found = refusal(request, partitions)
        # Many jobs ask for the same. What the smallest partition holds, all do.
        known = found and by_key.get(found.key)
        if found and (known is None or (found.most or 0) < (known.most or 0)):
            by_key[found.key] = found
    unbounded = [
        f"nothing bounds {name} of a job that is submitted again: set {name} in `resources`"
        for name in ("mem_mb", "runtime")
        if limits[name] is None
    ]
    return [*map(str, by_key.values()), *unbounded]


def give_up_mistakes(given_up: list[str]) -> None:
    """Let Snakemake submit a job once if Slurm refused it, or if its script ended in a mistake.

    Arguments:
        given_up: The reason of each such job is appended to it.
    """
    from snakemake.logging import logger
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    report, started = RemoteExecutor.report_job_error, time.time()

    def report_job_error(executor: Any, info: Any, msg: str | None = None, **options: Any) -> None:
        refused = info.external_jobid is None
        reason = words_of(msg or "") if refused else mistake_in(info.job.log, started)
        if reason is not None:
            given_up.append(f"{info.job.name}: {'Slurm refused it: ' * refused}{reason}")
            logger.error(f"{given_up[-1]} (not submitted again)")
            info.job.attempt = info.job.restart_times + 1  # as after its last attempt
        report(executor, info, msg=msg, **options)

    RemoteExecutor.report_job_error = report_job_error


def words_of(message: str) -> str:
    """Slurm's words in the message of Snakemake's plugin, which wraps them in the whole command."""
    said = re.search(r"The error message was '(.*?)'\.?\n", message, re.DOTALL)
    return " ".join((said[1] if said else message).split()) or "it said nothing"


def mistake_in(logs: Any, started: float) -> str | None:
    """Mistake of a user with which a script ended, from its log.

    Arguments:
        logs: Paths of the logs of a job or group.
        started: Logs that were last written before this time are passed over.

    Returns:
        The script's last line, ``error: ...``; None if it ended in another way.
    """
    for path in map(Path, logs):
        try:
            if path.stat().st_mtime < started:
                continue
            with path.open("rb") as handle:
                handle.seek(max(0, path.stat().st_size - TAIL_BYTES))
                lines = handle.read().decode(errors="replace").rstrip().splitlines()
        except FileNotFoundError:
            continue
        if lines and lines[-1].startswith("error: "):
            return lines[-1]
    return None
