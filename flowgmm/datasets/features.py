"""Features files: arrays and header of a dataset that was loaded and validated."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.datasets.registry import load
from flowgmm.datasets.types import Arrays, Images, Texts
from flowgmm.datasets.validation import (
    check_arrays,
    check_images,
    column_names,
    constant_range,
    shortened,
)
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import sha256

__all__ = ["drop_constant_columns", "make_features", "prepare_data", "raw_files"]


def prepare_data(
    spec: Mapping[str, Any], raw: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Load and validate a dataset that needs no encoder.

    Arguments:
        spec: From `flowgmm.datasets.registry.dataset_spec`.
        raw: Folder with the dataset's downloaded files.

    Returns:
        Arrays and header of a features file, as docs/architecture.md describes it.

    Raises:
        UserError: If the data do not meet the contract.
    """
    data = load(spec, raw)
    if isinstance(data, Texts) or (isinstance(data, Images) and spec["kind"] != "image"):
        raise UserError(
            f"dataset {spec['dataset']!r} needs an encoder; make its features with the rule "
            "embed_data"
        )
    if isinstance(data, Arrays) and spec["kind"] == "image":
        raise UserError(
            f"dataset {spec['dataset']!r} is of kind image, but its loader "
            f"{spec['loader']!r} gives a table; correct `kind` or `loader`"
        )
    return make_features(spec, data, raw)


def make_features(
    spec: Mapping[str, Any],
    data: Arrays | Images,
    raw: Path,
    not_comparable: list[str] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Validate loaded data and make the parts of a features file.

    Constant columns are dropped where `spec` has ``drop_constant: true``.

    Arguments:
        spec: From `flowgmm.datasets.registry.dataset_spec`.
        data: The loaded data, or the vectors of an encoder.
        raw: Folder with the dataset's downloaded files.
        not_comparable: Reasons, beside those of `spec`, why results are not comparable with the
            paper's.

    Returns:
        Arrays and header of a features file, as docs/architecture.md describes it.

    Raises:
        UserError: If the data do not meet the contract.
    """
    expected = {"rows": spec.get("rows"), "columns": spec.get("columns")}
    if isinstance(data, Images):
        check_images(data, spec["dataset"], **expected)
        X_train, X_test = data.train, data.test
    else:
        if spec.get("drop_constant", False):
            data = drop_constant_columns(data)
        check_arrays(data, spec["dataset"], **expected)
        X_train = np.asarray(data.X_train, np.float32)
        X_test = np.asarray(data.X_test, np.float32)
    arrays: dict[str, np.ndarray] = {
        "X_train": X_train,
        "y_train": np.asarray(data.y_train, np.int64),
        "X_test": X_test,
        "y_test": np.asarray(data.y_test, np.int64),
    }
    meta = {
        "dataset": spec["dataset"],
        "kind": spec["kind"],
        "classes": data.classes,
        "notes": [*spec.get("notes", []), *data.notes],
        "not_comparable": [*spec.get("not_comparable", []), *(not_comparable or [])],
        "sources": {path.name: sha256(path) for path in raw_files(spec, raw)},
        "spec": dict(spec),
    }
    return arrays, meta


def raw_files(spec: Mapping[str, Any], raw: Path) -> list[Path]:
    """Paths of the files that a dataset's features are made of.

    Arguments:
        spec: From `flowgmm.datasets.registry.dataset_spec`.
        raw: Folder with them.
    """
    return [raw / name for name in spec.get("files", {})]


def drop_constant_columns(data: Arrays) -> Arrays:
    """Drop the features that are constant over the training part.

    A flow's density is unbounded along such a feature.

    Arguments:
        data: A table.

    Returns:
        The table without them, with a note that names them; `data` itself if there are none.
    """
    # A column with NaN or infinity is kept, for the contract to refuse.
    with np.errstate(invalid="ignore"):
        keep = ~(data.X_train.max(axis=0) - data.X_train.min(axis=0) <= constant_range(data))
    if keep.all():
        return data
    names = [name for name, kept in zip(column_names(data), keep, strict=True) if not kept]
    return replace(
        data,
        X_train=data.X_train[:, keep],
        X_test=data.X_test[:, keep],
        columns=[name for name in column_names(data) if name not in set(names)],
        notes=[*data.notes, f"{len(names)} constant columns dropped: {shortened(names)}"],
    )
