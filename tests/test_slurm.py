"""The slurm profile against a real Slurm, and what becomes of a training when Slurm ends it."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import faults
import pytest
from test_workflow import ROOT, snakemake, start

from flowgmm.files import read_json, read_tensors

SLURM = ROOT.parent / "shared" / "slurm"
# What differs between a site's profile and this cluster: no accounting, short jobs, few cores.
SITE = (
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"),
    *("--set-threads", "train_stack=1"),
)
PROFILE = ("--profile", "slurm", *SITE)
# A training of some seconds, which one can catch in the middle.
SLOW = """title: Slower than smoke
extends: smoke
kinds:
  2d:
    scaled_down: [few steps]
    methods: {flowgmm: {params: {n_steps: %d}}}
"""
JOB = Path("moons", "10", "flowgmm", "seeds-0-1")
RUN = Path("results", "slow", "runs") / JOB
LOG = Path("results", "slow", "logs", "train_stack") / f"{JOB}.log"
faulty = pytest.mark.skipif(not faults.ALL, reason="takes minutes; set FLOWGMM_FAULTS=all")


class Queued(NamedTuple):
    """A job of Slurm, waiting, running or finished, as squeue tells it."""

    number: str
    state: str
    partition: str
    gpus: str
    time_limit: str
    what: str


def queued(folder: Path, what: str = "") -> list[Queued]:
    """The jobs that were submitted from a folder and whose comment has `what` in it, in order."""
    command = ["squeue", "--states=all", "--noheader", "--format=%Z|%i|%T|%P|%b|%l|%k"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split("|") for line in said.splitlines()]
    jobs = [Queued(*row[1:]) for row in rows if row[0] == str(folder) and what in row[-1]]
    return sorted(jobs, key=lambda job: int(job.number))


def wait(done: Callable[[], bool], seconds: float, process: subprocess.Popen[str]) -> None:
    """Wait until something is so, while Snakemake goes on."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, f"not within {seconds} s"
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A one-node Slurm; left running if it ran before."""
    if not (SLURM / "up.sh").is_file():
        pytest.skip(f"{SLURM / 'up.sh'}, which starts a Slurm, is not there")
    if os.geteuid():
        pytest.skip("starting a Slurm takes root")
    ran = shutil.which("scontrol") is not None and not subprocess.call(
        ["scontrol", "ping"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    up = subprocess.run(["bash", SLURM / "up.sh"], capture_output=True, text=True, check=False)
    if up.returncode:
        pytest.skip(f"Slurm does not start: {up.stderr.strip().splitlines()[-1:]}")
    yield
    if not ran:
        subprocess.run(["bash", SLURM / "down.sh"], check=True)


def fresh_clone(folder: Path) -> Path:
    """What `git clone` gives, with what is not committed yet laid over it."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    changes = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=ROOT, capture_output=True)
    if changes.stdout:
        subprocess.run(["git", "apply"], cwd=folder, input=changes.stdout, check=True)
    return folder


@pytest.fixture(scope="module")
def literal(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """The command from a fresh clone; it goes on while other tests wait for Slurm."""
    clone = fresh_clone(tmp_path_factory.mktemp("literal") / "clone")
    process = start(clone, *PROFILE, "--config", "recipe=smoke", "--", "table_7")
    yield clone, process
    if process.poll() is None:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the slow training ran on this machine without Slurm."""
    clone = fresh_clone(tmp_path_factory.mktemp("undisturbed") / "clone")
    steps = 8000 if faults.ALL else 2000
    (clone / "config" / "recipes" / "slow.yaml").write_text(SLOW % steps)
    arguments = ("--profile", "local", "--config", "recipe=slow", "--", str(RUN / "record.json"))
    snakemake(clone, *arguments)
    return clone


@pytest.fixture
def clone(literal: tuple, undisturbed: Path, tmp_path: Path) -> Path:
    """The same with its data and splits alone; nothing is trained."""
    shutil.copytree(undisturbed, tmp_path / "clone", symlinks=True)
    shutil.rmtree(tmp_path / "clone" / "results" / "slow" / "runs")
    shutil.rmtree(tmp_path / "clone" / "results" / "slow" / "checkpoints", ignore_errors=True)
    (tmp_path / "clone" / LOG).unlink()
    return tmp_path / "clone"


def train(clone: Path, *options: str) -> tuple[subprocess.Popen[str], Queued]:
    """Submit the slow training, wait until it is in the middle of it."""
    arguments = ("--config", "recipe=slow", "--", str(RUN / "record.json"))
    process = start(clone, *PROFILE, *options, *arguments)
    wait(lambda: reached(clone) > 0, 120, process)
    return process, queued(clone, "train_stack")[-1]


def reached(clone: Path) -> int:
    """The last step that the training reported."""
    text = (clone / LOG).read_text() if (clone / LOG).is_file() else ""
    return int((re.findall(r" (\d+)/\d+ loss", text) or ["0"])[-1])


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def slurm_logs(clone: Path) -> str:
    """What failed trainings said, the first one first; Snakemake deletes the logs of the others."""
    folder = clone / ".snakemake" / "slurm_logs" / "rule_train_stack"
    logs = sorted(folder.rglob("*.log"), key=lambda path: int(path.stem))
    return "\n".join(path.read_text() for path in logs)


def resumed_after(clone: Path) -> tuple[int, int]:
    """The step that the last training went on from, and the step at which its forerunner ended."""
    (ended,) = re.findall(r"interrupted.*? step (\d+) of", slurm_logs(clone))[-1:]
    (first,) = re.findall(r" (\d+)/\d+ loss", (clone / LOG).read_text())[:1]
    return int(first), int(ended)


def assert_same_bits(clone: Path, undisturbed: Path) -> None:
    for name in ("model", "predictions"):
        here, there = (
            read_tensors(root / RUN / f"{name}.safetensors")[0] for root in (clone, undisturbed)
        )
        assert here.keys() == there.keys()
        assert all((here[key] == there[key]).all() for key in here)


def test_a_cancelled_training_is_submitted_again_and_goes_on(
    clone: Path, undisturbed: Path
) -> None:
    process, job = train(clone)
    subprocess.run(["scancel", job.number], check=True)
    finish(process)
    first, ended = resumed_after(clone)
    assert first > ended
    assert [job.state for job in queued(clone, "train_stack")] == ["CANCELLED", "COMPLETED"]
    assert_same_bits(clone, undisturbed)
    faults.record(
        "scancel of a training", 1, 1, "no step", f"interrupted by SIGTERM at step {ended}"
    )


def test_a_training_that_ends_while_no_snakemake_looks_is_taken_over(
    clone: Path, undisturbed: Path
) -> None:
    arguments = ("--config", "recipe=slow", "--", "table_7")
    process, _ = train(clone)
    process.kill()
    process.communicate()
    until = time.monotonic() + 120
    while not (clone / RUN / "record.json").is_file():
        assert time.monotonic() < until
        time.sleep(0.2)
    trained = read_json(clone / RUN / "record.json")
    while queued(clone, "train_stack")[0].state == "RUNNING":
        time.sleep(0.2)
    snakemake(clone, *PROFILE, "--config", "recipe=slow", "--unlock")
    snakemake(clone, *PROFILE, *arguments)
    assert read_json(clone / RUN / "record.json") == trained  # its times, too
    assert (clone / "results" / "slow" / "tables" / "table_7.md").is_file()
    assert_same_bits(clone, undisturbed)
    faults.record(
        "kill -9 of Snakemake while a training runs in Slurm",
        *(1, 1, "nothing: the training ended by itself and was taken over"),
        "Directory cannot be locked: --unlock, then the same command",
    )


def test_the_literal_command_from_a_fresh_clone(literal: tuple) -> None:
    clone, process = literal
    finish(process)
    for suffix in ("csv", "md", "tex", "json"):
        assert (clone / "results" / "smoke" / "tables" / f"table_7.{suffix}").stat().st_size > 0
    jobs = queued(clone)
    assert {job.state for job in jobs} == {"COMPLETED"}
    on_gpus = [job for job in jobs if "train_stack" in job.what]
    assert len(on_gpus) == 2
    assert {(job.partition, job.gpus) for job in on_gpus} == {("gpu", "gres:gpu:1")}
    others = [job for job in jobs if job not in on_gpus]
    assert {(job.partition, job.gpus) for job in others} == {("cpu", "N/A")}
    assert len([job for job in jobs if "draw_split" in job.what]) == 1  # four splits
    again = snakemake(clone, *PROFILE, "--config", "recipe=smoke", "--", "table_7")
    assert "Nothing to be done" in again
    assert queued(clone) == jobs


@faulty
def test_a_preempted_training_is_requeued_and_goes_on(clone: Path, undisturbed: Path) -> None:
    process, job = train(clone, "--set-resources", "train_stack:slurm_partition=preempt")
    command = ["sbatch", "-p", "gpu", "--gres=gpu:2", "--mem=100", "--output=/dev/null"]
    subprocess.run([*command, "--wrap=sleep 5"], check=True, capture_output=True)
    wait(lambda: queued(clone, "train_stack")[0].state == "PENDING", 60, process)
    finish(process)
    (job,) = queued(clone, "train_stack")
    assert (job.state, job.partition) == ("COMPLETED", "preempt")
    assert_same_bits(clone, undisturbed)
    faults.record("pre-emption of a training", 1, 1, "no step", "nothing: Slurm requeues it")


@faulty
def test_a_training_goes_on_after_its_time_limit(clone: Path, undisturbed: Path) -> None:
    warning = "train_stack:slurm_extra='--signal=TERM@30'"
    process, _ = train(clone, "--set-resources", "train_stack:runtime=1", warning)
    finish(process)
    first, ended = resumed_after(clone)
    assert first > ended
    assert_same_bits(clone, undisturbed)
    states = [job.state for job in queued(clone, "train_stack")]
    faults.record(
        "time limit of a training", len(states) - 1, len(states) - 1, "no step", ", ".join(states)
    )


@faulty
def test_a_training_without_enough_memory_asks_for_more(clone: Path, undisturbed: Path) -> None:
    arguments = ("--config", "recipe=slow", "--", str(RUN / "record.json"))
    memory = ("--set-resources", "train_stack:mem_mb=400 * attempt")
    finish(start(clone, *PROFILE, *memory, *arguments))
    states = [job.state for job in queued(clone, "train_stack")]
    assert states[0] in ("FAILED", "OUT_OF_MEMORY")
    assert states[-1] == "COMPLETED"
    assert_same_bits(clone, undisturbed)
    faults.record(
        *("out of memory in a training", len(states) - 1, len(states) - 1),
        *("what came after the last checkpoint, which is a minute old at most", ", ".join(states)),
    )
