"""Faults of networks: servers and hubs that fail in the middle of a download.

After each fault no number is wrong, nothing finished is lost, and a message says what to do; the
table is in docs/faults.md. Without FLOWGMM_FAULTS=all few tries are made.
"""

import hashlib
import http.server
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from faults import record, tries
from hub import download_encoder, model_hub, serving
from small_project import small_disk
from workspace import PATIENCE, ROOT, environment

from flowgmm.datasets.download import download_file
from flowgmm.utils.absence import reason_of
from flowgmm.utils.errors import UserError

CONTENT = bytes(range(256)) * 400
GOOD = {"sha256": hashlib.sha256(CONTENT).hexdigest()}


class Unreliable(http.server.BaseHTTPRequestHandler):
    """Fail in the way named by the path: always, or only the first time if it starts with /once."""

    asked: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        self.asked[self.path] = self.asked.get(self.path, 0) + 1
        fault = self.path.strip("/").removeprefix("once-")
        if self.path.startswith("/once") and self.asked[self.path] > 1:
            fault = "none"
        if fault == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
        elif fault.isdecimal():
            self.send_response(int(fault))
        else:
            self.send_response(200)
        sent = {"short": CONTENT[:-1], "wrong": CONTENT[::-1], "empty": b""}.get(fault, CONTENT)
        if fault.isdecimal() or fault == "loop":
            sent = b""
        length = len(sent) + 1000 if fault == "long" else len(sent)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault in ("hangup", "stall"):
            self.wfile.write(sent[: len(sent) // 2])
            self.wfile.flush()
            if fault == "stall":
                time.sleep(2.5)
            self.close_connection = True
            return
        if fault == "slow":
            for i in range(0, len(sent), 20_000):
                self.wfile.write(sent[i : i + 20_000])
                time.sleep(0.05)
            return
        self.wfile.write(sent)

    def log_message(self, *args: object) -> None:
        pass


NETWORK_FAULTS = {
    "hangup": "hangs up in the middle",
    "stall": "stops in the middle",
    "short": "announces and sends too few bytes",
    "long": "announces more bytes than it sends",
    "wrong": "sends other bytes",
    "empty": "sends nothing",
    "loop": "redirects in a loop",
    "404": "answers 404",
    "500": "answers 500",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(Unreliable) as url:
        yield url


@pytest.mark.parametrize("fault", NETWORK_FAULTS)
def test_broken_network(
    fault: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is left at the destination, and the next try succeeds."""
    monkeypatch.setattr("flowgmm.datasets.http.TIMEOUT_S", 1.0)
    Unreliable.asked.clear()
    target = tmp_path / "raw" / "file"
    always, once = f"{server}/{fault}", f"{server}/once-{fault}"
    with pytest.raises(UserError, match=r"cannot download file .*; check the network") as caught:
        download_file({"url": [always], **GOOD}, target, None, retries=0)
    said = str(caught.value)
    assert always in said and "\n" not in said
    assert not list(target.parent.iterdir())
    download_file({"url": [always, once, once], **GOOD}, target, None, retries=0)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert Unreliable.asked == {f"/{fault}": Unreliable.asked[f"/{fault}"], f"/once-{fault}": 2}
    record(f"download from a server that {NETWORK_FAULTS[fault]}", 2, 2, "that file", said)


def test_slow_network(server: str, tmp_path: Path) -> None:
    assert (
        download_file({"url": [f"{server}/slow"], **GOOD}, tmp_path / "file", None)
        == GOOD["sha256"]
    )
    record("download from a server that is slow", 1, 1, "nothing", "goes on; a line every 3 s")


def test_one_that_fails_once_is_asked_again(server: str, tmp_path: Path) -> None:
    Unreliable.asked.clear()
    url = f"{server}/once-hangup"
    assert (
        download_file({"url": [url], **GOOD}, tmp_path / "file", None, retries=1) == GOOD["sha256"]
    )
    assert Unreliable.asked == {"/once-hangup": 2}


LARGE = random.Random(0).randbytes(6 * 2**20)


class Steady(http.server.BaseHTTPRequestHandler):
    """Send a large file in small pieces, from where the request says; `sent` of the last one."""

    starts: ClassVar[list[int]] = []
    sent: ClassVar[int] = 0

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(LARGE) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}")
        self.end_headers()
        type(self).sent = 0
        for place in range(start, len(LARGE), 2**16):
            try:
                self.wfile.write(LARGE[place : place + 2**16])
            except OSError:
                return  # the client was ended
            type(self).sent += 2**16
            time.sleep(0.005)

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_ended_download(number: signal.Signals, tmp_path: Path) -> None:
    """End downloads at random moments; each goes on where the one before stopped."""
    count, ended, rng, said = tries(2), 0, random.Random(0), []
    target = tmp_path / "raw" / "file"
    with serving(Steady) as url:
        spec = {"url": [f"{url}/file"], "sha256": hashlib.sha256(LARGE).hexdigest()}
        command = [sys.executable, str(ROOT / "scripts" / "download_file.py")]
        command += ["--spec", json.dumps(spec), "--mirror=", "--offline=false"]
        command += ["--output", str(target)]

        def begin() -> subprocess.Popen[str]:
            target.unlink(missing_ok=True)
            Steady.starts.clear()
            pipe = subprocess.PIPE
            return subprocess.Popen(command, env=environment(ROOT), stderr=pipe, text=True)

        while ended < count:
            process, moment = begin(), rng.uniform(1.5, 3) * 2**20
            while process.poll() is None and not (Steady.starts and Steady.sent > moment):
                time.sleep(0.01)
            process.send_signal(number)
            said.append(process.communicate(timeout=PATIENCE)[1])
            assert process.returncode in (0, -number, 128 + number)
            assert (process.returncode == 0) == target.exists()
            ended += 1
        came = 0 if target.exists() else sum(path.stat().st_size for path in parts(target))
        process = begin()
        assert process.wait(PATIENCE) == 0
        assert target.read_bytes() == LARGE and not parts(target)
        assert Steady.starts == [came]
    name, words = ("kill -9", "goes on where it stopped; says nothing")
    if number == signal.SIGTERM:
        name, words = "SIGTERM", "each had finished before"
        for line in "".join(said).splitlines():
            words = line if line.startswith("interrupted") else words
    record(f"{name} of a download at a random moment", ended, ended, "a megabyte", words)


def parts(target: Path) -> list[Path]:
    """Parts of a file that wait for the next run."""
    return list(target.parent.glob(".file.*.part/file"))


def test_full_disk_while_downloading(server: str, tmp_path: Path) -> None:
    target = tmp_path / "disk" / "file"
    with small_disk(target.parent, "64k") as again:
        with pytest.raises(UserError, match=r"no space left|No space left") as caught:
            download_file({"url": [f"{server}/none"], **GOOD}, target, None, retries=0)
        assert not list(target.parent.iterdir())
        again("size=1m")
        assert download_file({"url": [f"{server}/none"], **GOOD}, target, None) == GOOD["sha256"]
    record("full disk, during a download", 1, 1, "that file", str(caught.value))


@pytest.mark.parametrize("fault", ["wrong", "hangup", "500"])
def test_broken_hub(fault: str, encoder: str, tmp_path: Path) -> None:
    """Broken weights leave no encoder behind."""
    hub = model_hub({"tiny": Path(encoder)})

    class Broken(hub):
        def content(self) -> bytes | None:
            content = super().content()
            if not self.path.endswith(".safetensors"):
                return content
            return {"wrong": content[::-1], "500": None, "hangup": content[:-9]}[fault]

    manifest = tmp_path / "encoders" / "tiny.json"
    with serving(Broken) as url:
        done = download_encoder(url, "tiny", manifest)
    assert done.returncode == 0
    said = done.stderr.strip().rpartition("\n")[2]
    assert said.startswith("error: encoder 'tiny': cannot download model.safetensors")
    assert "Traceback" not in done.stderr
    assert "cannot download model.safetensors" in str(reason_of([manifest]))
    assert not manifest.with_suffix("").exists()
    with serving(hub) as url:
        assert download_encoder(url, "tiny", manifest).returncode == 0
    record(f"encoder from a hub that fails ({fault})", 1, 1, "that file", said)
