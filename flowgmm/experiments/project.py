"""The config files, validated: one frozen `Project`."""

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from yaml import YAMLError

from flowgmm.experiments.entries import (
    Analysis,
    Dataset,
    Figure,
    Method,
    PaperClaim,
    Recipe,
    Settings,
    Table,
    make_entries,
    make_entry,
    make_printed,
)
from flowgmm.experiments.validation import check, nearest
from flowgmm.experiments.yaml_io import parse_yaml, read_yaml
from flowgmm.utils.errors import UserError
from flowgmm.utils.frozen import freeze

__all__ = [
    "FILES",
    "NAME",
    "RULES",
    "Job",
    "Project",
    "Run",
    "load",
    "once",
    "read_schema",
    "settings_with",
]

# Parts of paths; not `..`, nor hidden.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")
# Folder of rules for data sets of an unusual kind, in the repository and in the user's folder.
# `text_encoder`: vectors that the paper's authors published, instead of an encoder.
AUTHORS = "authors"
RULES = Path("workflow", "rules", "datasets")
FILES = ("datasets", "methods", "tables", "figures", "analyses", "claims", "paper_results")


@dataclass(frozen=True)
class Run:
    """A cell of the design: a dataset, a label set and a method, over all its seeds."""

    dataset: str
    labels: str
    method: str


@dataclass(frozen=True)
class Job:
    """The seeds `first` to `last` of a run: one training job."""

    run: Run
    first: int
    last: int

    @property
    def folder(self) -> str:
        """Folder below ``runs/``."""
        run = self.run
        return f"{run.dataset}/{run.labels}/{run.method}/seeds-{self.first}-{self.last}"


Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def once(
    function: Callable[Concatenate["Project", Arguments], Answer],
) -> Callable[Concatenate["Project", Arguments], Answer]:
    """Cache a function of a project: thousands of jobs ask for the same. Answers are read-only."""

    @functools.wraps(function)
    def ask(project: "Project", *given: Arguments.args, **named: Arguments.kwargs) -> Answer:
        key = (function, *given, *named.items())
        if key not in project._known:
            project._known[key] = freeze(function(project, *given, **named))
        answer: Answer = project._known[key]
        return answer

    return ask


@dataclass(frozen=True)
class Project:
    """All config files, validated and read-only.

    Attributes:
        root: The user's folder, which holds `config/` and gets `results/`.
        repository: The repository, which holds `scripts/` and `workflow/`.
        settings: `config/config.yaml` with the command line's changes.
        datasets, methods, tables, figures, analyses, claims, paper_results: The files of these
            names.
        recipes: The recipe and what it extends by name, the oldest first.
    """

    root: Path
    repository: Path
    settings: Settings
    datasets: Mapping[str, Dataset]
    methods: Mapping[str, Method]
    tables: Mapping[str, Table]
    figures: Mapping[str, Figure]
    analyses: Mapping[str, Analysis]
    claims: Mapping[str, PaperClaim]
    paper_results: Mapping[str, Any]
    recipes: Mapping[str, Recipe]
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def results(self) -> str:
        """Folder of the recipe's results."""
        return f"results/{self.settings.recipe}"

    @property
    def mirror(self) -> Path | None:
        """Folder with raw files, which goes before the network."""
        return None if self.settings.mirror is None else Path(self.settings.mirror)

    @property
    def changes(self) -> list[str]:
        """Settings that differ from `config/config.yaml`, as `--config` takes them."""
        path = self.root / "config" / "config.yaml"
        # A workflow that uses this one as a module may have its settings elsewhere.
        written = read_yaml(path) if path.is_file() else {}
        values = {item.name: getattr(self.settings, item.name) for item in fields(self.settings)}
        return [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in values.items()
            if value != written.get(key)
        ]

    def dataset(self, name: str) -> Dataset:
        """Entry of a dataset."""
        if name not in self.datasets:
            raise nearest(name, self.datasets, "dataset", "config/datasets.yaml")
        return self.datasets[name]

    def rules_files(self) -> list[Path]:
        """Rules files of data sets of an unusual kind, which the workflow includes.

        Returns:
            All in the repository, and those beside `config/` that it names.
        """
        here, there = self.repository.resolve() / RULES, self.root.resolve() / RULES
        files = [file for entry in self.datasets.values() for file in (entry.files or {}).values()]
        named = {there / file["rules"] for file in files if "rules" in file}
        return sorted({*here.glob("*.smk"), *(path for path in named if path.is_file())})

    def method(self, name: str) -> Method:
        """Entry of a method."""
        if name not in self.methods:
            raise nearest(name, self.methods, "method", "config/methods.yaml")
        return self.methods[name]

    def table(self, name: str) -> Table:
        """Entry of a table."""
        if name not in self.tables:
            raise nearest(name, self.tables, "table", "config/tables.yaml")
        return self.tables[name]

    def analysis(self, name: str) -> Analysis:
        """Entry of an analysis."""
        if name not in self.analyses:
            raise nearest(name, self.analyses, "analysis", "config/analyses.yaml")
        return self.analyses[name]


def load(
    root: Path, settings: Mapping[str, Any] | None = None, repository: Path | None = None
) -> Project:
    """Read and validate everything in `root/config`.

    Arguments:
        root: Folder that holds `config/`.
        settings: `config/config.yaml` as changed on the command line; None: as in the file.
        repository: Folder that holds `scripts/` and `workflow/`; None: `root`.

    Raises:
        UserError: If anything is unknown, missing or of the wrong kind.
    """
    folder, repository = root / "config", repository or root
    given = read_yaml(folder / "config.yaml") if settings is None else settings
    check(given, read_schema(repository, "config"), "config/config.yaml")
    files = {}
    for name in FILES:
        files[name] = read_yaml(folder / f"{name}.yaml")
        check(files[name], read_schema(repository, name), f"config/{name}.yaml")
    _share_raw_files(files["datasets"])
    if given["text_encoder"] == AUTHORS:
        _take_authors_vectors(files["datasets"])
    return Project(
        root=root,
        repository=repository,
        settings=make_entry(Settings, given),
        datasets=make_entries(Dataset, files["datasets"]),
        methods=make_entries(Method, files["methods"]),
        tables=make_entries(Table, files["tables"]),
        figures=make_entries(Figure, files["figures"]),
        analyses=make_entries(Analysis, files["analyses"]),
        claims=make_entries(PaperClaim, files["claims"]),
        paper_results=make_printed(files["paper_results"]),
        recipes=make_entries(Recipe, _recipes(folder, repository, given["recipe"])),
    )


def _take_authors_vectors(datasets: dict[str, Any]) -> None:
    """Replace texts by the authors' vectors of them, where they published any."""
    for entry in datasets.values():
        if "authors" in entry:
            # Of the texts; how many vectors there are is not known.
            entry.pop("rows", None)
            entry |= entry["authors"]


def _share_raw_files(datasets: dict[str, Any]) -> None:
    """Give the datasets with `raw` the files of the dataset that it names.

    Raises:
        UserError: If the named dataset is not found or shares files itself, or the entry has files
            of its own.
    """
    for name, entry in datasets.items():
        if "raw" not in entry:
            continue
        where, keys = f"config/datasets.yaml: {name}.raw", ("files", "alternative_files")
        owners = [other for other in datasets if "raw" not in datasets[other]]
        if entry["raw"] not in owners:
            raise nearest(entry["raw"], owners, "dataset with files of its own", where)
        if own := [key for key in keys if key in entry]:
            raise UserError(f"{where}: the dataset has `{own[0]}` of its own; remove either")
        owner = datasets[entry["raw"]]
        entry |= {key: owner[key] for key in keys if key in owner}


def read_schema(repository: Path, name: str) -> dict[str, Any]:
    """Read the JSON Schema of a config file."""
    schema: dict[str, Any] = read_yaml(repository / "workflow" / "schemas" / f"{name}.schema.yaml")
    return schema


def _recipes(config: Path, repository: Path, name: str) -> dict[str, dict[str, Any]]:
    """A recipe and those it extends by name, the oldest first."""
    folder, schema = config / "recipes", read_schema(repository, "recipe")
    chain: dict[str, dict[str, Any]] = {}
    where = "config/config.yaml: recipe"
    current: str | None = name
    while current is not None:
        path = folder / f"{current}.yaml"
        if not NAME.fullmatch(current) or not path.is_file():
            known = sorted(p.stem for p in folder.glob("*.yaml"))
            raise nearest(current, known, "recipe", where)
        where = f"config/recipes/{current}.yaml"
        if current in chain:
            raise UserError(f"{where}: extends itself by way of {', '.join(chain)}; break the ring")
        chain[current] = read_yaml(path)
        check(chain[current], schema, where)
        current = chain[current].get("extends")
        where += ": extends"
    return dict(reversed(chain.items()))


def settings_with(root: Path, changes: Iterable[str]) -> dict[str, Any]:
    """`config/config.yaml` with changes as Snakemake's `--config` takes them.

    Arguments:
        root: Folder that holds `config/`.
        changes: ``key=value`` each; values are YAML.

    Raises:
        UserError: If a change is not of this form.
    """
    settings: dict[str, Any] = dict(read_yaml(root / "config" / "config.yaml"))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--config {change!r} is not of the form key=value; add the value")
        try:
            settings[key] = parse_yaml(value)
        except YAMLError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"--config {change!r} is not YAML ({reason}); quote the value"
            ) from error
    return settings
