"""State of a run: what its events and lines say, and the time that is left."""

import pytest

from flowgmm.apps.estimate.dry_run import DryRun, DryRunJob
from flowgmm.apps.run.events import MARK, parse
from flowgmm.apps.run.progress import State


def job(rule, name, outputs, inputs=(), threads=1):
    return DryRunJob(rule, f"{rule} {name}", tuple(inputs), outputs, None, {}, threads, 0, {})


PLAN = DryRun(
    (
        job("train_stack", "moons/10/flowgmm/0/4", ("a",)),
        job("train_stack", "moons/10/pi_model/0/4", ("b",)),
        job("make_table", "table_7", ("t",), inputs=("a", "b")),
        job("table_7", "", (), inputs=("t",)),
    ),
    cores=1,
    max_jobs=None,
)
SECONDS = (100.0, 50.0, 10.0, 0.0)


class Clock:
    time = 0.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def state(clock):
    return State(PLAN, SECONDS, clock)


def begin(key, rule, output, *wildcards):
    names = dict(zip(("dataset", "labels", "method", "first", "last"), wildcards, strict=False))
    fields = {"jobid": key, "rule_name": rule, "wildcards": names, "output": output, "log": ["l"]}
    return fields | {"event": "job_info"}


FLOW = begin(7, "train_stack", ["a"], "moons", "10", "flowgmm", "0", "4")
PI = begin(8, "train_stack", ["b"], "moons", "10", "pi_model", "0", "4")


def test_before_anything_the_estimate_stands(state):
    assert (state.n_done, state.total) == (0, 3)  # a target makes nothing
    assert state.seconds_left() == 160


def test_a_job_that_tells_its_steps_is_foreseen_by_them(state, clock):
    state.event(FLOW)
    clock.time = 20.0
    assert state.seconds_left() == 140
    state.line("moons/10 flowgmm seeds 0-4: 500/2000 loss 0.5 29 ms/step")
    assert (state.running[7].done, state.running[7].total) == (500, 2000)
    # Three quarters are left, which take three times as long as the first.
    assert state.seconds_left() == pytest.approx(60 + 50 + 10)
    state.line("moons/10 pi_model seeds 0-4: 1/2 fitting")  # does not run
    state.line("Select jobs to execute...")
    assert (state.running[7].done, state.running[7].total) == (500, 2000)


def test_finished_jobs_correct_the_estimate(state, clock):
    state.event(FLOW)
    clock.time = 200.0
    state.event({"event": "job_finished", "job_id": 7})
    assert state.n_done == 1 and not state.running
    assert state.seconds_left() == pytest.approx(2 * (50 + 10))


def test_a_job_that_takes_longer_than_expected_is_not_over(state, clock):
    state.event(FLOW)
    clock.time = 400.0
    assert state.seconds_left() == pytest.approx(40 + 50 + 10)


def test_failures_are_kept_once_with_their_logs(state):
    state.event(PI)
    # The event of a failure has no wildcards.
    error = {key: PI[key] for key in ("jobid", "rule_name", "log")}
    error |= {"event": "job_error", "shellcmd": "python x"}
    state.event(error)
    state.event({"event": "group_error", "job_error_info": [error], "aux_logs": []})
    (failure,) = state.failures
    assert failure.name == "train_stack moons/10/pi_model/0/4"
    assert (failure.logs, failure.command) == (("l",), "python x")
    assert not state.running


def test_only_marked_lines_are_events():
    assert parse('{"event": "job_finished"}') is None
    assert parse(MARK + '{"event": "job_finished", "job_id": 3}\n') == {
        "event": "job_finished",
        "job_id": 3,
    }
