"""Nothing untrusted is run: not from files, nor by way of names, paths and URLs in the config."""

import ast
import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import record
from workspace import ROOT, copy_repository, snakemake

from flowgmm.experiments import project as module
from flowgmm.experiments import yaml_io
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.utils.errors import UserError

SOURCES = sorted([*ROOT.glob("flowgmm/**/*.py"), *ROOT.glob("scripts/*.py")])
RULES = sorted([*ROOT.glob("workflow/**/*.smk"), ROOT / "workflow" / "Snakefile"])

# Calls that are safe with one value of an argument only; ruff's rules (S, TID251) find the others.
REQUIRED = {
    "torch.load": ("weights_only", "True"),
    "np.load": ("allow_pickle", "False"),
    "numpy.load": ("allow_pickle", "False"),
}


def dangers(source: str) -> Iterator[str]:
    """Calls that unpickle, unpack by name or run code of a model, which ruff has no rule for."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        key, value = REQUIRED.get(name, (None, None))
        if (
            re.fullmatch(r".*\.(to_pickle|extract|extractall)", name)
            or given.get("trust_remote_code", "False") != "False"
            or (key is not None and given.get(key) != value)
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_what_it_reads(path: Path) -> None:
    assert not list(dangers(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "AutoModel.from_pretrained(f, trust_remote_code=True)",
        "archive.extractall(folder)",
        "frame.to_pickle(f)",
    ],
)
def test_the_check_finds(code: str) -> None:
    assert list(dangers(code))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\n\npickle.load(f)",
        "import marshal\n\nmarshal.loads(f)",
        "import shelve\n\nshelve.open(f)",
        "import joblib\n\njoblib.load(f)",
        "import pandas as pd\n\npd.read_pickle(f)",
        "import yaml\n\nyaml.load(f, Loader=yaml.Loader)",
        "import yaml\n\nyaml.unsafe_load(f)",
        "import yaml\n\nyaml.full_load(f)",
        "import subprocess\n\nsubprocess.run(x, shell=True)",
        "import subprocess\n\nsubprocess.getoutput(x)",
        "import os\n\nos.system(x)",
        "import os\n\nos.popen(x)",
        "import shutil\n\nshutil.unpack_archive(f)",
        "import tarfile\n\ntarfile.open(f).extractall(folder)",
        "eval(x)",
        "exec(x)",
    ],
)
@pytest.mark.parametrize("folder", ["flowgmm", "scripts"])
def test_the_linter_finds(code: str, folder: str) -> None:
    """With the project's own settings, as `make lint` has them."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"]
    name = ROOT / folder / "example.py"
    found = subprocess.run(
        [*command, "--select", "S,TID251", "--stdin-filename", str(name), "-"],
        input=code,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert found.returncode == 1, found.stderr
    assert re.search(r": (S|TID251)", found.stdout), found.stdout


def test_yaml_makes_no_objects() -> None:
    assert issubclass(yaml_io._Loader, (yaml.SafeLoader, yaml.CSafeLoader))
    with pytest.raises(yaml.constructor.ConstructorError, match="could not determine"):
        yaml.load("!!python/object/apply:os.getcwd []", Loader=yaml_io._Loader)  # noqa: S506


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_quote_all_they_give_to_the_shell(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for block in re.findall(r"\n    shell:\n((?:        .*\n?)+)", text):
        for placeholder in re.findall(r"\{([^{}]+)\}", block):
            assert placeholder == "threads" or placeholder.endswith(":q"), placeholder
    assert not re.search(r"^ +(script|run):", text, re.MULTILINE)


BAD = [
    "a b",
    "a;b",
    "$(touch x)",
    "`x`",
    "a\n",
    "a\nb",
    "'",
    '"',
    "..",
    ".hidden",
    "a/b",
    "-rf",
    "{w}",
]


def named(what: str, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings under which something in the config has this name."""
    settings = dict(SETTINGS)
    datasets, methods = copy.deepcopy(DATASETS), dict(METHODS)
    if what == "dataset":
        datasets[name] = datasets["digits"]
    elif what in ("labels", "file"):
        entry = dict(datasets["digits"])
        entry["labels"] = entry["labels"] | ({name: {"n_labels": 50}} if what == "labels" else {})
        entry["files"] = {name: {"mirror": "x"}} if what == "file" else {}
        datasets["digits"] = entry
    elif what == "method":
        methods[name] = methods["knn"]
    else:
        settings[{"recipe": "recipe", "encoder": "text_encoder"}[what]] = name

    def changed(path: Path) -> Any:
        return {"datasets.yaml": datasets, "methods.yaml": methods}.get(path.name) or READ(path)

    monkeypatch.setattr(module, "read_yaml", changed)
    return settings


@pytest.mark.parametrize("what", ["dataset", "labels", "file", "method", "encoder"])
def test_other_names_are_accepted(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load_checked(ROOT, named(what, "a_b.1", monkeypatch))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("what", ["dataset", "labels", "file", "method", "recipe", "encoder"])
def test_names_are_parts_of_paths_and_nothing_else(
    what: str, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (what, bad) in {("encoder", "a/b"), ("file", "-rf")}:
        return  # a model of the hub; a name below a folder
    with pytest.raises(UserError) as refused:
        load_checked(ROOT, named(what, bad, monkeypatch))
    assert len(str(refused.value).splitlines()) == 1


READ = read_yaml
SETTINGS, DATASETS, METHODS = (
    read_yaml(ROOT / "config" / f"{name}.yaml") for name in ("config", "datasets", "methods")
)


def test_no_password_in_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = DATASETS["magic"]
    for url in ("https://user:hunter2@example.org/f", "http://hunter2@example.org"):
        files = {"magic04.data": {"url": [url]}}
        datasets = copy.deepcopy(DATASETS) | {"magic": entry | {"files": files}}
        monkeypatch.setattr(
            module, "read_yaml", lambda p, d=datasets: d if p.name == "datasets.yaml" else READ(p)
        )
        with pytest.raises(UserError, match=r"magic04.data.*put it into ~/.netrc") as refused:
            load_checked(ROOT, SETTINGS)
        assert "hunter2" not in str(refused.value)


def test_paths_of_all_kinds_are_safe_and_no_secret_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blanks, quotes, `;`, `$()` and line ends in paths; secrets in the environment."""
    secrets = {"AWS_SECRET_ACCESS_KEY": "xyz123-secret", "HF_TOKEN": "hf_secret-token"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    clone = copy_repository(tmp_path / "a b;c'd")
    nasty = "$(touch pwned) `touch pwned`; touch pwned; \"'\n&|>pwned"
    mirror = tmp_path / f"mirror {nasty}"
    mirror.mkdir()
    rows = "".join(f"{k},{k % 5},{k % 2}\n" for k in range(30))
    (mirror / f"t {nasty}.csv").write_text("a,b,y\n" + rows)
    entry = {"title": nasty, "kind": "table", "licence": nasty, "loader": "table"}
    entry |= {"options": {"file": "t.csv", "label": "y"}, "notes": [nasty]}
    entry |= {"files": {"t.csv": {"mirror": f"t {nasty}.csv"}}}
    entry |= {"labels": {"4": {"n_labels": 4, "n_val": 4}}}
    with (clone / "config" / "datasets.yaml").open("a") as handle:
        handle.write("\n" + yaml.safe_dump({"nasty": entry}))
    settings = yaml.safe_load((clone / "config" / "config.yaml").read_text())
    settings |= {"recipe": "smoke", "mirror": str(mirror)}
    (clone / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
    run = "results/smoke/runs/nasty/4/logistic_regression/seeds-0-1/record.json"
    snakemake(clone, "--profile", "local", "--", run)
    assert (clone / run).exists()
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in everything if path.name == "pwned"]
    for path in everything:
        content = path.read_bytes()
        assert not any(value.encode() in content for value in secrets.values()), path
    record("paths with blanks, quotes, `;`, `$()` and line ends", 1, 1, "nothing", "nothing")
