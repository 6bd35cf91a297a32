"""Sizes: data of a job by header, record or declaration, and bytes of its outputs."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowgmm.apps.estimate.cost_model import Size, Work, embedded_size
from flowgmm.apps.estimate.dry_run import DryRunJob
from flowgmm.experiments.paths import features_path
from flowgmm.experiments.project import Project
from flowgmm.experiments.recipes import label_set
from flowgmm.experiments.specs.data import features_spec
from flowgmm.utils.io import read_header

__all__ = ["data_size", "output_bytes", "recorded_size", "source_bytes"]

# Bytes of an output that is neither features nor a model: tables, plots, records.
SMALL_FILE = 5e4


def data_size(config: Project, spec: Mapping[str, Any]) -> Size | None:
    """Size of a job's data: from its features file if it exists, else from the config."""
    name = spec.get("dataset", "")
    if name not in config.datasets:
        return None
    path = config.root / features_path(config, name)
    size = _shapes(path) if path.is_file() else _declared(config, name)
    if "estimator" not in spec or spec.get("labels") not in config.datasets[name].labels:
        return size
    chosen = label_set(config, name, spec["labels"])
    n_val = chosen.get("n_val", 0)
    n_labels = chosen.get("n_labels", len(chosen.get("indices", [])))
    if n_labels == "all":
        n_labels = size.n_train - n_val
    n_unlabelled = chosen.get("n_unlabelled") or size.n_train
    return replace(
        size,
        n_labelled=n_labels if isinstance(n_labels, int) else sum(n_labels),
        n_unlabelled=0 if spec.get("labelled_only") else n_unlabelled,
        n_val=n_val,
    )


def _shapes(path: Path) -> Size:
    """Size of a features file, from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as handle:
        n_train, *shape = handle.get_slice("X_train").get_shape()
        n_test = handle.get_slice("X_test").get_shape()[0]
        classes = read_header(handle)["classes"]
    image = tuple(shape) if len(shape) == 3 else ()
    return Size(math.prod(shape), len(classes), n_train, n_test, shape=image)


def _declared(config: Project, name: str) -> Size:
    """Size of a dataset from its entry in the config, or defaults."""
    spec = features_spec(config, name)
    options, rows = spec.get("options", {}), spec.get("rows", {})
    shape: tuple[int, ...] = ()
    if config.dataset(name).kind == "image":
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
    return embedded_size(size, str(spec["encoder"])) if "encoder" in spec else size


def recorded_size(data: Mapping[str, Any]) -> Size | None:
    """Size in a record; None if the record has no data section."""
    if "n_labelled" not in data:
        return None
    keys = ("n_features", "n_train", "n_test", "n_labelled", "n_unlabelled", "n_val")
    shape = tuple(data.get("image_shape") or ())
    return Size(n_classes=len(data["classes"]), shape=shape, **{key: data[key] for key in keys})


def output_bytes(config: Project, job: DryRunJob, size: Size | None, work: Work | None) -> float:
    """Size of a job's outputs."""
    total = 0.0
    for path in map(Path, job.outputs):
        if "/raw/" in path.as_posix():
            total += source_bytes(config, job.spec)
        elif path.name == "model.safetensors" and work is not None:
            total += 4 * work.parameters
        elif "loader" in job.spec and size is not None:
            width = 1 if size.shape else 4  # pixels are bytes
            features = width * size.n_features * (size.n_train + size.n_test)
            # An embedding also stays in the cache.
            total += features * (2 if "encoder" in job.spec else 1)
        else:
            total += SMALL_FILE
    return total


def source_bytes(config: Project, file: Mapping[str, Any]) -> float:
    """Size of a raw file on this machine or in the mirror, in bytes; 0 if not found.

    Arguments:
        config: Validated config files.
        file: Entry of a raw file.
    """
    sources = [Path(file["path"])] if "path" in file else []
    if config.mirror is not None and "mirror" in file:
        sources.append(config.mirror / file["mirror"])
    return float(sum(source.stat().st_size for source in sources if source.is_file()))
