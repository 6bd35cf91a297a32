"""Encoders as raw files, and a workflow without network once `download` is done."""

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import faults
import pytest
import yaml
from hub import download_encoder, model_hub, serving
from workspace import copy_repository, snakemake

from flowgmm.embed import fetch
from flowgmm.embed.embed_data import embed_data
from flowgmm.embed.text import embed_texts
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import settings_with
from flowgmm.experiments.specs.data import download_paths
from flowgmm.utils.absence import failures, reason_of
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def texts(encoder: str) -> list[str]:
    """40 rows of two classes, as the loader `text` takes them."""
    words = ("cat sat on the mat", "dog ran far away")
    return [
        f'"{k % 2 + 1}","a {words[k % 2]} {"the " * (k % 7)}{"on " * (k % 5)}"' for k in range(40)
    ]


def test_fetched_from_the_hub_and_verified_when_used(
    encoder: str, texts: list[str], tmp_path: Path
) -> None:
    source = shutil.copytree(encoder, tmp_path / "source")
    (source / "pytorch_model.bin").touch()
    manifest = tmp_path / "raw" / "org--tiny.json"
    with serving(model_hub({"org/tiny": source})) as hub:
        assert download_encoder(hub, "org/tiny", manifest).returncode == 0
        (source / "model.safetensors").unlink()
        done = download_encoder(hub, "org/tiny", tmp_path / "other" / "org--tiny.json")
        assert not done.returncode and "*.safetensors not found on the hub" in done.stderr
        done = download_encoder(hub, "org/none", tmp_path / "other" / "org--none.json")
        assert not done.returncode and "not available from the model hub" in done.stderr
        done = download_encoder(
            hub, "org/tiny", tmp_path / "other" / "org--tiny.json", HF_HUB_OFFLINE="1"
        )
        assert not done.returncode and "HF_HUB_OFFLINE is set; unset it" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    # Of each a reason, and how often it failed.
    other = tmp_path / "other"
    assert "org/none" in str(reason_of([other / "org--none.json"]))
    assert "HF_HUB_OFFLINE" in str(reason_of([other / "org--tiny.json"]))
    assert failures(other / "org--tiny.json") == 2 and len(list(other.iterdir())) == 4
    files = fetch.fetched_encoder(manifest)
    names = {path.name for path in Path(encoder).iterdir()}
    assert {path.name for path in files} == names
    assert {path.name for path in manifest.with_suffix("").iterdir()} == names

    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("\n".join(texts))
    spec = {"dataset": "t", "kind": "text", "loader": "text", "encoder": "org/tiny"}
    spec |= {"options": {"classes": ["x", "y"], "fields": 1}}
    arrays, meta = embed_data(spec, tmp_path, tmp_path / "cache", fetched=manifest)
    plain = [line.split(",")[1].strip('"') for line in texts]
    expected = embed_texts(plain, encoder, tmp_path / "other")
    assert (arrays["X_train"] == expected).all()
    assert meta["not_comparable"] == ["encoder tiny instead of bert-base-uncased"]

    weights = manifest.with_suffix("") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    message = "model.safetensors is damaged; delete .*org--tiny.json and run again"
    with pytest.raises(UserError, match=message):
        embed_data(spec, tmp_path, tmp_path / "cache", fetched=manifest)
    weights.unlink()
    with pytest.raises(UserError, match=r"model.safetensors not found; delete"):
        embed_data(spec, tmp_path, tmp_path / "cache", fetched=manifest)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], ["bert-base-uncased", "efficientnet_b4"]),
        (["text_encoder=org/model"], ["org--model", "efficientnet_b4"]),
        (["text_encoder=minilm", "image_encoder=efficientnet_lite0"], []),
        (["text_encoder=./folder", "image_encoder=b4.pth"], []),
        (["skip=[ag_news, yahoo]"], ["efficientnet_b4"]),
        (["recipe=smoke"], []),
    ],
)
def test_encoders_to_download(changes: list[str], expected: list[str]) -> None:
    downloads = download_paths(load_checked(ROOT, settings_with(ROOT, changes)))
    found = [Path(path).stem for path in downloads if "/encoders/" in path]
    assert found == expected


def without_network(*, try_it: bool = False) -> tuple[str, ...]:
    """Make a command that runs another in a network namespace and counts the bytes sent.

    Its default route leads to a device where nobody answers, so that an attempt to reach anything
    shows among the bytes that `/proc/net/dev` counts; what was sent is printed.
    """
    listen = (
        "import socket as s; c = s.socket(s.AF_PACKET, s.SOCK_RAW, 8); c.bind(('nobody', 0)); "
        "[print('sent', c.recv(999), flush=True) for _ in range(999)]"
    )
    attempt = "python3 -c \"import socket as s; s.socket(2, 2).sendto(b'x', ('9.9.9.9', 9))\";"
    setup = f"""
        set -e
        sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        ip link set lo up
        ip link add outside type veth peer name nobody
        ip address add 10.0.0.1/24 dev outside
        ip link set outside up; ip link set nobody up
        ip neighbour add 10.0.0.2 lladdr 02:00:00:00:00:02 dev outside
        ip route add default via 10.0.0.2
        python3 -c "{listen}" & listener=$!; sleep 0.3
        {attempt if try_it else ""}
        code=0; "$@" || code=$?
        sleep 0.2
        kill $listener || true
        grep outside: /proc/net/dev
        exit $code
    """
    return ("unshare", "--net", "sh", "-c", setup, "sh")


def sent(said: str) -> int:
    """Number of bytes sent."""
    counted = re.search(r"outside:\s+(.*)", said)
    assert counted is not None, said
    return int(counted[1].split()[8])


def test_after_download_nothing_needs_the_network(
    encoder: str, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of texts: data and encoder from servers on loopback, the rest without a network."""
    control = subprocess.run(
        [*without_network(try_it=True), "true"], capture_output=True, text=True
    )
    if control.returncode:
        pytest.skip(f"no network namespace of its own: {control.stderr.strip()[-200:]}")
    assert sent(control.stdout) > 0

    clone = copy_repository(tmp_path / "clone")
    files = tmp_path / "files"
    files.mkdir()
    for name in ("train.csv", "test.csv"):
        (files / name).write_text("\n".join(texts))
    with serving(model_hub({"org/tiny": Path(encoder)}, files)) as url:
        skipped = list(yaml.safe_load((clone / "config" / "datasets.yaml").read_text()))
        entry = {"title": "Tiny", "kind": "text", "licence": "none", "loader": "text"}
        entry |= {"options": {"classes": ["x", "y"], "fields": 1}}
        entry["files"] = {
            name: {"url": [f"{url}/files/{name}"]} for name in ("train.csv", "test.csv")
        }
        entry["labels"] = {"10": {"n_labels": 10, "n_val": 10}}
        append(clone, "datasets", {"tiny": entry})
        table = {"title": "Tiny", "aggregate": "mean", "spread": "std", "metric": "accuracy"}
        table |= {"evaluate": "test", "rows": ["logistic_regression", "flowgmm"]}
        table["columns"] = [{"dataset": "tiny", "labels": "10", "title": "tiny"}]
        append(clone, "tables", {"tiny": table})
        recipe = {"title": "Offline", "extends": "smoke", "surrogate": ["ag_news"]}
        recipe["kinds"] = {"text": {"split": {"n_val": 10}}}
        (clone / "config" / "recipes" / "offline.yaml").write_text(json.dumps(recipe))
        options = ("--profile", "local", "--config", "recipe=offline", "text_encoder=org/tiny")
        options += (f"skip={json.dumps(skipped)}", "--")
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        snakemake(clone, *options, "download")
    made = {
        str(path.relative_to(clone / "results" / "raw")) for path in walk(clone / "results/raw")
    }
    assert {"tiny/train.csv", "tiny/test.csv", "encoders/org--tiny.json"} < made
    assert not (clone / "results" / "features").exists()

    table_file = "results/offline/tables/tiny.md"
    said = snakemake(clone, *options, table_file, within=without_network())
    assert "rule fetch" not in said
    frames = [ast.literal_eval(frame) for frame in re.findall(r"sent (b.*)", said)]
    # Snakemake imports its plugin for Slurm in every run, which runs `scontrol show config`; where
    # Slurm is installed without a configuration, this looks up the name of its controller.
    others = [frame for frame in frames if not asks_for_slurm(frame)]
    assert not others
    assert sent(said) == sum(map(len, frames))
    assert not frames or shutil.which("scontrol") is not None
    assert "FlowGMM" in (clone / table_file).read_text()
    faults.record(
        "no network after `download`", 1, 1, "nothing", f"{sent(said)} bytes sent; all jobs run"
    )


def asks_for_slurm(frame: bytes) -> bool:
    """Return True for an Ethernet frame of UDP to port 53 that asks for Slurm's controller."""
    is_lookup = frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == b"\x00\x35"
    return is_lookup and b"\x0a_slurmctld\x04_tcp" in frame


def append(clone: Path, name: str, entry: dict[str, object]) -> None:
    """Add an entry to a config file."""
    with (clone / "config" / f"{name}.yaml").open("a") as handle:
        handle.write("\n" + yaml.safe_dump(entry))


def walk(folder: Path) -> list[Path]:
    """List all files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]
