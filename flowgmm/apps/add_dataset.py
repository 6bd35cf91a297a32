"""Add a user's table to the workflow: one entry, one column, one copied file."""

import io
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from flowgmm.apps.outputs import check_copy
from flowgmm.datasets.features import prepare_data
from flowgmm.datasets.loaders.table import find_columns
from flowgmm.datasets.registry import dataset_spec
from flowgmm.datasets.splits import draw_split
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import NAME, Project, Run
from flowgmm.experiments.recipes import label_set, method_settings
from flowgmm.experiments.specs.tables import table_runs
from flowgmm.experiments.yaml_io import dump_yaml, read_yaml
from flowgmm.tabular.infer import Choices, infer_columns
from flowgmm.tabular.labels import label_text, mark_notes
from flowgmm.tabular.notes import grouped
from flowgmm.tabular.reading import read_table
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path, sha256, write_text

__all__ = ["Added", "TableFile", "add_dataset", "show"]

# Table of datasets that are not in the paper.
TABLE = "extra"
DATASETS, TABLES = Path("config", "datasets.yaml"), Path("config", "tables.yaml")


@dataclass(frozen=True)
class TableFile:
    """File with a table, and how to read it.

    Attributes:
        file: See `flowgmm.tabular.reading.read_table`.
        label: Column with the classes; rows with an empty one are always unlabelled.
        classes: Values of the label column in the order of the classes; None: sorted.
        drop: Columns to leave out.
        keep: Columns to keep though they look like identifiers.
        one_hot: Columns of categories, which become columns of 0 and 1.
        missing: Cells that stand for a missing value.
        unlabelled: A further label of unlabelled rows; see `flowgmm.tabular.labels.read_labels`.
        decimal: Decimal mark where several fit; None: as other columns have it.
        sep: Separator of a text file; None: recognised.
        encoding: Encoding of a text file; None: UTF-8, or as its first bytes say.
    """

    file: Path
    label: str
    classes: Sequence[str] | None = None
    drop: Sequence[str] = ()
    keep: Sequence[str] = ()
    one_hot: Sequence[str] = ()
    missing: Sequence[str] = ()
    unlabelled: str | None = None
    decimal: str | None = None
    sep: str | None = None
    encoding: str | None = None

    def examined(self) -> tuple[Self, list[str]]:
        """Add to the options what the file tells, so that the entry says how it is read.

        Returns:
            The table with its separator and encoding, and identifiers among the columns to drop;
            and notes for the user.

        Raises:
            UserError: If the file cannot be read, or a column is missing.
        """
        table = read_table(self.file, sep=self.sep, encoding=self.encoding)
        others = [self.label, *self.drop, *self.one_hot]
        find_columns(table.frame, [*others, *self.keep], str(self.file))
        labels = label_text(table.frame[self.label], self.unlabelled)
        place = f"{self.file}: column {self.label!r}"
        about_labels = [] if self.unlabelled is not None else mark_notes(labels, place)
        choices = Choices(keep=self.keep, missing=self.missing, decimal=self.decimal, sep=table.sep)
        _, notes = infer_columns(table.frame.drop(columns=others), choices)
        left_out = [note.column for note in notes if note.kind == "left out"]
        found = replace(self, drop=(*self.drop, *left_out), sep=table.sep, encoding=table.encoding)
        # Other columns and cells are refused, or in the notes of the loader.
        dropped = grouped(notes, lines=math.inf, kinds={"left out": "Left out (--keep)"})
        return found, [*table.notes, *about_labels, *dropped]

    def options(self, stored: str) -> dict[str, Any]:
        """Options of the loader `table`, with the name `stored` of the copied file."""
        given = {
            "sep": self.sep,
            "encoding": None if self.encoding == "utf-8" else self.encoding,
            "decimal": self.decimal,
            "missing": list(self.missing),
            "unlabelled": self.unlabelled,
            "drop": list(self.drop),
            "one_hot": list(self.one_hot),
            "classes": list(self.classes or ()),
        }
        chosen = {key: value for key, value in given.items() if value}
        return {"file": stored, "label": self.label, **chosen}


@dataclass(frozen=True)
class Added:
    """Result of `add_dataset`.

    Attributes:
        name: Name of the data set.
        path: The copy of the file.
        entry: The new entry of `config/datasets.yaml`.
        notes: Sentences that describe the data.
    """

    name: str
    path: Path
    entry: dict[str, Any]
    notes: list[str]


def add_dataset(
    root: Path,
    name: str,
    table: TableFile,
    *,
    n_labels: int,
    n_val: int | None = None,
    title: str | None = None,
    licence: str = "not stated",
) -> Added:
    """Copy a table to `data/`, validate it, and write its entries into `config/`.

    Config files are written last, and not at all if anything is wrong.

    Arguments:
        root: The repository.
        name: Name of the dataset.
        table: The table.
        n_labels: Labelled points of a run, drawn by class, as frequent as in the training part.
        n_val: Validation points; None: 1000, or a fifth of the training part if that is less.
        title: Title in tables; None: the name.
        licence: Terms of use.

    Raises:
        UserError: If the name is invalid or taken, the table does not meet the contract of
            `flowgmm.datasets.validation.check_arrays`, no split can be drawn from it, or the copy
            would replace another file.
    """
    config = load_checked(root)
    _check_name(config, name)
    table, notes = table.examined()
    stored = f"{name}.parquet" if table.file.suffix == ".parquet" else f"{name}.csv"
    path = Path("data", name, stored)
    check_copy(table.file, root / path)
    entry: dict[str, Any] = {
        "title": title or name,
        "kind": "table",
        "licence": licence,
        "loader": "table",
        "options": table.options(stored),
        "files": {stored: {"path": path.as_posix(), "sha256": sha256(table.file)}},
        "drop_constant": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        shutil.copyfile(table.file, raw / stored)
        arrays, meta = prepare_data(dataset_spec(name, entry, None), raw)
    labels = str(n_labels)
    entry |= {
        "rows": {"train": len(arrays["y_train"]), "test": len(arrays["y_test"])},
        "columns": int(arrays["X_train"].shape[1]),
        "labels": {labels: _label_set(name, arrays["y_train"], n_labels, n_val)},
    }
    column = {"dataset": name, "labels": labels, "title": f"{entry['title']}, {labels} labels"}
    texts = {
        DATASETS: _with_entry(root / DATASETS, name, entry),
        TABLES: _with_column(root / TABLES, column),
    }
    _check_config(root, texts, Run(name, labels, ""))
    _copy(table.file, root / path)
    for place, text in texts.items():
        write_text(root / place, text)
    return Added(name, path, entry, [*notes, *meta["notes"]])


def _check_name(config: Project, name: str) -> None:
    if not NAME.fullmatch(name) or name.startswith("."):
        raise UserError(
            f"name {name!r}: a dataset's name consists of letters, digits, _ and ., and does not "
            "start with a dot; choose another"
        )
    for known, where in ((config.datasets, DATASETS), (config.methods, "config/methods.yaml")):
        if name in known:
            raise UserError(f"name {name!r} is taken by an entry of {where}; choose another")


def _label_set(name: str, y_train: np.ndarray, n_labels: int, n_val: int | None) -> dict[str, Any]:
    """Label set of the new entry, of which a split can be drawn."""
    if n_val is None:
        n_val = min(1000, int((y_train >= 0).sum()) // 5)
    if n_val < 1:
        raise UserError(
            f"n_val is {n_val}, but hyper-parameters are chosen on validation points; give some, "
            "or a larger file"
        )
    chosen: dict[str, Any] = {"n_labels": n_labels, "stratify": "proportional", "n_val": n_val}
    try:
        draw_split(y_train, **chosen, split_seed=0, labels_seed=0)
    except UserError as error:
        raise UserError(f"dataset {name!r}: {error}") from error
    return chosen


def _with_entry(path: Path, name: str, entry: Mapping[str, Any]) -> str:
    """Text of the file with a new entry at its end."""
    text = path.read_text(encoding="utf-8").rstrip("\n") + "\n\n" + dump_yaml({name: dict(entry)})
    _check_text(path, text, read_yaml(path) | {name: entry})
    return text


def _with_column(path: Path, column: Mapping[str, Any]) -> str:
    """Text of the file with a new column after the table's last one; comments are kept."""
    from ruamel.yaml import YAML

    yaml, stream = YAML(), io.StringIO()
    yaml.preserve_quotes, yaml.width = True, 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    content, edited = read_yaml(path), yaml.load(path.read_text(encoding="utf-8"))
    try:
        content[TABLE]["columns"].append(dict(column))
        # In the style of `config/`, quotes included.
        edited[TABLE]["columns"].append(yaml.load(dump_yaml(dict(column))))
    except KeyError as error:
        raise UserError(f"{path}: table {TABLE!r} with columns not found; restore it") from error
    yaml.dump(edited, stream)
    _check_text(path, stream.getvalue(), content)
    return stream.getvalue()


def _check_text(path: Path, text: str, expected: Any) -> None:
    """Check that an edited file reads as expected."""
    with tempfile.TemporaryDirectory() as folder:
        edited = Path(folder, path.name)
        edited.write_text(text, encoding="utf-8")
        if read_yaml(edited) != expected:
            raise UserError(
                f"{path} cannot be edited in place; write its mappings in block style, as in the "
                "version in git"
            )


def _check_config(root: Path, texts: Mapping[Path, str], run: Run) -> None:
    """Check that the config loads with the new files, and that every method has enough points."""
    with tempfile.TemporaryDirectory() as folder:
        tried = Path(folder)
        shutil.copytree(root / "config", tried / "config")
        for place, text in texts.items():
            (tried / place).write_text(text, encoding="utf-8")
        config = load_checked(tried, repository=root)
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


def show(added: Added) -> None:
    """Print what was added, and the commands that run it."""
    rows, (label_set,) = added.entry["rows"], added.entry["labels"].values()
    print(
        f"{added.name}: {rows['train']} training and {rows['test']} test rows, "
        f"{added.entry['columns']} features; {label_set['n_labels']} labelled and "
        f"{label_set['n_val']} validation points"
    )
    for note in added.notes:
        print(f"  {note}")
    print(
        f"Its file is {added.path} (not in git), its entry is in config/datasets.yaml, its column"
    )
    print("in config/tables.yaml. What to run next:")
    print("  flowgmm estimate extra_tables")
    print("  snakemake --profile local -- extra_tables")
