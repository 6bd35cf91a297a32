"""Dry run of Snakemake as data: the jobs that it would run."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flowgmm.utils.errors import UserError

__all__ = ["DryRun", "DryRunJob", "make_dry_run"]


@dataclass(frozen=True)
class DryRunJob:
    """A job that Snakemake would run.

    Attributes:
        rule: Name of its rule.
        name: Rule and wildcards, for people.
        inputs, outputs: Paths.
        benchmark: Path of its benchmark file; None: none.
        spec: Spec in the job's command; empty if it takes none.
        threads: Cores that it takes.
        priority: Jobs with a higher one start first.
        resources: Resources by rule and profile.
    """

    rule: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    benchmark: str | None
    spec: dict[str, Any]
    threads: int
    priority: float
    resources: dict[str, Any]


@dataclass(frozen=True)
class DryRun:
    """Jobs that Snakemake would run, and the cores for them.

    Attributes:
        jobs: In the order in which Snakemake logs them.
        cores: Cores that jobs share; None: each has its own machine, as on a cluster.
        max_jobs: Most jobs at the same time; None: any number.
    """

    jobs: tuple[DryRunJob, ...]
    cores: int | None
    max_jobs: int | None

    def needs(self) -> list[list[int]]:
        """Numbers of the jobs that make each job's inputs."""
        maker = {path: i for i, job in enumerate(self.jobs) for path in job.outputs}
        return [sorted({maker[path] for path in job.inputs if path in maker}) for job in self.jobs]


def make_dry_run(arguments: Sequence[str]) -> DryRun:
    """List the jobs that Snakemake would run. Nothing runs and nothing is written.

    Arguments:
        arguments: Command line of Snakemake: profile, config, targets.

    Raises:
        UserError: With Snakemake's reason, if it cannot build the DAG.
    """
    command = [sys.executable, "-m", "flowgmm.apps.estimate.dry_run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"Snakemake cannot plan this: {_reason(done.stdout + done.stderr)}")
    head, *jobs = (json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{")
    return DryRun(tuple(_job(job) for job in jobs), head["cores"], head["max_jobs"])


def _reason(output: str) -> str:
    """Reason of a failure in Snakemake's output, as one line."""
    usual = ("Using profile", "Config file", "MissingRuleException:")
    planning = output.partition("Building DAG of jobs...")[2] or output
    lines = [line.strip() for line in planning.splitlines() if not line.startswith(usual)]
    reason = " ".join(line for line in lines if line)
    return reason.partition(" (if you use input functions")[0]


def _job(job: dict[str, Any]) -> DryRunJob:
    wildcards = "/".join(job["wildcards"].values())
    return DryRunJob(
        rule=job["rule"],
        name=f"{job['rule']} {wildcards}".strip(),
        inputs=tuple(job["input"]),
        outputs=tuple(job["output"]),
        benchmark=job["benchmark"],
        spec=_spec(job["shellcmd"] or ""),
        threads=job["threads"],
        priority=float("inf") if job["priority"] == "highest" else job["priority"],
        resources=job["resources"],
    )


def _spec(command: str) -> dict[str, Any]:
    """Argument of `--spec` in a job's command; empty if not found."""
    words = iter(shlex.split(command))
    found = next((next(words, "") for word in words if word == "--spec"), "{}")
    spec: dict[str, Any] = json.loads(found)
    return spec


def _events(arguments: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Run Snakemake with --dry-run and yield the shared cores, then its log event of each job.

    The events of Snakemake's log are its interface for plugins; its text is not one.
    """
    from snakemake.cli import args_to_api, parse_args
    from snakemake.logging import logger
    from snakemake_interface_logger_plugins.common import LogEvent

    jobs: list[dict[str, Any]] = []

    def keep(record: Any) -> bool:
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            jobs.append(
                {
                    "rule": record.rule_name,
                    "wildcards": {k: str(v) for k, v in dict(record.wildcards or {}).items()},
                    "input": [str(path) for path in record.input or []],
                    "output": [str(path) for path in record.output or []],
                    "benchmark": record.benchmark and str(record.benchmark),
                    "shellcmd": record.shellcmd,
                    "threads": record.threads,
                    "priority": record.priority,
                    "resources": {k: str(v) for k, v in record.resources.items()},
                }
            )
        return True

    logger.addFilter(keep)
    parser, options = parse_args(["--dry-run", *arguments])
    remote = options.executor not in (None, "local")
    if remote and options.cores is None:
        # As in a real run: otherwise a dry run gives every job one thread.
        options.cores = sys.maxsize
    if not args_to_api(options, parser):
        sys.exit(1)
    yield {
        "cores": None if remote else options.cores,
        "max_jobs": options.jobs if remote else None,
    }
    yield from jobs


if __name__ == "__main__":
    for line in _events(sys.argv[1:]):
        print(json.dumps(line))
