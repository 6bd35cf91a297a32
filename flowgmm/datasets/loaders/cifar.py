"""CIFAR-10, from an official archive or from lossless pictures of the same bytes."""

import hashlib
from pathlib import Path

import numpy as np

from flowgmm.datasets.loaders.cifar_pickle import unpickle_batch
from flowgmm.datasets.loaders.images import archive_files, move_test_images
from flowgmm.datasets.types import Images
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json

__all__ = ["load_cifar10"]

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
PYTHON_FOLDER = "cifar-10-batches-py"
LABELS = "labels.json"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SIDE = 32
ROW = 1 + 3 * SIDE * SIDE

# The official checksums of the archive's members, training batches in order, then the test batch.
MD5 = {
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
# Bytes of a batch: 10,000 rows of a label byte and the red, green and blue planes.
BYTES = 10_000 * ROW


def load_cifar10(raw: Path, *, test_to_train: int | None = None, seed: int = 0) -> Images:
    """Read the six batches and check each against its official checksum.

    Arguments:
        raw: Folder with `cifar-10-binary.tar.gz`, which may also hold the content of
            `cifar-10-python.tar.gz`, or with a picture of every batch and labels.json.
        test_to_train: Test images, drawn at random, that are moved to the end of the training part
            (D34); None: none.
        seed: Number of that draw.

    Raises:
        UserError: If a file is missing or damaged, or a batch is not the official one.

    Source: spec 7; the pictures' layout: README.md of the mirror.
    """
    archive = raw / ARCHIVE
    batches = _from_archive(archive) if archive.exists() else _from_pictures(raw)
    where = archive if archive.exists() else raw
    parts = []
    for name, expected in MD5.items():
        if name not in batches:
            raise UserError(f"{where}: {FOLDER}/{name}.bin not found; delete it and fetch it again")
        if (got := hashlib.md5(batches[name], usedforsecurity=False).hexdigest()) != expected:
            raise UserError(
                f"{where}: {name} has md5 {got}, expected {expected}; delete it and fetch it again"
            )
        parts.append(np.frombuffer(batches.pop(name), np.uint8).reshape(-1, ROW))
    images = [part[:, 1:].reshape(-1, 3, SIDE, SIDE) for part in parts]
    labels = [part[:, 0].astype(np.int64) for part in parts]
    data = Images(
        np.concatenate(images[:-1]),
        np.concatenate(labels[:-1]),
        images[-1].copy(),
        labels[-1],
        list(CLASSES),
    )
    return data if test_to_train is None else move_test_images(data, test_to_train, seed)


def _from_archive(path: Path) -> dict[str, bytes]:
    """Batches by name, from the archive of bytes or that of Python's pickles."""
    plain = {f"{FOLDER}/{name}.bin": name for name in MD5}
    pickled = {f"{PYTHON_FOLDER}/{name}": name for name in MD5}
    batches = {}
    for name, content in archive_files(
        path,
        # A pickle has the names of the images, too: some 40 bytes each.
        lambda member: (
            (member.name in plain and member.size == BYTES)
            or (member.name in pickled and member.size < 2 * BYTES)
        ),
    ):
        if name in plain:
            batches[plain[name]] = content
        else:
            batches[pickled[name]] = unpickle_batch(content, f"{path}: {name}")
    return batches


def _from_pictures(raw: Path) -> dict[str, bytes]:
    """Batches by name from pictures (images side by side, row after row) and a list of labels."""
    labels = read_json(raw / LABELS, checksum=False)
    batches = {}
    for name in MD5:
        path = raw / f"{name}.webp"
        picture = _picture(path)
        rows, columns = (side // SIDE for side in picture.shape[:2])
        tiles = picture.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 4, 1, 3)
        try:
            y = np.asarray(labels[name], np.uint8).reshape(-1, 1)
            batch = np.concatenate([y, tiles.reshape(rows * columns, -1)], axis=1)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{raw / LABELS} does not hold {rows * columns} labels of {name} ({error}); "
                "delete it and fetch it again"
            ) from error
        batches[name] = batch.tobytes()
    return batches


def _picture(path: Path) -> np.ndarray:
    """Decode a picture of shape (height, width, 3) uint8, both sides multiples of an image's."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            # The header's size, before anything of that size is decoded.
            if picture.width % SIDE or picture.height % SIDE:
                raise ValueError(f"{picture.width} x {picture.height} pixels")
            return np.asarray(picture.convert("RGB"))
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule download_file") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} is no picture that can be decoded ({error}); delete it and fetch it again"
        ) from error
