"""The recipe `official`: what it says is what the authors did (spec 2.3, 2.4, D45 to D50)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from estimators import flat

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import Project, Run
from flowgmm.experiments.recipes import label_set, method_settings
from flowgmm.flows.rng import Stream
from flowgmm.training.batches import Batches

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def official() -> Project:
    return load_checked(ROOT)


def params(project: Project, dataset: str, labels: str, method: str) -> dict[str, Any]:
    return flat(method_settings(project, Run(dataset, labels, method)).params)


@pytest.mark.parametrize("labels", ["250", "1000", "4000"])
def test_table_2(official: Project, labels: str) -> None:
    """Appendix E of the paper: what has no code."""
    pi = params(official, "cifar10_efficientnet", labels, "pi_model")
    flow = params(official, "cifar10_efficientnet", labels, "flowgmm")
    assert pi["consistency_on"] == "all" and pi["normalize"] == "mean"
    assert pi["labelled_in_unlabelled"] is flow["labelled_in_unlabelled"] is False
    assert label_set(official, "cifar10_efficientnet", labels)["exclude_val_from_unlabelled"]
    knn = method_settings(official, Run("cifar10_efficientnet", labels, "knn"))
    assert knn.tune["preprocess"] == ["unit_norm", "none"]
    assert list(knn.tune["n_neighbors"]) == list(range(1, 21))
    apart = method_settings(official, Run("cifar10_efficientnet", labels, "knn_standardised"))
    assert apart.tune["preprocess"] == ["standardise"] and apart.preprocess == "standardise"


@pytest.mark.parametrize(
    ("dataset", "labels", "method", "n_labels", "passes", "in_pass"),
    [
        ("mnist", "1000", "flowgmm_cons", 1000, 3000, 31),
        ("mnist", "100", "flowgmm_cons", 100, 30001, 3),
        ("mnist", "600", "flowgmm_cons", 600, 3000, 18),
        ("mnist", "3000", "flowgmm_cons", 3000, 3000, 93),
        ("svhn", "1000", "flowgmm", 1000, 1000, 31),
        ("cifar10", "4000", "flowgmm", 4000, 1501, 125),
        ("mnist", "1000", "flowgmm_sup_nl", 1000, 1000, 15),
        ("svhn", "1000", "flowgmm_sup_nl", 1000, 1000, 15),
        ("cifar10", "4000", "flowgmm_sup_nl", 4000, 1000, 62),
        ("mnist", "all", "flowgmm_sup_all", 60000, 100, 938),
        ("fashion_mnist", "all", "flowgmm_sup_all", 60000, 100, 938),
        ("svhn", "all", "flowgmm_sup_all", 73257, 100, 1145),
        ("cifar10", "all", "flowgmm_sup_all", 50000, 100, 782),
        ("cifar10_calibration", "all", "flowgmm_sup_all", 50000, 100, 782),
    ],
)
def test_steps_are_whole_passes_over_the_labelled_images(
    official: Project,
    dataset: str,
    labels: str,
    method: str,
    n_labels: int,
    passes: int,
    in_pass: int,
) -> None:
    """Partial batches are dropped, except where all images are labelled."""
    found = params(official, dataset, labels, method)
    rows, none = torch.arange(n_labels)[None], torch.arange(0)[None]
    options = (found["labelled_batch"], found["unlabelled_batch"], found["sampling"])
    batches = Batches(rows, rows, rows, none, *options, Stream([0]))
    assert batches.steps_per_labelled_pass == in_pass
    assert found["n_steps"] == passes * in_pass
    seen = sum(batches.at(step)["labelled"].shape[1] for step in range(in_pass))
    assert seen == (n_labels if labels == "all" else in_pass * found["labelled_batch"])


@pytest.mark.parametrize(
    ("dataset", "labels", "ramp"),
    [
        ("mnist", "100", 1000),
        ("mnist", "600", 100),
        ("mnist", "1000", 100),
        ("mnist", "3000", 100),
        ("svhn", "1000", 100),
        ("cifar10", "4000", 100),
    ],
)
def test_ramp_of_whole_passes(official: Project, dataset: str, labels: str, ramp: int) -> None:
    """D28, D47: R passes, and the weight is 1 in the last of them."""
    found = params(official, dataset, labels, "flowgmm_cons")
    in_pass = int(labels) // found["labelled_batch"]
    assert found["ramp_each"] == "pass"
    assert round(found["ramp_up"] * found["n_steps"] / in_pass) == ramp


@pytest.mark.parametrize(
    "place", [("ag_news", "200"), ("yahoo", "800"), ("hepmass", "20"), ("miniboone", "20")]
)
@pytest.mark.parametrize("method", ["flowgmm", "pi_model", "mlp_dropout"])
def test_schedule_of_table_1(official: Project, place: tuple[str, str], method: str) -> None:
    """D7, D48."""
    assert params(official, *place, method)["schedule"] == "cosine_lagged"
