"""notMNIST: letters A to J of many typefaces, for likelihoods of images that a flow never saw."""

import io
import re
from pathlib import Path

import numpy as np

from flowgmm.datasets.loaders.idx import read_idx
from flowgmm.datasets.loaders.images import archive_files
from flowgmm.datasets.splits import split_by_class
from flowgmm.datasets.types import Images
from flowgmm.utils.errors import UserError
from flowgmm.utils.seeds import derive

__all__ = ["load_notmnist"]

ARCHIVE = "notMNIST_small.tar.gz"
CLASSES = list("ABCDEFGHIJ")
SIDE = 28
_MEMBER = re.compile(r"notMNIST_small/([A-J])/[^/]+\.png")
# A picture of 784 bytes; no larger member is read.
_MOST_BYTES = 100_000


def load_notmnist(raw: Path, *, test_fraction: float, seed: int = 0) -> Images:
    """Read the official archive of pictures, or the two idx files of a sample, and split them.

    Pictures that cannot be decoded are left out and counted in a note; the official archive has
    two. The others become grey where they are not.

    Arguments:
        raw: Folder with `notMNIST_small.tar.gz`, or with `notmnist10k-images-idx3-ubyte.gz` and
            `notmnist10k-labels-idx1-ubyte.gz`.
        test_fraction: Share of the test part, by class.
        seed: Number of the draw.

    Raises:
        UserError: If a file is missing, damaged or of another format, or a picture is not of
            28 x 28 pixels.

    Source: spec 7, trap 12; the sample: README.md of the mirror.
    """
    archive = raw / ARCHIVE
    if archive.exists():
        X, y, notes = _from_archive(archive)
    else:
        (X, y), notes = read_idx(raw, "notmnist10k", len(CLASSES)), []
    train, test = split_by_class(
        np.arange(len(y)), y, test_fraction, derive("notmnist", seed, "split"), str(raw)
    )
    return Images(X[train], y[train], X[test], y[test], CLASSES, notes)


def _from_archive(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images, shape (N, 1, 28, 28), labels, shape (N,), by names, and notes."""
    files = archive_files(
        path, lambda member: bool(_MEMBER.fullmatch(member.name)) and member.size <= _MOST_BYTES
    )
    images, labels, unreadable = [], [], 0
    for name, content in sorted(files):
        picture = _picture(content, f"{path}: {name}")
        if picture is None:
            unreadable += 1
            continue
        images.append(picture)
        labels.append(CLASSES.index(name.split("/")[1]))
    if missing := [CLASSES[k] for k in range(len(CLASSES)) if labels.count(k) < 2]:
        raise UserError(
            f"{path} has fewer than 2 pictures of {', '.join(missing)}; "
            "replace it with the official file"
        )
    notes = [f"{unreadable} pictures that cannot be decoded are left out"] if unreadable else []
    return np.stack(images)[:, None], np.asarray(labels, np.int64), notes


def _picture(content: bytes, name: str) -> np.ndarray | None:
    """Decode a picture of shape (28, 28) uint8; None if it cannot be decoded."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            width, height = picture.size
            # The header's size, before anything of that size is decoded.
            if (width, height) == (SIDE, SIDE):
                return np.asarray(picture.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    raise UserError(
        f"{name} has {width} x {height} pixels, expected {SIDE} x {SIDE}; "
        "replace the archive with the official file"
    )
