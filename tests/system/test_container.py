"""The container's recipes, as far as they can be tried without a container."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
import yaml
from workspace import ROOT, copy_repository, environment, snakemake

RECIPES = ("Dockerfile", "apptainer.def")
SPLIT = "results/smoke/splits/moons/10/split-0.safetensors"
# In place of the program: writes down what it is asked, and runs the command at the end of it.
APPTAINER = """#!/bin/sh
[ "$1" = --version ] && exec echo apptainer version 1.3.4
printf '%s\\n' "$*" >> asked
while [ "$1" != bash ]; do shift; done
exec "$@"
"""


def install(script: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(script), *arguments], env=os.environ | variables, capture_output=True, text=True
    )


def copied(recipe: str) -> list[tuple[str, str]]:
    """Files and folders that a recipe copies, and where to."""
    text = (ROOT / "container" / recipe).read_text()
    if recipe == "Dockerfile":
        found = [line.split() for line in re.findall(r"^COPY (.*)", text, re.MULTILINE)]
        return [
            (source, target + (source.split("/")[-1] if target.endswith("/") else ""))
            for *sources, target in found
            for source in sources
        ]
    (block,) = re.findall(r"%files\n((?:    .*\n)+)", text)
    return [tuple(line.split()) for line in block.splitlines()]


@pytest.fixture(scope="module", params=RECIPES)
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what the recipe's copies make in the image."""
    folder = tmp_path_factory.mktemp("image")
    for source, target in copied(request.param):
        place = folder / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, place)
    return folder


def test_the_script_makes_an_environment_in_an_empty_directory(image: Path, tmp_path: Path) -> None:
    """Without what the package needs, which would be 6 GB from the network."""
    builder = tmp_path / "builder"
    builder.mkdir()
    for name in ("setuptools", "_distutils_hack"):
        (builder / name).symlink_to(Path(setuptools.__file__).parents[1] / name)
    repository = image / "opt" / "flowgmm"
    before = sorted(repository.rglob("*"))
    made = tmp_path / "environment"
    variables = {"PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PYTHON": sys.executable}
    done = install(
        repository / "container" / "install.sh", str(made), PYTHONPATH=str(builder), **variables
    )
    assert done.returncode == 0, done.stderr
    assert sorted(repository.rglob("*")) == before
    code = "import flowgmm; print(flowgmm.__file__)"
    said = subprocess.run(
        [made / "bin" / "python", "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(said.stdout).is_relative_to(made)
    assert (made / "bin" / "flowgmm").is_file()


def test_the_workflow_in_the_image_is_whole(image: Path, tmp_path: Path) -> None:
    repository = image / "opt" / "flowgmm"
    shutil.copytree(repository / "config", tmp_path / "config")
    options = ("-s", str(repository / "workflow" / "Snakefile"), "--cores", "1", "--dry-run")
    said = snakemake(repository, *options, "--", "all", within=("env", "-C", str(tmp_path)))
    assert "make_table" in said


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_make_the_environment_of_the_script(recipe: str) -> None:
    text = (ROOT / "container" / recipe).read_text()
    assert re.search(r"/opt/flowgmm/container/install.sh /opt/environment \S*.*VARIANT", text)
    assert "/opt/environment/bin:$PATH" in text
    assert "pip" not in re.sub("#.*", "", text)


def test_the_script_installs_what_the_environment_file_does() -> None:
    script = (ROOT / "container" / "install.sh").read_text()
    *_, packages = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    constraints, package = packages["pip"]
    assert constraints == "-c constraints.txt" and '-c "$sources/constraints.txt"' in script
    assert f'"$sources{package.removeprefix("-e .")}"' in script


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "0 arguments"),
        (("new", "rocm"), "variant 'rocm', expected cuda or cpu"),
        (("full",), "full is not empty; give another directory"),
        (("new", "cpu", "more"), "3 arguments"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    done = install(ROOT / "container" / "install.sh", *arguments)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and expected in line
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("settings", [["container=flowgmm.sif"], []])
def test_jobs_run_in_the_image(tmp_path: Path, settings: list[str]) -> None:
    clone = copy_repository(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "apptainer").write_text(APPTAINER)
    (programs / "apptainer").chmod(0o755)
    path = f"PATH={programs}{os.pathsep}{environment(clone)['PATH']}"
    options = ("--sdm", "apptainer", "--cores", "1", "--config", "recipe=smoke")
    snakemake(clone, *options, *settings, "--", SPLIT, within=("env", path))
    assert (clone / SPLIT).is_file()
    asked = clone / "asked"
    assert asked.exists() == bool(settings)
    if settings:
        pattern = r"exec --home .* flowgmm\.sif bash -c .*python (\S+)"
        commands = re.findall(pattern, asked.read_text())
        assert [Path(command).name for command in commands] == ["prepare_data.py", "draw_split.py"]
