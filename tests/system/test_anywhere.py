"""The workflow from another folder and as a module of another one, with data of the user's."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from workspace import copy_repository, snakemake

from flowgmm.utils.io import read_json

TABLE = "results/smoke/tables/own.json"
MADE = "results/raw/own/own.npz"

MAKE = """
import sys
import numpy as np
rng = np.random.default_rng(0)
parts = {}
for part, n in (("train", 90), ("test", 40)):
    parts[f"y_{part}"] = y = np.arange(n) % 2
    parts[f"X_{part}"] = rng.normal(0, 1, (n, 3)) + 4 * y[:, None]
np.savez(sys.argv[1], **parts)
"""
# The rule says which signals its shell ignores: none, as in any other workflow.
RULE = f"""
rule make_own:
    output:
        "{MADE}",
    shell:
        "trap -p TERM > trapped; python make_own.py {{output:q}}"
"""
MODULE = """
configfile: "config/config.yaml"

module flowgmm:
    snakefile:
        {snakefile}
    config:
        {config}

use rule * from flowgmm{renamed}

onsuccess:
    flowgmm.onsuccess()
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the repository below a name that a shell would split."""
    folder = tmp_path_factory.mktemp("repository") / "flow gmm"
    folder.mkdir()
    return copy_repository(folder)


def write_config(repository: Path, project: Path, files: dict[str, dict[str, str]]) -> None:
    """Copy the config, with a data set `own` of these files and a table of it."""
    shutil.copytree(repository / "config", project / "config")
    entry = {"title": "Own", "kind": "table", "licence": "generated", "files": files}
    entry["loader"] = "arrays" if "own.npz" in files else "table"
    entry["options"] = {"file": next(iter(files))}
    entry["options"] |= {} if "own.npz" in files else {"label": "kind"}
    entry["labels"] = {"20": {"n_labels": 20, "n_val": 20}}
    table = {"title": "Own", "aggregate": "mean", "spread": "std", "metric": "accuracy"}
    table |= {"evaluate": "test", "rows": ["knn"]}
    table["columns"] = [{"dataset": "own", "labels": "20", "title": "own"}]
    for name, content in (("datasets", entry), ("tables", table)):
        with (project / "config" / f"{name}.yaml").open("a") as handle:
            handle.write("\n" + yaml.safe_dump({"own": content}))
    (project / "make_own.py").write_text(MAKE)


def write_table(path: Path) -> None:
    """Write a table of two classes."""
    rng = np.random.default_rng(0)
    y = np.arange(130) % 2
    rows = np.column_stack([rng.normal(0, 1, (130, 2)) + 4 * y[:, None], y])
    np.savetxt(path, rows, delimiter=",", header="a,b,kind", comments="", fmt=["%f", "%f", "%d"])


# Ways to start, each with another origin of the data set: where the project is, its options.


def own_table_beside_the_config(repository: Path, project: Path) -> tuple[Path, list[str]]:
    """`-s`, in the folder that has `config/`; a CSV."""
    write_config(repository, project, {"own.csv": {"path": "mine/own.csv"}})
    (project / "mine").mkdir()
    write_table(project / "mine" / "own.csv")
    snakefile = str(repository / "workflow" / "Snakefile")
    return project, ["-s", snakefile, "--config", "recipe=smoke"]


def own_rules_file_beside_the_config(repository: Path, project: Path) -> tuple[Path, list[str]]:
    """`-s` and `-d`; a rules file, and one that the config does not name."""
    write_config(repository, project, {"own.npz": {"rules": "own.smk"}})
    rules = project / "workflow" / "rules" / "datasets"
    rules.mkdir(parents=True)
    (rules / "own.smk").write_text(RULE)
    (rules / "of_something_else.smk").write_text("raise ValueError")
    snakefile = str(repository / "workflow" / "Snakefile")
    return project.parent, ["-s", snakefile, "-d", project.name, "--config", "recipe=smoke"]


def module_beside_a_rule(repository: Path, project: Path) -> tuple[Path, list[str]]:
    """A module under its own names, and a rule of the Snakefile that uses it."""
    write_config(repository, project, {"own.npz": {"rules": "Snakefile"}})
    snakefile = repr(str(repository / "workflow" / "Snakefile"))
    text = MODULE.format(snakefile=snakefile, config="config", renamed="")
    (project / "Snakefile").write_text(text + RULE)
    return project, ["--config", "recipe=smoke"]


def renamed_module(repository: Path, project: Path) -> tuple[Path, list[str]]:
    """A module with a prefix, its settings below a key, and a rule in a file of its own."""
    write_config(repository, project, {"own.npz": {"rules": "workflow/own.smk"}})
    config = project / "config" / "config.yaml"
    settings = yaml.safe_load(config.read_text()) | {"recipe": "smoke"}
    config.write_text(yaml.safe_dump({"flowgmm": settings, "else": 1}))
    (project / "workflow").mkdir()
    (project / "workflow" / "own.smk").write_text(RULE)
    place = repr(str(repository / "workflow" / "Snakefile"))
    text = MODULE.format(snakefile=place, config='config["flowgmm"]', renamed=" as flowgmm_*")
    (project / "workflow" / "Snakefile").write_text(text + 'include: "own.smk"\n')
    return project, []


WAYS = [
    own_table_beside_the_config,
    own_rules_file_beside_the_config,
    module_beside_a_rule,
    renamed_module,
]
Way = Callable[[Path, Path], tuple[Path, list[str]]]


@dataclass
class Ran:
    """A project with its table: the way, its folder, where Snakemake starts, and its options."""

    way: Way
    repository: Path
    project: Path
    folder: Path
    options: list[str]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.__name__)
def ran(
    request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Ran:
    project = tmp_path_factory.mktemp("user") / "project"
    project.mkdir()
    folder, options = request.param(repository, project)
    run(Ran(request.param, repository, project, folder, options))
    return Ran(request.param, repository, project, folder, options)


def run(ran: Ran, *more: str, target: str = TABLE) -> str:
    command = ("--cores", "2", *ran.options, *more, "--", target)
    return snakemake(ran.repository, *command, within=("env", "-C", str(ran.folder)))


def test_own_data_are_in_a_table(ran: Ran) -> None:
    ((cell,),) = read_json(ran.project / TABLE)["cells"]
    assert cell["n"] > 1 and cell["value"] > 90


def test_nothing_is_written_beside_the_snakefile(ran: Ran) -> None:
    assert not (ran.repository / "results").exists()
    assert not (ran.repository / ".snakemake").exists()


def test_a_run_leaves_no_checkpoints(ran: Ran) -> None:
    assert not list((ran.project / "results/smoke/checkpoints").iterdir())


def test_rules_of_the_user_have_their_own_shell(ran: Ran) -> None:
    trapped = ran.project / "trapped"
    assert trapped.exists() == (ran.way is not own_table_beside_the_config)
    assert not trapped.exists() or trapped.read_text() == ""


def test_every_table_and_figure_can_be_planned(ran: Ran) -> None:
    prefix = "flowgmm_" if ran.way is renamed_module else ""
    said = run(ran, "--dry-run", "--quiet", "rules", target=f"{prefix}all")
    assert f"{prefix}make_figure" in said


def test_a_repository_that_moved_reruns_nothing(ran: Ran, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(ran.repository, moved, symlinks=True)
    project = tmp_path / "project"
    shutil.copytree(ran.project, project)
    for path in (project / "Snakefile", project / "workflow" / "Snakefile"):
        if path.exists():
            path.write_text(path.read_text().replace(str(ran.repository), str(moved)))
    options = [option.replace(str(ran.repository), str(moved)) for option in ran.options]
    folder = project if ran.folder == ran.project else tmp_path
    said = run(Ran(ran.way, moved, project, folder, options), "--dry-run")
    assert "Nothing to be done" in said


def test_a_module_from_a_git_host(repository: Path, tmp_path: Path) -> None:
    """`github(...)`, whose address git replaces by that of a local repository."""
    hosted = tmp_path / "hosted"
    shutil.copytree(repository, hosted, symlinks=True)
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    commands = [("init",), ("add", "--all"), (*who, "commit", "-m", "all"), ("tag", "v1")]
    for command in commands:
        subprocess.run(["git", "-C", str(hosted), *command], check=True, capture_output=True)
    project = tmp_path / "project"
    project.mkdir()
    write_config(repository, project, {"own.npz": {"rules": "Snakefile"}})
    place = 'github("somebody/flowgmm", path="workflow/Snakefile", tag="v1")'
    (project / "Snakefile").write_text(
        MODULE.format(snakefile=place, config="config", renamed=" as flowgmm_*") + RULE
    )
    variables = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{hosted}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/somebody/flowgmm",
    }
    within = ("env", "-C", str(project), *(f"{k}={v}" for k, v in variables.items()))
    options = ("--cores", "2", "--config", "recipe=smoke", "--", TABLE)
    snakemake(repository, *options, within=within)
    ((cell,),) = read_json(project / TABLE)["cells"]
    assert cell["value"] > 90


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ("recipes/smoke.yaml", "unknown recipe 'smoke'"),
        ("datasets.yaml", "config/datasets.yaml is missing; restore it, or run where config/ is"),
        ("config.yaml", "configfile config/config.yaml but it is not present"),
    ],
)
def test_a_folder_without_a_config_file(
    repository: Path, tmp_path: Path, spoil: str, expected: str
) -> None:
    shutil.copytree(repository / "config", tmp_path / "config")
    os.unlink(tmp_path / "config" / spoil)
    options = ("-s", str(repository / "workflow" / "Snakefile"), "--cores", "1")
    within = ("env", "-C", str(tmp_path))
    more = ("--config", "recipe=smoke", "--", "table_7")
    said = snakemake(repository, *options, *more, ok=False, within=within)
    assert expected in said
    assert "Traceback" not in said and "rule " not in said


@pytest.mark.parametrize("rules", ["owm.smk", "Snakefil", "workflow/own.smk"])
def test_a_rules_file_that_is_not_found(repository: Path, tmp_path: Path, rules: str) -> None:
    write_config(repository, tmp_path, {"own.npz": {"rules": rules}})
    options = ("-s", str(repository / "workflow" / "Snakefile"), "--cores", "1", "--", TABLE)
    said = snakemake(repository, *options, ok=False, within=("env", "-C", str(tmp_path)))
    assert f"unknown file of workflow/rules/datasets '{rules}'" in said
    assert "Traceback" not in said
