"""Packed checkpoints: the same bytes after any copy that is whole, one line after any other."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import flowgmm
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from flowgmm.apps.pack_checkpoint import MANIFEST, PART_BYTES, pack, unpack
from flowgmm.training.checkpoint import read_checkpoint
from flowgmm.training.divergence import History
from flowgmm.training.loop import TrainingOptions, train
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import add_checksum, header, write_json, write_tensors

N_STEPS, STOP = 90, 25
OPTIONS = TrainingOptions(N_STEPS, "adam", lr=0.1, schedule="constant")


class Point(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, 2 * n).reshape(2, n))


def run(checkpoint: Path | None, stop: int | None = None, n: int = 50) -> tuple[Tensor, History]:
    """Two seeds that go to 3; the checkpoint is that of a signal after `stop` steps."""
    model = Point(n)

    def losses(inputs: Any) -> dict[str, Tensor]:
        return {"loss": (model.w - 3).square().sum(1)}

    history = train(model, losses, OPTIONS, checkpoint=checkpoint, stop=stop)
    return model.w.detach(), history


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interrupted(tmp_path_factory.mktemp("made") / "state", 50)


def interrupted(path: Path, n: int) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)
        run(path, STOP, n)
    return path


def packed(checkpoint: Path, folder: Path, part_bytes: int = 300) -> Path:
    pack(checkpoint, folder / "packed", part_bytes=part_bytes)
    return folder / "packed"


# -- bytes -----------------------------------------------------------------------------------


@given(size=st.integers(50, 4000))
def test_parts_of_any_size_join_to_the_same_bytes(size: int, checkpoint: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = packed(checkpoint, Path(name), size)
        whole, found = checkpoint.read_bytes(), Path(name, "found")
        said = unpack(folder, found)
        assert found.read_bytes() == whole
        sizes = [path.stat().st_size for path in sorted(folder.glob("part-*"))]
        assert all(s == size for s in sizes[:-1]) and 0 < sizes[-1] <= size
        assert (said.n_parts, said.size, said.step) == (len(sizes), len(whole), STOP)
        assert said.moments == "full"


def test_files_stay_below_16_mb(tmp_path: Path) -> None:
    large = interrupted(tmp_path / "state", 1_000_000)
    folder = tmp_path / "packed"
    n_parts = pack(large, folder).n_parts
    assert n_parts == -(-large.stat().st_size // PART_BYTES) > 1
    assert max(path.stat().st_size for path in folder.iterdir()) == PART_BYTES == 16_000_000
    unpack(folder, tmp_path / "found")
    assert (tmp_path / "found").read_bytes() == large.read_bytes()


def flip(folder: Path, name: str, at: int) -> None:
    content = bytearray((folder / name).read_bytes())
    content[at % len(content)] ^= 1
    (folder / name).write_bytes(content)


def cut(folder: Path, name: str, at: int) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: at % len(content)])


def lengthen(folder: Path, name: str, at: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes() + bytes([at % 256]))


def lose(folder: Path, name: str, at: int) -> None:
    (folder / name).unlink()


def exchange(folder: Path, name: str, at: int) -> None:
    parts = sorted(path.name for path in folder.glob("part-*"))
    other = parts[at % len(parts)]
    contents = [(folder / each).read_bytes() for each in (name, other)]
    assume(contents[0] != contents[1])
    (folder / other).write_bytes(contents[0])
    (folder / name).write_bytes(contents[1])


@given(
    damage=st.sampled_from([flip, cut, lengthen, lose, exchange]),
    part=st.integers(0, 1000),
    at=st.integers(0, 10**6),
)
def test_any_damage_is_refused_in_one_line(
    damage: Callable[[Path, str, int], None], part: int, at: int, checkpoint: Path
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, found = packed(checkpoint, Path(name)), Path(name, "found")
        names = sorted(path.name for path in folder.iterdir())
        chosen = names[part % len(names)]
        assume(damage is not exchange or chosen != MANIFEST)
        damage(folder, chosen, at)
        with pytest.raises(UserError) as error:
            unpack(folder, found)
        said = str(error.value)
        assert "\n" not in said
        assert chosen in said or damage is exchange
        assert "copy it again" in said or (damage is lose and chosen == MANIFEST)
        assert {path.name for path in Path(name).iterdir()} == {"packed"}


def test_parts_of_two_checkpoints_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = packed(checkpoint, tmp_path)
    other = packed(interrupted(tmp_path / "other", 60), tmp_path / "of")
    surplus = max(other.glob("part-*"))
    shutil.copy(surplus, folder)
    with pytest.raises(
        UserError, match=rf"{surplus.name} is not in manifest.json; unpack a folder"
    ):
        unpack(folder, tmp_path / "found")
    (folder / surplus.name).unlink()
    shutil.copy(other / "part-0002", folder)
    with pytest.raises(UserError, match="part-0002 is damaged or of another checkpoint"):
        unpack(folder, tmp_path / "found")
    shutil.copy(other / MANIFEST, folder)
    with pytest.raises(UserError, match=r"not found, \d of \d\d parts are missing; copy it again"):
        unpack(folder, tmp_path / "found")


def test_only_checkpoints_are_packed(checkpoint: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    write_tensors(model, {"a": np.zeros(3)})
    text = tmp_path / "text"
    text.write_text("no checkpoint")
    flipped = tmp_path / "flipped"
    shutil.copy(checkpoint, flipped)
    flip(tmp_path, "flipped", -1)
    for path, message in {
        tmp_path / "absent": "not found; expected the checkpoint of an unfinished training",
        model: "is no checkpoint of an unfinished training",
        text: "is damaged or no checkpoint",
        flipped: "is damaged or no checkpoint .checksum does not match",
    }.items():
        with pytest.raises(UserError, match=message):
            pack(path, tmp_path / "packed")
    with pytest.raises(UserError, match="is no empty folder; choose another --output"):
        pack(checkpoint, tmp_path)
    assert not (tmp_path / "packed").exists()


# -- precision of the moments ----------------------------------------------------------------


def resumed(checkpoint: Path, folder: Path, moments: str, stop: int | None = None) -> Any:
    pack(checkpoint, folder / "packed", moments)
    unpack(folder / "packed", folder / "state")
    return run(folder / "state", stop)


def test_with_full_moments_the_training_is_the_undisturbed_one(
    checkpoint: Path, tmp_path: Path
) -> None:
    expected, logged = run(None)
    found, history = resumed(checkpoint, tmp_path, "full")
    assert torch.equal(found, expected)
    assert history == logged


@pytest.mark.parametrize(("moments", "share"), [("bf16", 2 / 3), ("none", 1 / 3)])
def test_with_less_the_history_says_so(
    moments: str, share: float, checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    expected, logged = run(None)
    found, history = resumed(checkpoint, tmp_path, moments)
    assert history.inexact_resumes == [{"step": STOP, "moments": moments, "device": "cpu"}]
    assert f"goes on after step {STOP}, not exactly: moments {moments}" in capsys.readouterr().err
    assert history.steps == logged.steps
    assert not torch.equal(found, expected)
    assert (found - 3).abs().max() < 0.5
    large = interrupted(tmp_path / "large", 100_000)
    size = pack(large, tmp_path / "reduced", moments).size
    assert size == pytest.approx(share * large.stat().st_size, rel=0.01)


def test_bf16_moments_are_close_and_none_start_from_zero(checkpoint: Path, tmp_path: Path) -> None:
    before, _ = run(None, STOP)
    steps = {}
    for moments in ("full", "bf16", "none"):
        after, _ = resumed(checkpoint, tmp_path / moments, moments, STOP + 1)
        steps[moments] = after - before
    torch.testing.assert_close(steps["bf16"], steps["full"], rtol=0.02, atol=1e-4)
    assert not torch.equal(steps["bf16"], steps["full"])
    # Adam's first step is as long as the rate, whatever the gradient.
    torch.testing.assert_close(steps["none"].abs(), torch.full_like(before, OPTIONS.lr))
    assert (steps["full"].abs() < 0.9 * OPTIONS.lr).any()


def test_a_mark_outlives_further_checkpoints(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(checkpoint, tmp_path / "packed", "none")
    unpack(tmp_path / "packed", tmp_path / "state")
    assert pack(tmp_path / "state", tmp_path / "again", "bf16").moments == "none"
    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)
    run(tmp_path / "state", STOP + 5)
    _, history = run(tmp_path / "state")
    assert [resume["step"] for resume in history.inexact_resumes] == [STOP]


def test_another_device_is_no_exact_resume(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowgmm.training.checkpoint._device_name", lambda _: "another")
    _, history = resumed(checkpoint, tmp_path, "full")
    assert history.inexact_resumes == [{"step": STOP, "moments": "full", "device": "cpu"}]


def test_a_checkpoint_of_an_earlier_version_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    """Its header says nothing of moments and devices."""
    meta, tensors = read_checkpoint(checkpoint)
    for key in ("moments", "device", "inexact_resumes"):
        del meta[key]
    save_file(tensors, tmp_path / "state", metadata=header(meta))
    add_checksum(tmp_path / "state")
    expected, logged = run(None)
    found, history = run(tmp_path / "state")
    assert torch.equal(found, expected)
    assert history == logged


# -- commands --------------------------------------------------------------------------------


def test_the_commands(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*arguments: str) -> tuple[int, str]:
        result = flowgmm(tmp_path, monkeypatch, *arguments)
        return result.exit_code, result.output.strip()

    shutil.copy(checkpoint, tmp_path / "state")
    code, text = said("pack-checkpoint", "state", "--output", "packed", "--moments", "bf16")
    assert code == 0
    assert text.startswith("packed: 0.0 MB, parts: 1")
    assert text.endswith(f"step: {STOP}, moments: bf16")
    code, text = said("unpack-checkpoint", "packed", "--output", "state")
    assert code == 2
    assert text == "error: state already exists; choose another --output, or give --force"
    assert said("unpack-checkpoint", "packed", "--output", "state", "--force")[0] == 0
    assert run(tmp_path / "state")[1].inexact_resumes
    interrupted(tmp_path / "other", 60)
    code, text = said("unpack-checkpoint", "packed", "--output", "other", "--force")
    assert code == 2 and "other belongs to another run than the packed one" in text
    assert said("pack-checkpoint", "state", "--output", "other", "--moments", "fp8") == (
        2,
        "error: --moments: expected full, bf16, none, got 'fp8'",
    )


@pytest.mark.parametrize("content", [{"parts": []}, {}, {"seed": 1}])
def test_a_file_that_is_no_manifest(content, tmp_path):
    write_json(tmp_path / MANIFEST, content)
    with pytest.raises(UserError, match="is no manifest of a checkpoint; copy it again"):
        unpack(tmp_path, tmp_path / "out")
