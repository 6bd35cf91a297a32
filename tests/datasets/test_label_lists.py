"""Published lists of labelled points: reading, and the splits that are made of them (D46)."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flowgmm.datasets.label_lists import read_label_list
from flowgmm.datasets.loaders.cifar import CLASSES as CIFAR10
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import Project, Run
from flowgmm.experiments.specs.data import download_paths, raw_files, raw_inputs, skip_reason
from flowgmm.experiments.specs.splits import split_list, split_spec
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_tensors, write_tensors

ROOT = Path(__file__).parents[2]
MIRROR = ROOT.parent / "shared" / "data"
CLASSES = ["cat", "dog", "long_tailed_tit"]
Y = np.arange(60) % 3


def line(row: int) -> str:
    return f"{row}_{CLASSES[Y[row]]}.png {CLASSES[Y[row]]}"


def write(path: Path, rows: list[int]) -> Path:
    path.write_text("".join(f"{line(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize("rows", [[5, 0, 1], [59, 30, 31, 2], []])
def test_names_are_rows(rows: list[int], tmp_path: Path) -> None:
    assert read_label_list(write(tmp_path / "l.txt", rows), Y, CLASSES) == rows


@pytest.mark.parametrize(
    "wrong",
    [
        "4_cat.png cat",  # a dog
        "60_cat.png cat",
        "-3_cat.png cat",
        "3_cat.png dog",
        "3_cat.jpg cat",
        "3_cat.png",
        "3_horse.png horse",
        "",
        line(7),  # twice
        "\u0663_cat.png cat",
    ],
)
def test_a_wrong_line_is_named(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_text(f"{line(7)}\n{line(9)}\n{wrong}\n{line(8)}\n")
    with pytest.raises(UserError, match=r"l\.txt, line 3: expected INDEX_CLASS\.png") as caught:
        read_label_list(path, Y, CLASSES)
    assert "\n" not in str(caught.value)


def test_a_row_of_unknown_class(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1"):
        read_label_list(write(tmp_path / "l.txt", [3]), np.full(60, -1), CLASSES)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(UserError, match="line 1"):
        read_label_list(tmp_path / "l.txt", Y, CLASSES)


# -- from the config to a split ------------------------------------------------------------------


def project(**changes: Any) -> Project:
    return load_checked(ROOT, read_yaml(ROOT / "config" / "config.yaml") | changes)


def mirror_of(folder: Path, *names: str) -> str:
    """A mirror with CIFAR-10's archive, which is not looked into, and some lists."""
    for name in ("cifar10/cifar-10-binary.tar.gz", *names):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return str(folder)


LISTS = [f"4000_balanced_labels_{n}.txt" for n in (10, 11, 12)]
IN_MIRROR = [f"authors/cifar10_{name}" for name in LISTS]


@pytest.mark.parametrize("recipe", ["official", "paper", "tuned"])
@pytest.mark.parametrize("split", [0, 1, 2])
def test_each_split_has_its_list(recipe: str, split: int) -> None:
    config = project(recipe=recipe)
    path = f"results/raw/cifar10/{LISTS[split]}"
    assert split_list(config, "cifar10", "4000", split) == [path]
    assert raw_files(config, "cifar10")[path]["mirror"] == IN_MIRROR[split]
    assert path in download_paths(config) and path not in raw_inputs(config, "cifar10")
    assert "lists" not in split_spec(config, "cifar10", "4000", split)["label_set"]
    assert split_list(config, "cifar10", "all", split) == []


@pytest.mark.parametrize("recipe", ["recommended", "small", "smoke"])
def test_other_recipes_draw(recipe: str) -> None:
    config = project(recipe=recipe)
    assert split_list(config, "cifar10", "4000", 0) == []
    assert not any("balanced_labels" in path for path in download_paths(config))
    assert skip_reason(config, Run("cifar10", "4000", "flowgmm")) is None


@pytest.mark.parametrize("there", [0, 1, 3])
def test_without_lists_the_run_is_not_made(there: int, tmp_path: Path) -> None:
    config = project(mirror=mirror_of(tmp_path, *IN_MIRROR[:there]), offline=True)
    fetched = [path for path in download_paths(config) if "balanced_labels" in path]
    assert len(fetched) == (3 if there == 3 else 0)
    for method in ("flowgmm", "flowgmm_cons", "flowgmm_sup_nl"):
        reason = skip_reason(config, Run("cifar10", "4000", method))
        expected = f"data absent: the mirror lacks {IN_MIRROR[there]}" if there < 3 else None
        assert reason == expected
    assert skip_reason(config, Run("cifar10", "all", "flowgmm_sup_all")) is None


def draw(tmp_path: Path, rows: list[int], n_labels: int) -> Any:
    """Run the rule's script on a list; all of the result, and the split's path."""
    features, split = tmp_path / "features", tmp_path / "split"
    described = {"dataset": "d", "classes": CLASSES}
    write_tensors(features, {"y_train": Y}, described)
    label_set = {"n_labels": n_labels, "stratify": "authors", "n_val": 12}
    seeds = {"split": 5, "labels": 10}
    spec = {"dataset": "d", "labels": "l", "split": 0, "seeds": seeds, "label_set": label_set}
    path = write(tmp_path / "l.txt", rows)
    options = ["--features", features, "--list", path, "--output", split]
    command = [sys.executable, ROOT / "scripts/draw_split.py", "--spec", json.dumps(spec), *options]
    return subprocess.run(command, capture_output=True, text=True), split


@pytest.mark.parametrize("rows", [[0, 1, 2], [50, 3, 31, 59], [8, 7, 6, 5, 4, 3]])
def test_the_script_takes_the_lists_points(rows: list[int], tmp_path: Path) -> None:
    done, path = draw(tmp_path, rows, len(rows))
    assert done.returncode == 0, done.stderr
    split, meta = read_tensors(path)
    assert split["labelled"].tolist() == sorted(rows)
    assert len(split["val"]) == 12 and not set(split["val"]) & set(rows)
    assert len(split["unlabelled"]) == 60 and meta["seeds"]["labels"] == 10


def test_a_list_of_another_length(tmp_path: Path) -> None:
    done, path = draw(tmp_path, [0, 1, 2], 4)
    assert done.returncode == 2 and not path.exists()
    assert "l.txt: expected 4 lines, as n_labels says, got 3" in done.stderr


@pytest.mark.parametrize(
    ("lists", "n_seeds", "message"),
    [
        (["4000_balanced_labels_9.txt"], 1, "did you mean '4000_balanced_labels_"),
        (LISTS[:2], 3, "cifar10/4000 has 3 splits, but 2 `lists`"),
        (LISTS, 4, "lower n_seeds or add lists"),
    ],
)
def test_mistakes_in_a_recipe(lists: list[str], n_seeds: int, message: str, tmp_path: Path) -> None:
    for folder in ("config", "scripts", "workflow/schemas", "workflow/rules"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    path = tmp_path / "config/recipes/official.yaml"
    recipe = yaml.safe_load(path.read_text())
    recipe["label_sets"]["cifar10/4000"] = {"split": {"lists": lists}, "n_seeds": n_seeds}
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(UserError, match=message) as caught:
        load_checked(tmp_path)
    assert str(caught.value).startswith("config/recipes/official.yaml: ")


@pytest.mark.parametrize("number", [10, 11, 12])
def test_the_authors_lists(number: int) -> None:
    """400 of each class, whose names agree with CIFAR-10's labels."""
    path = MIRROR / "authors" / f"cifar10_4000_balanced_labels_{number}.txt"
    if not path.is_file():
        pytest.skip("the mirror ../shared/data not found")
    labels = read_json(MIRROR / "cifar10-lossless-webp" / "labels.json", checksum=False)
    y = np.concatenate([labels[f"data_batch_{k}"] for k in range(1, 6)])
    rows = read_label_list(path, y, CIFAR10)
    assert Counter(y[rows].tolist()) == dict.fromkeys(range(10), 400)
