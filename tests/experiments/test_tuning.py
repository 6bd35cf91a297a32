"""Grids: names of candidates, the choice among them, and what determines a candidate's job."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.entries import Recipe
from flowgmm.experiments.paths import choice_path, point_paths
from flowgmm.experiments.project import Project, Run
from flowgmm.experiments.recipes import grid_candidates, method_settings
from flowgmm.experiments.specs.figures import is_shown
from flowgmm.experiments.specs.runs import jobs_of, train_spec
from flowgmm.experiments.specs.tables import table_runs
from flowgmm.experiments.specs.tuning import tune_spec
from flowgmm.experiments.tuning import (
    candidates,
    choose_candidate,
    choose_on_validation,
    point_name,
)
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]
AG_NEWS = Run("ag_news", "200", "mlp_dropout")


@pytest.mark.parametrize(
    ("candidate", "name"),
    [
        ({"lr": 3.0e-4}, "lr=0.0003"),
        ({"lr": 1.0e-5, "n_hidden": 2}, "lr=1e-05,n_hidden=2"),
        ({"n_hidden": 2, "lr": 1.0e-5}, "lr=1e-05,n_hidden=2"),
        ({"clip_norm": None, "means": "random_pm"}, "clip_norm=null,means=random_pm"),
        ({"class_weights": [0.5, 0.5]}, None),
        ({"means": "../x"}, None),
        ({"means": "x" * 200}, None),
    ],
)
def test_a_candidates_name_is_part_of_a_path(candidate: dict[str, Any], name: str | None) -> None:
    found = point_name(candidate)
    assert found == name or (name is None and re.fullmatch("[0-9a-f]{16}", found))


def test_names_of_unlike_candidates_differ() -> None:
    grid = {"a": [1, 1.5, None, True, "1x", [1], [2], "é", "ü"], "b": [[], {}, 0, "0x"]}
    points = candidates(grid)
    assert len({point_name(point) for point in points}) == len(points) == 36
    assert [point["b"] for point in points[:4]] == grid["b"]  # the last name varies fastest


def point(lr: float, *accuracies: float | None, **changes: Any) -> dict[str, Any]:
    """Result that a candidate's job writes; an accuracy of None: this seed diverged."""
    runs = [
        {
            "accuracy": accuracy,
            "status": "ok" if accuracy is not None else "failed",
            "reason": None if accuracy is not None else "loss is NaN at step 3",
            "n_iter": 30,
            "split": seed,
        }
        for seed, accuracy in enumerate(accuracies)
    ]
    place = {"dataset": "d", "labels": "8", "method": "m", "recipe": "smoke"}
    rest = {"hashes": {"seen": "x"}, "n_val": 20, "timing": {"wall_s": 1.5}}
    return place | rest | {"candidate": {"lr": lr}, "runs": runs} | changes


def test_the_choice_is_the_first_of_the_best() -> None:
    points = [point(1.0, 0.6, 0.6), point(2.0, 0.7, 0.9), point(3.0, 0.8, 0.8), point(4.0, 0.5, 1)]
    choice = choose_candidate(points)
    assert choice["params"] == {"lr": 2.0}
    assert choice["tied"] == [{"lr": 3.0}]
    assert [c["params"]["lr"] for c in choice["curve"]] == [1.0, 2.0, 3.0, 4.0]
    assert choice["curve"][1]["accuracy"] == pytest.approx(0.8)
    assert choice["budget"] == {
        "points": 4,
        "seconds": 6.0,
        "steps": 4 * 2 * 30,
        "validation_labels": 20,
    }
    assert choose_candidate(points[::-1])["params"] == {"lr": 3.0}


def test_a_candidate_that_diverged_is_kept_in_the_curve_and_not_chosen() -> None:
    choice = choose_candidate([point(1.0, 1.0, None), point(2.0, 0.2, 0.2)])
    assert choice["params"] == {"lr": 2.0}
    assert choice["curve"][0]["failed"] == "loss is NaN at step 3"
    assert choice["curve"][0]["accuracies"] == [1.0, None]
    with pytest.raises(UserError, match=r"d/8, m: every candidate of the grid failed"):
        choose_candidate([point(1.0, None), point(2.0, None)])


def test_candidates_of_different_data_are_not_compared() -> None:
    with pytest.raises(UserError, match="different data or by different code"):
        choose_candidate([point(1.0, 0.5), point(2.0, 0.5, hashes={"seen": "y"})])


def test_classic_choice_has_its_budget() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    X, y = [[0.0], [0.1], [1.0], [1.1]], [0, 0, 1, 1]
    choice = choose_on_validation(KNeighborsClassifier, {"n_neighbors": [4, 1, 2]}, X, y, X, y)
    assert choice.params == {"n_neighbors": 1}
    budget = choice.budget | {"seconds": 0}
    assert budget == {"points": 3, "seconds": 0, "steps": None, "validation_labels": 4}
    with pytest.raises(UserError, match="1 of 4 validation points are unlabelled"):
        choose_on_validation(KNeighborsClassifier, {}, X, y, X, [0, 0, 1, -1])


@pytest.fixture
def config() -> Project:
    return load_checked(ROOT, read_yaml(ROOT / "config" / "config.yaml") | {"recipe": "smoke"})


def change(config: Project, **method: Any) -> Project:
    """Other settings of the MLP on AG-News."""
    settings = {"methods": {"mlp_dropout": method}}
    return with_settings(config, settings)


def with_settings(config: Project, settings: dict[str, Any]) -> Project:
    """The project with one recipe more, which has settings for AG-News."""
    recipe = Recipe(title="Changed", label_sets={"ag_news/200": settings})
    return replace(config, recipes={**config.recipes, f"changed_{len(config.recipes)}": recipe})


def test_another_grid_leaves_the_old_candidates_as_they_are(config: Project) -> None:
    before = {name: tune_spec(config, AG_NEWS, name) for name in grid_candidates(config, AG_NEWS)}
    assert list(before) == ["lr=0.0001", "lr=0.001"]
    config = change(config, tune={"training__lr": [1.0e-3, 3.0e-4, 1.0e-4]})
    after = {name: tune_spec(config, AG_NEWS, name) for name in grid_candidates(config, AG_NEWS)}
    assert list(after) == ["lr=0.001", "lr=0.0003", "lr=0.0001"]
    assert all(after[name] == spec for name, spec in before.items())
    config = change(config, tune_with={"training": {"n_steps": 20}})
    assert all(tune_spec(config, AG_NEWS, name) != spec for name, spec in before.items())


def test_candidates_share_random_numbers_that_are_not_those_of_the_runs(config: Project) -> None:
    first, second = (tune_spec(config, AG_NEWS, name) for name in ("lr=0.0001", "lr=0.001"))
    train = train_spec(config, jobs_of(config, AG_NEWS)[0])
    assert first["random_states"] == second["random_states"]
    assert not set(first["random_states"]) & set(train["random_states"])
    assert tuple(spec["params"]["training"]["lr"] for spec in (first, second)) == (1.0e-4, 1.0e-3)
    assert tuple(spec["params"]["training"]["n_steps"] for spec in (first, train)) == (30, 60)
    assert (first["seeds"], first["splits"], first["evaluate"]) == ([0], [0], ["val"])
    config = with_settings(config, {"n_tune_seeds": 3})
    spec = tune_spec(config, AG_NEWS, "lr=0.001")
    assert spec["splits"] == [0, 1, 2]  # the splits of the first seeds
    assert len(set(spec["random_states"])) == 3


def test_only_neural_methods_have_candidates_as_jobs(config: Project) -> None:
    assert grid_candidates(config, Run("ag_news", "200", "knn")) == {}
    assert choice_path(config, Run("ag_news", "200", "knn")) == []
    assert grid_candidates(config, Run("ag_news", "200", "flowgmm")) == {}
    (path,) = choice_path(config, AG_NEWS)
    assert path == "results/smoke/tuning/ag_news/200/mlp_dropout/choice.json"
    assert point_paths(config, AG_NEWS)[1] == path.replace("choice", "point-lr=0.001")
    with pytest.raises(UserError, match="unknown candidate 'lr=0'; did"):
        tune_spec(config, AG_NEWS, "lr=0")


def test_table_6_reaches_every_printed_value_and_trains_nothing_untuned() -> None:
    """The printed choices are in the grids of `tuned`, or it could not reproduce them."""
    tuned = load_checked(ROOT, read_yaml(ROOT / "config" / "config.yaml") | {"recipe": "tuned"})
    printed = tuned.paper_results["table_6"]["results"]
    for run in table_runs(tuned, "table_6"):
        ((name, value),) = printed[run.dataset][run.method].items()
        grid = {k.rpartition("__")[2]: v for k, v in method_settings(tuned, run).tune.items()}
        assert value in grid[{"k": "n_neighbors"}.get(name, name)]
    assert is_shown(tuned, "figure_tuning")
    official = load_checked(ROOT)
    reasons = {run.method: reason for run, reason in table_runs(official, "table_6").items()}
    assert reasons["flowgmm"] == "not tuned in this recipe"
    assert reasons["knn"] is None
    assert not is_shown(official, "figure_tuning")
    assert is_shown(official, "figure_1")
