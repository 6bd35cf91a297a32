"""The page of features: its server answers as the estimator does, and nobody else's questions."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from estimators import flow_gmm
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from flowgmm import FlowGMMClassifier
from flowgmm.apps.explore import server as explore
from flowgmm.apps.explore.explorer import Explorer
from flowgmm.apps.explore.server import Server
from flowgmm.cli import app
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, sha256, write_json, write_tensors

NAMES = [f"digit {k}" for k in range(10)]
FRAME = {"images": [3, 0], "layer": 3, "channel": 0, "alpha": 1.5, "position": None}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run as the workflow lays it out, of images of 16 x 16 pixels, pooled to 8 x 8."""
    data = load_digits()
    X = (data.images[:60, None] * 15).astype(np.uint8).repeat(2, 2).repeat(2, 3)
    y = data.target[:60]
    params = {"pool": 2, "n_filters": 4, "n_blocks": 1, "crop_padding": 1, "n_steps": 3}
    models = [flow_gmm(**params, random_state=s).fit(X, y) for s in range(2)]
    results = tmp_path_factory.mktemp("project") / "results"
    folder = results / "smoke" / "runs" / "mnist" / "100" / "flowgmm" / "seeds-4-5"
    FlowGMMClassifier.save_stack(folder / "model.safetensors", models)
    record: dict[str, Any] = {
        "dataset": "mnist",
        "labels": "100",
        "method": "flowgmm",
        "recipe": "smoke",
    }
    features = results / "features" / "mnist-surrogate.safetensors"
    write_tensors(features, {"X_test": X[:12], "y_test": y[:12]}, {"classes": NAMES})
    write_tensors(features.with_name("mnist.safetensors"), {"X_test": X}, {"classes": NAMES})
    record |= {"seeds": [4, 5], "hashes": {"features": sha256(features)}}
    write_json(folder / "record.json", record)
    return SimpleNamespace(
        X=X, y=y, models=models, path=folder / "model.safetensors", features=features
    )


@pytest.fixture(scope="module")
def server(digits: SimpleNamespace) -> Iterator[Server]:
    with Server(Explorer.load(digits.path, seed=5)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def request(server: Server, method: str, path: str, body: str = "") -> tuple[int, Any, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = response.status, response.headers, response.read()
    connection.close()
    return answer


def ask(server: Server, name: str, question: Any) -> tuple[int, Any, bytes]:
    return request(server, "POST", f"/{server.token}/{name}", json.dumps(question))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"alpha": 0},
        {"alpha": -3, "position": [5, 2]},
        {"layer": 7, "channel": 2, "images": [7]},
        {"layer": 12, "channel": 1, "alpha": 2},
    ],
)
def test_frames_are_those_of_the_estimator(digits, server, change):
    question = FRAME | change
    status, headers, body = ask(server, "frame", question)
    assert status == 200 and "dur=" in headers["Server-Timing"]
    frame = np.frombuffer(body, np.uint8).reshape(-1, 1, 8, 8)
    feature = [question[name] for name in ("layer", "channel", "alpha", "position")]
    expected = [
        255 * digits.models[1].perturb_feature(digits.X[row], *feature)
        for row in question["images"]
    ]
    assert np.abs(frame - np.stack(expected)).max() <= 0.51  # of 255, by rounding
    originals = digits.X[question["images"]][:, :, ::2, ::2]
    moved = np.abs(frame.astype(int) - originals).max()
    assert moved <= 1 if question["alpha"] == 0 else moved > 5


def test_a_moved_slider_asks_for_no_way_there(digits, monkeypatch):
    explorer = Explorer.load(digits.path)
    ways = []
    run = explorer.flow.run
    monkeypatch.setattr(explorer.flow, "run", lambda *args: ways.append(args) or run(*args))
    for alpha in (1, 2, 3):
        for images in ([0], [0, 1]):
            explorer.frame(FRAME | {"alpha": alpha, "images": images})
    assert len(ways) == 2


def test_classes_are_of_the_image_that_is_shown(digits, server):
    model, row = digits.models[1], FRAME["images"][1]
    answer = json.loads(ask(server, "classify", FRAME | {"which": 1})[2])
    after = model.perturb_feature(digits.X[row], 3, 0, 1.5).repeat(2, 1).repeat(2, 2)
    for when, image in (("before", digits.X[row]), ("after", after)):
        shares = model.predict_proba(image[None])[0]
        assert answer[when]["class"] == NAMES[shares.argmax()]
        assert answer[when]["probability"] == pytest.approx(shares.max(), rel=1e-3)


def test_the_histogram_is_of_the_channel(digits, server):
    found = json.loads(ask(server, "histogram", {"layer": 7, "channel": 3})[2])
    activations = digits.models[1].feature_maps(digits.X[:12], 7)[:, 3]
    assert sum(found["counts"]) == activations.size
    assert found["edges"][0] == pytest.approx(activations.min(), rel=1e-4)
    assert found["mean"] == pytest.approx(activations.mean(), rel=1e-4)
    assert found["std"] == pytest.approx(digits.models[1].feature_std_[7][3])


def test_what_there_is_to_choose_from(digits, server):
    found = json.loads(ask(server, "describe", {})[2])
    assert found["title"] == "mnist, 100 labels, flowgmm, recipe smoke, seed 5"
    assert (found["shape"], found["classes"]) == ([1, 8, 8], NAMES)
    assert found["labels"] == digits.y[:12].tolist()
    assert found["layers"][6] == {"number": 7, "name": "channel-wise coupling", "shape": [4, 4, 4]}
    pixels = np.frombuffer(ask(server, "originals", {"start": 10, "n": 5})[2], np.uint8)
    assert np.array_equal(pixels.reshape(2, 1, 8, 8), digits.X[10:12, :, ::2, ::2])


def test_the_page_asks_nobody_else(server):
    status, headers, body = request(server, "GET", f"/{server.token}/")
    assert (status, body) == (200, explore.page())
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    urls = set(re.findall(rb"\w+://[^\s\"']+", body))
    assert urls == {b"http://www.w3.org/2000/svg"}  # a name, not an address
    assert re.findall(rb"(?:src|href)=\"([^\"]*)", body) == [b"data:,"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": []}, "images=[] is not a list of 1 to 12 rows"),
        ({"images": [0] * 13}, "is not a list of 1 to 12 rows"),
        ({"images": [12]}, "image=12 is not an integer in 0..11"),
        ({"images": [-1]}, "image=-1 is not an integer in 0..11"),
        ({"images": [True]}, "image=True is not an integer"),
        ({"layer": 0}, "layer=0 is not an integer in 1..12"),
        ({"layer": "3"}, "layer='3' is not an integer"),
        ({"channel": 1}, "channel=1 is not an integer in 0..0"),
        ({"alpha": float("nan")}, "alpha=nan is not a number in +-100"),
        ({"alpha": 101}, "alpha=101 is not a number in +-100"),
        ({"alpha": None}, "alpha=None is not a number in +-100"),
        ({"position": [0]}, "position=[0] is neither null nor [row, column]"),
        ({"position": [0, 8]}, "column=8 is not an integer in 0..7"),
    ],
)
def test_parameters_out_of_range_are_refused(server, change, reason):
    status, _, body = ask(server, "frame", FRAME | change)
    assert status == 400
    assert reason in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", "", 403),
        ("GET", "/{token}x/", "", 403),
        ("POST", "/frame", json.dumps(FRAME), 403),
        ("POST", "/wrong/frame", json.dumps(FRAME), 403),
        ("GET", "/{token}/explore.html", "", 404),
        ("GET", "/{token}/../../../../etc/passwd", "", 404),
        ("POST", "/{token}/serve_forever", "{}", 404),
        ("POST", "/{token}/frame", "[]", 400),
        ("POST", "/{token}/frame", "{", 400),
        ("POST", "/{token}/frame", " " * 10_001, 400),
        ("PUT", "/{token}/frame", "{}", 501),
    ],
)
def test_other_questions_are_refused(server, method, path, body, status):
    got, _, answer = request(server, method, path.format(token=server.token), body)
    assert got == status
    assert server.token.encode() not in answer


def test_addresses_are_new_and_local(digits, server):
    assert server.server_address[0] == "127.0.0.1"
    with Server(Explorer.load(digits.path)) as other:
        assert other.token != server.token and len(other.token) >= 32
    with pytest.raises(UserError, match=rf"port {server.server_port} is not available .* --port"):
        Server(Explorer.load(digits.path), server.server_port)


def mistakes(digits: SimpleNamespace, folder: Path) -> dict[str, tuple[list[Any], str]]:
    """Arguments, and what the one line says."""
    wrong = folder / "wrong.safetensors"
    write_tensors(wrong, {"X_test": digits.X[:, :, :8], "y_test": digits.y}, {"classes": NAMES})
    vectors, alone = folder / "vectors.safetensors", folder / "alone.safetensors"
    X = digits.X[:, 0, 0].astype(np.float32)
    flow_gmm(n_steps=2, hidden_size=4).fit(X, digits.y).save(vectors)
    digits.models[0].save(alone)
    moved = folder / "moved" / "model.safetensors"
    digits.models[0].save(moved)
    record = read_json(digits.path.with_name("record.json")) | {"seeds": [0]}
    write_json(moved.with_name("record.json"), record)
    return {
        "seed": ([digits.path, "--seed", 6], "seed 6 is not among the sound ones"),
        "shape": ([digits.path, "--features", wrong], "the features file has (1, 8, 16)"),
        "absent": ([folder / "none.safetensors"], "not found"),
        "no record": ([alone], "give its features file as --features"),
        "moved": ([moved], "not found in a folder features/ above it"),
        "vectors": ([vectors, "--features", wrong], "was fitted to vectors"),
    }


def test_mistakes_end_as_one_line(digits, tmp_path):
    for name, (arguments, line) in mistakes(digits, tmp_path).items():
        done = CliRunner().invoke(app, ["explore", "--no-browser", *map(str, arguments)])
        assert done.exit_code == 2, name
        assert line in done.stderr and done.stderr.count("\n") == 1, name


def test_a_failed_seed_is_not_shown(digits, tmp_path):
    failed = digits.models[0]
    path = tmp_path / "model.safetensors"
    try:
        failed.failure_ = "diverged"
        FlowGMMClassifier.save_stack(path, digits.models)
    finally:
        failed.failure_ = None
    assert Explorer.load(path, digits.features).title == "model.safetensors, seed 1"
    with pytest.raises(UserError, match="seed 0 is not among the sound ones"):
        Explorer.load(path, digits.features, seed=0)


def test_the_command_serves_until_it_is_interrupted(digits):
    command = [sys.executable, "-c", "from flowgmm.cli import main; main()", "explore"]
    with subprocess.Popen(
        [*command, str(digits.path), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite in the background ignores the signal, and its children would, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        title, url = process.stdout.readline(), process.stdout.readline()
        assert title == "mnist, 100 labels, flowgmm, recipe smoke, seed 4\n"
        port, token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/(.*)/\n", url).groups()
        there = SimpleNamespace(server_port=int(port), token=token)
        assert request(there, "GET", f"/{token}/")[0] == 200
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_moves_the_feature(server, tmp_path, monkeypatch):
    """At a phone's width; by keyboard and pointer's events, after which the page reports."""
    script = """<script>onload = async () => {
      const until = async test => { while (!test()) await new Promise(r => setTimeout(r, 20)); };
      const sum = i => {
        const canvas = document.querySelectorAll("#pairs canvas")[i];
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.reduce((a, b) => a + b, 0);
      };
      const said = () => document.querySelector("figcaption")?.textContent ?? "";
      await until(() => said().includes("%"));
      const same = Math.abs(sum(0) - sum(1)) < 64 * 3;
      const slider = $("alpha");
      slider.value = 3;
      slider.dispatchEvent(new Event("input"));
      await until(() => document.querySelector("figcaption.old"));
      await until(() => !document.querySelector("figcaption.old"));
      document.title = [same, sum(0) !== sum(1), document.querySelectorAll("figure").length,
        $("grid").children.length, $("histogram").querySelectorAll("rect").length > 3,
        document.documentElement.scrollWidth <= innerWidth, $("alpha-now").value,
        $("error").textContent, said()].join("|");
    };</script>"""
    page = explore.page()
    monkeypatch.setattr(explore, "page", lambda: page + script.encode())
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--window-size=500,900 --virtual-time-budget=20000 --dump-dom"
    )
    shown = subprocess.run(
        ["chromium", *flags.split(), f"--user-data-dir={tmp_path}/user", server.url],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    title = re.search("<title>(.*?)</title>", shown)
    assert title is not None
    *facts, said = title[1].split("|")
    assert facts == ["true", "true", "4", "12", "true", "true", "3", ""]
    assert re.fullmatch(r"digit 0 \(true\); predicted digit \d, \S+ % → digit \d, \S+ %", said)
