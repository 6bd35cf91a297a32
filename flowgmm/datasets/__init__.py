"""Datasets as configuration: the registry of loaders, and the contract that loaded data meet.

A loader is one function `load_x(raw, **options)` that reads files from the folder `raw` (or
generates) and returns `Arrays`, or `Texts` or `Images` where an encoder has to come first.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import sha256

__all__ = [
    "LOADERS",
    "Arrays",
    "Images",
    "Texts",
    "check",
    "check_images",
    "dataset_spec",
    "drop_constant_columns",
    "finish",
    "load",
    "prepare_data",
    "split_by_class",
]

LOADERS = {
    "moons": "flowgmm.datasets.loaders.toy:load_moons",
    "circles": "flowgmm.datasets.loaders.toy:load_circles",
    "eight_gaussians": "flowgmm.datasets.loaders.toy:load_eight_gaussians",
    "pinwheel": "flowgmm.datasets.loaders.toy:load_pinwheel",
    "packaged": "flowgmm.datasets.loaders.packaged:load_packaged",
    "text": "flowgmm.datasets.loaders.text:load_text",
    "hepmass": "flowgmm.datasets.loaders.uci:load_hepmass",
    "miniboone": "flowgmm.datasets.loaders.uci:load_miniboone",
    "table": "flowgmm.datasets.loaders.table:load_table",
    "arrays": "flowgmm.datasets.loaders.arrays:load_arrays",
    "idx": "flowgmm.datasets.loaders.idx:load_idx",
    "notmnist": "flowgmm.datasets.loaders.notmnist:load_notmnist",
    "svhn": "flowgmm.datasets.loaders.svhn:load_svhn",
    "cifar10": "flowgmm.datasets.loaders.cifar:load_cifar10",
    "surrogate": "flowgmm.datasets.loaders.surrogate:load_surrogate",
    "surrogate_images": "flowgmm.datasets.loaders.surrogate:load_surrogate_images",
}


@dataclass(frozen=True)
class Arrays:
    """A dataset as numbers.

    Attributes:
        X_train: Training part, shape (N, D).
        y_train: Classes 0..K-1, shape (N,); -1 where the truth is unknown.
        X_test: Test part, shape (N_test, D).
        y_test: Classes 0..K-1, shape (N_test,).
        classes: Names of the K classes.
        notes: Sentences that describe how the data were made.
        columns: Names of the D features, for messages; empty: their numbers.
        same_scale: Whether the features share one scale, as an encoder's do. Then a feature with
            a range of a millionth of the median range counts as constant: it is rounding noise.
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    classes: list[str]
    notes: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    same_scale: bool = False


@dataclass(frozen=True)
class Texts:
    """A dataset as texts; the fields mean what they mean in `Arrays`."""

    train: list[str]
    y_train: np.ndarray
    test: list[str]
    y_test: np.ndarray
    classes: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Images:
    """A dataset as images; the fields mean what they mean in `Arrays`.

    Attributes:
        train, test: Shape (N, C, height, width) uint8; C is 1 (grey) or 3 (red, green, blue).
    """

    train: np.ndarray
    y_train: np.ndarray
    test: np.ndarray
    y_test: np.ndarray
    classes: list[str]
    notes: list[str] = field(default_factory=list)


Data = Arrays | Texts | Images


def dataset_spec(
    name: str, entry: Mapping[str, Any], mirror: Path | None, surrogate: bool = False
) -> dict[str, Any]:
    """What determines a dataset's features: its entry of `config/datasets.yaml`, resolved.

    Titles, licences and label sets are left out, so that editing them reruns nothing; a file's
    alternative takes the file's place where the mirror has only the alternative.

    Arguments:
        name: Name of the entry.
        entry: The entry.
        mirror: Folder that replaces the network; None: download.
        surrogate: Replace the data by generated ones, as the entry's `surrogate` says.

    Raises:
        UserError: If the entry has no surrogate, or the mirror is not there.
    """
    from flowgmm.datasets.download import resolve

    keys = ("kind", "loader", "options", "rows", "columns", "drop_constant", "embedding")
    spec: dict[str, Any] = {"dataset": name, **{k: entry[k] for k in keys if k in entry}}
    if surrogate:
        if "surrogate" not in entry:
            raise UserError(
                f"dataset {name!r} has no `surrogate` in config/datasets.yaml; add one, "
                f"or take {name!r} out of the recipe's surrogates"
            )
        for key in ("rows", "columns", "embedding"):
            spec.pop(key, None)
        reason = f"surrogate data, generated in place of {entry['title']}"
        return spec | {
            "loader": "surrogate_images" if "images" in entry["surrogate"] else "surrogate",
            "options": dict(entry["surrogate"]),
            "files": {},
            "notes": [],
            "not_comparable": [reason],
        }
    files, notes, reasons = resolve(entry, mirror)
    for file in files.values():
        if "rows" in file:
            spec["rows"] = {**spec.get("rows", {}), **file.pop("rows")}
    return spec | {
        "files": files,
        "notes": [*entry.get("notes", []), *notes],
        "not_comparable": [*entry.get("not_comparable", []), *reasons],
    }


def load(spec: Mapping[str, Any], raw: Path) -> Data:
    """Call the dataset's loader.

    Arguments:
        spec: From `dataset_spec`.
        raw: Folder with the dataset's fetched files.

    Raises:
        UserError: If loader or option are unknown, or the files are not what they should be.
    """
    name, loader = spec["dataset"], spec["loader"]
    if loader not in LOADERS:
        raise UserError(
            f"dataset {name!r}: unknown loader {loader!r}; expected one of {', '.join(LOADERS)}"
        )
    module, function = LOADERS[loader].split(":")
    call: Callable[..., Data] = getattr(importlib.import_module(module), function)
    options = spec.get("options", {})
    try:
        inspect.signature(call).bind(raw, **options)
    except TypeError as error:
        known = ", ".join(list(inspect.signature(call).parameters)[1:])
        raise UserError(
            f"dataset {name!r}: {error} (loader {loader!r} takes the options: {known})"
        ) from error
    try:
        return call(raw, **options)
    except UserError as error:
        raise UserError(f"dataset {name!r}: {error}") from error


def split_by_class(
    rows: np.ndarray, y: np.ndarray, test_fraction: float, seed: int, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Random training and test rows, each class in proportion.

    Arguments:
        rows: Shape (n,).
        y: Their classes, shape (n,).
        test_fraction: Share of the test rows.
        seed: Of the draw.
        where: File, for messages.

    Raises:
        UserError: If there are too few rows for both parts.
    """
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(rows, test_size=test_fraction, stratify=y, random_state=seed)
    except ValueError as error:
        raise UserError(
            f"{where}: {len(rows)} rows cannot be split by class ({error}); did the file change?"
        ) from error
    return train, test


def prepare_data(
    spec: Mapping[str, Any], raw: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Load, check and describe a dataset that needs no encoder.

    Arguments:
        spec: From `dataset_spec`.
        raw: Folder with the dataset's fetched files.

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
    return finish(spec, data, raw)


def finish(
    spec: Mapping[str, Any],
    data: Arrays | Images,
    raw: Path,
    not_comparable: list[str] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Drop constant columns if told to, check the contract, and give the features file's parts."""
    expected = {"rows": spec.get("rows"), "columns": spec.get("columns")}
    if isinstance(data, Images):
        check_images(data, spec["dataset"], **expected)
        X_train, X_test = data.train, data.test
    else:
        if spec.get("drop_constant", False):
            data = drop_constant_columns(data)
        check(data, spec["dataset"], **expected)
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
        "sources": {name: sha256(raw / name) for name in spec.get("files", {})},
        "spec": dict(spec),
    }
    return arrays, meta


def drop_constant_columns(data: Arrays) -> Arrays:
    """Leave out the features that have one value over the whole training part.

    A flow's density is unbounded along such a feature.
    """
    # A column with NaN or infinity is kept, for the contract to refuse.
    with np.errstate(invalid="ignore"):
        keep = ~(data.X_train.max(axis=0) - data.X_train.min(axis=0) <= _noise(data))
    if keep.all():
        return data
    names = [name for name, kept in zip(_names(data), keep, strict=True) if not kept]
    return replace(
        data,
        X_train=data.X_train[:, keep],
        X_test=data.X_test[:, keep],
        columns=[name for name in _names(data) if name not in set(names)],
        notes=[*data.notes, f"{len(names)} constant columns dropped: {_some(names)}"],
    )


def check(
    data: Arrays,
    dataset: str,
    rows: Mapping[str, int] | None = None,
    columns: int | None = None,
) -> None:
    """The contract of every table, whatever its source.

    Arguments:
        data: What the loader returned.
        dataset: Name, for messages.
        rows: Expected rows of ``train`` and ``test``; None: any.
        columns: Expected number of features; None: any.

    Raises:
        UserError: If rows or columns are miscounted, a value is not finite, a column is constant,
            a label lies outside the classes, or a class is missing from the training part.
    """
    where, width = f"dataset {dataset!r}", data.X_train.shape[1]
    if columns is not None and width != columns:
        raise UserError(
            f"{where}: expected {columns} feature columns, got {width}; did the raw file change, "
            "or an option of the loader?"
        )
    parts = {"train": (data.X_train, data.y_train), "test": (data.X_test, data.y_test)}
    _check_rows(parts, data.classes, rows, where)
    for part, (X, _) in parts.items():
        if X.shape[1] != width:
            raise UserError(
                f"{where}: {part} part has {X.shape[1]} columns, the training part {width}; "
                "correct the file"
            )
        noise = _noise(data) if part == "train" else None
        _check_values(X, _names(data), f"{where}, {part} part", noise)


def check_images(
    data: Images,
    dataset: str,
    rows: Mapping[str, int] | None = None,
    columns: int | None = None,
) -> None:
    """The contract of every set of images.

    Arguments:
        data: What the loader returned.
        dataset: Name, for messages.
        rows: Expected rows of ``train`` and ``test``; None: any.
        columns: Expected values of an image, C x H x W; None: any.

    Raises:
        UserError: If images are not uint8 of one shape, 1 or 3 channels of even height and width
            (the flow squeezes 2 x 2 pixels), rows or values are miscounted, a label lies outside
            the classes, or a class is missing from the training part.
    """
    where = f"dataset {dataset!r}"
    parts = {"train": (data.train, data.y_train), "test": (data.test, data.y_test)}
    for part, (X, _) in parts.items():
        even = X.ndim == 4 and X.shape[1] in (1, 3) and min(X.shape[2:]) > 0
        if X.dtype != np.uint8 or not even or any(side % 2 for side in X.shape[2:]):
            raise UserError(
                f"{where}: {part} part is {X.dtype} of shape {X.shape}; expected uint8 of shape "
                "(images, 1 or 3 channels, height, width), both even; correct the loader or crop "
                "the images"
            )
        if X.shape[1:] != data.train.shape[1:]:
            raise UserError(
                f"{where}: images have shape {X.shape[1:]} in the {part} part, "
                f"{data.train.shape[1:]} in the training part; make them equal"
            )
    if columns is not None and (values := math.prod(data.train.shape[1:])) != columns:
        raise UserError(
            f"{where}: expected {columns} values an image, got {values}; did the raw file change?"
        )
    _check_rows(parts, data.classes, rows, where)


def _check_rows(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    classes: list[str],
    rows: Mapping[str, int] | None,
    where: str,
) -> None:
    """Expected numbers of rows, labels inside at least two classes, each there in training."""
    if len(classes) < 2:
        raise UserError(f"{where}: {len(classes)} class ({_some(classes)}); at least 2 are needed")
    for part, (X, y) in parts.items():
        expected = (rows or {}).get(part)
        if expected is not None and len(X) != expected:
            raise UserError(
                f"{where}: expected {expected} rows in the {part} part, got {len(X)}; did the raw "
                "file change? Otherwise correct `rows` in config/datasets.yaml"
            )
        if not len(X) == len(y) > 0:
            raise UserError(
                f"{where}: {part} part has shape {X.shape} with {len(y)} labels; expected "
                "at least one row and one label a row"
            )
        lowest = -1 if part == "train" else 0
        if outside := sorted(set(np.unique(y).tolist()) - set(range(lowest, len(classes)))):
            raise UserError(
                f"{where}, {part} part: label {_some(outside)} outside the classes "
                f"0..{len(classes) - 1}; correct the file or the list `classes`"
            )
    missing = sorted(set(range(len(classes))) - set(parts["train"][1].tolist()))
    if missing:
        raise UserError(
            f"{where}: no training point of class {_some([classes[k] for k in missing])}; "
            "take the class out of `classes` or correct the file"
        )


def _check_values(X: np.ndarray, names: list[str], where: str, noise: float | None) -> None:
    """Finite features, in training (`noise` given) none constant."""
    import pandas as pd
    import pandera.pandas as pa

    # pandera leaves NaN out of its checks unless told not to.
    finite = pa.Check(lambda x: bool(np.isfinite(x).all()), name="finite", ignore_na=False)
    varied = pa.Check(lambda x: bool(x.max() > x.min() + noise), name="varied", ignore_na=False)
    feature = pa.Column(None, [finite, varied] if noise is not None else [finite], nullable=True)
    frame = pd.DataFrame(X, columns=names, copy=False)
    try:
        pa.DataFrameSchema(dict.fromkeys(names, feature)).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        found = error.failure_cases
        for test, text, remedy in (
            ("finite", "NaN or infinite values", "clean the file or drop them with `drop`"),
            ("varied", "one value only", "set `drop_constant: true` in the dataset's entry"),
        ):
            if len(bad := found.loc[found["check"] == test, "column"].tolist()):
                raise UserError(f"{where}: column {_some(bad)}: {text}; {remedy}") from None
        raise


def _noise(data: Arrays) -> float:
    """Range up to which a feature counts as constant."""
    if not data.same_scale:
        return 0.0
    return 1e-6 * float(np.median(data.X_train.max(axis=0) - data.X_train.min(axis=0)))


def _names(data: Arrays) -> list[str]:
    return data.columns or [str(i) for i in range(data.X_train.shape[1])]


def _some(values: list[Any], most: int = 5) -> str:
    """The first few values, for a message of one line."""
    shown = ", ".join(str(value) for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
