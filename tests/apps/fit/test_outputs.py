"""Nothing is overwritten: inputs never, other files with --force only; the default folder."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from customers import run

from flowgmm.apps.fit.run import FILES
from flowgmm.apps.outputs import results_folder


@pytest.fixture
def own(fitted, tmp_path, monkeypatch):
    """A copy of the fitted folder, `model`, and of its table, `new.csv`, in a folder of their own.

    The working directory is that folder.
    """
    monkeypatch.chdir(tmp_path)
    shutil.copytree(fitted[0], "model")
    shutil.copy(fitted[0].parent / "customers.csv", "new.csv")
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def symbolic(target: str) -> str:
    os.symlink(target, "link.csv")
    return "link.csv"


def hard(target: str) -> str:
    os.link(target, "hard.csv")
    return "hard.csv"


def through_a_folder(target: str) -> str:
    os.symlink(os.path.dirname(target) or ".", "elsewhere")
    return f"elsewhere/{os.path.basename(target)}"


WAYS = [str, os.path.abspath, lambda target: f"model/../{target}", symbolic, hard, through_a_folder]


def refused(*arguments: object) -> str:
    """Run a command that ends in one line; return the line."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["new.csv", "model/model.json", "model/predictions.csv"])
def test_predictions_replace_no_input(own, way, target, force):
    output = way(target)
    before = content(own)
    said = refused("predict", "model", "new.csv", "--output", output, *force)
    assert "would replace the input" in said
    assert content(own) == before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["model/model.safetensors", "model/report.html"])
def test_samples_replace_no_file_of_the_model(own, way, target):
    output = way(target)
    before = content(own)
    assert "the input model" in refused("sample", "model", "--output", output, "--force")
    assert content(own) == before


def test_an_input_that_is_a_link_is_not_replaced_where_it_points(own):
    symbolic("new.csv")
    refused("predict", "model", "link.csv", "--output", "new.csv", "--force")
    refused("predict", "model", "link.csv", "--output", "link.csv", "--force")


@pytest.mark.parametrize(
    "command", [("predict", "model", "new.csv"), ("sample", "model", "-n", 3)], ids=str
)
def test_an_existing_file_is_replaced_with_force_only(own, command):
    Path("out.csv").write_text("mine")
    said = refused(*command, "--output", "out.csv")
    assert "out.csv already exists; choose another --output, or give --force" in said
    assert Path("out.csv").read_text() == "mine"
    assert run(*command, "--output", "out.csv", "--force").exit_code == 0
    assert len(pd.read_csv("out.csv")) in (3, 90)
    assert run(*command, "--output", "other.csv").exit_code == 0
    assert Path("other.csv").read_bytes() == Path("out.csv").read_bytes()


@pytest.mark.parametrize("place", ["model", ".", "pipe", "/dev/null"])
def test_only_a_regular_file_is_replaced(own, place):
    os.mkfifo("pipe")
    for command in (("predict", "model", "new.csv"), ("sample", "model")):
        assert "no regular file" in refused(*command, "--output", place, "--force")
    assert not Path("/dev/null").is_file() and Path("/dev/null").exists()


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize(
    ("table", "test", "output"),
    [
        ("model/predictions.csv", None, "model"),
        ("model/predictions.csv", None, "model/../model/"),
        ("model/predictions.csv", None, "linked"),
        ("linked/predictions.csv", None, "model"),
        ("new.csv", "model/predictions.csv", "model"),
        ("new.csv", "hard.csv", "model"),
        ("link.csv", None, "model"),
        ("predictions.csv", None, "predictions.csv"),
        ("new.csv", "predictions.csv", "predictions.csv"),
        ("new.csv", None, "."),
        ("model/predictions.csv", None, "."),
    ],
)
def test_results_of_fit_replace_no_input(own, table, test, output, force):
    os.symlink("model", "linked")
    os.symlink("model/predictions.csv", "link.csv")
    os.link("model/predictions.csv", "hard.csv")
    shutil.copy("new.csv", "predictions.csv")
    before = content(own)
    more = () if test is None else ("--test", test)
    said = refused("fit", table, "--label", "given", "--output", output, *more, *force)
    assert "would replace the input" in said
    assert content(own) == before


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path.write_text("mine"), "report.html is no folder"),
        (lambda path: path.symlink_to("new.csv"), "would replace the input"),
        (lambda path: (path.mkdir(), (path / "a").mkdir()), "'a', which --force keeps"),
    ],
)
def test_force_replaces_folders_of_results_only(own, make, expected):
    make(Path("report.html"))
    before = content(own)
    command = ("fit", "new.csv", "--label", "outcome", "--output", "report.html")
    said = refused(*command, "--force")
    assert expected in said
    refused(*command)
    assert content(own) == before


def test_a_linked_folder_of_results_is_replaced_where_it_points(own):
    Path("far").mkdir()
    Path("model").rename("far/model")
    os.symlink("far/model", "linked")
    command = ("fit", "new.csv", "--label", "outcome", "--method", "logistic", "--force")
    assert run(*command, "--output", "linked").exit_code == 0
    assert Path("linked").is_symlink()
    assert {path.name for path in Path("far/model").iterdir()} == set(FILES)
    assert '"logistic"' in Path("far/model/model.json").read_text()
    assert sorted(os.listdir()) == ["far", "linked", "new.csv"] and os.listdir("far") == ["model"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wine.csv", "wine"),
        ("wine.2024.06.tsv", "wine.2024.06"),
        ("wine.v1.5.parquet", "wine.v1.5"),
        ("v2.0.CSV.GZ", "v2.0"),
        ("table.txt.xz", "table"),
        ("export.dat.zst", "export"),
        ("export.zip", "export"),
        ("old.tar.xlsx", "old.tar"),
        ("Book.XLS", "Book"),
        ("patients.csv.backup", "patients.csv.backup"),
        ("no suffix", "no suffix"),
        (".secret.npz", "secret"),
        ("...dots.csv.bz2", "dots"),
        (".csv", "csv"),
        (".tsv.gz", "tsv.gz"),
        ("判定.表.csv", "判定.表"),
    ],
)
def test_the_default_folder_has_the_name_of_the_table(name, expected):
    assert results_folder(Path("somewhere.else", name)) == Path(f"{expected}-flowgmm")


def test_fit_writes_into_the_default_folder(own):
    Path("new.csv").rename(".new.1.CSV")
    command = ("fit", ".new.1.CSV", "--label", "outcome", "--method", "logistic")
    assert run(*command).exit_code == 0
    assert {path.name for path in Path("new.1-flowgmm").iterdir()} == set(FILES)
