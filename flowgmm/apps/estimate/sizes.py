"""Sizes: data of a job by header, record or declaration, and bytes of its outputs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgmm.apps.estimate.cost_model import Work
from flowgmm.apps.estimate.dry_run import DryRunJob
from flowgmm.experiments.paths import features_path
from flowgmm.experiments.project import Project
from flowgmm.experiments.sizes import Size, declared_size, with_labels
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
    size = _shapes(path) if path.is_file() else declared_size(config, name)
    if "estimator" not in spec or spec.get("labels") not in config.datasets[name].labels:
        return size
    return with_labels(config, size, name, spec["labels"], bool(spec.get("labelled_only")))


def _shapes(path: Path) -> Size:
    """Size of a features file, from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as handle:
        n_train, *shape = handle.get_slice("X_train").get_shape()
        n_test = handle.get_slice("X_test").get_shape()[0]
        classes = read_header(handle)["classes"]
    image = tuple(shape) if len(shape) == 3 else ()
    return Size(math.prod(shape), len(classes), n_train, n_test, shape=image)


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
