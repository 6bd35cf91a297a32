"""Sizes of data and trainings against the paper's, from which first requests follow."""

import dataclasses

import pytest
from workspace import ROOT

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import Project, Run
from flowgmm.experiments.sizes import data_share, declared_size, work_share
from flowgmm.experiments.specs.runs import n_seeds
from flowgmm.experiments.specs.tables import table_runs
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.methods.parts import Training

# Data of the paper's tables and figures, except the 2-D ones.
PAPER = ["ag_news", "yahoo", "mnist", "svhn", "cifar10", "cifar10_efficientnet", "hepmass"]


def project(recipe: str) -> Project:
    return load_checked(ROOT, read_yaml(ROOT / "config" / "config.yaml") | {"recipe": recipe})


@pytest.fixture(scope="module")
def projects() -> dict[str, Project]:
    return {recipe: project(recipe) for recipe in ("paper", "small", "smoke")}


@pytest.mark.parametrize("dataset", [*PAPER, "miniboone", "notmnist"])
@pytest.mark.parametrize("recipe", ["paper", "small"])
def test_the_papers_data_ask_for_all(
    projects: dict[str, Project], recipe: str, dataset: str
) -> None:
    here = projects[recipe]
    assert data_share(here, dataset) == 1
    for labels in here.dataset(dataset).labels:
        assert work_share(here, Run(dataset, labels, "flowgmm"), 1) == 1


@pytest.mark.parametrize("dataset", [*PAPER, "moons", "german"])
@pytest.mark.parametrize("method", ["flowgmm", "rbf_label_spreading", "pi_model"])
def test_a_smoke_run_asks_for_little(
    projects: dict[str, Project], dataset: str, method: str
) -> None:
    here = projects["smoke"]
    if here.dataset(dataset).kind == "image" and method != "flowgmm":
        return
    assert data_share(here, dataset) < 0.2
    for labels in here.dataset(dataset).labels:
        run = Run(dataset, labels, method)
        assert 0 < work_share(here, run, n_seeds(here, run)) < 0.1


def test_work_grows_with_seeds_steps_and_folds(projects: dict[str, Project]) -> None:
    small = projects["smoke"]
    run = Run("moons", "10", "flowgmm")
    one, ten = (work_share(small, run, n) for n in (1, 10))
    assert ten == pytest.approx(10 * one)
    # 300 steps of 10 labelled and as many unlabelled points, from 3 initialisations.
    assert one == pytest.approx(300 * 20 * 3 / 5e6)
    longer = work_share(projects["paper"], run, 1)
    assert one < longer <= 1
    forest = work_share(small, dataclasses.replace(run, method="flow_forest"), 1)
    assert forest == pytest.approx(6 * one)
    graph = work_share(small, dataclasses.replace(run, method="rbf_label_spreading"), 1)
    assert graph == pytest.approx((500 / 1e4) ** 2)


def test_a_training_that_states_no_steps_asks_for_all(projects: dict[str, Project]) -> None:
    here = project("smoke")
    run = Run("moons", "10", "flowgmm")
    settings = here.recipes["smoke"].kinds["2d"]["methods"]["flowgmm"]["params"]["training"]
    assert settings["n_steps"] == 300
    assert declared_size(here, "moons").n_features == 2
    bare = dataclasses.replace(here, recipes={"bare": _without_training(here)})
    assert work_share(bare, run, 1) == 1


def _without_training(here: Project) -> object:
    """Recipe of the essential settings alone."""
    essential = {
        "n_seeds": 1,
        "vary": {"split": True, "labels": True, "initialisation": True},
        "evaluate": ["test"],
    }
    return dataclasses.replace(
        here.recipes["smoke"], all=essential, kinds={}, datasets={}, label_sets={}
    )


@pytest.mark.parametrize("recipe", sorted(p.stem for p in (ROOT / "config" / "recipes").iterdir()))
def test_every_training_of_every_table_has_a_share(recipe: str) -> None:
    """Tables beside the paper's, and settings that are not numbers, included."""
    here = project(recipe)
    for name in here.tables:
        for run, why in table_runs(here, name).items():
            if why is None:
                assert 0 < work_share(here, run, n_seeds(here, run)) <= 1, run


def test_steps_that_follow_from_the_labels_count_as_the_most(projects: dict[str, Project]) -> None:
    """As many as `Training.resolved` gives at most."""
    most = Training(n_steps="auto").resolved(n_labelled=10**6, n_classes=10).n_steps
    here, run = project("recommended"), Run("letter", "260", "flowgmm")
    assert work_share(here, run, 1) == pytest.approx(most * (256 + 256) / 5e6)
