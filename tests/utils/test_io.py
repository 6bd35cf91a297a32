"""Files appear whole or not at all, with the permissions a user's other files have."""

import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flowgmm.utils import io as files
from flowgmm.utils.errors import UserError


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_permissions_follow_the_umask(umask: int, tmp_path: Path) -> None:
    """Also where the writer makes its file anew, as safetensors does."""
    files.write_text(tmp_path / "text", "a")
    files.write_tensors(tmp_path / "tensors", {"x": np.zeros(3)})
    for name in ("text", "tensors"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_text(path, "old")

    def fail_half_way() -> None:
        with files.atomic_path(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_parts_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """Files that are being written stay, and so do those that others name alike."""
    (tmp_path / "below").mkdir()
    (tmp_path / "archive.part").touch()
    writer = (
        "import os, sys\n"
        "from flowgmm.utils.io import atomic_path\n"
        "with atomic_path(sys.argv[1]) as part:\n"
        "    part.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", writer, str(tmp_path / "below" / "file")], check=False)
    (left,) = (tmp_path / "below").iterdir()
    started = left.stat().st_mtime + 1
    with files.atomic_path(tmp_path / "other") as part:
        part.write_text("half")
        os.utime(part, (started + 1, started + 1))
        files.remove_parts(tmp_path, before=started)
        assert part.exists()
        assert not left.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"below", "archive.part", "other"}


def test_json_without_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "file", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_tensors_come_back_and_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    arrays = {"b": np.arange(6).reshape(2, 3).T, "a": np.array([0.5], np.float32)}
    meta = {"é": [1, None], "a": "x"}
    files.write_tensors(tmp_path / "one", arrays, meta)
    files.write_tensors(tmp_path / "two", dict(reversed(arrays.items())), meta)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found, header = files.read_tensors(tmp_path / "one")
    assert header == meta
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i8", "u1", "?"])
def test_tensors_are_mapped_and_the_file_stays(dtype: str, tmp_path: Path) -> None:
    """So that processes share them; what one writes into its arrays is its own."""
    path = tmp_path / "file"
    array = (np.arange(60).reshape(5, 4, 3) % 7).astype(dtype)
    files.write_tensors(path, {"a": np.ones(3, np.uint8), "x": array, "y": np.zeros((0, 2))})
    before = path.read_bytes()
    found, _ = files.read_tensors(path)
    assert found["x"].dtype == array.dtype
    np.testing.assert_array_equal(found["x"], array)
    assert found["y"].shape == (0, 2)
    base = found["x"]
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)
    found["x"][:] = 1
    assert path.read_bytes() == before
    np.testing.assert_array_equal(files.read_tensors(path, ["x"])[0]["x"], array)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 100])
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (files.read_tensors, files.read_json):
        with pytest.raises(UserError, match=r"file is damaged .*; delete it and run again"):
            read(path)


def test_missing_names_and_files(tmp_path: Path) -> None:
    files.write_tensors(tmp_path / "file", {"x": np.zeros(3)})
    with pytest.raises(UserError, match="arrays y not found; it has x"):
        files.read_tensors(tmp_path / "file", ["x", "y"])
    for read in (files.read_tensors, files.read_json, files.sha256):
        with pytest.raises(UserError, match="absent not found"):
            read(tmp_path / "absent")


def spoil(path: Path, position: int) -> None:
    """Flip a bit."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["tensors", "json"])
def test_any_flipped_bit_is_noticed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    meta = {"sha256": 64 * "1", "note": '"sha256": "' + 64 * "0" + '"}"}'}
    if kind == "tensors":
        files.write_tensors(path, {"x": np.arange(4.0), "sha256": np.zeros(1)}, meta)
        read = files.read_tensors
        assert read(path)[1] == meta
    else:
        files.write_json(path, {"accuracy": 81.25, "n": {"1": [1, None, "é"]}})
        read = files.read_json
        assert read(path) == {"accuracy": 81.25, "n": {"1": [1, None, "é"]}}
    content = path.read_bytes()
    for position in range(len(content)):
        spoil(path, position)
        # In JSON a changed space says the same.
        if kind == "tensors" or content[position : position + 1].strip():
            with pytest.raises(UserError, match=r"file is damaged|not found"):
                read(path)
        path.write_bytes(content)


def test_files_of_others_have_no_checksum(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "tensors")
    with pytest.raises(UserError, match=r"damaged \(no checksum\); delete it"):
        files.read_tensors(tmp_path / "tensors")
    (tmp_path / "json").write_text('{"x": 1}')
    with pytest.raises(UserError, match=r"damaged \(no checksum\); delete it"):
        files.read_json(tmp_path / "json")
    assert files.read_json(tmp_path / "json", checksum=False) == {"x": 1}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), ValueError("No space left on device (os error 28)")]
)
def test_a_full_disk_is_a_message(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"cannot write .*file: no space left; check"),
        files.atomic_path(tmp_path / "file"),
    ):
        raise error
    assert not list(tmp_path.iterdir())
