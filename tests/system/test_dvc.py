"""DVC beside Snakemake: record, push, a fresh clone that pulls, and reruns after an edit in it."""

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = (
    *("config", "workflow", "scripts", "flowgmm", "local", ".dvc"),
    *("dvc.yaml", ".dvcignore", ".gitignore", ".gitattributes", "Makefile", "environment.yml"),
)
TARGETS = ("table_7", "figure_1")
RESTORED = ("features/moons.safetensors", "smoke/runs", "smoke/tables", "smoke/figures")


def run(folder: Path, *command: str) -> str:
    """Run a command in a folder, without a user's settings, and return its output."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR"):
        environment[name] = str(folder.parent / name.lower())
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, timeout=300, **pipes)
    assert done.returncode == 0, done.stdout
    return done.stdout


def dvc(folder: Path, *arguments: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *arguments)


def dry_run(folder: Path, *options: str) -> str:
    """Dry run of the recorded targets."""
    arguments = ("--dry-run", "--quiet", "rules", *options, "--", *TARGETS)
    return run(folder, sys.executable, "-m", "snakemake", *arguments)


def make(folder: Path, target: str) -> str:
    """Make a target of the Makefile in the environment of the tests."""
    return run(folder, "make", "--old-file=env", target)


def commit(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    run(folder, "git", *who, "commit", "--quiet", "--message", "state")


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repository in which `dvc repro` has made a table and a figure, in a few steps."""
    folder = tmp_path_factory.mktemp("recorded") / "repository"
    folder.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir() and not (ROOT / name).is_symlink():
            ignore = shutil.ignore_patterns("__pycache__", "tmp", "cache", "config.local")
            shutil.copytree(ROOT / name, folder / name, ignore=ignore, symlinks=True)
        else:
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    edit(folder / "config" / "config.yaml", ("recipe: official", "recipe: smoke"))
    edit(
        folder / "config" / "recipes" / "smoke.yaml",
        ("n_steps: 300", "n_steps: 20"),
        ("n_seeds: 2", "n_seeds: 1"),
    )
    # A figure of a run of the table.
    edit(folder / "config" / "figures.yaml", ("moons, labels: figure", 'moons, labels: "10"'))
    features = [f"results/features/{name}.safetensors" for name in ("moons", "circles")]
    edit(
        folder / "dvc.yaml",
        ("data: all_data", f"data: {' '.join(features)}"),
        ("targets: all", f"targets: {' '.join(TARGETS)}"),
    )
    run(folder, "git", "init", "--quiet")
    dvc(folder, "repro")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, str]]:
    """Bucket of an S3 server on the loopback address, and the server's address."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    pytest.importorskip("dvc_s3", reason="needs dvc-s3")
    import boto3

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="results")
    yield "s3://results/flowgmm", address
    server.stop()


def with_remote(folder: Path, remote: str, request: pytest.FixtureRequest) -> None:
    """Set the default remote in a clone, as docs/dvc.md says."""
    if remote == "s3":
        url, address = request.getfixturevalue("bucket")
        dvc(folder, "remote", "add", "--local", "--force", "--default", "store", url)
        dvc(folder, "remote", "modify", "--local", "store", "endpointurl", address)
    else:
        url = str(request.getfixturevalue("recorded").parent / "remote")
        dvc(folder, "remote", "add", "--local", "--force", "--default", "store", url)


def cloned(recorded: Path, folder: Path, remote: str, request: pytest.FixtureRequest) -> Path:
    """Push from the recorded repository and pull in a fresh clone."""
    with_remote(recorded, remote, request)
    assert "pushed" in dvc(recorded, "push")
    run(folder.parent, "git", "clone", "--quiet", str(recorded), str(folder))
    with_remote(folder, remote, request)
    make(folder, "pull")
    return folder


@pytest.fixture(scope="module")
def pulled(
    recorded: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    return cloned(recorded, tmp_path_factory.mktemp("pulled") / "clone", "local", request)


def assert_restored(recorded: Path, clone: Path) -> None:
    """Assert that all files came back and neither DVC nor Snakemake has work."""
    for name in RESTORED:
        path = recorded / "results" / name
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        assert files
        for file in files:
            assert filecmp.cmp(file, clone / file.relative_to(recorded), shallow=False)
    assert "up to date" in dvc(clone, "status")
    assert "Nothing to be done" in dry_run(clone, "--profile", "local")
    # No file is compared by content: times count.
    assert "Nothing to be done" in dry_run(clone, "--cores", "1", "--max-checksum-file-size", "0")
    assert not run(clone, "git", "status", "--porcelain")


def test_a_clone_pulls_everything_from_a_folder(recorded: Path, pulled: Path) -> None:
    assert_restored(recorded, pulled)
    assert os.access(pulled / "results" / "smoke" / "tables" / "table_7.md", os.W_OK)


def test_a_clone_pulls_everything_from_s3(
    recorded: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert_restored(recorded, cloned(recorded, tmp_path / "clone", "s3", request))


def test_a_second_repro_does_nothing(recorded: Path) -> None:
    unfinished = recorded / "results" / "smoke" / "checkpoints" / "a" / "state"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    said = dvc(recorded, "repro")
    assert said.count("didn't change, skipping") == 3
    assert "Running stage" not in said


def test_a_clone_without_the_results_makes_them(recorded: Path, tmp_path: Path) -> None:
    """The copies in git do not pass for finished work; metrics and plots show them."""
    run(tmp_path, "git", "clone", "--quiet", str(recorded), str(tmp_path / "clone"))
    assert "train_stack" in dry_run(tmp_path / "clone", "--profile", "local")
    copies = tmp_path / "clone" / "docs" / "results" / "smoke"
    assert "| moons" in (copies / "tables" / "table_7.md").read_text()
    shown = json.loads(dvc(tmp_path / "clone", "metrics", "show", "--json"))
    (file,) = shown[""]["data"].values()
    assert file["data"]["table_7"]["moons/10"]["flowgmm"]["test_accuracy"] > 40
    dvc(tmp_path / "clone", "plots", "show", "--out", "plots")
    page = (tmp_path / "clone" / "plots" / "index.html").read_text()
    assert "table_7 moons/10 flowgmm" in page
    assert "figure_1.png" in page
    assert "labelLimit" in page  # our template: names are not cut


LATER = {"make_table", "make_figure"}


@pytest.mark.parametrize(
    ("file", "change", "rerun"),
    [
        (
            "config/recipes/smoke.yaml",
            ("n_couplings: 5", "n_couplings: 4"),
            {"train_stack", *LATER},
        ),
        (
            "flowgmm/datasets/splits.py",
            ("\n\n\n", "\n\nEDITED = 1\n"),
            {"draw_split", "train_stack", *LATER},
        ),
    ],
)
def test_an_edit_after_the_pull_reruns_what_depends_on_it(
    pulled: Path, file: str, change: tuple[str, str], rerun: set[str]
) -> None:
    edit(pulled / file, change)
    try:
        said, status = dry_run(pulled, "--profile", "local"), dvc(pulled, "status")
    finally:
        run(pulled, "git", "checkout", "--quiet", file)
    stats = said.split("Job stats:")[1].split("\n\n")[0]
    planned = set(re.findall(r"^(\w+) +\d+$", stats, re.MULTILINE))
    assert planned - {"total", *TARGETS} == rerun
    assert "results:\n\tchanged deps:" in status


def test_a_run_without_dvc_is_recorded(pulled: Path) -> None:
    """Snakemake was called, not DVC, as on a cluster."""
    fewer = "circles: {methods: {flowgmm: {params: {training: {n_steps: 10}}}}}"
    edit(pulled / "config/recipes/smoke.yaml", ("\ndatasets:\n", f"\ndatasets:\n  {fewer}\n"))
    run(pulled, sys.executable, "-m", "snakemake", "--profile", "local", "--", *TARGETS)
    make(pulled, "record")
    assert "up to date" in dvc(pulled, "status")
    assert "Nothing to be done" in dry_run(pulled, "--profile", "local")
    assert "test_nll" in dvc(pulled, "metrics", "diff")
    assert re.search(r"datasets\.circles\.\S*n_steps\s+-\s+10", dvc(pulled, "params", "diff"))
    commit(pulled)
    assert "pushed" in dvc(pulled, "push")
