"""The recipe `official`: what it says is what the authors did (spec 2.3, 2.4, D45 to D50)."""

from pathlib import Path
from typing import Any

import pytest
from estimators import flat

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import Project, Run
from flowgmm.experiments.recipes import label_set, method_settings

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
