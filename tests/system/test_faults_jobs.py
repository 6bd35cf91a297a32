"""Faults of jobs: killed, damaged inputs, full and read-only disks.

After each fault no number is wrong, nothing finished is lost, and a message says what to do; the
table is in docs/faults.md. Without FLOWGMM_FAULTS=all few tries are made.
"""

import contextlib
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import record, tries
from small_project import (
    CHECKPOINTS,
    FEATURES,
    RUNS,
    SPLITS,
    TRAINED,
    Arguments,
    Here,
    Trial,
    launch,
    remove,
    results,
    small_disk,
)
from workspace import PATIENCE

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_tensors, sha256, write_tensors


@pytest.fixture
def here(
    project: Trial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Here]:
    """Working directory with all jobs done, the current one."""
    folder = shutil.copytree(project.whole, tmp_path / "here")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Here(folder, lambda: capsys.readouterr().err, project.jobs)
    for number, handler in handlers.items():
        signal.signal(number, handler)


# Killed


def killed_at_random(
    job: Arguments, folder: Path, seconds: float, count: int, number: signal.Signals
) -> tuple[int, list[str]]:
    """Start a job repeatedly, end it at random moments; return the number of ends and messages.

    A job that was done before its moment came ends the series early, and counts.
    """
    rng = random.Random(count)
    said, ended = [], 0
    while ended < count:
        process = launch(job, folder=folder)
        time.sleep(rng.uniform(0, seconds))
        process.send_signal(number)
        said.append(process.communicate(timeout=PATIENCE)[1])
        ended += 1
        if process.returncode == 0:
            break
        assert process.returncode in (-number, 128 + number)
    return ended, said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_ended_training(number: signal.Signals, project: Trial, tmp_path: Path) -> None:
    """End trainings at random moments; each resumes from the checkpoint of the one before."""
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
        assert process.wait(PATIENCE) == 0, process.stderr
        assert results(folder) == expected
        assert not [path for path in (folder / TRAINED).iterdir() if path.name.startswith(".")]
    message = "starts where the checkpoint is; says nothing"
    if number == signal.SIGTERM:
        # None if every moment came before the first step; tests/training has that case.
        saved = [text for text in said if "checkpoint is saved" in text]
        message = saved[-1].strip().rpartition("\n")[2] if saved else "interrupted by SIGTERM"
    name = "kill -9" if number == signal.SIGKILL else "SIGTERM"
    record(f"{name} of a training at a random moment", ended, ended, "one step", message)


def test_killed_table(project: Trial, tmp_path: Path) -> None:
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
        assert launch(project.jobs["table"], folder=folder).wait(PATIENCE) == 0
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
    job = ("embed_data", [*arguments, "--cache", "cache", "--output", "features.safetensors"])
    folders = [tmp_path / name for name in ("whole", "killed")]
    begin = time.monotonic()
    for folder in folders:
        folder.mkdir()
    assert launch(job, folder=folders[0]).wait(PATIENCE) == 0
    seconds, count, ended = time.monotonic() - begin, tries(2), 0
    whole = sha256(folders[0] / "features.safetensors")
    while ended < count:
        remove(folders[1], "cache", "features.safetensors")
        ended += killed_at_random(job, folders[1], seconds, count - ended, signal.SIGKILL)[0]
        assert launch(job, folder=folders[1]).wait(PATIENCE) == 0
        assert sha256(folders[1] / "features.safetensors") == whole
    said = "starts where the finished chunks end; says nothing"
    record("kill -9 of an embedding at a random moment", ended, ended, "1024 texts", said)


# Damage


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """Flip a bit of a number, not of the header."""
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
    """The next job refuses it with its path and a remedy, and leaves no output."""
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
def unfinished(project: Trial, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make checkpoints by killing a training."""
    folder = shutil.copytree(project.whole, tmp_path_factory.mktemp("unfinished") / "here")
    remove(folder, TRAINED)
    process = launch(project.jobs["train"], folder=folder)
    until = time.monotonic() + PATIENCE
    while not list((folder / CHECKPOINTS).glob("*/state")):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.communicate()
    return folder / CHECKPOINTS


@pytest.mark.parametrize("damage", ["truncated", "bit-flipped", "swapped"])
def test_damaged_checkpoint(damage: str, project: Trial, unfinished: Path, here: Here) -> None:
    """A damaged checkpoint is set aside and training starts afresh; another run's is refused."""
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


def fill(disk: Path) -> None:
    """Fill a disk to the last byte."""
    with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as handle:
        while handle.write(bytes(4096)):
            pass


def unfinished_files(folder: Path) -> list[Path]:
    """Temporary files that were left."""
    return [path for path in folder.rglob(".*") if path.name.endswith(".part")]


@pytest.mark.parametrize("job", ["train", "table"])
def test_full_disk(job: str, project: Trial, here: Here) -> None:
    """The first checkpoint or file does not fit; with space the same command goes on."""
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
    project: Trial, here: Here, monkeypatch: pytest.MonkeyPatch
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
def test_read_only_folder(job: str, project: Trial, here: Here) -> None:
    """The folder is mounted read-only, since root ignores permissions."""
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
