"""A job's folder among the checkpoints: one process at a time, and nothing is done twice."""

import multiprocessing
import time
from pathlib import Path

import pytest

from flowgmm.experiments.job_cache import clear_cache, run_once
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, write_json


def make_in(folder: Path, calls: Path, seconds: float = 0.0) -> None:
    """A job of two outputs that tells when it ran."""

    def make() -> None:
        calls.write_text((calls.read_text() if calls.exists() else "") + "x")
        time.sleep(seconds)
        for path in outputs:
            write_json(path, {"name": path.stem})

    outputs = [folder / "out" / name for name in ("model.json", "record.json")]
    run_once(folder / "jobs" / "abc", outputs, make)


def test_finished_is_taken_over_until_it_is_forgotten(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    (tmp_path / "jobs" / "unfinished").mkdir(parents=True)
    for expected in ("x", "x", "x"):
        # The file system's own clock, which is coarse.
        (tmp_path / "now").touch()
        started = (tmp_path / "now").stat().st_mtime_ns
        make_in(tmp_path, calls)
        assert calls.read_text() == expected
        assert read_json(tmp_path / "out" / "record.json") == {"name": "record"}
        assert all(p.stat().st_mtime_ns >= started for p in (tmp_path / "out").iterdir())
        # As Snakemake does before it runs a job again.
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        time.sleep(0.02)
    clear_cache(tmp_path / "jobs")
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["unfinished"]
    make_in(tmp_path, calls)
    assert calls.read_text() == "xx"


def test_what_was_damaged_is_not_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cached and delivered outputs are the same file, so that both are damaged."""
    make_in(tmp_path, tmp_path / "calls")
    record = tmp_path / "out" / "record.json"
    with record.open("r+") as handle:
        handle.write(handle.read().replace("record", "recorx"))
    with pytest.raises(UserError, match=r"record.json is damaged"):
        read_json(record)
    record.unlink()
    make_in(tmp_path, tmp_path / "calls")
    assert (tmp_path / "calls").read_text() == "xx"
    assert read_json(record) == {"name": "record"}
    assert "record.json is damaged" in capsys.readouterr().err


def test_a_failed_job_keeps_its_folder_and_is_done_again(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "abc"

    def fail() -> None:
        folder.mkdir()
        (folder / "state").write_text("half")
        raise UserError("full")

    with pytest.raises(UserError, match="full"):
        run_once(folder, [tmp_path / "record"], fail)
    assert (folder / "state").read_text() == "half"
    assert [path.name for path in folder.parent.iterdir()] == ["abc"]
    run_once(folder, [tmp_path / "record"], lambda: (tmp_path / "record").write_text("x") and None)
    assert not (folder / "state").exists()


def test_a_second_process_waits_and_takes_over(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [
        context.Process(target=make_in, args=(tmp_path, tmp_path / "calls", 0.5)) for _ in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(30)
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert (tmp_path / "calls").read_text() == "x"


def test_a_killed_process_leaves_no_claim(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    victim = context.Process(target=make_in, args=(tmp_path, tmp_path / "calls", 60.0))
    victim.start()
    while not (tmp_path / "calls").exists():
        time.sleep(0.01)
    victim.kill()
    victim.join()
    make_in(tmp_path, tmp_path / "calls")
    assert (tmp_path / "calls").read_text() == "xx"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "jobs").touch()
    with pytest.raises(UserError, match=r"cannot write .*abc.lock: .*; check"):
        make_in(tmp_path, tmp_path / "calls")


@pytest.mark.parametrize("done_before", [False, True])
def test_parts_that_a_killed_job_left_are_removed(tmp_path: Path, done_before: bool) -> None:
    if done_before:
        make_in(tmp_path, tmp_path / "calls")
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    (out / ".model.json.1-2f.part").touch()
    (out / ".of_another.json.1-2f.part").touch()
    make_in(tmp_path, tmp_path / "calls")
    names = sorted(path.name for path in out.iterdir())
    assert names == [".of_another.json.1-2f.part", "model.json", "record.json"]
