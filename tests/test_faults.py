"""Faults: what was done, and what survived. docs/faults.md has the table.

After each: no wrong number in any table, nothing finished lost, and a message that says what to do.
Without FLOWGMM_FAULTS=all few tries are made.
"""

import http.server
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import record, tries
from hub import serving
from workspace import ROOT, copy_repository, environment, snakemake, start

from flowgmm.config import Config, Run, load, settings_with
from flowgmm.datasets.fetch import fetch
from flowgmm.errors import UserError
from flowgmm.files import read_json, sha256

STEPS = 150
OPTIONS = ("--profile", "local", "--config", "recipe=faults", "--")
TABLE = "results/faults/tables/tiny"
FEATURES = "results/features/moons.safetensors"
RUNS = "results/faults/runs/moons/10"
SPLITS = "results/faults/splits/moons/10"
TRAINED = f"{RUNS}/flowgmm/seeds-0-1"
CHECKPOINTS = "results/faults/checkpoints"

Arguments = tuple[str, list[str]]


@dataclass
class Project:
    """A small table, by its jobs, and what comes out undisturbed.

    Attributes:
        clone: Copy of the repository.
        jobs: Script and arguments of each job, in order; paths are relative to a working directory.
        whole: Working directory where all jobs are done.
        seconds: Wall time of each.
    """

    clone: Path
    jobs: dict[str, Arguments]
    whole: Path
    seconds: dict[str, float]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    clone = copy_repository(tmp_path_factory.mktemp("clone"))
    recipe = {"title": "Faults", "extends": "smoke"}
    recipe["datasets"] = {"moons": {"methods": {"flowgmm": {"params": {"n_steps": STEPS}}}}}
    (clone / "config" / "recipes" / "faults.yaml").write_text(yaml.safe_dump(recipe))
    table = {"title": "Tiny", "aggregate": "mean", "spread": "std", "metric": "accuracy"}
    table |= {"evaluate": "test", "rows": ["logistic_regression", "flowgmm"]}
    table["columns"] = [{"dataset": "moons", "labels": "10", "title": "moons"}]
    with (clone / "config" / "tables.yaml").open("a") as handle:
        handle.write("\n" + yaml.safe_dump({"tiny": table}))
    jobs = jobs_of(load(clone, settings_with(clone, ["recipe=faults"])))
    whole = tmp_path_factory.mktemp("whole")
    seconds = {}
    for names in (["prepare", "split-0", "split-1", "fit"], ["train"], ["table"]):
        begin = time.monotonic()
        assert launch(*(jobs[name] for name in names), folder=whole).wait(timeout=120) == 0
        seconds[names[0]] = time.monotonic() - begin
    return Project(clone, jobs, whole, seconds)


def jobs_of(config: Config) -> dict[str, Arguments]:
    """The jobs behind the table, as the rules call them."""
    flow, classic = (
        config.jobs(Run("moons", "10", method))[0] for method in ("flowgmm", "logistic_regression")
    )

    def spec(value: Any) -> list[str]:
        return ["--spec", json.dumps(value)]

    def train(job: Any) -> Arguments:
        out = str(Path(config.run_file(job, "record.json")).parent)
        files = ["--features", FEATURES, "--splits", *config.split_paths(job), "--choice"]
        places = ["--out", out, "--checkpoints", CHECKPOINTS, "--device", "cpu", "--threads", "1"]
        return "train", spec(config.train_spec(job)) + files + places

    prepared = ["--raw", "results/raw/moons", "--output", FEATURES]
    splits = {
        f"split-{k}": (
            "split",
            [
                *spec(config.split_spec("moons", "10", k)),
                *("--features", FEATURES, "--output", config.split_path("moons", "10", k)),
            ],
        )
        for k in (0, 1)
    }
    records = ["--records", *config.table_records("tiny"), "--changes", "[]", "--prefix", TABLE]
    return {
        "prepare": ("prepare", spec(config.features_spec("moons")) + prepared),
        **splits,
        "fit": train(classic),
        "train": train(flow),
        "table": ("table", spec(config.table_spec("tiny")) + records),
    }


# Scripts as rules call them, with a checkpoint at every step.
OFTEN = """
import json, runpy, sys
for script, *arguments in json.loads(sys.argv[1]):
    sys.argv = [script, *arguments]
    if script.endswith("train.py"):
        import flowgmm.train
        flowgmm.train.CHECKPOINT_EVERY = 0.0
    runpy.run_path(script, run_name="__main__")
"""


def launch(*jobs: Arguments, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """Start jobs in a working directory, one after the other in one process."""
    calls = [[str(ROOT / "scripts" / f"{script}.py"), *arguments] for script, arguments in jobs]
    command = [sys.executable, "-c", OFTEN, json.dumps(calls)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    every = environment(ROOT) | variables
    return subprocess.Popen(command, cwd=folder, env=every, text=True, **pipes)


@dataclass
class Here:
    """Runs jobs in this process, in a working directory."""

    folder: Path
    said: Callable[[], str]
    jobs: dict[str, Arguments]

    def __call__(self, name: str) -> tuple[int, str]:
        """Exit status and the last line of what a job says."""
        script, arguments = self.jobs[name]
        sys.argv = [script, *arguments]
        code: Any = 0
        try:
            runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        said = self.said()
        assert "Traceback" not in said
        return code, said.strip().rpartition("\n")[2]


@pytest.fixture
def here(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Here]:
    """A working directory of its own where all jobs are done."""
    folder = shutil.copytree(project.whole, tmp_path / "here")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Here(folder, lambda: capsys.readouterr().err, project.jobs)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def results(folder: Path) -> dict[str, Any]:
    """All that determines a number: bits of what was trained, records without times, tables."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "results").rglob("*")):
        if path.is_dir() or "checkpoints" in path.parts or path.suffix == ".log":
            continue
        key = str(path.relative_to(folder))
        if path.name == "record.json":
            content = read_json(path)
            found[key] = {k: v for k, v in content.items() if k not in ("timing", "environment")}
        elif path.suffix in (".safetensors", ".csv", ".md", ".tex"):
            found[key] = sha256(path)
    return found


def remove(folder: Path, *places: str) -> None:
    """Unmake what a job made, its claims included."""
    for place in (*places, CHECKPOINTS):
        path = folder / place
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


# Killed


def killed_at_random(
    job: Arguments, folder: Path, seconds: float, count: int, number: signal.Signals
) -> tuple[int, list[str]]:
    """Start a job over and over and end it at random moments; give exit statuses and words.

    A job that was done before its moment came ends the series early, and counts.
    """
    rng = random.Random(count)
    said, ended = [], 0
    while ended < count:
        process = launch(job, folder=folder)
        time.sleep(rng.uniform(0, seconds))
        process.send_signal(number)
        said.append(process.communicate(timeout=60)[1])
        ended += 1
        if process.returncode == 0:
            break
        assert process.returncode in (-number, 128 + number)
    return ended, said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_ended_training(number: signal.Signals, project: Project, tmp_path: Path) -> None:
    """At random moments, the next one going on from the last one's checkpoint."""
    expected, count = results(project.whole), tries(2)
    folder = shutil.copytree(project.whole, tmp_path / "killed")
    ended = 0
    while ended < count:
        remove(folder, TRAINED)
        more, said = killed_at_random(
            project.jobs["train"], folder, project.seconds["train"], count - ended, number
        )
        ended += more
        process = launch(project.jobs["train"], folder=folder)
        assert process.wait(120) == 0, process.stderr
        assert results(folder) == expected
        assert not [path for path in (folder / TRAINED).iterdir() if path.name.startswith(".")]
    message = "starts where the checkpoint is; says nothing"
    if number == signal.SIGTERM:
        saved = [text for text in said if "checkpoint is saved" in text]
        assert saved or ended < 10
        message = saved[-1].strip().rpartition("\n")[2] if saved else "interrupted by SIGTERM"
    name = "kill -9" if number == signal.SIGKILL else "SIGTERM"
    record(f"{name} of a training at a random moment", ended, ended, "one step", message)


def test_killed_table(project: Project, tmp_path: Path) -> None:
    expected, count = results(project.whole), tries(2)
    folder = shutil.copytree(project.whole, tmp_path / "killed")
    ended = 0
    while ended < count:
        remove(folder, "results/faults/tables")
        ended += killed_at_random(
            project.jobs["table"], folder, project.seconds["table"], count - ended, signal.SIGKILL
        )[0]
        made = results(folder).items()
        assert made <= expected.items()
        assert launch(project.jobs["table"], folder=folder).wait(60) == 0
        assert results(folder) == expected
    record("kill -9 of the table stage", ended, ended, "the table", "runs again; says nothing")


def test_killed_embedding(encoder: str, tmp_path: Path) -> None:
    words = "the cat sat on a mat far away"
    rows = "\n".join(f'"{k % 2 + 1}","{words} {"the " * (k % 9)}"' for k in range(3000))
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text(rows)
    options = {"classes": ["x", "y"], "fields": 1}
    spec = {"dataset": "t", "kind": "text", "loader": "text", "options": options}
    spec |= {"encoder": encoder, "embedding": {"precision": "fp32", "batch_tokens": 500}}
    arguments = ["--spec", json.dumps(spec), "--raw", str(tmp_path), "--encoder"]
    job = ("embed", [*arguments, "--cache", "cache", "--output", "features.safetensors"])
    folders = [tmp_path / name for name in ("whole", "killed")]
    begin = time.monotonic()
    for folder in folders:
        folder.mkdir()
    assert launch(job, folder=folders[0]).wait(120) == 0
    seconds, count, ended = time.monotonic() - begin, tries(2), 0
    whole = sha256(folders[0] / "features.safetensors")
    while ended < count:
        remove(folders[1], "cache", "features.safetensors")
        ended += killed_at_random(job, folders[1], seconds, count - ended, signal.SIGKILL)[0]
        assert launch(job, folder=folders[1]).wait(120) == 0
        assert sha256(folders[1] / "features.safetensors") == whole
    said = "starts where the finished chunks end; says nothing"
    record("kill -9 of an embedding at a random moment", ended, ended, "1024 texts", said)


# Damage


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """One bit of a number, not of the header, is another."""
    content = bytearray(path.read_bytes())
    place = len(content) - 5
    if path.suffix == ".json":
        place = content.index(b'"accuracy": ') + len('"accuracy": 0.')
    content[place] ^= 1
    path.write_bytes(content)


def swapped(path: Path, other: str) -> None:
    path.write_bytes(Path(other).read_bytes())


@pytest.mark.parametrize("damage", ["truncated", "bit-flipped", "swapped"])
@pytest.mark.parametrize(
    ("what", "path", "other", "job"),
    [
        ("features", FEATURES, "circles.safetensors", "split-0"),
        ("features", FEATURES, "circles.safetensors", "train"),
        ("split", f"{SPLITS}/split-0.safetensors", f"{SPLITS}/split-1.safetensors", "train"),
        ("split", f"{SPLITS}/split-1.safetensors", "old.safetensors", "fit"),
        (
            "record",
            f"{TRAINED}/record.json",
            f"{RUNS}/logistic_regression/seeds-0-1/record.json",
            "table",
        ),
    ],
)
def test_damaged_input(damage: str, what: str, path: str, other: str, job: str, here: Here) -> None:
    """The next job refuses it, with its path and what to do; its output is not there."""
    if other == "circles.safetensors":
        from flowgmm.files import read_tensors, write_tensors

        arrays, meta = read_tensors(FEATURES)
        write_tensors(other, arrays, meta | {"dataset": "circles"})
    if other == "old.safetensors":
        from flowgmm.files import read_tensors, write_tensors

        arrays, meta = read_tensors(path)
        write_tensors(other, arrays, meta | {"features_sha256": "of others"})
    tables = {p: p.read_bytes() for p in Path("results/faults/tables").iterdir()}
    before = Path(path).read_bytes()
    if damage == "swapped":
        swapped(Path(path), other)
    else:
        {"truncated": truncated, "bit-flipped": flipped}[damage](Path(path))
    assert Path(path).read_bytes() != before
    code, said = here(job)
    assert code == 2 and said.startswith("error: ")
    assert Path(path).name in said
    assert any(word in said for word in ("delete", "give each seed once"))
    assert {p: p.read_bytes() for p in Path("results/faults/tables").iterdir()} == tables
    record(f"{damage} {what}, before the job `{job}`", 1, 1, "that file", said)


@pytest.mark.parametrize("damage", ["truncated", "bit-flipped", "swapped"])
def test_damaged_model_and_predictions(damage: str, here: Here) -> None:
    from flowgmm.files import read_tensors
    from flowgmm.methods.flow_gmm import FlowGMMClassifier

    model, predictions = (Path(TRAINED, f"{k}.safetensors") for k in ("model", "predictions"))
    if damage == "swapped":
        run = {"dataset": "circles", "labels": "10", "method": "flowgmm"}
        with pytest.raises(UserError, match=r"model.safetensors .* another run: .*train it again"):
            FlowGMMClassifier.load_stack(model, run)
        return
    for path in (model, predictions):
        {"truncated": truncated, "bit-flipped": flipped}[damage](path)
    with pytest.raises(UserError, match=r"model.safetensors is damaged .*; train it again") as said:
        FlowGMMClassifier.load_stack(model)
    with pytest.raises(UserError, match=r"predictions.safetensors is damaged .*; delete it"):
        read_tensors(predictions)
    record(f"{damage} model, before a figure", 1, 1, "that training", str(said.value))


@pytest.mark.parametrize("damage", ["truncated", "bit-flipped", "swapped"])
def test_damaged_checkpoint(damage: str, project: Project, tmp_path: Path) -> None:
    """It is set aside and the training starts afresh, to the same bits; another's is refused."""
    folder = shutil.copytree(project.whole, tmp_path / "here")
    remove(folder, TRAINED)
    process = launch(project.jobs["train"], folder=folder)
    until = time.monotonic() + 60
    while not (states := list((folder / CHECKPOINTS).glob("*/state"))):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.communicate()
    if damage == "swapped":
        from flowgmm.files import read_tensors, write_tensors

        arrays, meta = read_tensors(states[0])
        write_tensors(states[0], arrays, meta | {"fingerprint": "another"})
    else:
        {"truncated": truncated, "bit-flipped": flipped}[damage](states[0])
    process = launch(project.jobs["train"], folder=folder)
    _, said = process.communicate(timeout=120)
    (line,) = [text for text in said.splitlines() if "checkpoint" in text]
    if damage == "swapped":
        assert process.returncode == 2
        assert "belongs to another run; delete it" in line
        states[0].unlink()
        assert launch(project.jobs["train"], folder=folder).wait(120) == 0
    else:
        assert process.returncode == 0
        assert "is damaged" in line and "starts afresh" in line
    assert results(folder) == results(project.whole)
    record(f"{damage} checkpoint", 1, 1, "that training so far", line)
