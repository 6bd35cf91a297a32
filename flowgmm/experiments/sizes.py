"""Sizes of datasets as the config declares them, and of the work of a training, before any job."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowgmm.experiments.project import Project, Run, once
from flowgmm.experiments.recipes import label_set, method_settings
from flowgmm.experiments.specs.data import features_spec

__all__ = ["Size", "data_share", "declared_size", "with_labels", "work_share"]

# Features that an encoder gives; BERT's where it is not known.
WIDTHS = {"minilm": 384, "efficientnet_b4": 1792, "efficientnet_lite0": 1280}
BERT_WIDTH = 768
# Size from which on a job has the paper's: float32 numbers of its data, points that pass through a
# network of vectors, points of a graph. The smallest data of the paper's tables have 3.6 million
# numbers; 2 cores take an hour for 5 million points of AG-News' shape.
FULL_CELLS, FULL_POINTS, FULL_GRAPH = 3e6, 5e6, 1e4
# Steps of `auto`, at most (`flowgmm.methods.parts.training`).
MOST_STEPS = 500
# Values of an image whose pass through a flow costs as much as one vector's.
IMAGE_VALUES = 8


@dataclass(frozen=True)
class Size:
    """Size of a dataset and a label set: features, classes, and points of each sort.

    `shape` is that of an image, (C, H, W); empty: the features are a vector.
    """

    n_features: int
    n_classes: int
    n_train: int
    n_test: int
    n_labelled: int = 0
    n_unlabelled: int = 0
    n_val: int = 0
    shape: tuple[int, ...] = ()


@once
def declared_size(project: Project, name: str) -> Size:
    """Size of a dataset from its entry in the config, or defaults."""
    spec = features_spec(project, name)
    options, rows = spec.get("options", {}), spec.get("rows", {})
    shape: tuple[int, ...] = ()
    if project.dataset(name).kind == "image":
        # Grey if the number of values is a square, else three channels. Surrogates are 8 x 8.
        n_pixels = spec.get("columns", 64 * options.get("channels", 1))
        channels = 1 if math.isqrt(n_pixels) ** 2 == n_pixels else 3
        shape = (channels, *2 * [math.isqrt(n_pixels // channels)])
    # Image datasets have ten classes; a table without `classes` gets two.
    n_classes = 10 if shape else len(options["classes"]) if "classes" in options else 2
    size = Size(
        n_features=options.get(
            "n_features", math.prod(shape) if shape else spec.get("columns", 20)
        ),
        n_classes=options.get("n_classes", n_classes),
        n_train=options.get("n_train", rows.get("train", 5000)),
        n_test=options.get("n_test", rows.get("test", 2000)),
        shape=shape,
    )
    return replace(size, n_features=_width(str(spec["encoder"]))) if "encoder" in spec else size


def with_labels(
    project: Project, size: Size, dataset: str, labels: str, labelled_only: bool
) -> Size:
    """Size of a dataset with the points of a label set."""
    chosen = label_set(project, dataset, labels)
    n_val = chosen.get("n_val", 0)
    n_labels = chosen.get("n_labels") or len(chosen.get("indices", []))
    if n_labels == "all":
        n_labels = size.n_train - n_val
    n_unlabelled = min(chosen.get("n_unlabelled") or size.n_train, size.n_train)
    return replace(
        size,
        n_labelled=n_labels if isinstance(n_labels, int) else sum(n_labels),
        n_unlabelled=0 if labelled_only else n_unlabelled,
        n_val=n_val,
    )


def _width(encoder: str) -> int:
    return next((width for name, width in WIDTHS.items() if name in encoder), BERT_WIDTH)


@once
def data_share(project: Project, dataset: str) -> float:
    """Size of a dataset's features against the paper's, at most 1."""
    size = declared_size(project, dataset)
    cells = (size.n_train + size.n_test) * size.n_features
    return min(1.0, (cells / 4 if size.shape else cells) / FULL_CELLS)  # pixels are bytes


@once
def work_share(project: Project, run: Run, n_seeds: int) -> float:
    """Work of a training against the paper's, at most 1; 1 if it cannot be counted.

    Arguments:
        project: Validated config files.
        run: Method, dataset and label set.
        n_seeds: Seeds of the job.
    """
    if data_share(project, run.dataset) >= 1:
        return 1.0
    entry, settings = project.method(run.method), method_settings(project, run)
    size = declared_size(project, run.dataset)
    size = with_labels(project, size, run.dataset, run.labels, entry.labelled_only)
    n_points = size.n_labelled + size.n_unlabelled
    if not entry.neural and "training" not in settings.params:
        of_graph = min(n_points, settings.params.get("n_unlabelled", n_points))
        return min(1.0, (of_graph / FULL_GRAPH) ** 2)
    passed = _points_passed(settings.params, size)
    if passed is None:
        return 1.0
    each = max(1.0, size.n_features / IMAGE_VALUES) if size.shape else 1.0
    if not entry.neural:  # the mean with a forest: FlowGMM on all points and on five folds
        each *= 6
    return min(1.0, passed * each * n_seeds / FULL_POINTS)


def _points_passed(params: Mapping[str, Any], size: Size) -> float | None:
    """Points that a training of one seed passes through its network; None if not stated."""
    training = params.get("training", {})
    n_steps, n_epochs = training.get("n_steps"), training.get("n_epochs")
    if n_steps == "auto":
        n_steps = MOST_STEPS if n_epochs is None else None
    if n_steps is None and n_epochs is None:
        return None
    batch = training.get("unlabelled_batch") or size.n_unlabelled
    unlabelled = min(size.n_labelled if batch == "n_labels" else batch, size.n_unlabelled)
    labelled = min(training.get("labelled_batch") or size.n_labelled, size.n_labelled)
    if n_steps is None:
        per_epoch = size.n_unlabelled / unlabelled if unlabelled else size.n_labelled / labelled
        n_steps = n_epochs * math.ceil(per_epoch)
    return float(n_steps * (labelled + unlabelled) * params.get("n_init", 1))
