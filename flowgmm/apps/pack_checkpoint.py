"""`flowgmm pack-checkpoint` and `unpack-checkpoint`: a checkpoint in parts of 16 MB, and back."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path, read_json, sha256, write_json

__all__ = ["MANIFEST", "PART_BYTES", "Packed", "pack", "unpack"]

# Most bytes of a part.
PART_BYTES = 16_000_000
MANIFEST = "manifest.json"
ENTRIES = {"checkpoint", "fingerprint", "step", "moments", "parts"}
AGAIN = "copy it again from the folder that was packed"


@dataclass(frozen=True)
class Packed:
    """Description of a packed checkpoint.

    Attributes:
        step: Steps of the training that are done.
        moments: Precision of the optimizer's moments; see `flowgmm.training.checkpoint.MOMENTS`.
        n_parts: Number of parts.
        size: Bytes of the checkpoint.
    """

    step: int
    moments: str
    n_parts: int
    size: int

    def text(self) -> str:
        """One line for the screen."""
        size = f"{self.size / 1e6:.1f} MB, parts: {self.n_parts}"
        return f"{size}, step: {self.step}, moments: {self.moments}"


def pack(
    checkpoint: Path, folder: Path, moments: str = "full", part_bytes: int = PART_BYTES
) -> Packed:
    """Write a checkpoint as parts with a manifest of their checksums.

    Arguments:
        checkpoint: Checkpoint of an unfinished training.
        folder: New or empty folder for ``part-0001`` ... and ``manifest.json``.
        moments: `full`: unpacked, the file has the same bytes; `bf16`, `none`: precision of the
            optimizer's moments in the parts, and the resume is marked as not exact.
        part_bytes: Most bytes of a part.

    Raises:
        UserError: If the checkpoint is missing, damaged or none, the folder is not empty, or
            `moments` is unknown.
    """
    from flowgmm.training.checkpoint import MOMENTS, read_checkpoint, reduce_moments

    if moments not in MOMENTS:
        raise UserError(f"--moments: expected {', '.join(MOMENTS)}, got {moments!r}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is no empty folder; choose another --output")
    read_checkpoint(checkpoint)
    with tempfile.TemporaryDirectory() as scratch:
        # The training may be running, and replace the file meanwhile.
        copy = Path(shutil.copyfile(checkpoint, Path(scratch, "state")))
        if moments != "full":
            reduce_moments(copy, copy, moments)
        return _write_parts(copy, folder, read_checkpoint(copy)[0], part_bytes)


def unpack(folder: Path, checkpoint: Path) -> Packed:
    """Join the parts of a packed checkpoint, whole or not at all.

    Arguments:
        folder: Folder from `pack`, and no other file in it.
        checkpoint: The file to write; it replaces only a checkpoint of the same run.

    Raises:
        UserError: If a part is missing, damaged or of another checkpoint, or the file to replace
            is of another run.
    """
    manifest = _read_manifest(folder)
    if checkpoint.exists():
        _check_same_run(checkpoint, manifest["fingerprint"])
    names = [_part_name(i) for i in range(len(manifest["parts"]))]
    if other := sorted({path.name for path in folder.iterdir()} - {*names, MANIFEST}):
        remedy = "unpack a folder that holds the parts of one checkpoint and nothing else"
        raise UserError(f"{folder / other[0]} is not in {MANIFEST}; {remedy}")
    if missing := [name for name in names if not (folder / name).is_file()]:
        count = f"{len(missing)} of {len(names)} parts are missing"
        raise UserError(f"{folder / missing[0]} not found, {count}; {AGAIN}")
    whole = hashlib.sha256()
    with atomic_path(checkpoint) as path, path.open("wb") as joined:
        for name, expected in zip(names, manifest["parts"], strict=True):
            content = (folder / name).read_bytes()
            found = hashlib.sha256(content).hexdigest()
            if found != expected:
                raise UserError(
                    f"{folder / name} is damaged or of another checkpoint (expected sha256 "
                    f"{expected[:12]}, got {found[:12]}); {AGAIN}"
                )
            whole.update(content)
            joined.write(content)
        if whole.hexdigest() != manifest["checkpoint"]["sha256"]:
            raise UserError(f"{folder / MANIFEST} and its parts do not belong together; {AGAIN}")
    return _packed(manifest)


def _write_parts(checkpoint: Path, folder: Path, meta: dict[str, Any], part_bytes: int) -> Packed:
    """Write parts, then the manifest: a folder without it is not whole."""
    parts = []
    for i, content in enumerate(_chunks(checkpoint, part_bytes)):
        with atomic_path(folder / _part_name(i)) as path:
            path.write_bytes(content)
        parts.append(hashlib.sha256(content).hexdigest())
    manifest = {
        "checkpoint": {"sha256": sha256(checkpoint), "size": checkpoint.stat().st_size},
        "fingerprint": meta["fingerprint"],
        "step": meta["step"],
        "moments": meta["moments"],
        "parts": parts,
    }
    write_json(folder / MANIFEST, manifest)
    return _packed(manifest)


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as handle:
        while content := handle.read(size):
            yield content


def _part_name(i: int) -> str:
    return f"part-{i + 1:04}"


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{path} not found; expected a folder from `flowgmm pack-checkpoint`")
    try:
        manifest: dict[str, Any] = read_json(path)
    except UserError as error:
        raise UserError(f"{path} is damaged; {AGAIN}") from error
    if not (isinstance(manifest, dict) and manifest.keys() >= ENTRIES):
        raise UserError(f"{path} is no manifest of a checkpoint; {AGAIN}")
    return manifest


def _check_same_run(checkpoint: Path, fingerprint: str) -> None:
    """Verify that a checkpoint to replace has the fingerprint of a packed one."""
    from flowgmm.training.checkpoint import read_checkpoint

    if read_checkpoint(checkpoint)[0]["fingerprint"] != fingerprint:
        raise UserError(
            f"{checkpoint} belongs to another run than the packed one; give --output the "
            "checkpoint of the same run, or a new name"
        )


def _packed(manifest: dict[str, Any]) -> Packed:
    n_parts, size = len(manifest["parts"]), manifest["checkpoint"]["size"]
    return Packed(manifest["step"], manifest["moments"], n_parts, size)
