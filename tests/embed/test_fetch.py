"""Encoders from a hub on loopback: pinned, verified, and known by their weights."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
from hub import model_hub, serving
from safetensors.torch import load_file, save_file

from flowgmm.datasets.download import DownloadError
from flowgmm.embed import fetch, text
from flowgmm.embed.text import embed_texts
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import sha256

PAPER = "google-bert/bert-base-uncased"
REVISION = "86b5e0934494bd15c9632b12f734a8a67f723594"


@pytest.fixture
def hub(encoder, monkeypatch):
    """A class of handlers with the tiny encoder under two names; `hits` are the paths asked for."""
    monkeypatch.setattr("flowgmm.datasets.http.WAIT_S", 0.0)

    class Handler(model_hub({PAPER: Path(encoder), "org/new": Path(encoder)})):
        hits: ClassVar[list[str]] = []

        def do_GET(self):
            self.hits.append(self.path)
            if not self.fault():
                super().do_GET()

        def fault(self):
            return False

        def answer(self, status, body=b"", **headers):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)
            return True

    return Handler


def download(handler, name, manifest, monkeypatch):
    with serving(handler) as url:
        monkeypatch.setattr(fetch, "_endpoint", lambda: url)
        fetch.download_encoder(name, manifest)
    return fetch.fetched_encoder(manifest)


@pytest.mark.parametrize("name", ["bert-base-uncased", PAPER])
def test_the_paper_s_encoder_is_pinned(name, hub, encoder, tmp_path, monkeypatch):
    """Revision and weights: what the hub says of other weights does not count."""
    manifest = tmp_path / "raw" / "bert.json"
    with pytest.raises(DownloadError, match=f"has sha256:.* expected sha256:{text.PAPER_SHA256}"):
        download(hub, name, manifest, monkeypatch)
    assert not list(manifest.parent.iterdir())
    monkeypatch.setattr(fetch, "PAPER_SHA256", sha256(Path(encoder) / "model.safetensors"))
    hub.hits.clear()
    files = download(hub, name, manifest, monkeypatch)
    assert {path.name for path in files} == {path.name for path in Path(encoder).iterdir()}
    assert hub.hits[0] == f"/api/models/{PAPER}/revision/{REVISION}?blobs=true"
    assert all(hit.startswith(f"/{PAPER}/resolve/{REVISION}/") for hit in hub.hits[1:])


def test_a_redirect_that_drops_the_query(hub, tmp_path, monkeypatch):
    class Renamed(hub):
        def fault(self):
            if self.path.startswith("/api/models/old"):
                return self.answer(307, Location="/api/models/org/new")
            if self.path == "/api/models/org/new":
                files = [{"rfilename": "model.safetensors"}, {"rfilename": "config.json"}]
                answer = {"id": "org/new", "sha": "0" * 40, "siblings": files}
                return self.answer(200, json.dumps(answer).encode())
            return False

    assert len(download(Renamed, "old", tmp_path / "e.json", monkeypatch)) > 2
    asked = ["/api/models/old?blobs=true", "/api/models/org/new", "/api/models/org/new?blobs=true"]
    assert hub.hits[:3] == asked


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("what", ["/api/", ".safetensors", "config.json"])
def test_a_busy_hub_is_asked_again(status, what, hub, tmp_path, monkeypatch):
    class Busy(hub):
        def fault(self):
            first = self.hits.count(self.path) == 1
            return what in self.path and first and self.answer(status, Retry_After="0")

    assert len(download(Busy, "org/new", tmp_path / "e.json", monkeypatch)) > 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Sign in</html>", "not available from the model hub .*web page"),
        (b"no json", "no list of a model's files"),
        (b"[1]", "no list of a model's files"),
        (b'{"id": "a", "sha": "b"}', "no list of a model's files"),
        (b'{"id": "a", "sha": "b", "siblings": [{}]}', "no list of a model's files"),
        (b'{"id": "a", "sha": "b", "siblings": []}', "safetensors not found on the hub"),
        (
            b'{"id": "a", "sha": "b", "siblings": [{"rfilename": "m.safetensors"}]}',
            "the answer has no hashes of the files",
        ),
    ],
)
def test_listings_that_are_none(body, reason, hub, tmp_path, monkeypatch):
    class Other(hub):
        def fault(self):
            return self.answer(200, body)

    with pytest.raises(DownloadError, match=f"encoder 'org/new': .*{reason}.*`text_enc") as caught:
        download(Other, "org/new", tmp_path / "raw" / "e.json", monkeypatch)
    assert "\n" not in str(caught.value) and not list((tmp_path / "raw").iterdir())


def test_small_files_are_verified_too(hub, tmp_path, monkeypatch):
    class Changed(hub):
        def fault(self):
            return self.path.endswith("/config.json") and self.answer(200, b"{}")

    with pytest.raises(
        DownloadError, match=r"config\.json does not match the hash that the hub has"
    ):
        download(Changed, "org/new", tmp_path / "e.json", monkeypatch)


# Weights


@pytest.mark.parametrize("name", ["bert-base-uncased", "mine", "bert-base-uncased-2"])
def test_the_paper_s_encoder_is_known_by_its_weights(name, encoder, tmp_path, monkeypatch):
    folder = shutil.copytree(encoder, tmp_path / name)
    other = " with other weights" if name == "bert-base-uncased" else ""
    expected = f"encoder {name}{other} instead of bert-base-uncased"
    assert text.deviation(str(folder), folder) == expected
    monkeypatch.setattr(text, "PAPER_SHA256", sha256(folder / "model.safetensors"))
    assert text.deviation(str(folder), folder) is None
    shutil.copy(folder / "model.safetensors", folder / "more.safetensors")
    assert text.deviation(str(folder), folder) == expected


@pytest.mark.parametrize(
    "lost",
    ["encoder.layer.1.attention.self.query", "embeddings.word_embeddings", "encoder.layer.0."],
)
@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_weights_that_are_missing_are_not_drawn_at_random(lost, pooling, encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "lossy")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if lost not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"\d+ weights are missing .* first .*{lost}"):
        embed_texts(["a cat"], str(folder), tmp_path / "cache", pooling=pooling)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".safetensors"]


def test_packaged_weights_are_those_of_their_authors(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(text.importlib.resources, "files", lambda name: tmp_path)
    folder = shutil.copytree(encoder, tmp_path / "model")
    with pytest.raises(UserError, match=r"'minilm': .* expected 53aa5117\w{56}; install gt-all-m"):
        embed_texts(["a cat"], "minilm", tmp_path / "cache")
    monkeypatch.setattr(text, "_MINILM_SHA256", sha256(folder / "model.safetensors"))
    assert embed_texts(["a cat"], "minilm", tmp_path / "cache").shape == (1, 32)


def test_unpacked_weights_are_checked_each_time(encoder, tmp_path):
    """A file in the cache may have been changed since."""
    shutil.copytree(encoder, tmp_path / f"mpnet-{text._MPNET_SHA256[:12]}")
    with pytest.raises(UserError, match=r"'mpnet': .* expected 78c0197b"):
        embed_texts(["a cat"], "mpnet", tmp_path)
