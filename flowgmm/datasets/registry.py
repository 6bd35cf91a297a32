"""Registry of loaders, and the specification of a dataset from its entry in the config.

A loader is one function `load_x(raw, **options)` that reads files from the folder `raw` (or
generates data) and returns `Arrays`, or `Texts` or `Images` where an encoder has to come first.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowgmm.datasets.types import Data
from flowgmm.utils.errors import UserError

__all__ = ["LOADERS", "dataset_spec", "load"]

LOADERS = {
    "moons": "flowgmm.datasets.loaders.toy:load_moons",
    "circles": "flowgmm.datasets.loaders.toy:load_circles",
    "eight_gaussians": "flowgmm.datasets.loaders.toy:load_eight_gaussians",
    "pinwheel": "flowgmm.datasets.loaders.toy:load_pinwheel",
    "packaged": "flowgmm.datasets.loaders.packaged:load_packaged",
    "text": "flowgmm.datasets.loaders.text:load_text",
    "text_table": "flowgmm.datasets.loaders.text_table:load_text_table",
    "hepmass": "flowgmm.datasets.loaders.uci:load_hepmass",
    "miniboone": "flowgmm.datasets.loaders.uci:load_miniboone",
    "table": "flowgmm.datasets.loaders.table:load_table",
    "encodings": "flowgmm.datasets.loaders.encodings:load_encodings",
    "arrays": "flowgmm.datasets.loaders.arrays:load_arrays",
    "idx": "flowgmm.datasets.loaders.idx:load_idx",
    "notmnist": "flowgmm.datasets.loaders.notmnist:load_notmnist",
    "svhn": "flowgmm.datasets.loaders.svhn:load_svhn",
    "cifar10": "flowgmm.datasets.loaders.cifar:load_cifar10",
    "surrogate": "flowgmm.datasets.loaders.surrogate:load_surrogate",
    "surrogate_images": "flowgmm.datasets.loaders.surrogate:load_surrogate_images",
}


def dataset_spec(
    name: str, entry: Mapping[str, Any], mirror: Path | None, surrogate: bool = False
) -> dict[str, Any]:
    """Specification of a dataset's features: its entry of `config/datasets.yaml`, resolved.

    Titles, licences and label sets are left out, so that editing them reruns nothing; a file is
    replaced by its alternative where the mirror has only the alternative.

    Arguments:
        name: Name of the entry.
        entry: The entry.
        mirror: Folder with raw files, which goes before the network; None: download.
        surrogate: Replace the data by generated ones, as the entry's `surrogate` says.

    Returns:
        A JSON object: all that determines the features.

    Raises:
        UserError: If the entry's surrogate or the mirror is missing.
    """
    from flowgmm.datasets.download import resolve

    keys = ("kind", "loader", "options", "rows", "columns", "drop_constant", "embedding")
    spec: dict[str, Any] = {"dataset": name, **{k: entry[k] for k in keys if k in entry}}
    if surrogate:
        if "surrogate" not in entry:
            raise UserError(
                f"dataset {name!r}: `surrogate` missing in config/datasets.yaml; add one, "
                f"or take {name!r} out of the recipe's surrogates"
            )
        for key in ("rows", "columns", "embedding"):
            spec.pop(key, None)
        reason = f"surrogate data, generated in place of {entry['title']}"
        options = dict(entry["surrogate"])
        usual = "surrogate_images" if "images" in options else "surrogate"
        return spec | {
            "loader": options.pop("loader", usual),
            "options": options,
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
    """Load a dataset with its loader.

    Arguments:
        spec: From `dataset_spec`.
        raw: Folder with the dataset's downloaded files.

    Returns:
        A table, texts or images.

    Raises:
        UserError: If loader or option are unknown, or a file is missing or damaged.
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
