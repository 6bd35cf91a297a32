"""Published results as a data frame."""

import csv
from pathlib import Path

import pytest

import flowgmm
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("recipe", sorted(path.parents[0].name for path in ROOT.glob("*/tables")))
def test_every_published_cell_is_a_row(recipe):
    results = flowgmm.load_results(recipe)
    lines = []
    for path in sorted(ROOT.glob(f"{recipe}/tables/*.csv")):
        with path.open(encoding="utf-8", newline="") as handle:
            lines += list(csv.DictReader(handle))
    assert len(results) == len(lines)
    assert set(results["recipe"]) == {recipe}
    for value, line in zip(results["value"], lines, strict=True):
        assert value == pytest.approx(float(line["value"] or "nan"), nan_ok=True)
    assert list(results["verdict"]) == [line["verdict"] for line in lines]


def test_a_cell_is_found_by_name():
    results = flowgmm.load_results("official")
    cell = results.query("table == 'demo' and row == 'knn' and column == 'digits/50'").iloc[0]
    assert (cell["metric"], cell["unit"], cell["n"]) == ("accuracy", "percent", 4)
    assert cell["low"] <= cell["value"] <= cell["high"]


def test_what_is_missing_is_named_with_a_remedy(tmp_path):
    with pytest.raises(UserError, match="no results of recipe 'offical'; expected one of official"):
        flowgmm.load_results("offical")
    with pytest.raises(UserError, match="clone the repository, or give `folder`"):
        flowgmm.load_results("official", tmp_path / "none")
    with pytest.raises(UserError, match="no results of recipe"):
        flowgmm.load_results("../results/official")
