"""Faults: what was done, and what survived. docs/faults.md has the table.

After each: no wrong number in any table, nothing finished lost, and a message that says what to do.
Without FLOWGMM_FAULTS=all few tries are made.
"""

import contextlib
import hashlib
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from faults import record, tries
from hub import fetch_encoder, model_hub, serving
from workspace import ROOT, copy_repository, environment, snakemake, start

from flowgmm.datasets.download import download_file
from flowgmm.experiments.project import Config, Run, load, settings_with
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_tensors, sha256, write_tensors

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
        import flowgmm.training.loop
        flowgmm.training.loop.CHECKPOINT_EVERY = 0.0
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
    lines: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> tuple[int, str]:
        """Exit status and the last line of what a job says."""
        script, arguments = self.jobs[name]
        sys.argv = [script, *arguments]
        code: Any = 0
        try:
            runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        self.lines = self.said().strip().splitlines() or [""]
        assert not any("Traceback" in line for line in self.lines)
        return code, self.lines[-1]


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
            found[key] = {
                k: v for k, v in content.items() if k not in ("timing", "environment", "git")
            }
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
    ended, said = 0, []
    while ended < count:
        remove(folder, TRAINED)
        more, words = killed_at_random(
            project.jobs["train"], folder, project.seconds["train"], count - ended, number
        )
        ended, said = ended + more, said + words
        process = launch(project.jobs["train"], folder=folder)
        assert process.wait(120) == 0, process.stderr
        assert results(folder) == expected
        assert not [path for path in (folder / TRAINED).iterdir() if path.name.startswith(".")]
    message = "starts where the checkpoint is; says nothing"
    if number == signal.SIGTERM:
        # None if every moment came before the first step; that one is saved in test_train.
        saved = [text for text in said if "checkpoint is saved" in text]
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
        arrays, meta = read_tensors(FEATURES)
        write_tensors(other, arrays, meta | {"dataset": "circles"})
    if other == "old.safetensors":
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


@pytest.fixture(scope="module")
def unfinished(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a training that was killed."""
    folder = shutil.copytree(project.whole, tmp_path_factory.mktemp("unfinished") / "here")
    remove(folder, TRAINED)
    process = launch(project.jobs["train"], folder=folder)
    until = time.monotonic() + 60
    while not list((folder / CHECKPOINTS).glob("*/state")):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.communicate()
    return folder / CHECKPOINTS


@pytest.mark.parametrize("damage", ["truncated", "bit-flipped", "swapped"])
def test_damaged_checkpoint(damage: str, project: Project, unfinished: Path, here: Here) -> None:
    """It is set aside and the training starts afresh, to the same bits; another's is refused."""
    remove(here.folder, TRAINED)
    shutil.copytree(unfinished, CHECKPOINTS)
    (state,) = Path(CHECKPOINTS).glob("*/state")
    if damage == "swapped":
        arrays, meta = read_tensors(state)
        write_tensors(state, arrays, meta | {"fingerprint": "another"})
    else:
        {"truncated": truncated, "bit-flipped": flipped}[damage](state)
    code, said = here("train")
    if damage == "swapped":
        assert code == 2
        assert "belongs to another run; delete it" in said
        state.unlink()
        code, _ = here("train")
    else:
        (said,) = [line for line in here.lines if "is damaged" in line]
        assert "starts afresh" in said
    assert code == 0
    assert results(here.folder) == results(project.whole)
    record(f"{damage} checkpoint", 1, 1, "that training so far", said)


# Disks


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of its own at `place`; called with an option it is mounted anew with that."""

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")

    place.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    try:
        yield lambda option: mount("-o", f"remount,{option}")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> None:
    """Leave no byte."""
    with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as handle:
        while handle.write(bytes(4096)):
            pass


def unfinished_files(folder: Path) -> list[Path]:
    """Temporary files that somebody left."""
    return [path for path in folder.rglob(".*") if path.name.endswith(".part")]


@pytest.mark.parametrize("job", ["train", "table"])
def test_full_disk(job: str, project: Project, here: Here) -> None:
    """The first checkpoint or file finds no place; with place the same command goes on."""
    made = {"train": TRAINED, "table": "results/faults/tables"}[job]
    remove(here.folder, made)
    expected = results(here.folder)
    place = Path(made)
    with small_disk(place, "1m") as again:
        fill(place)
        code, said = here(job)
        assert code == 2
        assert said.startswith(f"error: cannot write {made}") and "free" in said
        assert results(here.folder) == expected
        assert not unfinished_files(here.folder)
        again("size=64m")
        assert here(job)[0] == 0
        assert results(here.folder) == results(project.whole)
    record(f"full disk, during the job `{job}`", 1, 1, "that job", said)


def test_full_disk_while_a_checkpoint_is_saved(
    project: Project, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)
    remove(here.folder, TRAINED)
    with small_disk(Path(CHECKPOINTS), "256k") as again:
        fill(Path(CHECKPOINTS))
        code, said = here("train")
        assert code == 2 and "cannot write" in said and "free" in said
        assert not unfinished_files(here.folder)
        again("size=64m")
        assert here("train")[0] == 0
        assert results(here.folder) == results(project.whole)
    record("full disk, while a checkpoint is saved", 1, 1, "that job", said)


@pytest.mark.parametrize("job", ["prepare", "split-0", "train", "table"])
def test_read_only_folder(job: str, project: Project, here: Here) -> None:
    """Mounted read-only, since root may write anywhere else."""
    whole = results(here.folder)
    with small_disk(here.folder / "disk", "64m") as again:
        shutil.copytree("results", "disk/results")
        shutil.rmtree("results")
        Path("results").symlink_to("disk/results")
        again("ro")
        code, said = here(job)
        assert code == 2
        assert said.startswith("error: cannot write ") and "permissions" in said
        assert results(here.folder / "disk") == whole
    record(f"read-only results, before the job `{job}`", 1, 1, "nothing", said)


# Snakemake


@pytest.fixture(scope="module")
def made(project: Project) -> str:
    """The table made by Snakemake in the clone, while a second Snakemake is refused."""
    first = start(project.clone, *OPTIONS, f"{TABLE}.md")
    locks = project.clone / ".snakemake" / "locks"
    until = time.monotonic() + 120
    while not (locks.is_dir() and list(locks.iterdir())):
        assert first.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    second = snakemake(project.clone, *OPTIONS, f"{TABLE}.md", ok=False)
    said, _ = first.communicate(timeout=300)
    assert first.returncode == 0, said
    return second


def test_two_snakemakes_at_once(project: Project, made: str) -> None:
    """The second one refuses and does nothing; the first one's table is right."""
    (line,) = [line for line in made.splitlines() if "cannot be locked" in line]
    tables = {path: bits for path, bits in results(project.clone).items() if "/tables/" in path}
    whole = {path: bits for path, bits in results(project.whole).items() if "/tables/" in path}
    assert tables == whole and len(tables) == 3
    record("two Snakemakes at once", 1, 1, "nothing", line.strip())


@pytest.mark.parametrize("shift", [-86400, 86400, None], ids=["back", "forward", "random"])
def test_a_clock_that_jumps(shift: int | None, project: Project, made: str) -> None:
    """Times of files say nothing: contents decide, and nothing runs again."""
    rng = random.Random(0)
    now = time.time()
    for path in (project.clone / "results").rglob("*"):
        jump = rng.uniform(-1e6, 1e6) if shift is None else shift
        if shift is None or rng.random() < 0.5:
            os.utime(path, (now + jump, now + jump))
    said = snakemake(project.clone, "--dry-run", *OPTIONS, f"{TABLE}.md")
    assert "Nothing to be done" in said
    record("a clock that jumps: times of results are wrong", 1, 1, "nothing", "Nothing to be done")


def test_a_setting_is_changed_after_the_clock_jumped_back(project: Project, made: str) -> None:
    """Snakemake refuses what is older than its input; then what was trained is not lost."""
    path = project.clone / "config" / "recipes" / "faults.yaml"
    before, future = path.read_text(), time.time() + 86400
    for file in (project.clone / "results").rglob("*"):
        os.utime(file, (future, future))
    try:
        path.write_text(before.replace(f"n_steps: {STEPS}", f"n_steps: {STEPS + 10}"))
        assert path.read_text() != before
        refused = snakemake(project.clone, *OPTIONS, f"{TABLE}.md", ok=False)
        (line,) = [line for line in refused.splitlines() if "older modification time" in line]
        assert f"{STEPS + 10}/{STEPS + 10}" in refused
        assert not (project.clone / TRAINED / "record.json").exists()
        # As the README says.
        remedy = "find results -newermt now -exec touch {} +"
        subprocess.run(["bash", "-c", remedy], cwd=project.clone, check=True)
        said = snakemake(project.clone, *OPTIONS, f"{TABLE}.md")
        assert "rule train_stack" in said and "rule make_table" in said
        assert f"/{STEPS + 10}" not in said  # it is taken over, not trained again
        assert "rule fit_classic" not in said and "rule draw_split" not in said
        origins = read_json(project.clone / f"{TABLE}.json")["records"]
        trained = project.clone / TRAINED / "record.json"
        assert read_json(trained)["spec"]["params"]["n_steps"] == STEPS + 10
        assert origins[f"{TRAINED}/record.json"]["sha256"] == sha256(trained)
        said = snakemake(project.clone, "--dry-run", *OPTIONS, f"{TABLE}.md")
        assert "Nothing to be done" in said
    finally:
        path.write_text(before)
    record("a clock that jumped back before a setting was changed", 1, 1, "nothing", line.strip())


# Networks

CONTENT = bytes(range(256)) * 400
GOOD = {"sha256": hashlib.sha256(CONTENT).hexdigest()}


class Unreliable(http.server.BaseHTTPRequestHandler):
    """Misbehaves as the path says: always, or the first time only where it starts with /once."""

    asked: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        self.asked[self.path] = self.asked.get(self.path, 0) + 1
        fault = self.path.strip("/").removeprefix("once-")
        if self.path.startswith("/once") and self.asked[self.path] > 1:
            fault = "none"
        if fault == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
        elif fault.isdecimal():
            self.send_response(int(fault))
        else:
            self.send_response(200)
        sent = {"short": CONTENT[:-1], "wrong": CONTENT[::-1], "empty": b""}.get(fault, CONTENT)
        if fault.isdecimal() or fault == "loop":
            sent = b""
        length = len(sent) + 1000 if fault == "long" else len(sent)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault in ("hangup", "stall"):
            self.wfile.write(sent[: len(sent) // 2])
            self.wfile.flush()
            if fault == "stall":
                time.sleep(2.5)
            self.close_connection = True
            return
        if fault == "slow":
            for i in range(0, len(sent), 20_000):
                self.wfile.write(sent[i : i + 20_000])
                time.sleep(0.05)
            return
        self.wfile.write(sent)

    def log_message(self, *args: object) -> None:
        pass


NETWORK_FAULTS = {
    "hangup": "hangs up in the middle",
    "stall": "stops in the middle",
    "short": "announces and sends too few bytes",
    "long": "announces more bytes than it sends",
    "wrong": "sends other bytes",
    "empty": "sends nothing",
    "loop": "redirects in a loop",
    "404": "answers 404",
    "500": "answers 500",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(Unreliable) as url:
        yield url


@pytest.mark.parametrize("fault", NETWORK_FAULTS)
def test_broken_network(
    fault: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing lies at the destination, and the next good try succeeds."""
    monkeypatch.setattr("flowgmm.datasets.download.TIMEOUT_S", 1.0)
    Unreliable.asked.clear()
    target = tmp_path / "raw" / "file"
    always, once = f"{server}/{fault}", f"{server}/once-{fault}"
    with pytest.raises(UserError, match=r"cannot download file .*; check the network") as caught:
        download_file({"url": [always], **GOOD}, target, None, retries=0)
    said = str(caught.value)
    assert always in said and "\n" not in said
    assert not list(target.parent.iterdir())
    download_file({"url": [always, once, once], **GOOD}, target, None, retries=0)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert Unreliable.asked == {f"/{fault}": Unreliable.asked[f"/{fault}"], f"/once-{fault}": 2}
    record(f"download from a server that {NETWORK_FAULTS[fault]}", 2, 2, "that file", said)


def test_slow_network(server: str, tmp_path: Path) -> None:
    assert (
        download_file({"url": [f"{server}/slow"], **GOOD}, tmp_path / "file", None)
        == GOOD["sha256"]
    )
    record("download from a server that is slow", 1, 1, "nothing", "goes on; a line every 3 s")


def test_one_that_fails_once_is_asked_again(server: str, tmp_path: Path) -> None:
    Unreliable.asked.clear()
    url = f"{server}/once-hangup"
    assert (
        download_file({"url": [url], **GOOD}, tmp_path / "file", None, retries=1) == GOOD["sha256"]
    )
    assert Unreliable.asked == {"/once-hangup": 2}


def test_full_disk_while_downloading(server: str, tmp_path: Path) -> None:
    target = tmp_path / "disk" / "file"
    with small_disk(target.parent, "64k") as again:
        with pytest.raises(UserError, match=r"no space left|No space left") as caught:
            download_file({"url": [f"{server}/none"], **GOOD}, target, None, retries=0)
        assert not list(target.parent.iterdir())
        again("size=1m")
        assert download_file({"url": [f"{server}/none"], **GOOD}, target, None) == GOOD["sha256"]
    record("full disk, during a download", 1, 1, "that file", str(caught.value))


@pytest.mark.parametrize("fault", ["wrong", "hangup", "500"])
def test_broken_hub(fault: str, encoder: str, tmp_path: Path) -> None:
    """Weights that come wrong leave no encoder behind."""
    hub = model_hub({"tiny": Path(encoder)})

    class Broken(hub):
        def content(self) -> bytes | None:
            content = super().content()
            if not self.path.endswith(".safetensors"):
                return content
            return {"wrong": content[::-1], "500": None, "hangup": content[:-9]}[fault]

    manifest = tmp_path / "encoders" / "tiny.json"
    with serving(Broken) as url:
        done = fetch_encoder(url, "tiny", manifest)
    assert done.returncode == 2
    said = done.stderr.strip().rpartition("\n")[2]
    assert said.startswith("error: encoder 'tiny': cannot download model.safetensors")
    assert "Traceback" not in done.stderr
    assert not list(manifest.parent.iterdir())
    with serving(hub) as url:
        assert fetch_encoder(url, "tiny", manifest).returncode == 0
    record(f"encoder from a hub that fails ({fault})", 1, 1, "that file", said)
