"""Vectors of the paper's authors: `text_encoder: authors`, from a server or a folder."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hub import model_hub, serving
from workspace import copy_repository

from flowgmm.datasets.download import download_file
from flowgmm.datasets.features import prepare_data
from flowgmm.datasets.loaders.encodings import load_encodings
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.paths import features_path, is_embedded
from flowgmm.experiments.project import settings_with
from flowgmm.experiments.specs.data import (
    absent_reason,
    download_paths,
    features_spec,
    raw_files,
    raw_inputs,
)
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]
CLASSES = ["World", "Sports", "Business", "Sci/Tech"]
OPTIONS = {"train": "train.npz", "test": "test.npz", "classes": CLASSES}


def write(folder, first=0, width=768, prefix="", **changes):
    """Two parts of 40 and 12 vectors of 4 classes; labels count from `first`."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part, n in (("train", 40), ("test", 12)):
        arrays = {"encodings": np.tanh(rng.normal(size=(n, width))).astype(np.float32)}
        arrays["labels"] = np.arange(n) % 4 + first
        written[part] = arrays
        np.savez(folder / f"{prefix}{part}.npz", **{**arrays, **changes})
    return written


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("width", [768, 5])
def test_both_parts(first, width, tmp_path):
    written = write(tmp_path, first, width)
    data = load_encodings(tmp_path, **OPTIONS, width=width)
    for X, y, part in (
        (data.X_train, data.y_train, "train"),
        (data.X_test, data.y_test, "test"),
    ):
        np.testing.assert_array_equal(X, written[part]["encodings"])
        np.testing.assert_array_equal(y, written[part]["labels"] - first)
    assert data.classes == CLASSES and data.same_scale
    assert data.notes == ["vectors of the paper's authors: 40 and 12 rows"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encodings": np.zeros((40, 767))}, r"shape \(40, 767\); expected .* \(N, 768\)"),
        ({"encodings": np.zeros(768)}, r"shape \(768,\)"),
        ({"encodings": np.zeros((40, 768), int)}, "encodings is int64"),
        ({"labels": np.arange(39)}, r"labels is int64 of shape \(39,\)"),
        ({"labels": np.zeros(40)}, "labels is float64"),
        ({"labels": np.full(40, "a")}, "labels is <U1"),
        ({"labels": np.array([{}] * 40)}, "cannot be read"),
    ],
)
def test_other_arrays(changes, message, tmp_path):
    write(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        load_encodings(tmp_path, **OPTIONS)


@pytest.mark.parametrize("label", [4, 9, -2])
def test_labels_of_no_class(label, tmp_path):
    written = write(tmp_path)
    labels = written["test"]["labels"].copy()
    labels[3] = label
    np.savez(tmp_path / "test.npz", encodings=written["test"]["encodings"], labels=labels)
    with pytest.raises(UserError, match=f"label {label} is none of 4 classes"):
        load_encodings(tmp_path, **OPTIONS)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"train.npz not found"):
        load_encodings(tmp_path, **OPTIONS)
    write(tmp_path)
    (tmp_path / "test.npz").write_text("<html>")
    with pytest.raises(UserError, match=r"is no \.npz file"):
        load_encodings(tmp_path, **OPTIONS)


def authors(root=ROOT, *changes):
    return load_checked(root, settings_with(root, ["text_encoder=authors", *changes]))


def test_they_take_the_place_of_texts_and_encoder():
    project = authors()
    for name in ("ag_news", "yahoo"):
        assert not is_embedded(project, name) and absent_reason(project, name) is None
        assert features_path(project, name) == f"results/features/{name}-authors.safetensors"
        expected = [f"results/raw/{name}/{name}_{part}.npz" for part in ("train", "test")]
        assert raw_inputs(project, name) == expected
        spec = features_spec(project, name)
        assert spec["loader"] == "encodings" and "encoder" not in spec and "rows" not in spec
        assert not spec["not_comparable"]
    assert "published no vectors of dbpedia14" in str(absent_reason(project, "dbpedia14"))
    assert not [path for path in download_paths(project) if "bert" in path or ".csv" in path[-4:]]
    assert is_embedded(project, "cifar10_efficientnet")
    # The published ids.
    urls = [
        file["url"][0]
        for name in ("ag_news", "yahoo")
        for file in raw_files(project, name).values()
    ]
    assert [url.partition("id=")[2][:6] for url in urls] == ["1k40hM", "1cPzyv", "1nkf9k", "1Z20AE"]


def test_without_them_nothing_changes():
    project = load_checked(ROOT, settings_with(ROOT, []))
    spec = features_spec(project, "ag_news")
    assert (spec["loader"], spec["encoder"]) == ("text", "bert-base-uncased")
    assert set(raw_files(project, "ag_news")) == {
        f"results/raw/ag_news/{part}.csv" for part in ("train", "test")
    }


@pytest.mark.parametrize("source", ["server", "mirror", "path"])
def test_from_the_file_to_features(source, tmp_path, monkeypatch):
    """A drive that answers a page, the file at another address; or the user's own copies."""
    served = tmp_path / "served"
    write(served, first=1, prefix="ag_news_")
    clone = copy_repository(tmp_path / "clone")
    path = clone / "config" / "datasets.yaml"
    datasets = yaml.safe_load(path.read_text())
    files = datasets["ag_news"]["authors"]["files"]

    class Drive(model_hub({}, served)):
        def do_GET(self):
            if "/drive" not in self.path:
                return super().do_GET()
            body = b"<!DOCTYPE html><title>Quota exceeded</title>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return self.wfile.write(body)

    with serving(Drive) as url:
        for name, file in files.items():
            file["url"] = [f"{url}/drive?id={name}", f"{url}/files/{name}"]
            if source == "mirror":
                file["mirror"] = name
            if source == "path":
                file.clear()
                file["path"] = str(served / name)
        path.write_text(yaml.safe_dump(datasets))
        mirror = served if source == "mirror" else None
        project = authors(clone, *([f"mirror={served}", "offline=true"] if mirror else []))
        monkeypatch.chdir(tmp_path)
        for target, file in raw_files(project, "ag_news").items():
            download_file(file, Path(target), mirror, offline=mirror is not None)
    arrays, meta = prepare_data(features_spec(project, "ag_news"), Path("results/raw/ag_news"))
    assert arrays["X_train"].shape == (40, 768) and set(arrays["y_test"]) == {0, 1, 2, 3}
    assert not meta["not_comparable"] and set(meta["sources"]) == set(files)
