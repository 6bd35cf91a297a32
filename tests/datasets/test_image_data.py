"""Images as they are: loaders on small files of the true formats, the contract, the real data."""

import functools
import gzip
import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

from flowgmm.datasets.download import absent, download_file, resolve
from flowgmm.datasets.features import prepare_data
from flowgmm.datasets.registry import dataset_spec, load
from flowgmm.datasets.splits import draw_split
from flowgmm.datasets.types import Images
from flowgmm.datasets.validation import check_images
from flowgmm.embed.embed_data import embed_data
from flowgmm.experiments.checks import load_checked as load_config
from flowgmm.experiments.entries import as_written
from flowgmm.experiments.paths import raw_folder
from flowgmm.experiments.specs.data import absent_reason, raw_files, raw_inputs
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_tensors, sha256, write_tensors

ROOT = Path(__file__).parents[2]
MIRROR = ROOT.parent / "shared" / "data"
DATASETS = load_config(ROOT).datasets
IMAGES = {n: as_written(e) for n, e in DATASETS.items() if e.kind == "image"}
RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(0, 256, (n, 28, 28), np.uint8) for n in (40, 20))
LABELS = np.arange(40, dtype=np.uint8) % 10


def spec_of(name, **changes):
    """A dataset's spec for files of another size than the real ones."""
    return dataset_spec(name, IMAGES[name], None) | {"rows": {}} | changes


def refused(message, call, *arguments):
    with pytest.raises(UserError, match=message) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)


# MNIST's format


def write_idx(path, array, magic=None, shape=None):
    header = magic or bytes([0, 0, 8, array.ndim])
    header += struct.pack(f">{array.ndim}I", *(shape or array.shape))
    path.write_bytes(gzip.compress(header + array.tobytes(), 1))


@pytest.fixture
def mnist(tmp_path):
    for part, X in (("train", TRAIN), ("t10k", TEST)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", X)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", LABELS[: len(X)])
    return tmp_path


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_images_stay_bytes_up_to_the_features_file(name, mnist):
    arrays, meta = prepare_data(spec_of(name), mnist)
    write_tensors(mnist / "features.safetensors", arrays, meta)
    arrays, meta = read_tensors(mnist / "features.safetensors")
    np.testing.assert_array_equal(arrays["X_train"], TRAIN[:, None])
    np.testing.assert_array_equal(arrays["X_test"], TEST[:, None])
    np.testing.assert_array_equal(arrays["y_train"], LABELS)
    assert arrays["X_train"].dtype == np.uint8 and arrays["y_test"].dtype == np.int64
    assert meta["kind"] == "image" and len(set(meta["classes"])) == 10
    assert meta["sources"] == {file: sha256(mnist / file) for file in IMAGES[name]["files"]}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        (TRAIN_IMAGES, Path.unlink, "not found; run the rule download_file"),
        (TRAIN_IMAGES, cut, "is cut off or damaged .*; delete it and fetch it again"),
        (TRAIN_LABELS, lambda path: path.write_text("no"), "is cut off or damaged"),
        (TRAIN_LABELS, lambda path: path.write_bytes(gzip.compress(b"")), "starts with bytes"),
        (
            TRAIN_IMAGES,
            lambda path: write_idx(path, TRAIN, magic=b"\0\0\x0d\3"),
            "starts with bytes 00000d03, expected 00000803 .* replace it with the official",
        ),
        (
            TRAIN_IMAGES,
            lambda path: write_idx(path, TRAIN, shape=(41, 28, 28)),
            "has 31360 values where its header says 41 x 28 x 28; it is cut off",
        ),
        (
            TRAIN_IMAGES,
            # In 64 bits the product of the lengths would be the number of values: 0.
            lambda path: write_idx(path, TRAIN[:0], shape=(2**22, 2**21, 2**21)),
            "has 0 values where its header says 4194304 x 2097152 x 2097152",
        ),
        (
            TRAIN_LABELS,
            lambda path: write_idx(path, LABELS[:39]),
            "has 40 images, train-labels-idx1-ubyte.gz has 39 labels; delete both",
        ),
        (
            TRAIN_LABELS,
            lambda path: write_idx(path, LABELS + 1),
            r"label 10 is outside 0\.\.9; correct the file or the list `classes`",
        ),
    ],
)
def test_wrong_idx_files(mnist, file, spoil, message):
    spoil(mnist / file)
    refused(f"dataset 'mnist': .*train-.*{message}", load, spec_of("mnist"), mnist)


def test_shares_of_classes(mnist):
    shares = IMAGES["mnist_imbalanced"]["options"]["keep"]
    write_idx(mnist / TRAIN_IMAGES, np.concatenate([TRAIN] * 10))
    write_idx(mnist / TRAIN_LABELS, np.tile(LABELS, 10))
    whole, data = (load(spec_of(name), mnist) for name in ("mnist", "mnist_imbalanced"))
    assert np.bincount(data.y_train).tolist() == [40, 40, 40, 30, 30, 30, 20, 20, 20, 10]
    # In the old order, each image with its label; the test part is whole.
    rows = [
        image.tobytes() + bytes([y]) for image, y in zip(whole.train, whole.y_train, strict=True)
    ]
    kept = iter(rows)
    assert all(
        image.tobytes() + bytes([y]) in kept
        for image, y in zip(data.train, data.y_train, strict=True)
    )
    np.testing.assert_array_equal(data.test, whole.test)
    again, other = (
        load(spec_of("mnist_imbalanced", options={"keep": shares, "seed": seed}), mnist)
        for seed in (0, 1)
    )
    assert np.array_equal(data.train, again.train) and not np.array_equal(data.train, other.train)
    for wrong in (shares[:9], [0, *shares[1:]], [1.5, *shares[1:]]):
        spec = spec_of("mnist_imbalanced", options={"keep": wrong})
        refused("give 10 shares, one a class, each above 0 and at most 1", load, spec, mnist)


# SVHN


def write_svhn(raw, part="train", **changes):
    X = RNG.integers(0, 256, (32, 32, 3, 20), np.uint8)
    stored = {"X": X, "y": np.arange(20, dtype=np.uint8)[:, None] % 10 + 1} | changes
    stored = {name: value for name, value in stored.items() if value is not None}
    savemat(raw / f"{part}_32x32.mat", stored, do_compression=True)
    return X


def test_svhn(tmp_path):
    X, X_test = (write_svhn(tmp_path, part) for part in ("train", "test"))
    arrays, _ = prepare_data(spec_of("svhn"), tmp_path)
    for i in (0, 7):
        np.testing.assert_array_equal(arrays["X_train"][i], X[..., i].transpose(2, 0, 1))
    np.testing.assert_array_equal(arrays["X_test"][3, 2], X_test[:, :, 2, 3])
    # Labels 1, ..., 9, 10: the last is digit 0.
    assert arrays["y_train"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda raw: (raw / "train_32x32.mat").unlink(), "not found; run the rule download_file"),
        (lambda raw: cut(raw / "train_32x32.mat"), "cannot be read as a MATLAB file .*delete it"),
        (lambda raw: (raw / "train_32x32.mat").write_text("no"), "cannot be read as a MATLAB file"),
        (lambda raw: write_svhn(raw, y=None), ": y not found; replace it with the official file"),
        (lambda raw: write_svhn(raw, X=None, y=None), ": X, y not found"),
        (lambda raw: write_svhn(raw, y=np.ones((19, 1))), r"32, 3, 20\) with 19 labels; expected"),
        (lambda raw: write_svhn(raw, X=np.ones((20, 32, 32, 3))), "X is float64 of shape"),
        (lambda raw: write_svhn(raw, y=np.full((20, 1), 11)), r"label 11 is outside 1\.\.10"),
        (lambda raw: write_svhn(raw, y=np.full((20, 1), 1.5)), r"label 1.5 is outside 1\.\.10"),
    ],
)
def test_wrong_svhn_files(tmp_path, spoil, message):
    write_svhn(tmp_path)
    write_svhn(tmp_path, "test")
    spoil(tmp_path)
    refused(f"dataset 'svhn': .*train_32x32.mat.*{message}", load, spec_of("svhn"), tmp_path)


# notMNIST


def png(array, mode="L"):
    file = io.BytesIO()
    Image.fromarray(array).convert(mode).save(file, "png")
    return file.getvalue()


def letters(classes="ABCDEFGHIJ"):
    """Four pictures of each letter; the grey value says which, every other one is RGB."""
    return {
        f"notMNIST_small/{c}/{i}.png": png(
            np.full((28, 28), 10 * k + i, np.uint8), ("L", "RGB")[i % 2]
        )
        for k, c in enumerate(classes)
        for i in range(4)
    }


def write_archive(raw, files, links=()):
    with tarfile.open(raw / "notMNIST_small.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, str(target)
            archive.addfile(member)


def test_notmnist(tmp_path):
    (tmp_path / "secret").write_bytes(png(np.full((28, 28), 200, np.uint8)))
    files = letters() | {
        "notMNIST_small/A/empty.png": b"",
        "notMNIST_small/F/half.png": png(TRAIN[0])[:500],
        "notMNIST_small/K/0.png": png(TRAIN[0]),
        "notMNIST_small/../A/0.png": png(TRAIN[0]),
        f"{tmp_path}/notMNIST_small/A/0.png": png(TRAIN[0]),
        "notMNIST_small/A/huge.png": png(TRAIN[0]) + bytes(200_000),
    }
    raw = tmp_path / "raw"
    raw.mkdir()
    write_archive(raw, files, links=[("notMNIST_small/A/link.png", tmp_path / "secret")])
    spec = spec_of("notmnist", options={"test_fraction": 0.5})
    arrays, meta = prepare_data(spec, raw)
    assert meta["notes"] == ["2 pictures that cannot be decoded are left out"]
    assert meta["classes"] == list("ABCDEFGHIJ")
    X = np.concatenate([arrays["X_train"], arrays["X_test"]])
    y = np.concatenate([arrays["y_train"], arrays["y_test"]])
    assert X.shape == (40, 1, 28, 28) and (X[:, :, :1, :1] == X).all()
    assert sorted(X[:, 0, 0, 0].tolist()) == [10 * k + i for k in range(10) for i in range(4)]
    np.testing.assert_array_equal(X[:, 0, 0, 0] // 10, y)
    assert np.bincount(arrays["y_test"]).tolist() == [2] * 10
    assert {path.name for path in tmp_path.rglob("*")} == {"raw", "secret", "notMNIST_small.tar.gz"}
    # Another order of the members gives the same parts.
    write_archive(raw, dict(reversed(files.items())))
    again = prepare_data(spec, raw)[0]
    assert all(np.array_equal(arrays[key], again[key]) for key in arrays)


def test_notmnist_as_a_sample_in_mnist_s_format(tmp_path):
    write_idx(tmp_path / "notmnist10k-images-idx3-ubyte.gz", TRAIN)
    write_idx(tmp_path / "notmnist10k-labels-idx1-ubyte.gz", LABELS)
    data = load(spec_of("notmnist", options={"test_fraction": 0.5}), tmp_path)
    assert data.train.shape == data.test.shape == (20, 1, 28, 28)
    both = np.concatenate([data.train, data.test])
    assert {image.tobytes() for image in both} == {image.tobytes() for image in TRAIN}


@pytest.mark.parametrize(
    ("files", "spoil", "message"),
    [
        (letters(), cut, "is cut off or damaged .*; delete it and fetch it again"),
        (letters(), lambda path: path.write_text("no"), "is cut off or damaged"),
        (letters("ABCDEFGHI"), None, "has fewer than 2 pictures of J; replace it"),
        (
            {"notMNIST_small/A/x.png": png(TRAIN[0, :20])},
            None,
            "A/x.png has 28 x 20 pixels, expected 28 x 28; replace the archive",
        ),
    ],
)
def test_wrong_notmnist_archives(tmp_path, files, spoil, message):
    write_archive(tmp_path, files)
    if spoil:
        spoil(tmp_path / "notMNIST_small.tar.gz")
    refused(f"dataset 'notmnist': .*{message}", load, spec_of("notmnist"), tmp_path)


# The contract

GOOD = Images(
    TRAIN[:, None], LABELS.astype(int), TEST[:, None], LABELS[:20].astype(int), [*"0123456789"]
)


def test_the_contract_of_images():
    check_images(GOOD, "d", rows={"train": 40, "test": 20}, columns=784)
    colour = replace(GOOD, train=np.repeat(GOOD.train, 3, 1), test=np.repeat(GOOD.test, 3, 1))
    check_images(colour, "d", columns=2352)
    check_images(replace(GOOD, y_train=np.where(np.arange(40) > 20, -1, GOOD.y_train)), "d")


@pytest.mark.parametrize(
    ("changes", "expected", "message"),
    [
        ({"train": TRAIN / 255}, {}, "train part is float64 of shape"),
        ({"train": TRAIN}, {}, r"uint8 of shape \(40, 28, 28\); expected uint8 of shape"),
        ({"test": TEST[:, None, :27]}, {}, "test part is .* both even"),
        ({"test": np.repeat(GOOD.test, 2, 1)}, {}, "test part is .* 1 or 3 channels"),
        ({"train": GOOD.train[..., :0]}, {}, "train part is .*"),
        ({"test": GOOD.test[..., :14]}, {}, r"have shape \(1, 28, 14\) in the test part"),
        (
            {"test": np.repeat(GOOD.test, 3, 1)},
            {},
            r"\(3, 28, 28\) in the test part, \(1, 28, 28\)",
        ),
        ({}, {"columns": 3072}, "expected 3072 values an image, got 784"),
        ({}, {"rows": {"test": 21}}, "expected 21 rows in the test part, got 20"),
        ({"y_train": LABELS[:39]}, {}, "with 39 labels; expected at least one row"),
        ({"train": GOOD.train[:0], "y_train": LABELS[:0]}, {}, "at least one row"),
        ({"y_train": GOOD.y_train + 1}, {}, r"train part: label 10 outside the classes 0\.\.9"),
        ({"y_test": GOOD.y_test - 1}, {}, "test part: label -1 outside the classes"),
        ({"y_train": np.maximum(GOOD.y_train, 1)}, {}, "no training point of class 0"),
        ({"classes": ["0"]}, {}, "expected at least 2 classes, got 1 .0."),
    ],
)
def test_images_that_do_not_meet_the_contract(changes, expected, message):
    call = functools.partial(check_images, **expected)
    refused(f"^dataset 'd'.*{message}", call, replace(GOOD, **changes), "d")


def test_kinds_that_do_not_fit(mnist, tmp_path):
    transfer = spec_of("mnist", kind="transfer", encoder="efficientnet_lite0")
    refused(
        "needs an encoder; make its features with the rule embed_data",
        prepare_data,
        transfer,
        mnist,
    )
    refused("images have 1 channel, an encoder takes 3", embed_data, transfer, mnist, tmp_path)
    spec = {"dataset": "t", "kind": "image", "loader": "packaged"}
    table = spec | {"options": {"name": "digits", "test_fraction": 0.3}}
    refused("kind image, but its loader 'packaged' gives a table", prepare_data, table, tmp_path)


# Where the files come from


def test_debian_s_files_stand_in_where_the_mirror_lacks_them(tmp_path):
    """Nothing is said of them: their contents are the official ones."""
    own, mirror = tmp_path / "own.gz", tmp_path / "mirror"
    mirror.mkdir()
    own.write_bytes(b"own")
    file = {"url": ["http://localhost/f"], "md5": "0" * 32, "mirror": "f"}
    entry = {"files": {"f": file | {"alternatives": [{"path": str(own), "sha256": sha256(own)}]}}}
    assert resolve(entry, mirror) == ({"f": {"path": str(own), "sha256": sha256(own)}}, [], [])
    assert absent(entry, mirror) is None
    assert resolve(entry, None)[0] == {"f": file}
    stand_in, target = resolve(entry, mirror)[0]["f"], tmp_path / "raw" / "f"
    assert download_file(stand_in, target, mirror) == sha256(own)
    own.write_bytes(b"changed")
    refused("own.gz .7 bytes. has sha256:", download_file, stand_in, target, mirror)
    own.unlink()
    assert absent(entry, mirror) is None
    assert absent(entry, mirror, offline=True) == "data absent: the mirror lacks f"
    (mirror / "f").touch()
    assert resolve(entry, mirror)[0] == {"f": file}


def test_a_sample_of_notmnist_says_so(tmp_path):
    entry = IMAGES["notmnist"]
    assert "lacks notmnist/notMNIST_small.tar.gz" in str(absent(entry, tmp_path, True))
    (sample,) = entry["alternative_files"]
    for file in sample.values():
        (tmp_path / file["mirror"]).parent.mkdir(exist_ok=True)
        (tmp_path / file["mirror"]).touch()
    spec = dataset_spec("notmnist", entry, tmp_path)
    assert set(spec["files"]) == set(sample) and spec["rows"] == {"train": 1000, "test": 9000}
    assert len(spec["not_comparable"]) == len(spec["notes"]) == 1
    assert all(set(file) == {"mirror", "sha256"} for file in spec["files"].values())
    official = dataset_spec("notmnist", entry, None)
    assert official["rows"] == entry["rows"] and not official["not_comparable"]


def changed(copy, name, **changes):
    """A copy of the config with other values in a dataset's entry; None removes the key."""
    for part in ("config", "workflow/schemas"):
        for source in (ROOT / part).rglob("*.yaml"):
            target = copy / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text())
    path = copy / "config" / "datasets.yaml"
    datasets = yaml.safe_load(path.read_text())
    datasets[name] |= changes
    path.write_text(yaml.safe_dump(datasets))
    return copy


def test_shared_raw_files(tmp_path):
    settings = read_yaml(ROOT / "config" / "config.yaml")
    config = load_config(ROOT, settings | {"mirror": str(tmp_path), "offline": True})
    for name in ("cifar10_calibration", "cifar10_efficientnet"):
        # CIFAR-10 itself has lists of labelled images, too.
        assert {} != raw_files(config, name).items() <= raw_files(config, "cifar10").items()
        assert raw_folder(config, name) == "results/raw/cifar10"
        assert absent_reason(config, name) == absent_reason(config, "cifar10") is not None
    assert all(
        path.startswith("results/raw/mnist/") for path in raw_files(config, "mnist_imbalanced")
    )
    assert raw_folder(config, "mnist") == "results/raw/mnist"
    # One of them generated, the other not: the files can still be had.
    smoke = load_config(ROOT, settings | {"recipe": "smoke"})
    assert raw_inputs(smoke, "cifar10") == [] and raw_files(smoke, "cifar10") != {}


@pytest.mark.parametrize(
    ("raw", "changes", "message"),
    [
        ("cifar", {}, "unknown dataset with files of its own 'cifar'; did you mean 'cifar10'"),
        ("mnist_imbalanced", {}, "unknown dataset with files of its own 'mnist_imbalanced'"),
        ("mnist", {"files": {}}, "the dataset has `files` of its own; remove either"),
    ],
)
def test_raw_files_that_cannot_be_shared(tmp_path, raw, changes, message):
    root = changed(tmp_path, "cifar10_calibration", raw=raw, **changes)
    refused(f"^config/datasets.yaml: cifar10_calibration.raw: {message}", load_config, root)


# Surrogates


def surrogate(name):
    return prepare_data(dataset_spec(name, IMAGES[name], None, surrogate=True), Path("nowhere"))


def test_surrogates():
    made = {name: surrogate(name) for name in IMAGES}
    for name, (arrays, meta) in made.items():
        channels = {784: 1, 3072: 3}[IMAGES[name]["columns"]]
        assert arrays["X_train"].shape[1:] == (channels, 8, 8)
        assert arrays["X_train"].max() == 255 and arrays["X_train"].min() == 0
        assert meta["not_comparable"][0].startswith("surrogate data")
        assert set(arrays["y_test"]) == set(range(10))
    arrays = {name: arrays for name, (arrays, _) in made.items()}
    assert (len(arrays["mnist"]["X_train"]), len(arrays["mnist"]["X_test"])) == (1297, 500)
    whole, kept = (np.bincount(arrays[name]["y_train"]) for name in ("mnist", "mnist_imbalanced"))
    shares = np.array(IMAGES["mnist_imbalanced"]["options"]["keep"])
    assert np.abs(whole * shares - kept).max() <= 0.5
    moved = arrays["cifar10_calibration"]
    assert (len(moved["X_train"]), len(moved["X_test"])) == (1397, 400)
    means = {
        name: arrays[name]["X_test"].mean(0) for name in ("mnist", "fashion_mnist", "notmnist")
    }
    np.testing.assert_allclose(means["mnist"] + means["fashion_mnist"], 255)
    np.testing.assert_allclose(means["notmnist"], means["mnist"].swapaxes(1, 2))


# The real data


def real(name, folder):
    if not (MIRROR / folder).is_dir():
        pytest.skip(f"{MIRROR / folder} not found; small files stand in")
    return prepare_data(dataset_spec(name, IMAGES[name], MIRROR), MIRROR / folder)


def test_real_mnist():
    arrays, meta = real("mnist", "mnist")
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(arrays["y_train"]).tolist() == train
    assert np.bincount(arrays["y_test"]).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    assert not meta["not_comparable"] and arrays["X_train"].shape == (60000, 1, 28, 28)
    assert abs(arrays["X_train"].mean() / 255 - 0.1307) < 1e-4
    for name in ("mnist", "mnist_imbalanced"):
        kept = arrays if name == "mnist" else real("mnist_imbalanced", "mnist")[0]
        for label_set in IMAGES[name]["labels"].values():
            split = draw_split(kept["y_train"], **label_set, split_seed=0, labels_seed=0)
            counts = np.bincount(kept["y_train"][split["labelled"]])
            assert label_set["n_labels"] == "all" or set(counts) == {label_set["n_labels"] // 10}


def test_real_sample_of_notmnist():
    arrays, meta = real("notmnist", "notmnist_10k")
    assert np.bincount(arrays["y_train"]).tolist() == [100] * 10
    assert np.bincount(arrays["y_test"]).tolist() == [900] * 10
    assert meta["not_comparable"] and arrays["X_test"].shape[1:] == (1, 28, 28)


def test_real_cifar10_with_test_images_moved():
    arrays, _ = real("cifar10_calibration", "cifar10-lossless-webp")
    X, y = arrays["X_train"], arrays["y_train"]
    assert X.shape == (51000, 3, 32, 32) and arrays["X_test"].shape == (9000, 3, 32, 32)
    assert np.bincount(y[:50000]).tolist() == [5000] * 10
    mean = X[:50000].mean(axis=(0, 2, 3), dtype=np.float64) / 255
    np.testing.assert_allclose(mean, [0.49139968, 0.48215841, 0.44653091], atol=1e-7)
    assert (np.bincount(y[50000:]) + np.bincount(arrays["y_test"])).tolist() == [1000] * 10
    (label_set,) = IMAGES["cifar10_calibration"]["labels"].values()
    split = draw_split(y, **label_set, split_seed=0, labels_seed=0)
    assert split["val"].tolist() == list(range(50000, 51000)) and len(split["labelled"]) == 50000


def test_real_fashion_mnist():
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        pytest.skip(f"{folder} not found; it comes with Debian's package dataset-fashion-mnist")
    spec = dataset_spec("fashion_mnist", IMAGES["fashion_mnist"], folder.parent)
    assert {Path(file["path"]).parent for file in spec["files"].values()} == {folder}
    arrays, meta = prepare_data(spec, folder)
    assert {name: file["sha256"] for name, file in spec["files"].items()} == meta["sources"]
    assert np.bincount(arrays["y_train"]).tolist() == [6000] * 10
    assert np.bincount(arrays["y_test"]).tolist() == [1000] * 10
    assert abs(arrays["X_train"].mean() / 255 - 0.28604) < 1e-5 and not meta["not_comparable"]
