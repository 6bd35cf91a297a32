"""`flowgmm add-dataset`: what it writes, and what it refuses."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import ADD, flowgmm, make_table
from workspace import copy_repository

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.entries import Column
from flowgmm.experiments.specs.data import absent_reason, features_spec, raw_files
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.utils.errors import UserError


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    copy_repository(tmp_path)
    make_table(tmp_path / "mine.csv")
    return tmp_path


def test_add_dataset_adds_text_and_changes_none(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {
        name: (clone / "config" / name).read_text() for name in ("datasets.yaml", "tables.yaml")
    }
    done = flowgmm(clone, monkeypatch, *ADD, "--drop", "c", "--title", "Mine: own", "--n-val", "30")
    assert done.exit_code == 0, done.stderr
    assert "120 training and 30 test rows, 2 features; 12 labelled and 30 val" in done.stdout
    assert "snakemake --profile local -- extra_tables" in done.stdout
    after = (clone / "config" / "datasets.yaml").read_text()
    assert after.startswith(before["datasets.yaml"])
    # Every other line of the tables is as it was.
    added = [
        line
        for line in (clone / "config" / "tables.yaml").read_text().splitlines()
        if line not in before["tables.yaml"].splitlines()
    ]
    assert len(added) == 1
    config = load_checked(clone)
    column = Column(dataset="mine", labels="12", title="Mine: own, 12 labels")
    assert config.tables["extra"].columns[-1] == column
    assert absent_reason(config, "mine") is None
    assert features_spec(config, "mine")["options"]["drop"] == ["c"]
    (clone / "data" / "mine" / "mine.csv").unlink()
    assert absent_reason(config, "mine") == "data absent: data/mine/mine.csv not found"


def test_classes_that_yaml_would_take_for_numbers_stay_text(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flowgmm(clone, monkeypatch, *ADD, "--classes", "1e5,yes").exit_code == 0
    entry = read_yaml(clone / "config" / "datasets.yaml")["mine"]
    assert entry["options"]["classes"] == ["1e5", "yes"]


def test_categories_become_columns(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_table(clone / "mine.csv", city=np.resize(["Rome", "Oslo"], 150))
    done = flowgmm(clone, monkeypatch, *ADD, "--one-hot", "city")
    assert done.exit_code == 0, done.stderr
    assert "5 features" in done.stdout
    assert features_spec(load_checked(clone), "mine")["options"]["one_hot"] == ["city"]


def test_the_entry_says_how_the_file_is_read(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Germans write tables, with an identifier and a mark of unlabelled rows."""
    frame = pd.read_csv(make_table(clone / "mine.csv"), dtype=str)
    frame = frame.apply(lambda column: column.str.replace(".", ",", regex=False))
    frame["kunde"] = [str(7000 + 3 * i) for i in range(len(frame))]
    frame["kind"] = frame["kind"].mask(np.arange(len(frame)) % 5 == 0, "k.A.")
    frame.to_csv(clone / "mine.csv", sep=";", index=False, encoding="utf-16")
    done = flowgmm(clone, monkeypatch, *ADD, "--unlabelled", "k.A.")
    assert done.exit_code == 0, done.stderr
    assert "kunde (all different)" in done.stdout
    assert "The text is in utf-16" in done.stdout and "30 rows without a label" in done.stdout
    options = read_yaml(clone / "config" / "datasets.yaml")["mine"]["options"]
    assert (options["sep"], options["encoding"], options["drop"]) == (";", "utf-16", ["kunde"])
    assert options["unlabelled"] == "k.A."


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("magic", "mine.csv"), "'magic' is taken"),
        (("knn", "mine.csv"), "'knn' is taken by an entry of config/methods.yaml"),
        (("my-set", "mine.csv"), "'my-set': a dataset's name consists of letters"),
        (("..", "mine.csv"), "'..': a dataset's name"),
        (("new", "absent.csv"), "absent.csv is not a file"),
        (("new", "mine.csv", "--label", "kinds"), "column kinds not found; it has a, b, c, kind"),
        (("new", "mine.csv", "--n-labels", "6"), "n_labels is 6, but 'knn' tries up to 10"),
        (("new", "mine.csv", "--n-labels", "200"), "dataset 'new': n_labels is 200"),
        (("new", "mine.csv", "--n-val", "0"), "n_val is 0, but hyper-parameters"),
        (("new", "mine.csv", "--classes", "yes,no"), "label 1e5 in column 'kind' is not one of"),
        (("new", "bad.csv"), "column text is not numeric; name it in the option `drop`"),
        (("new", "asked.csv"), "has '-1' in 90 of 150 labelled rows; if that marks unlabelled"),
        (("new", "empty.csv"), "is not a table"),
        (("new", "nan.csv"), "column a: NaN or infinite values"),
        (("new", "one.csv"), "expected at least 2 classes, got 1 (yes)"),
        (("new", "false.parquet"), "is not a Parquet file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_everything_as_it_was(
    clone: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    make_table(clone / "bad.csv", text=np.resize(["x", "z"], 150))
    make_table(clone / "nan.csv", a=np.resize([1, np.nan, 2], 150))
    make_table(clone / "one.csv", kind="yes")
    make_table(clone / "asked.csv", kind=np.resize(["-1", "-1", "-1", "0", "1"], 150))
    for name in ("empty.csv", "false.parquet"):
        (clone / name).touch()
    before = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    defaults = ("--label", "kind", "--n-labels", "12")
    done = flowgmm(clone, monkeypatch, "add-dataset", *arguments[:2], *defaults, *arguments[2:])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("there", ["file", "link", "folder", "dangling link"])
def test_the_copy_replaces_no_other_file(
    clone: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    place, mine = clone / "data" / "mine" / "mine.csv", clone / "precious.csv"
    place.parent.mkdir(parents=True)
    if there == "folder":
        place.mkdir()
    elif there == "dangling link":
        place.symlink_to(mine)
    else:
        make_table(mine, n=151)
        (place.hardlink_to if there == "file" else place.symlink_to)(mine)
    before = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    done = flowgmm(clone, monkeypatch, *ADD)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "data/mine/mine.csv already exists and is no copy of mine.csv; move it, or" in line
    assert {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()} == before
    assert os.path.lexists(place)


@pytest.mark.parametrize("there", ["copy", "the file itself"])
def test_a_copy_that_is_there_is_taken(
    clone: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    place = clone / "data" / "mine" / "mine.csv"
    place.parent.mkdir(parents=True)
    make_table(place)
    given = "data/mine/mine.csv" if there == "the file itself" else "mine.csv"
    done = flowgmm(clone, monkeypatch, *ADD[:2], given, *ADD[3:])
    assert done.exit_code == 0, done.stderr
    assert place.read_bytes() == (clone / "mine.csv").read_bytes()


def test_a_file_that_has_changed_is_refused(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgmm.datasets.download import download_file

    assert flowgmm(clone, monkeypatch, *ADD).exit_code == 0
    (file,) = raw_files(load_checked(clone), "mine").values()
    download_file(file, clone / "copy.csv", None)
    assert (clone / "copy.csv").read_bytes() == (clone / "mine.csv").read_bytes()
    make_table(clone / "data" / "mine" / "mine.csv", n=151)
    with pytest.raises(UserError, match=r"expected sha256.*put the file back, or correct"):
        download_file(file, clone / "copy.csv", None)
    assert not (clone / "copy.csv").exists()
