"""CIFAR-10 on small files of the true formats: the archive, and pictures with the same bytes."""

import hashlib
import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowgmm.datasets.download import absent
from flowgmm.datasets.loaders import cifar
from flowgmm.datasets.loaders.cifar_pickle import unpickle_batch
from flowgmm.datasets.registry import dataset_spec, load
from flowgmm.experiments.checks import load_checked as load_config
from flowgmm.experiments.entries import as_written
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]
ENTRY = as_written(load_config(ROOT).datasets["cifar10_efficientnet"])
ROWS, COLUMNS = 3, 4


@pytest.fixture
def batches(monkeypatch):
    """Six batches of 12 images, whose checksums count as the official ones."""
    rng = np.random.default_rng(0)
    made = {}
    for name in cifar.MD5:
        batch = rng.integers(0, 256, (ROWS * COLUMNS, 3073), np.uint8)
        batch[:, 0] = np.arange(len(batch)) % 10
        made[name] = batch.tobytes()
    monkeypatch.setattr(cifar, "MD5", {n: hashlib.md5(b).hexdigest() for n, b in made.items()})
    monkeypatch.setattr(cifar, "BYTES", ROWS * COLUMNS * 3073)
    return made


def write_archive(raw, batches, before=()):
    with tarfile.open(raw / cifar.ARCHIVE, "w:gz") as archive:
        for member in before:
            archive.addfile(member, io.BytesIO(bytes(5)) if member.isfile() else None)
        for name, data in {"batches.meta.txt": b"x", **batches}.items():
            suffix = "" if name.endswith(".txt") else ".bin"
            member = tarfile.TarInfo(f"{cifar.FOLDER}/{name}{suffix}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def python_2_pickle(
    labels, pixels, dtype=b"u1", reconstruct=b"numpy.core.multiarray\n_reconstruct"
):
    """Pickle a batch as Python 2 and NumPy 1 did: its strings are of bytes."""

    def text(value):
        return b"T" + len(value).to_bytes(4, "little") + value

    def numbers(values):
        return b"(" + b"".join(b"K" + bytes([value]) for value in values)

    array = b"c" + reconstruct + b"\n(cnumpy\nndarray\n(K\0t" + text(b"b") + b"tR"
    shape = b"(J" + len(pixels).to_bytes(4, "little") + b"M" + (3072).to_bytes(2, "little") + b"t"
    kind = b"cnumpy\ndtype\n(" + text(dtype) + b"K\0K\1tR"
    kind += b"(K\3" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    array += b"(K\1" + shape + kind + b"\x89" + text(pixels.tobytes()) + b"tb"
    return (
        b"\x80\2}(" + text(b"batch_label") + text(b"testing batch 1 of 1")
        + text(b"labels") + b"]" + numbers(labels) + b"e"
        + text(b"data") + array
        + text(b"filenames") + b"](" + text(b"a_s_1.png") + b"eu."
    )  # fmt: skip


def write_python_archive(raw, batches, **changes):
    with tarfile.open(raw / cifar.ARCHIVE, "w:gz") as archive:
        for name, data in batches.items():
            rows = np.frombuffer(data, np.uint8).reshape(-1, 3073)
            content = python_2_pickle(rows[:, 0].tolist(), rows[:, 1:], **changes)
            member = tarfile.TarInfo(f"{cifar.PYTHON_FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_pictures(raw, batches):
    labels = {}
    for name, data in batches.items():
        rows = np.frombuffer(data, np.uint8).reshape(-1, 3073)
        labels[name] = rows[:, 0].tolist()
        tiles = rows[:, 1:].reshape(ROWS, COLUMNS, 3, 32, 32).transpose(0, 3, 1, 4, 2)
        picture = Image.fromarray(tiles.reshape(ROWS * 32, COLUMNS * 32, 3))
        picture.save(raw / f"{name}.webp", lossless=True)
    (raw / cifar.LABELS).write_text(json.dumps(labels))


def load_cifar(raw):
    return load(dataset_spec("cifar", ENTRY, None), raw)


@pytest.mark.parametrize("write", [write_archive, write_python_archive, write_pictures])
def test_the_same_images_from_either(write, batches, tmp_path):
    write(tmp_path, batches)
    data = load_cifar(tmp_path)
    assert data.train.shape == (60, 3, 32, 32) and data.test.shape == (12, 3, 32, 32)
    assert data.train.dtype == np.uint8 and data.y_train.dtype == np.int64
    third = np.frombuffer(batches["data_batch_3"], np.uint8).reshape(-1, 3073)
    np.testing.assert_array_equal(data.train[24:36].reshape(12, -1), third[:, 1:])
    np.testing.assert_array_equal(data.y_train[24:36], third[:, 0])
    last = np.frombuffer(batches["test_batch"], np.uint8).reshape(-1, 3073)
    np.testing.assert_array_equal(data.test.reshape(12, -1), last[:, 1:])
    assert data.classes[3] == "cat" and len(data.classes) == 10


def test_moved_test_images_are_the_last_training_images(batches, tmp_path):
    write_archive(tmp_path, batches)
    whole, parted = (
        load(dataset_spec("cifar", ENTRY | {"options": options}, None), tmp_path)
        for options in ({}, {"test_to_train": 5})
    )
    np.testing.assert_array_equal(parted.train[:60], whole.train)
    moved, stay = parted.train[60:], parted.test
    assert len(moved) == 5 and len(stay) == 7

    def by_bytes(images, y):
        return {image.tobytes(): label for image, label in zip(images, y, strict=True)}

    both = by_bytes(moved, parted.y_train[60:]) | by_bytes(stay, parted.y_test)
    assert both == by_bytes(whole.test, whole.y_test)
    for count in (0, 12):
        spec = dataset_spec("cifar", ENTRY | {"options": {"test_to_train": count}}, None)
        with pytest.raises(UserError, match=f"test_to_train is {count}, but there are 12 test"):
            load(spec, tmp_path)


def member(name, kind=tarfile.REGTYPE, target=""):
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    found.size = 5 if kind == tarfile.REGTYPE else 0
    return found


def test_members_that_climb_out_are_not_followed(batches, tmp_path):
    raw = tmp_path / "a" / "raw"
    raw.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(batches["test_batch"])
    climbing = [
        member("../../outside"),
        member(str(tmp_path / "absolute")),
        member(f"{cifar.FOLDER}/link", tarfile.SYMTYPE, str(tmp_path)),
        member(f"{cifar.FOLDER}/link/through"),
    ]
    write_archive(raw, batches, climbing)
    assert len(load_cifar(raw).train) == 60
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "raw", "secret", cifar.ARCHIVE}

    del batches["test_batch"]
    link = member(f"{cifar.FOLDER}/test_batch.bin", tarfile.SYMTYPE, str(secret))
    link.size = cifar.BYTES
    write_archive(raw, batches, [link])
    with pytest.raises(
        UserError, match=r"cifar-10-batches-bin/test_batch.bin not found; delete it"
    ):
        load_cifar(raw)


def spoil_bytes(raw, name):
    path = raw / f"{name}.webp"
    with Image.open(path) as picture:
        pixels = np.array(picture)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path, lossless=True)


def no_labels(raw):
    (raw / cifar.LABELS).write_text('{"data_batch_1": [0, 1]}')


PICTURE = "data_batch_2.webp"


@pytest.mark.parametrize(
    ("write", "spoil", "message"),
    [
        (write_archive, lambda raw: cut(raw / cifar.ARCHIVE), "cut off or damaged"),
        (write_archive, lambda raw: (raw / cifar.ARCHIVE).write_text("no"), "cut off or damaged"),
        (write_pictures, lambda raw: cut(raw / PICTURE), f"{PICTURE} is no picture that can be"),
        (write_pictures, lambda raw: (raw / PICTURE).write_text("no"), "is no picture that can be"),
        (write_pictures, lambda raw: (raw / PICTURE).unlink(), f"{PICTURE} not found; run the"),
        (
            write_pictures,
            lambda raw: Image.new("RGB", (33, 32)).save(raw / PICTURE),
            "33 x 32 pixels",
        ),
        (write_pictures, lambda raw: (raw / cifar.LABELS).unlink(), "labels.json not found"),
        (write_pictures, no_labels, "does not hold 12 labels of data_batch_1"),
        (write_pictures, lambda raw: spoil_bytes(raw, "test_batch"), "test_batch has md5 .* expec"),
    ],
)
def test_wrong_files(write, spoil, message, batches, tmp_path):
    write(tmp_path, batches)
    spoil(tmp_path)
    with pytest.raises(UserError, match=f"dataset 'cifar': .*{message}") as caught:
        load_cifar(tmp_path)
    assert "\n" not in str(caught.value)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_wrong_md5_of_a_batch_in_the_archive(batches, tmp_path):
    batches["data_batch_4"] = bytes(len(batches["data_batch_4"]))
    write_archive(tmp_path, batches)
    with pytest.raises(UserError, match=f"data_batch_4 has md5 .*{cifar.MD5['data_batch_4']}"):
        load_cifar(tmp_path)


def test_a_picture_of_immense_size_is_refused_before_it_is_decoded(batches, tmp_path, monkeypatch):
    write_pictures(tmp_path, batches)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"is no picture that can be decoded .*exceeds limit"):
        load_cifar(tmp_path)


def test_pictures_stand_in_where_the_mirror_lacks_the_archive(tmp_path):
    (pictures,) = ENTRY["alternative_files"]
    for file in [*list(pictures.values())[:-1], ENTRY["files"][cifar.ARCHIVE]]:
        assert absent(ENTRY, tmp_path) is None
        assert (
            absent(ENTRY, tmp_path, True)
            == f"data absent: the mirror lacks cifar10/{cifar.ARCHIVE}"
        )
        (tmp_path / file["mirror"]).parent.mkdir(exist_ok=True)
        if file is not ENTRY["files"][cifar.ARCHIVE]:
            (tmp_path / file["mirror"]).touch()
    (tmp_path / pictures[cifar.LABELS]["mirror"]).touch()
    spec = dataset_spec("cifar", ENTRY, tmp_path)
    assert spec["files"] == pictures and not spec["not_comparable"] and not spec["notes"]
    (tmp_path / "cifar10" / cifar.ARCHIVE).touch()
    assert list(dataset_spec("cifar", ENTRY, tmp_path)["files"]) == [cifar.ARCHIVE]
    assert dataset_spec("cifar", ENTRY, tmp_path) == dataset_spec("cifar", ENTRY, None)


def test_the_pickle_of_these_tests_is_one_of_numpy_s():
    """Numpy reads the pickles that the restricted reader is tested with."""
    pixels = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)
    batch = pickle.loads(python_2_pickle([3, 9], pixels), encoding="latin1")  # noqa: S301
    np.testing.assert_array_equal(batch["data"], pixels)
    assert batch["labels"] == [3, 9] and batch["filenames"] == ["a_s_1.png"]


class Harmful:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, print, np.frombuffer, getattr])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_code_is_unpickled(function, protocol, capfd):
    content = pickle.dumps({"labels": [0], "data": Harmful(function, "1")}, protocol)
    with pytest.raises(UserError, match=r"no batch of CIFAR-10 \(it asks for"):
        unpickle_batch(content, "archive: data_batch_1")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"labels": [1]}),
        pickle.dumps({"labels": [300], "data": b"x"}),
        python_2_pickle([1], np.zeros((2, 3072), np.uint8)),
        python_2_pickle([1], np.zeros((1, 3072), np.uint8), dtype=b"O8"),
        python_2_pickle([1], np.zeros((1, 3072), np.uint8), reconstruct=b"os\nsystem"),
        python_2_pickle([1], np.zeros((1, 3072), np.uint8))[:-2000],
    ],
)
def test_damaged_pickles(content):
    with pytest.raises(UserError, match="no batch of CIFAR-10"):
        unpickle_batch(content, "archive: data_batch_1")


def test_a_batch_of_the_python_archive_has_the_official_checksum(batches, tmp_path):
    write_python_archive(tmp_path, batches | {"test_batch": batches["data_batch_1"]})
    with pytest.raises(UserError, match="test_batch has md5"):
        load_cifar(tmp_path)
