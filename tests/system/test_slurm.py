"""The slurm profile against a real Slurm, and trainings that Slurm ends."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import faults
import psutil
import pytest
from workspace import PATIENCE, ROOT, snakemake, start

from flowgmm.utils.io import read_json, read_tensors

SLURM = ROOT.parent / "shared" / "slurm"
# Differences of this cluster from the profile: no accounting, short jobs, few cores, less memory.
SITE = (
    *("--resources", "mem_mb=16000", "runtime=1440"),
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"),
    *("--set-threads", "train_stack=1"),
)
PROFILE = ("--profile", "slurm", *SITE)
# A training of some seconds, long enough to be ended in the middle.
SLOW = """title: Slower than smoke
extends: smoke
datasets:
  moons:
    scaled_down: [few steps]
    methods: {flowgmm: {params: {training: {n_steps: 2500}}}}
"""
JOB = Path("moons", "10", "flowgmm", "seeds-0-1")
RUN = Path("results", "slow", "runs") / JOB
LOG = Path("results", "slow", "logs", "train_stack") / f"{JOB}.log"
FORMATS = ("csv", "md", "tex", "json")
TABLE = [Path("results", "slow", "tables", f"table_7.{suffix}") for suffix in FORMATS]
# The profile's request for a GPU; options on the command line replace its whole block.
GPU = ("train_stack:slurm_partition=gpu", "train_stack:gres='gpu:1'")
STARTED: list[subprocess.Popen[str]] = []
faulty = pytest.mark.skipif(not faults.ALL, reason="takes minutes; set FLOWGMM_FAULTS=all")


class Queued(NamedTuple):
    """Job of Slurm, waiting, running or finished, as squeue prints it."""

    number: str
    state: str
    partition: str
    gpus: str
    time_limit: str
    what: str


def queued(folder: Path, what: str = "") -> list[Queued]:
    """Jobs submitted from a folder whose comment contains `what`, in order."""
    command = ["squeue", "--states=all", "--noheader", "--format=%Z|%i|%T|%P|%b|%l|%k"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split("|") for line in said.splitlines()]
    jobs = [Queued(*row[1:]) for row in rows if row[0] == str(folder) and what in row[-1]]
    return sorted(jobs, key=lambda job: int(job.number))


def seconds(limit: str) -> int:
    """Seconds of a time limit, `minutes:seconds` or `hours:minutes:seconds`."""
    return sum(int(part) * 60**i for i, part in enumerate(reversed(limit.split(":"))))


def wait(done: Callable[[], bool], seconds: float, process: subprocess.Popen[str]) -> None:
    """Wait for a condition while Snakemake runs."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, f"not within {seconds} s"
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.2)


def end(process: subprocess.Popen[str]) -> None:
    """Kill Snakemake if it still runs; its jobs go on."""
    if process.poll() is None:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Slurm of one node; left running if it ran before."""
    if not (SLURM / "up.sh").is_file():
        pytest.skip(f"{SLURM / 'up.sh'}, which starts a Slurm, is missing")
    if os.geteuid():
        pytest.skip("starting a Slurm takes root")
    ran = shutil.which("scontrol") is not None and not subprocess.call(
        ["scontrol", "ping"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # Jobs request more memory than they need: declare enough that none has to wait.
    up = subprocess.run(
        ["bash", SLURM / "up.sh"],
        env=os.environ | {"SLURM_DEV_MEM": "64000"},
        capture_output=True,
        text=True,
        check=False,
    )
    if up.returncode:
        pytest.skip(f"Slurm does not start: {up.stderr.strip().splitlines()[-1:]}")
    yield
    for process in STARTED:
        end(process)
    if not ran:
        subprocess.run(["bash", SLURM / "down.sh"], check=True)


def fresh_clone(folder: Path) -> Path:
    """Make a clone with `git clone`, and apply uncommitted changes."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    changes = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=ROOT, capture_output=True)
    if changes.stdout:
        subprocess.run(["git", "apply"], cwd=folder, input=changes.stdout, check=True)
    return folder


@pytest.fixture(scope="module")
def literal(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """Start the command in a fresh clone; it goes on while other tests wait for Slurm."""
    clone = fresh_clone(tmp_path_factory.mktemp("literal") / "clone")
    process = submit(clone, recipe="smoke")
    return clone, process


@pytest.fixture(scope="module")
def undisturbed(literal: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone in which the slow training ran on this machine without Slurm."""
    clone = fresh_clone(tmp_path_factory.mktemp("undisturbed") / "clone")
    (clone / "config" / "recipes" / "slow.yaml").write_text(SLOW)
    snakemake(clone, "--profile", "local", "--config", "recipe=slow", "--", "table_7")
    return clone


def untrained(undisturbed: Path, folder: Path) -> Path:
    """Copy the clone without the slow training and the table."""
    clone = shutil.copytree(undisturbed, folder / "clone", symlinks=True)
    for path in (RUN, LOG, Path("results", "slow", "checkpoints"), *TABLE):
        shutil.rmtree(clone / path) if (clone / path).is_dir() else (clone / path).unlink()
    return clone


@pytest.fixture
def clone(undisturbed: Path, tmp_path: Path) -> Path:
    return untrained(undisturbed, tmp_path)


def submit(clone: Path, *options: str, recipe: str = "slow") -> subprocess.Popen[str]:
    STARTED.append(
        start(clone, *PROFILE, *options, "--config", f"recipe={recipe}", "--", "table_7")
    )
    return STARTED[-1]


def train(clone: Path, *options: str) -> subprocess.Popen[str]:
    """Submit the slow training and wait until it is in the middle."""
    process = submit(clone, *options)
    wait(lambda: bool(steps(clone)), PATIENCE, process)
    return process


@pytest.fixture(scope="module")
def ended(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """Two clones and their Snakemakes: a cancelled training, and a killed Snakemake."""
    names = ("scancel", "kill")
    clones = {name: untrained(undisturbed, tmp_path_factory.mktemp(name)) for name in names}
    processes = {name: submit(clones[name]) for name in names}
    for name in names:
        wait(lambda name=name: bool(steps(clones[name])), PATIENCE, processes[name])
        if name == "kill":
            end(processes[name])
        else:
            (job,) = queued(clones[name], "train_stack")
            subprocess.run(["scancel", job.number], check=True)
    return {name: (clones[name], processes[name]) for name in names}


def hold_until_told(clone: Path, process: subprocess.Popen[str]) -> None:
    """Hold a training in the middle until Slurm tells it to end, however fast it would be."""
    wait(lambda: bool(steps(clone)), PATIENCE, process)
    (training,) = [found for found in psutil.process_iter() if trains(found, clone)]
    training.suspend()
    # On a busy core it stops only when its turn comes.
    wait(lambda: training.status() == psutil.STATUS_STOPPED, PATIENCE, process)
    wait(lambda: is_told(training), PATIENCE, process)
    with contextlib.suppress(psutil.NoSuchProcess):
        training.resume()


def trains(process: psutil.Process, clone: Path) -> bool:
    """True for the Python of a training in a clone, and not for the shell around it."""
    try:
        python, *script = process.cmdline()[:2] or [""]
        return (
            "python" in python
            and [Path(name).name for name in script] == ["train_stack.py"]
            and (process.cwd() == str(clone))
        )
    except psutil.Error:
        return False


def is_told(process: psutil.Process) -> bool:
    """True if SIGTERM waits for a stopped process, or if Slurm has let it go on with one."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except FileNotFoundError:
        return True
    waiting = int(re.search(r"ShdPnd:\s+(\w+)", status)[1], 16)  # type: ignore[index]
    return bool(waiting >> signal.SIGTERM - 1 & 1) or process.status() != psutil.STATUS_STOPPED


def steps(clone: Path) -> list[int]:
    """Steps that the training reported since it was started or resumed last."""
    text = (clone / LOG).read_text() if (clone / LOG).is_file() else ""
    return [int(step) for step in re.findall(r" (\d+)/\d+ loss", text)]


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    return said


def slurm_logs(clone: Path) -> str:
    """Logs of failed trainings, in order; Snakemake deletes those of the others."""
    folder = clone / ".snakemake" / "slurm_logs" / "rule_train_stack"
    logs = sorted(folder.rglob("*.log"), key=lambda path: int(path.stem))
    return "\n".join(path.read_text() for path in logs)


def saved(clone: Path) -> int:
    """Step of the checkpoint of the training that was ended last."""
    return int(re.findall(r"interrupted.*? step (\d+) of", slurm_logs(clone))[-1])


def assert_same_bits(clone: Path, undisturbed: Path) -> None:
    for name in ("model", "predictions"):
        here, there = (
            read_tensors(root / RUN / f"{name}.safetensors")[0] for root in (clone, undisturbed)
        )
        assert here.keys() == there.keys()
        assert all((here[key] == there[key]).all() for key in here)


def test_a_cancelled_training_is_submitted_again_and_goes_on(
    ended: dict[str, tuple], undisturbed: Path
) -> None:
    clone, process = ended["scancel"]
    finish(process)
    at = saved(clone)
    assert steps(clone)[0] > at
    first, second = queued(clone, "train_stack")
    assert (first.state, second.state) == ("CANCELLED", "COMPLETED")
    assert seconds(second.time_limit) == 2 * seconds(first.time_limit)
    assert_same_bits(clone, undisturbed)
    said = f"interrupted by SIGTERM: step {at} done"
    faults.record("scancel of a training", 1, 1, "no step", said)


def test_a_cancelled_training_leaves_a_checkpoint_and_no_half_file(
    clone: Path, undisturbed: Path
) -> None:
    """SIGTERM comes to the shell, whose `trap` lets the training save where it is."""
    ended, process = 0, submit(clone, "--retries", "0")
    while ended < faults.tries(1, 3):
        wait(lambda process=process: bool(steps(clone)), PATIENCE, process)
        subprocess.run(["scancel", queued(clone, "train_stack")[-1].number], check=True)
        process.communicate(timeout=PATIENCE)
        if process.returncode == 0:
            break  # done before it was told
        ended += 1
        assert queued(clone, "train_stack")[-1].state == "CANCELLED"
        (state,) = (clone / "results" / "slow" / "checkpoints").glob("*/state")
        assert read_tensors(state)[1]["step"] == saved(clone) > 0
        assert not [path for path in (clone / RUN).rglob("*") if path.is_file()]
        assert not list((clone / "results").rglob("*.part"))
        (clone / LOG).unlink()
        process = submit(clone, "--retries", "0")
    if process.poll() is None:
        finish(process)
    assert ended
    assert_same_bits(clone, undisturbed)
    said = f"interrupted by SIGTERM: step {saved(clone)} done"
    faults.record("scancel of a training, not submitted again", ended, ended, "no step", said)


def test_a_training_that_ends_after_snakemake_was_killed_is_not_repeated(
    ended: dict[str, tuple], undisturbed: Path
) -> None:
    clone, _ = ended["kill"]
    until = time.monotonic() + PATIENCE
    while queued(clone, "train_stack")[0].state != "COMPLETED":
        assert time.monotonic() < until
        time.sleep(0.2)
    trained = read_json(clone / RUN / "record.json")
    assert not (clone / TABLE[0]).exists()
    snakemake(clone, *PROFILE, "--config", "recipe=slow", "--unlock")
    finish(submit(clone))
    assert read_json(clone / RUN / "record.json") == trained  # its times, too
    assert (clone / TABLE[0]).is_file()
    assert_same_bits(clone, undisturbed)
    faults.record(
        "kill -9 of Snakemake while a training runs in Slurm",
        *(1, 1, "nothing: the training ended by itself and was taken over"),
        "Directory cannot be locked: --unlock, then the same command",
    )


def test_the_literal_command_from_a_fresh_clone(literal: tuple) -> None:
    clone, process = literal
    finish(process)
    for suffix in FORMATS:
        assert (clone / "results" / "smoke" / "tables" / f"table_7.{suffix}").stat().st_size > 0
    jobs = queued(clone)
    assert {job.state for job in jobs} == {"COMPLETED"}
    on_gpus = [job for job in jobs if "train_stack" in job.what]
    assert len(on_gpus) == 2
    assert {(job.partition, job.gpus) for job in on_gpus} == {("gpu", "gres:gpu:1")}
    others = [job for job in jobs if job not in on_gpus]
    assert {(job.partition, job.gpus) for job in others} == {("cpu", "N/A")}
    assert len([job for job in jobs if "draw_split" in job.what]) == 2  # four splits of two sets
    again = snakemake(clone, *PROFILE, "--config", "recipe=smoke", "--", "table_7")
    assert "Nothing to be done" in again
    assert queued(clone) == jobs


MODULE = """
configfile: "config/config.yaml"

module flowgmm:
    snakefile: {snakefile!r}
    config: config

use rule * from flowgmm as flowgmm_*
"""


@pytest.mark.parametrize("as_module", [False, True])
def test_a_profile_that_asks_for_too_much_is_refused_before_anything_is_submitted(
    as_module: bool, cluster: None, tmp_path: Path
) -> None:
    clone, too_much = fresh_clone(tmp_path / "clone"), ("mem_mb=900000", "runtime=9000")
    options = (*PROFILE, "--resources", *too_much, "--config", "recipe=smoke", "--")
    before = time.monotonic()
    if as_module:
        outer = tmp_path / "outer"
        shutil.copytree(clone / "config", outer / "config")
        (outer / "slurm").symlink_to(clone / "slurm")
        snakefile = str(clone / "workflow" / "Snakefile")
        (outer / "Snakefile").write_text(MODULE.format(snakefile=snakefile))
        process = start(clone, *options, "flowgmm_table_7", within=("env", "-C", str(outer)))
    else:
        process = start(clone, *options, "table_7")
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert time.monotonic() - before < 300
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "asks for 900000 MB, a node of partition cpu has at most" in line
    assert "set runtime in `resources` to 1440" in line
    assert "flowgmm doctor --write" in line
    assert queued(outer if as_module else clone) == []
    assert "Error in rule" not in said and "Traceback" not in said


def test_refused_and_mistaken_jobs_are_submitted_once(cluster: None, tmp_path: Path) -> None:
    clone = fresh_clone(tmp_path / "clone")
    features = [f"results/features/{name}.safetensors" for name in ("moons", "circles")]
    snakemake(clone, "--profile", "local", "--config", "recipe=smoke", "--", *features)
    os.truncate(clone / features[0], 1000)
    refused = ("--set-resources", "train_stack:slurm_extra='--licenses=unicorns:1'")
    process = submit(clone, *refused, recipe="smoke")
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    (mistaken,) = queued(clone, "moons")
    assert mistaken.state == "FAILED"
    assert [job.state for job in queued(clone, "circles")] == ["COMPLETED"]  # its splits
    # Below all else stand the mistake with its remedy, and Slurm's own words.
    ends = [line for line in said.splitlines() if re.match(r"error: \w+: ", line)]
    assert len(ends) == 2
    assert any(re.search(r"moons.safetensors is damaged .*; delete it and run", e) for e in ends)
    assert any("refused it: sbatch: error: Batch job submission failed: In" in e for e in ends)
    assert "Trying to restart" not in said


@faulty
def test_a_preempted_training_is_requeued_and_goes_on(clone: Path, undisturbed: Path) -> None:
    process = train(clone, "--set-resources", "train_stack:slurm_partition=preempt", GPU[1])
    before = steps(clone)[-1]
    command = ["sbatch", "-p", "gpu", "--gres=gpu:2", "--mem=100", "--output=/dev/null"]
    subprocess.run([*command, "--wrap=sleep 5"], check=True, capture_output=True)
    wait(lambda: queued(clone, "train_stack")[0].state == "PENDING", PATIENCE, process)
    finish(process)
    (job,) = queued(clone, "train_stack")
    assert (job.state, job.partition) == ("COMPLETED", "preempt")
    assert steps(clone)[0] > before
    assert_same_bits(clone, undisturbed)
    faults.record("pre-emption of a training", 1, 1, "no step", "nothing: Slurm requeues it")


@faulty
@pytest.mark.parametrize(
    ("minutes", "extra", "state"),
    # Slurm checks every 30 s: the warning comes 20 to 50 s after the start.
    [(1, "''", "TIMEOUT"), (2, "'--signal=TERM@70'", "FAILED")],
    ids=["at the limit", "warned"],
)
def test_a_training_goes_on_after_its_time_limit(
    clone: Path, undisturbed: Path, minutes: int, extra: str, state: str
) -> None:
    limit = (f"train_stack:runtime={minutes}", f"train_stack:slurm_extra={extra}")
    process = submit(clone, "--retries", "9", "--set-resources", *GPU, *limit)
    hold_until_told(clone, process)
    finish(process)
    assert steps(clone)[0] > saved(clone)
    *ended, last = [job.state for job in queued(clone, "train_stack")]
    assert (set(ended), last) == ({state}, "COMPLETED")
    assert_same_bits(clone, undisturbed)
    case = f"time limit of a training, {'warned' if state == 'FAILED' else 'without a warning'}"
    said = f"interrupted by SIGTERM: step {saved(clone)} done"
    faults.record(case, len(ended), len(ended), "no step", said)


@faulty
def test_a_training_without_enough_memory_asks_for_more(clone: Path, undisturbed: Path) -> None:
    finish(
        submit(clone, "--retries", "9", "--set-resources", *GPU, "train_stack:mem_mb=200 * attempt")
    )
    states = [job.state for job in queued(clone, "train_stack")]
    assert states[0] in ("FAILED", "OUT_OF_MEMORY")
    assert states[-1] == "COMPLETED"
    assert_same_bits(clone, undisturbed)
    faults.record(
        *("out of memory in a training", len(states) - 1, len(states) - 1),
        *("what came after the last checkpoint, which is a minute old at most", ", ".join(states)),
    )
