"""Recipes `variants` and `smoke`: every switch trains, every label set fits its surrogate."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from estimators import flat

from flowgmm.datasets.features import prepare_data
from flowgmm.datasets.splits import draw_split
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.project import Project, Run, settings_with
from flowgmm.experiments.specs.data import features_spec
from flowgmm.experiments.specs.runs import jobs_of, train_spec
from flowgmm.experiments.specs.splits import split_spec
from flowgmm.experiments.specs.tables import table_runs
from flowgmm.experiments.train_job import train_stack
from flowgmm.utils.io import sha256, write_tensors

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def variants() -> Project:
    return load_checked(ROOT, settings_with(ROOT, ["recipe=variants"]))


def draw(y: np.ndarray, spec: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The split that the rule `draw_split` draws."""
    seeds = {f"{purpose}_seed": seed for purpose, seed in spec["seeds"].items()}
    return draw_split(y, **spec["label_set"], **seeds)


@pytest.mark.parametrize(
    ("dataset", "labels", "switches"),
    [
        ("moons", "10", {"means": "from_z", "keep": "best_val"}),
        ("circles", "figure", {"means": "from_data", "sampling": "fixed"}),
        ("eight_gaussians", "figure", {"means": "random_data"}),
        ("pinwheel", "figure", {}),
        ("mnist", "1000", {"means": "pixel_const"}),
        ("fashion_mnist", "all", {"means": "split_dims"}),
    ],
)
def test_each_switch_trains(
    variants: Project, tmp_path: Path, dataset: str, labels: str, switches: dict[str, str]
) -> None:
    job = jobs_of(variants, Run(dataset, labels, "flowgmm"))[0]
    spec = train_spec(variants, job)
    assert switches.items() <= flat(spec["params"]).items()
    assert (spec["restart"] == "val") == (dataset == "pinwheel")
    features, path = tmp_path / "features", tmp_path / "split-0"
    arrays, meta = prepare_data(features_spec(variants, dataset), tmp_path)
    write_tensors(features, arrays, meta)
    drawn = split_spec(variants, dataset, labels, 0)
    meta = {key: drawn[key] for key in ("dataset", "labels", "split", "seeds")}
    write_tensors(
        path, draw(arrays["y_train"], drawn), meta | {"features_sha256": sha256(features)}
    )
    record = train_stack(
        spec, features, {0: path}, tmp_path / "out", tmp_path / "state", Execution("cpu")
    )
    (run,) = record["runs"]
    assert run["status"] == "ok", run["reason"]
    assert math.isfinite(run["metrics"]["test"]["accuracy"])


def test_label_sets_of_smoke_fit_the_generated_data() -> None:
    """More unlabelled points than the surrogate has made all jobs of Table 2 fail."""
    project = load_checked(ROOT, settings_with(ROOT, ["recipe=smoke"]))
    spec = features_spec(project, "cifar10_efficientnet")
    assert spec["loader"] == "surrogate"
    y = prepare_data(spec | {"kind": "table"}, ROOT)[0]["y_train"]
    for run in table_runs(project, "table_2"):
        drawn = draw(y, split_spec(project, run.dataset, run.labels, 0))
        assert len(drawn["val"]) == 500
