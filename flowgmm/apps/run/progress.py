"""State of a run: jobs that wait, run, are done and have failed, and the time that is left."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowgmm.apps.estimate.dry_run import DryRun
from flowgmm.apps.estimate.schedule import wall_time

__all__ = ["Failure", "Running", "State"]

# A line of `flowgmm.experiments.job_script.ProgressLog`.
STEPS = re.compile(r"^(?P<name>\S+ \S+) seeds \S+: (?P<done>\d+)/(?P<total>\d+) ")
# A share below it predicts nothing.
LEAST_SHARE = 0.02
# Finished jobs correct the estimate by at most so much.
MOST_CORRECTION = 5.0


@dataclass
class Running:
    """A job that runs: its name, when it began, and its steps if it tells them."""

    name: str
    began: float
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Failure:
    """A failed job: rule with wildcards, paths of its logs, its command."""

    name: str
    logs: tuple[str, ...]
    command: str


@dataclass
class State:
    """State of a run, fed with events and lines.

    Attributes:
        plan: Jobs that are to be run.
        seconds: Estimated time of each.
        now: Clock, in seconds.
    """

    plan: DryRun
    seconds: tuple[float, ...]
    now: Callable[[], float] = time.monotonic
    running: dict[int, Running] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict)
    _took: dict[int, float] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of jobs that make something."""
        return sum(bool(job.outputs) for job in self.plan.jobs)

    @property
    def n_done(self) -> int:
        """Number of finished jobs that made something."""
        return sum(bool(self.plan.jobs[i].outputs) for i in self.finished)

    def event(self, content: Mapping[str, Any]) -> None:
        """Take an event of `flowgmm.apps.run.events`."""
        name = content["event"]
        if name == "job_info":
            self._begin(content)
        elif name == "job_finished":
            self._end(content["job_id"])
        elif name == "job_error":
            self.running.pop(content["jobid"], None)
            self._fail(content)
        elif name == "group_error":
            for job in content["job_error_info"] or []:
                self._fail(job)

    def line(self, text: str) -> None:
        """Take a line of a job's log."""
        if (found := STEPS.match(text)) is None:
            return
        dataset, method = found["name"].split(" ")
        for job in self.running.values():
            if f"{dataset}/{method}/" in f"{job.name}/":
                job.done, job.total = int(found["done"]), int(found["total"])

    def seconds_left(self) -> float:
        """Time until the last job ends, as a list schedule of what is left takes it."""
        factor = self._correction()
        ends = {self._places.get(key): job for key, job in self.running.items()}
        jobs, left = [], []
        for i, (job, seconds) in enumerate(zip(self.plan.jobs, self.seconds, strict=True)):
            if i in self.finished:
                continue
            rest = factor * seconds
            if i in ends:
                rest = self._rest(ends[i], rest)
                # It holds its cores already.
                job = replace(job, priority=float("inf"), inputs=())
            jobs.append(job)
            left.append(rest)
        return wall_time(replace(self.plan, jobs=tuple(jobs)), left)

    def _rest(self, job: Running, expected: float) -> float:
        elapsed = self.now() - job.began
        if job.total and (share := job.done / job.total) > LEAST_SHARE:
            return elapsed * (1 / share - 1)
        # One that takes longer than expected may take as long again by a tenth.
        return max(expected - elapsed, 0.1 * elapsed)

    def _correction(self) -> float:
        """Time that finished jobs took, to what was estimated for them."""
        expected = sum(self.seconds[i] for i in self._took)
        if not expected:
            return 1.0
        ratio = sum(self._took.values()) / expected
        return min(max(ratio, 1 / MOST_CORRECTION), MOST_CORRECTION)

    def _begin(self, content: Mapping[str, Any]) -> None:
        outputs = set(content["output"] or [])
        for i, job in enumerate(self.plan.jobs):
            if set(job.outputs) == outputs and job.rule == content["rule_name"]:
                self._places[content["jobid"]] = i
        wildcards = "/".join(map(str, (content["wildcards"] or {}).values()))
        name = f"{content['rule_name']} {wildcards}".strip()
        self._names[content["jobid"]] = name
        self.running[content["jobid"]] = Running(name, self.now())

    def _end(self, key: int) -> None:
        job, place = self.running.pop(key, None), self._places.get(key)
        if place is None:
            return
        self.finished.add(place)
        if job is not None and self.plan.jobs[place].outputs:
            self._took[place] = self.now() - job.began

    def _fail(self, content: Mapping[str, Any]) -> None:
        # The event of a failure has no wildcards.
        name = self._names.get(content["jobid"], str(content["rule_name"]))
        logs = tuple(content.get("log") or ())
        failure = Failure(name, logs, content.get("shellcmd") or "")
        if all(failure.name != known.name for known in self.failures):
            self.failures.append(failure)
