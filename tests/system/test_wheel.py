"""The wheel and the source distribution in environments that have nothing else."""

import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from commands import make_table
from installed import Environment, build, needed

FIT = """
import numpy as np
import flowgmm
rng = np.random.default_rng(0)
y = np.arange(80) % 2
X = rng.normal(size=(80, 3)) + 4 * y[:, None]
seen = np.where(np.arange(80) < 20, y, -1)
flow = flowgmm.RealNVP(n_couplings=2, hidden_size=16)
training = flowgmm.Training(n_steps=60, n_epochs=None)
model = flowgmm.FlowGMMClassifier(flow=flow, training=training, random_state=0).fit(X, seen)
print(flowgmm.__version__, flowgmm.__file__, model.score(X, y))
"""
EXPLORE = """
import threading
import urllib.request
from pathlib import Path
import numpy as np
from flowgmm import FlowGMMClassifier, MultiscaleRealNVP, Training
from flowgmm.apps.explore.explorer import Explorer
from flowgmm.apps.explore.server import Server
from flowgmm.utils.io import sha256, write_json, write_tensors
X = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16)).astype("uint8")
y = np.arange(20) % 2
flow = MultiscaleRealNVP(n_filters=4, n_blocks=1, pool=2, crop_padding=1)
model = FlowGMMClassifier(flow, training=Training(n_steps=2, n_epochs=None), random_state=0)
FlowGMMClassifier.save_stack(Path("model.safetensors"), [model.fit(X, y)])
features = Path("features.safetensors")
write_tensors(features, {"X_test": X, "y_test": y}, {"classes": ["a", "b"]})
record = {"dataset": "own", "labels": "20", "method": "flowgmm", "recipe": "mine", "seeds": [0]}
write_json("record.json", record | {"hashes": {"features": sha256(features)}})
with Server(Explorer.load(Path("model.safetensors"), features)) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(urllib.request.urlopen(server.url).read().decode())
    server.shutdown()
"""
REPOSITORY = [
    ("add-dataset", "own", "own.csv", "--label", "kind", "--n-labels", "12"),
    ("estimate", "table_1"),
    ("why", "table_1", "ag_news", "flowgmm"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("bare"), wheel)


@pytest.fixture(scope="module")
def cli(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("cli"), wheel, "cli")


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a command ended."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_the_estimators_alone(bare: Environment, tmp_path: Path) -> None:
    done = bare.run(tmp_path, "python", "-c", FIT)
    assert done.returncode == 0, done.stderr
    version, file, score = done.stdout.split()
    assert version == "0.1.0" and Path(file).is_relative_to(bare.folder)
    assert float(score) > 0.9


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "own.csv"),
        ("predict", "own-flowgmm", "new.csv"),
        ("sample", "own-flowgmm"),
        ("explore", "model.safetensors"),
        ("--help",),
        *REPOSITORY,
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_without_its_extra(
    bare: Environment, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    line = refusal(bare.run(tmp_path, "flowgmm", *arguments))
    assert line.endswith("is not installed, which this command needs; pip install 'flowgmm[cli]'")


def test_fit_predict_and_sample(cli: Environment, tmp_path: Path) -> None:
    make_table(tmp_path / "own.csv", n=60)
    for command, written in (
        (("fit", "own.csv", "--label", "kind", "--method", "flowgmm"), "own-flowgmm/report.html"),
        (("predict", "own-flowgmm", "own.csv", "--output", "out.csv"), "out.csv"),
        (("sample", "own-flowgmm", "-n", "5", "--output", "drawn.csv"), "drawn.csv"),
    ):
        done = cli.run(tmp_path, "flowgmm", *command)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / written).is_file()
    assert "<html" in (tmp_path / "own-flowgmm" / "report.html").read_text()
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 61
    assert len((tmp_path / "drawn.csv").read_text().splitlines()) == 6


def test_explore(cli: Environment, tmp_path: Path) -> None:
    done = cli.run(tmp_path, "python", "-c", EXPLORE)
    assert "<html" in done.stdout, done.stderr
    assert "missing.safetensors" in refusal(
        cli.run(tmp_path, "flowgmm", "explore", "missing.safetensors")
    )


@pytest.mark.parametrize("arguments", REPOSITORY, ids=lambda arguments: arguments[0])
def test_a_command_that_needs_the_repository(
    cli: Environment, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert f"{tmp_path} is not the repository" in refusal(cli.run(tmp_path, "flowgmm", *arguments))


def test_text_without_its_extra(cli: Environment, tmp_path: Path) -> None:
    words = ["red green", "blue grey", "black white"] * 20
    make_table(tmp_path / "own.csv", n=60, words=words)
    options = ("--label", "kind", "--text", "words", "--encoder", "somebody/bert")
    line = refusal(cli.run(tmp_path, "flowgmm", "fit", "own.csv", *options))
    assert "pip install 'flowgmm[text]'" in line


def test_workflow_has_all_that_cli_has(wheel: Path) -> None:
    bare, cli, workflow = (needed(wheel, *extras) for extras in ((), ("cli",), ("workflow",)))
    assert bare < cli < workflow
    assert "pandas" in cli - bare
    assert "snakemake" in workflow - cli


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build(tmp_path / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    again = build(tmp_path / "again", "wheel", source)
    contents = []
    for path in (wheel, again):
        with zipfile.ZipFile(path) as archive:
            contents.append({name: archive.read(name) for name in archive.namelist()})
    assert contents[0] == contents[1]
    files = (
        "apps/fit/report.html",
        "apps/explore/page.html",
        "reporting/style/page.css",
        "reporting/style/verdicts.css",
        *(f"reporting/report/templates/report.{kind}" for kind in ("html", "css", "js")),
    )
    assert {f"flowgmm/{name}" for name in files} < contents[0].keys()
    assert not [name for name in contents[0] if name.startswith(("tests", "build"))]
