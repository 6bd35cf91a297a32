"""A user's table becomes a data set of the workflow: one entry, one column, one copied file."""

import copy
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgmm.datasets.features import prepare_data
from flowgmm.datasets.registry import dataset_spec
from flowgmm.datasets.splits import draw_split
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import NAME, RULES, Project, Run
from flowgmm.experiments.recipes import label_set, method_settings
from flowgmm.experiments.specs.tables import table_runs
from flowgmm.experiments.yaml_io import dump_yaml, read_yaml
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path, sha256, write_text

__all__ = ["Added", "add_dataset"]

# The table that shows sets that are not in the paper.
TABLE = "extra"
DATASETS, TABLES = Path("config", "datasets.yaml"), Path("config", "tables.yaml")


@dataclass(frozen=True)
class Added:
    """Result of `add_dataset`.

    Attributes:
        path: The copy of the file.
        entry: The new entry of `config/datasets.yaml`.
        notes: Sentences that describe the data.
    """

    path: Path
    entry: dict[str, Any]
    notes: list[str]


def add_dataset(
    root: Path,
    name: str,
    file: Path,
    *,
    label: str,
    n_labels: int,
    n_val: int | None = None,
    classes: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    sep: str = ",",
    title: str | None = None,
    licence: str = "not stated",
) -> Added:
    """Copy a table to `data/`, check it as every data set is checked, and write it into `config/`.

    Config files are written last, and not at all if anything is wrong.

    Arguments:
        root: The repository.
        name: Name of the data set.
        file: CSV, plain or gzipped, or Parquet.
        label: Column with the classes; rows with an empty one are unlabelled for good.
        n_labels: Labelled points of a run, drawn by class, as frequent as in the training part.
        n_val: Validation points; None: 1000, or a fifth of the training part if that is less.
        classes: Values of the label column in the order of the classes; None: sorted.
        drop: Columns to leave out.
        sep: Separator of a CSV.
        title: What tables call it; None: the name.
        licence: Terms of use.

    Raises:
        UserError: If the name is taken or no name, the file is no table that meets the contract of
            `flowgmm.datasets.validation.check_arrays`, or no split can be drawn from it.
    """
    config = load_checked(root)
    _check_name(config, name)
    if not file.is_file():
        raise UserError(f"{file} is not there; check the path")
    stored = f"{name}.parquet" if file.suffix == ".parquet" else f"{name}.csv"
    path = Path("data", name, stored)
    options = {
        "file": stored,
        "label": label,
        **({} if sep == "," else {"sep": sep}),
        **({"drop": list(drop)} if drop else {}),
        **({"classes": list(classes)} if classes else {}),
    }
    entry: dict[str, Any] = {
        "title": title or name,
        "kind": "table",
        "licence": licence,
        "loader": "table",
        "options": options,
        "files": {stored: {"path": path.as_posix(), "sha256": sha256(file)}},
        "drop_constant": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        shutil.copyfile(file, raw / stored)
        arrays, meta = prepare_data(dataset_spec(name, entry, None), raw)
    y_train = arrays["y_train"]
    entry |= {
        "rows": {"train": len(y_train), "test": len(arrays["y_test"])},
        "columns": int(arrays["X_train"].shape[1]),
    }
    if n_val is None:
        n_val = min(1000, int((y_train >= 0).sum()) // 5)
    if n_val < 1:
        raise UserError(
            f"n_val is {n_val}, but hyper-parameters are chosen on validation points; give some, "
            "or a larger file"
        )
    label_set: dict[str, Any] = {"n_labels": n_labels, "stratify": "proportional", "n_val": n_val}
    try:
        draw_split(y_train, **label_set, split_seed=0, labels_seed=0)
    except UserError as error:
        raise UserError(f"data set {name!r}: {error}") from error
    labels = str(n_labels)
    entry["labels"] = {labels: label_set}
    column = {"dataset": name, "labels": labels, "title": f"{entry['title']}, {labels} labels"}
    texts = {
        DATASETS: _with_entry(root / DATASETS, name, entry),
        TABLES: _with_column(root / TABLES, column),
    }
    _check_config(root, texts, Run(name, labels, ""))
    _copy(file, root / path)
    for place, text in texts.items():
        write_text(root / place, text)
    return Added(path, entry, meta["notes"])


def _check_name(config: Project, name: str) -> None:
    if not NAME.fullmatch(name) or name.startswith("."):
        raise UserError(
            f"name {name!r}: a data set's name consists of letters, digits, _ and ., and does not "
            "start with a dot; choose another"
        )
    for known, where in ((config.datasets, DATASETS), (config.methods, "config/methods.yaml")):
        if name in known:
            raise UserError(f"name {name!r} is taken by an entry of {where}; choose another")


def _with_entry(path: Path, name: str, entry: Mapping[str, Any]) -> str:
    """The file with one entry more, at its end; nothing else changes."""
    text = path.read_text(encoding="utf-8").rstrip("\n") + "\n\n" + dump_yaml({name: dict(entry)})
    _check_text(path, text, read_yaml(path) | {name: entry})
    return text


def _with_column(path: Path, column: Mapping[str, Any]) -> str:
    """The file with one more column in the table, after its last one; nothing else changes."""
    import yaml

    content = copy.deepcopy(read_yaml(path))
    text = path.read_text(encoding="utf-8")
    try:
        content[TABLE]["columns"].append(dict(column))
        table = dict(_items(yaml.compose(text, yaml.SafeLoader)))[TABLE]
        columns = dict(_items(table))["columns"]
    except KeyError as error:
        raise UserError(f"{path} has no table {TABLE!r} with columns; restore it") from error
    end = columns.value[-1].end_mark
    line = text.find("\n", end.index) + 1 or len(text)
    indent = " " * columns.start_mark.column
    shown = dump_yaml([dict(column)]).replace("\n  ", " ")
    text = f"{text[:line]}{indent}{shown}{text[line:]}"
    _check_text(path, text, content)
    return text


def _items(node: Any) -> list[tuple[str, Any]]:
    """Keys and values of a mapping in YAML's syntax tree."""
    return [(key.value, value) for key, value in node.value]


def _check_text(path: Path, text: str, expected: Any) -> None:
    """An edited file says what it should."""
    with tempfile.TemporaryDirectory() as folder:
        edited = Path(folder, path.name)
        edited.write_text(text, encoding="utf-8")
        if read_yaml(edited) != expected:
            raise UserError(
                f"{path} is laid out in a way that cannot be added to; write its lists and "
                "mappings in block style, as in the version in git"
            )


def _check_config(root: Path, texts: Mapping[Path, str], run: Run) -> None:
    """The whole config loads with the new files, and every method finds points enough."""
    with tempfile.TemporaryDirectory() as folder:
        tried = Path(folder)
        for part in (Path("config"), Path("scripts"), Path("workflow", "schemas"), RULES):
            shutil.copytree(root / part, tried / part)
        for place, text in texts.items():
            (tried / place).write_text(text, encoding="utf-8")
        config = load_checked(tried)
    labelled = label_set(config, run.dataset, run.labels)["n_labels"]
    for trial in table_runs(config, TABLE):
        if trial.dataset != run.dataset or not config.method(trial.method).labelled_only:
            continue
        grid = method_settings(config, trial).tune or {}
        most = max(grid.get("n_neighbors", [0]))
        if most > labelled:
            raise UserError(
                f"n_labels is {labelled}, but {trial.method!r} tries up to {most} labelled "
                f"neighbours; raise it to at least {most}"
            )


def _copy(file: Path, target: Path) -> None:
    if target.exists() and target.samefile(file):
        return
    with atomic_path(target) as part:
        shutil.copyfile(file, part)
