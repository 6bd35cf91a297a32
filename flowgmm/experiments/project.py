"""The files of `config/`, validated, and what they resolve to: one spec for every job."""

import ast
import copy
import difflib
import functools
import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import yaml

from flowgmm.experiments.provenance import code_hash
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import content_hash
from flowgmm.utils.seeds import derive

__all__ = [
    "NAME",
    "Config",
    "Job",
    "Run",
    "dump_yaml",
    "load",
    "merge",
    "nearest",
    "parameters_of",
    "read_yaml",
    "settings_with",
]

# Parts of paths; not `..`, nor hidden.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")
# The last part of an encoder's name or path is part of the features' name.
ENCODER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
SECRET_URL = re.compile(r"[a-z]://[^/\s]*@")
# Where a data set of an unusual kind brings its own rules.
RULES = Path("workflow", "rules", "datasets")
FILES = ("datasets", "methods", "tables", "figures", "analyses", "paper_results")
# Parameters of `draw_split` that the config does not set.
FIXED = ("y_train", "split_seed", "labels_seed")
# Seed of the first of the authors' splits of images (spec 2.4).
AUTHORS_SEED = 10
TAKES_IMAGES = "flowgmm.methods.flow_gmm.FlowGMMClassifier"
# Linux's limit for one argument, which a rule's command is (MAX_ARG_STRLEN), less what is fixed.
LONGEST_COMMAND = 131072 - 4096
LABELS_A_STEP = ("unlabelled_batch", "n_labels")
# Kinds of datasets whose features come from an encoder, and the setting that names it.
ENCODERS = {"text": "text_encoder", "transfer": "image_encoder"}
PREPROCESS = {True: ("none", "standardise", "pca"), False: ("none", "unit_norm", "standardise")}


# With libyaml, which PyYAML's wheels have, ten times as fast; it is part of every planning.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """YAML without repeated keys, of which the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    problem=f"line {line}: key {key_node.value!r} is there twice; remove one"
                )
            seen.add(key_node.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


# YAML 1.1 reads 1e-3 as text, which an estimator would choke on; YAML 1.2 reads it as a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> Any:
    """Read a YAML file with plain values only.

    Raises:
        UserError: If it is absent, is not YAML, or has a key twice.
    """
    try:
        # _Loader is a SafeLoader: it makes no objects.
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there; restore it or run from the repository") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would not read as text."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def dump_yaml(value: Any) -> str:
    """YAML in the style of `config/`: keys in their order, short collections on one line."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=98,
    )
    return text


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
            settings[key] = yaml.load(value, Loader=_Loader)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"--config {change!r} is no YAML ({reason}); quote the value"
            ) from error
    return settings


def merge(base: Any, extra: Any) -> Any:
    """`extra` laid over `base`: mappings key by key, anything else replaced."""
    if not (isinstance(base, Mapping) and isinstance(extra, Mapping)):
        return copy.deepcopy(extra)
    merged = dict(base)
    for key, value in extra.items():
        merged[key] = merge(base[key], value) if key in base else copy.deepcopy(value)
    return merged


def nearest(value: str, known: Iterable[str], what: str, where: str) -> UserError:
    """The error for a name that is not there, with the nearest one that is.

    Arguments:
        value: The name.
        known: Those that are there.
        what: What it should name.
        where: Where it stands.
    """
    names = [str(name) for name in known]
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(names)}"
    return UserError(f"{where}: unknown {what} {value!r}; {hint}")


def _check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Validate against a JSON Schema.

    Raises:
        UserError: One line with the file, the path of the key, the value and the remedy.
    """
    import jsonschema

    _check_plain(value, where)
    errors = _validator()(schema).iter_errors(value)
    error = jsonschema.exceptions.best_match(errors)
    if error is None:
        return
    place = ".".join(str(part) for part in error.absolute_path)
    where = f"{where}: {place}" if place else where
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = error.schema.get("properties", {})
        for key in error.instance:
            if key not in known:
                raise nearest(str(key), known, "key", where)
    if error.validator == "enum":
        raise nearest(str(error.instance), map(str, error.validator_value), "value", where)
    raise UserError(f"{where}: {' '.join(error.message.split())}; see config/README.md")


def _check_plain(value: Any, where: str) -> None:
    """What JSON has too: keys of text, finite numbers, no dates; and no secret.

    Raises:
        UserError: If there is anything else.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where}: key {key!r} is not text; quote it")
            _check_plain(inner, f"{where}: {key}")
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, where)
    elif not isinstance(value, str | int | float | None) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise UserError(f"{where}: {value!r} is no text and no finite number; quote or correct it")
    elif isinstance(value, str) and SECRET_URL.search(value):
        raise UserError(
            f"{where}: a URL has a user name or password in it, which logs and records would show; "
            "leave it out and put it into ~/.netrc, which downloads read"
        )


@functools.cache
def _validator() -> Any:
    """JSON Schema, with `$` in a pattern as the end: in Python it also allows a line end there."""
    import jsonschema

    def pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        wanted_whole = re.sub(r"\$$", r"\\Z", wanted)
        if validator.is_type(value, "string") and not re.search(wanted_whole, value):
            yield jsonschema.ValidationError(f"{value!r} does not match {wanted!r}")

    return jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": pattern})


@functools.cache
def parameters_of(estimator: str) -> dict[str, str] | None:
    """What a class's constructor, or a function, takes; read from the source, not imported.

    Arguments:
        estimator: Import path.

    Returns:
        Type hint (empty if there is none) by name, or None if there is no such class or function.
    """
    module, _, name = estimator.rpartition(".")
    source = _source(module)
    if source is None:
        return None
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _arguments(node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    return {k: v for k, v in _arguments(member).items() if k != "self"}
            bases = [b.id for b in node.bases if isinstance(b, ast.Name)]
            found = (parameters_of(f"{module}.{base}") for base in bases)
            return next((names for names in found if names is not None), {})
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = module if source.stem == "__init__" else module.rpartition(".")[0]
                    for _ in range(node.level - 1):
                        package = package.rpartition(".")[0]
                    origin = f"{package}.{node.module}" if node.level else node.module
                    return parameters_of(f"{origin}.{alias.name}")
    return None


def _arguments(function: ast.FunctionDef) -> dict[str, str]:
    arguments = function.args
    return {
        a.arg: ast.unparse(a.annotation) if a.annotation else ""
        for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    }


# What a value from a YAML file may be, by the type hint of the parameter.
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
    "list": (list,),
}


def _fits(value: Any, hint: str) -> bool:
    """Whether a value is of the hinted type; of hints that say more than `_TYPES`, any is."""
    kinds = [part.split("[")[0].strip() for part in hint.split("|")]
    if any(kind not in _TYPES for kind in kinds):
        return True
    if isinstance(value, bool):
        return "bool" in kinds
    return any(isinstance(value, _TYPES[kind]) for kind in kinds)


def _source(module: str) -> Path | None:
    """Source file of a module; only its top-level package is looked up, nothing is imported."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    if spec is None or spec.origin is None:
        return None
    base = Path(spec.origin).parent.joinpath(*rest)
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


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


def _once(
    method: Callable[Concatenate["Config", Arguments], Answer],
) -> Callable[Concatenate["Config", Arguments], Answer]:
    """Have a method of `Config` compute an answer once: thousands of jobs ask for the same.

    Whoever is given an answer leaves it as it is.
    """

    @functools.wraps(method)
    def ask(self: "Config", *given: Arguments.args, **named: Arguments.kwargs) -> Answer:
        key = (method.__name__, *given, *named.items())
        if key not in self._known:
            self._known[key] = method(self, *given, **named)
        answer: Answer = self._known[key]
        return answer

    return ask


@dataclass(frozen=True)
class Config:
    """All config files, validated.

    Attributes:
        root: Folder that holds `config/` and `workflow/`.
        settings: `config/config.yaml` with the command line's changes.
        datasets, methods, tables, figures, analyses, paper_results: The files of these names.
        recipes: The recipe and what it extends, the oldest first.
    """

    root: Path
    settings: dict[str, Any]
    datasets: dict[str, Any]
    methods: dict[str, Any]
    tables: dict[str, Any]
    figures: dict[str, Any]
    analyses: dict[str, Any]
    paper_results: dict[str, Any]
    recipes: list[dict[str, Any]]
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def results(self) -> str:
        """Folder of the recipe's results."""
        return f"results/{self.settings['recipe']}"

    @property
    def mirror(self) -> Path | None:
        """Folder that replaces the network."""
        return None if self.settings["mirror"] is None else Path(self.settings["mirror"])

    @property
    def changes(self) -> list[str]:
        """Settings that differ from `config/config.yaml`, as `--config` takes them."""
        written = read_yaml(self.root / "config" / "config.yaml")
        return [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in self.settings.items()
            if value != written.get(key)
        ]

    # Recipes

    @_once
    def resolve(self, dataset: str, labels: str) -> dict[str, Any]:
        """The recipe's settings for a dataset and label set.

        Within a recipe `all` is overlaid by kind, dataset and label set; what a recipe says at any
        level is overlaid by the recipe that extends it.

        Raises:
            UserError: If a setting that every run needs is not there.
        """
        kind = self.dataset(dataset)["kind"]
        settings: dict[str, Any] = {}
        for recipe in self.recipes:
            for level in (
                recipe.get("all", {}),
                recipe.get("kinds", {}).get(kind, {}),
                recipe.get("datasets", {}).get(dataset, {}),
                recipe.get("label_sets", {}).get(f"{dataset}/{labels}", {}),
            ):
                settings = merge(settings, level)
        vary = [f"vary.{key}" for key in settings.get("vary", {})]
        needed = ("n_seeds", "vary.split", "vary.labels", "vary.initialisation", "evaluate")
        for key in needed:
            if key not in [*settings, *vary]:
                raise UserError(
                    f"config/recipes/{self.settings['recipe']}.yaml: {dataset}/{labels} has no "
                    f"`{key}`; set it in `all`, or extend a recipe that does"
                )
        return settings

    def dataset(self, name: str) -> dict[str, Any]:
        """Entry of a dataset."""
        if name not in self.datasets:
            raise nearest(name, self.datasets, "dataset", "config/datasets.yaml")
        entry: dict[str, Any] = self.datasets[name]
        return entry

    @_once
    def label_set(self, dataset: str, labels: str) -> dict[str, Any]:
        """How labelled, unlabelled and validation points are chosen."""
        known = self.dataset(dataset)["labels"]
        if labels not in known:
            raise nearest(labels, known, "label set", f"config/datasets.yaml: {dataset}.labels")
        merged: dict[str, Any] = merge(
            known[labels], self.resolve(dataset, labels).get("split", {})
        )
        return merged

    @_once
    def is_surrogate(self, dataset: str) -> bool:
        """Whether the recipe replaces the dataset by generated data."""
        named = [r["surrogate"] for r in self.recipes if "surrogate" in r]
        return bool(named) and bool({dataset, self.dataset(dataset)["kind"]} & set(named[-1]))

    @_once
    def _code(self, script: str, *modules: str) -> str:
        """Hash of the code behind a rule: its script, what that imports, and these modules."""
        return code_hash(self.root / "scripts" / f"{script}.py", *modules)

    # Data

    def features_id(self, dataset: str) -> str:
        """Name of the dataset's features file."""
        if self.is_surrogate(dataset):
            return f"{dataset}-surrogate"
        if self.is_embedded(dataset):
            return f"{dataset}-{Path(self.encoder(dataset)).name}"
        return dataset

    def is_embedded(self, dataset: str) -> bool:
        """Whether the dataset's features come from an encoder."""
        return self.dataset(dataset)["kind"] in ENCODERS and not self.is_surrogate(dataset)

    def encoder(self, dataset: str) -> str:
        """The encoder of an embedded dataset."""
        return str(self.settings[ENCODERS[self.dataset(dataset)["kind"]]])

    def features_path(self, dataset: str) -> str:
        """The dataset's features file."""
        return f"results/features/{self.features_id(dataset)}.safetensors"

    @_once
    def features_spec(self, dataset: str) -> dict[str, Any]:
        """What determines the dataset's features."""
        from flowgmm.datasets import LOADERS, dataset_spec

        surrogate = self.is_surrogate(dataset)
        spec = dataset_spec(dataset, self.dataset(dataset), self.mirror, surrogate)
        if self.is_embedded(dataset):
            spec["encoder"] = self.encoder(dataset)
        script = "embed" if self.is_embedded(dataset) else "prepare"
        return spec | {"code": self._code(script, LOADERS[spec["loader"]].split(":")[0])}

    def absent(self, dataset: str) -> str | None:
        """Why a dataset's raw files cannot be had; None if they can, or none are needed."""
        from flowgmm.datasets.download import absent

        if self.is_surrogate(dataset):
            return None
        return absent(self.dataset(dataset), self.mirror)

    def raw_files(self, dataset: str) -> dict[str, dict[str, Any]]:
        """The dataset's files as `flowgmm.datasets.download.fetch` takes them, by path."""
        from flowgmm.datasets import dataset_spec

        files = dataset_spec(dataset, self.dataset(dataset), self.mirror)["files"]
        return {f"{self.raw_folder(dataset)}/{name}": file for name, file in files.items()}

    def raw_folder(self, dataset: str) -> str:
        """Where the dataset's raw files are: its own folder, or that of the one that it shares."""
        return f"results/raw/{self.dataset(dataset).get('raw', dataset)}"

    def raw_inputs(self, dataset: str) -> list[str]:
        """The raw files that the dataset's features are made of; none of generated data."""
        return [] if self.is_surrogate(dataset) else list(self.raw_files(dataset))

    def encoder_files(self, dataset: str) -> list[str]:
        """The file that names an embedded dataset's fetched encoder; none of one that is here."""
        names = {encoder: name for name, encoder in self.fetched_encoders().items()}
        name = names.get(self.encoder(dataset)) if self.is_embedded(dataset) else None
        return [] if name is None else [f"results/raw/encoders/{name}.json"]

    def fetched_encoders(self) -> dict[str, str]:
        """Encoders that come over the network, by name of their files."""
        from flowgmm.embed.image import PAPER_IMAGE_ENCODER
        from flowgmm.embed.text import PACKAGED

        text, image = (str(self.settings[ENCODERS[kind]]) for kind in ("text", "transfer"))
        here = Path(text).is_dir() or Path(text).is_absolute() or text.startswith(".")
        names = [] if here or text in PACKAGED else [text]
        names += [image] if image == PAPER_IMAGE_ENCODER else []
        return {name.replace("/", "--"): name for name in names}

    def downloads(self) -> list[str]:
        """Raw files, encoders' included, of all datasets that are not left out."""
        names = [
            name
            for name in self.datasets
            if name not in self.settings["skip"] and self.absent(name) is None
        ]
        files = [f for n in names for f in (*self.raw_inputs(n), *self.encoder_files(n))]
        return list(dict.fromkeys(files))

    def rules_files(self) -> list[Path]:
        """Rules files of data sets of an unusual kind, which the workflow includes."""
        return sorted((self.root / RULES).glob("*.smk"))

    def made_files(self) -> list[str]:
        """``dataset/file`` of the raw files that those rules make."""
        return [
            f"{dataset}/{name}"
            for dataset, entry in self.datasets.items()
            for name, file in entry.get("files", {}).items()
            if "rules" in file and "raw" not in entry
        ]

    # Splits

    def split_index(self, dataset: str, labels: str, seed: int) -> int:
        """Number of the split that a seed uses."""
        vary = self.resolve(dataset, labels)["vary"]
        return seed if vary["split"] or vary["labels"] else 0

    def split_path(self, dataset: str, labels: str, split: int) -> str:
        """A split's file."""
        return f"{self.results}/splits/{dataset}/{labels}/split-{split}.safetensors"

    @_once
    def split_spec(self, dataset: str, labels: str, split: int) -> dict[str, Any]:
        """What determines a split, beside the features."""
        vary, label_set = self.resolve(dataset, labels)["vary"], self.label_set(dataset, labels)
        numbers = {purpose: split if vary[purpose] else 0 for purpose in ("split", "labels")}
        seeds = {p: derive(f"{dataset}/{labels}", number, p) for p, number in numbers.items()}
        if label_set.get("stratify") == "authors":
            seeds["labels"] = AUTHORS_SEED + numbers["labels"]
        return {
            "dataset": dataset,
            "labels": labels,
            "split": split,
            "seeds": seeds,
            "label_set": label_set,
            "code": self._code("split"),
        }

    # Runs

    @_once
    def method_settings(self, run: Run) -> dict[str, Any]:
        """Preprocessing, parameters and tuning of a method on a dataset.

        Raises:
            UserError: If the dataset has images, which the method cannot take.
        """
        entry = self.method(run.method)
        if self.dataset(run.dataset)["kind"] == "image" and entry["estimator"] != TAKES_IMAGES:
            raise UserError(
                f"{run.method} takes no images, but {run.dataset} is of kind image; name a method "
                f"whose estimator is {TAKES_IMAGES}, or a dataset of kind transfer"
            )
        methods = self.resolve(run.dataset, run.labels).get("methods", {})
        settings: dict[str, Any] = {"preprocess": "none", "params": {}, "tune": None}
        settings |= {"tune_with": {}, "restart": "none"}
        for name in (entry.get("base"), run.method):
            settings = merge(settings, methods.get(name, {}))
        return settings

    def method(self, name: str) -> dict[str, Any]:
        """Entry of a method."""
        if name not in self.methods:
            raise nearest(name, self.methods, "method", "config/methods.yaml")
        entry: dict[str, Any] = self.methods[name]
        return entry

    def n_seeds(self, run: Run) -> int:
        """Number of runs: one per split where the split alone decides the result."""
        settings = self.resolve(run.dataset, run.labels)
        if self.method(run.method)["deterministic"]:
            vary = settings["vary"]
            return int(settings["n_seeds"]) if vary["split"] or vary["labels"] else 1
        return int(settings["n_seeds"])

    def jobs(self, run: Run) -> list[Job]:
        """The run's seeds in blocks."""
        n, resolved = self.n_seeds(run), self.resolve(run.dataset, run.labels)
        size = resolved.get("seeds_per_job", self.settings["seeds_per_job"])
        return [Job(run, first, min(first + size, n) - 1) for first in range(0, n, size)]

    @_once
    def train_spec(self, job: Job) -> dict[str, Any]:
        """What determines a training job, beside features, splits and what was chosen."""
        return self._spec(job, f"{job.run.dataset}/{job.run.labels}/{job.run.method}", "train")

    def _spec(self, job: Job, experiment: str, script: str) -> dict[str, Any]:
        """The same for a script, its seeds derived for an experiment of this name."""
        run = job.run
        entry, settings = self.method(run.method), self.method_settings(run)
        resolved = self.resolve(run.dataset, run.labels)
        seeds = list(range(job.first, job.last + 1))
        splits = [self.split_index(run.dataset, run.labels, seed) for seed in seeds]
        # What a deterministic method draws, such as the points of a graph, belongs to the split.
        varies = resolved["vary"]["initialisation"]
        numbers = splits if entry["deterministic"] else seeds if varies else [0] * len(seeds)
        module = entry["estimator"].rpartition(".")[0]
        own = [module] if module.startswith("flowgmm.") else []
        return {
            "dataset": run.dataset,
            "labels": run.labels,
            "method": run.method,
            "recipe": self.settings["recipe"],
            "estimator": entry["estimator"],
            "neural": entry["neural"],
            "labelled_only": entry["labelled_only"],
            **settings,
            "evaluate": resolved["evaluate"],
            "collapsed_below": resolved.get("collapsed_below", 0.0),
            "vary": resolved["vary"],
            "scaled_down": resolved.get("scaled_down", []),
            "seeds": seeds,
            "splits": splits,
            "random_states": [derive(experiment, number, "initialisation") for number in numbers],
            "code": self._code(script, *own),
        }

    def split_paths(self, job: Job) -> list[str]:
        """The split files of a job, in ascending order of their numbers."""
        run = job.run
        return [self.split_path(run.dataset, run.labels, n) for n in self.split_numbers(job)]

    def split_numbers(self, job: Job) -> list[int]:
        """The numbers of a job's splits, in ascending order."""
        run, seeds = job.run, range(job.first, job.last + 1)
        return sorted({self.split_index(run.dataset, run.labels, seed) for seed in seeds})

    def job_inputs(self, job: Job) -> dict[str, str | list[str]]:
        """The files that a training job reads, by the option of its script."""
        features, splits = self.features_path(job.run.dataset), self.split_paths(job)
        return {"features": features, "splits": splits, "choice": self.choice_path(job.run)}

    def run_file(self, job: Job, name: str) -> str:
        """A file among a job's outputs."""
        return f"{self.results}/runs/{job.folder}/{name}"

    # Tuning of neural methods: one job for each candidate; classic ones choose inside theirs

    @_once
    def tuning_points(self, run: Run) -> dict[str, dict[str, Any]]:
        """The candidates of a neural method's grid by name, in grid order; none without a grid."""
        from flowgmm.experiments.tuning import candidates, point_name

        grid = self.method_settings(run)["tune"] if self.method(run.method)["neural"] else None
        return {point_name(candidate): candidate for candidate in candidates(grid)} if grid else {}

    def tuning_job(self, run: Run) -> Job:
        """The seeds, and with them the splits, that candidates are trained on."""
        n = int(self.resolve(run.dataset, run.labels).get("n_tune_seeds", 1))
        return Job(run, 0, n - 1)

    def tuning_inputs(self, run: Run) -> dict[str, str | list[str]]:
        """The files that a candidate's job reads, by the option of its script."""
        splits = self.split_paths(self.tuning_job(run))
        return {"features": self.features_path(run.dataset), "splits": splits}

    def tune_spec(self, run: Run, point: str) -> dict[str, Any]:
        """What determines the training of a candidate, beside features and splits.

        All candidates draw the same random numbers, which are not those of the final runs.
        """
        points = self.tuning_points(run)
        if point not in points:
            where = f"{run.dataset}/{run.labels}, {run.method}"
            raise nearest(point, points, "candidate", where)
        experiment = f"tune/{run.dataset}/{run.labels}/{run.method}"
        spec = self._spec(self.tuning_job(run), experiment, "tune")
        # The grid itself, and what only matters to tables, do not determine a candidate's result.
        rest = {"evaluate": ["val"], "collapsed_below": 0.0, "candidate": points[point]}
        params = {**spec["params"], **spec.pop("tune_with"), **points[point]}
        for key in ("tune", "scaled_down", "vary"):
            del spec[key]
        return {**spec, **rest, "params": params}

    def choose_spec(self, run: Run) -> dict[str, Any]:
        """What determines a choice, beside the candidates' files: also their order, in ties."""
        return {
            "points": list(self.tuning_points(run)),
            "code": self._code("choose"),
        }

    def _tuning_file(self, run: Run, name: str) -> str:
        return f"{self.results}/tuning/{run.dataset}/{run.labels}/{run.method}/{name}.json"

    def point_paths(self, run: Run) -> list[str]:
        """The candidates' files, in grid order."""
        return [self._tuning_file(run, f"point-{name}") for name in self.tuning_points(run)]

    def choice_path(self, run: Run) -> list[str]:
        """The file with what was chosen for a run; none for a run that needs none."""
        return [self._tuning_file(run, "choice")] if self.tuning_points(run) else []

    def not_run(self, dataset: str, method: str) -> str | None:
        """Why a method is not run on a dataset; None if it is."""
        skipped = {dataset, method, f"{dataset}/{method}"} & set(self.settings["skip"])
        if skipped:
            return f"left out by `skip: [{sorted(skipped)[0]}]`"
        return self.absent(dataset)

    # Tables and figures

    def table(self, name: str) -> dict[str, Any]:
        """Entry of a table."""
        if name not in self.tables:
            raise nearest(name, self.tables, "table", "config/tables.yaml")
        entry: dict[str, Any] = self.tables[name]
        return entry

    def table_runs(self, name: str) -> dict[Run, str | None]:
        """The runs behind a table, each with the reason why it is left out, or None."""
        from flowgmm.experiments.specs.tables import place_of, rows_of

        entry = self.table(name)
        rows = [r for r in rows_of(name, entry, self.methods) if r["kind"] != "quoted"]
        runs: dict[Run, str | None] = {}
        for column in entry["columns"]:
            tuned = column.get("metric", entry.get("metric")) == "tuned"
            for row in rows:
                place = place_of(row, column, entry)
                run = Run(place["dataset"], place["labels"], place["method"])
                runs[run] = self.not_run(run.dataset, run.method)
                if tuned and not self.method_settings(run)["tune"]:
                    runs[run] = "not tuned in this recipe"
        return runs

    def table_jobs(self, name: str) -> list[Job]:
        """The training jobs behind a table."""
        runs = self.table_runs(name)
        return [job for run, reason in runs.items() if reason is None for job in self.jobs(run)]

    def table_records(self, name: str) -> list[str]:
        """The record files that a table is made of."""
        return [self.run_file(job, "record.json") for job in self.table_jobs(name)]

    def origin(self, jobs: Iterable[Job], analyses: Iterable[str] = ()) -> str:
        """Hash of all specs behind what is made of these jobs and analyses.

        A rule whose result somebody looks at has it among its params. Else, where a job fails whose
        spec has changed, its old outputs are gone, and Snakemake takes what was made of them for
        finished: a missing file that nothing asks for is no reason to run.
        """
        analyses = list(analyses)
        jobs = dict.fromkeys([*jobs, *(j for name in analyses for j in self.analysis_jobs(name))])
        runs = dict.fromkeys(job.run for job in jobs)
        return content_hash(
            [
                [self.analysis_spec(name) for name in analyses],
                [self.train_spec(job) for job in jobs],
                [self.tune_spec(run, point) for run in runs for point in self.tuning_points(run)],
                [self.features_spec(name) for name in dict.fromkeys(run.dataset for run in runs)],
                [
                    self.split_spec(job.run.dataset, job.run.labels, number)
                    for job in jobs
                    for number in self.split_numbers(job)
                ],
            ]
        )

    def sources(self, jobs: Iterable[Job], analyses: Iterable[str] = ()) -> list[str]:
        """Features, splits and candidates' files behind these jobs and analyses.

        Inputs of what somebody looks at, though only others read them: where one of them could not
        be made anew, it is gone, and it has to be asked for.
        """
        jobs = [*jobs, *(job for name in analyses for job in self.analysis_jobs(name))]
        runs = dict.fromkeys(job.run for job in jobs)
        return list(
            dict.fromkeys(
                [
                    *(self.features_path(run.dataset) for run in runs),
                    *(path for job in jobs for path in self.split_paths(job)),
                    *(path for run in runs for path in self.point_paths(run)),
                ]
            )
        )

    def table_sources(self, name: str) -> list[str]:
        """`sources` of a table."""
        return self.sources(self.table_jobs(name))

    def figure_sources(self, name: str) -> list[str]:
        """`sources` of a figure."""
        return self.sources(*self._behind(name))

    def _behind(self, figure: str) -> tuple[list[Job], list[str]]:
        """The jobs and analyses behind a figure."""
        table = self.figures[figure].get("table")
        jobs = [*self.figure_jobs(figure), *(self.table_jobs(table) if table else [])]
        return jobs, self.run_analyses(self.figure_analyses(figure))

    def table_origin(self, name: str) -> str:
        """`origin` of a table."""
        return self.origin(self.table_jobs(name))

    def figure_origin(self, name: str) -> str:
        """`origin` of a figure."""
        return self.origin(*self._behind(name))

    def table_spec(self, name: str) -> dict[str, Any]:
        """What determines a table, beside the records."""
        from flowgmm.experiments.specs.tables import table_spec

        runs = self.table_runs(name)
        spec = table_spec(
            name,
            self.table(name),
            self.paper_results,
            self.methods,
            recipe=self.settings["recipe"],
            not_run={
                f"{r.dataset}/{r.labels}/{r.method}": why
                for r, why in runs.items()
                if why is not None
            },
            scaled_down={
                f"{r.dataset}/{r.labels}": self.resolve(r.dataset, r.labels).get("scaled_down", [])
                for r in runs
            },
        )
        return spec | {"code": self._code("table")}

    def figure_jobs(self, name: str) -> list[Job]:
        """The job behind each panel of a figure, the one with seed 0."""
        panels = self.figures[name].get("panels", [])
        return [
            self.jobs(Run(panel["dataset"], panel["labels"], panel["method"]))[0]
            for panel in panels
        ]

    # Analyses

    def analysis(self, name: str) -> dict[str, Any]:
        """Entry of an analysis."""
        if name not in self.analyses:
            raise nearest(name, self.analyses, "analysis", "config/analyses.yaml")
        entry: dict[str, Any] = self.analyses[name]
        return entry

    def instead(self, dataset: str, labels: str) -> str:
        """The label set that the recipe's analyses use for this one."""
        found = labels
        for recipe in self.recipes:
            found = recipe.get("analyses", {}).get(f"{dataset}/{labels}", found)
        return found

    def analysis_runs(self, name: str) -> dict[str, Run]:
        """The run behind each model of an analysis."""
        return {
            role: Run(run["dataset"], self.instead(run["dataset"], run["labels"]), run["method"])
            for role, run in self.analysis(name)["runs"].items()
        }

    def analysis_not_run(self, name: str) -> str | None:
        """Why an analysis is not run: the reason of the first of its runs that is not."""
        reasons = (self.not_run(r.dataset, r.method) for r in self.analysis_runs(name).values())
        return next((reason for reason in reasons if reason is not None), None)

    def analysis_data(self, name: str) -> dict[str, str | None]:
        """Datasets that an analysis looks at beside its runs', each with why it is left out."""
        skipped = set(self.settings["skip"])
        return {
            dataset: f"left out by `skip: [{dataset}]`"
            if dataset in skipped
            else self.absent(dataset)
            for dataset in self.analysis(name).get("data", [])
        }

    def _analysis_datasets(self, name: str) -> list[str]:
        """All datasets that an analysis reads."""
        runs = [run.dataset for run in self.analysis_runs(name).values()]
        data = [dataset for dataset, why in self.analysis_data(name).items() if why is None]
        return list(dict.fromkeys([*runs, *data]))

    def analysis_jobs(self, name: str) -> list[Job]:
        """The training jobs behind an analysis."""
        runs = dict.fromkeys(self.analysis_runs(name).values())
        return [job for run in runs for job in self.jobs(run)]

    def analysis_files(self, name: str, file: str) -> list[str]:
        """``record.json`` or ``model.safetensors`` of each job."""
        return [self.run_file(job, file) for job in self.analysis_jobs(name)]

    def analysis_splits(self, name: str) -> list[str]:
        """The splits of its jobs."""
        paths = [path for job in self.analysis_jobs(name) for path in self.split_paths(job)]
        return list(dict.fromkeys(paths))

    def analysis_features(self, name: str) -> list[str]:
        """The features of all its datasets."""
        return [self.features_path(dataset) for dataset in self._analysis_datasets(name)]

    def analysis_path(self, name: str) -> str:
        """What an analysis found; its arrays lie beside it."""
        return f"{self.results}/analyses/{name}.json"

    def analysis_spec(self, name: str) -> dict[str, Any]:
        """What determines an analysis, beside its inputs."""
        entry, runs = self.analysis(name), self.analysis_runs(name)
        reasons = []
        for role, run in runs.items():
            labels = entry["runs"][role]["labels"]
            if run.labels != labels:
                reasons.append(f"label set {run.labels} in place of {labels}")
            scaled = self.resolve(run.dataset, run.labels).get("scaled_down", [])
            reasons += [f"scaled down: {', '.join(scaled)}"] if scaled else []
        return {
            "name": name,
            "title": entry["title"],
            "function": entry["function"],
            "recipe": self.settings["recipe"],
            "runs": {
                role: {
                    "dataset": run.dataset,
                    "labels": run.labels,
                    "method": run.method,
                    "title": self._run_title(entry["runs"][role]),
                }
                for role, run in runs.items()
            },
            "data": [d for d, why in self.analysis_data(name).items() if why is None],
            "left_out": {d: why for d, why in self.analysis_data(name).items() if why is not None},
            "titles": {d: self.dataset(d)["title"] for d in self._analysis_datasets(name)},
            "options": entry.get("options", {}),
            "not_comparable": list(dict.fromkeys(reasons)),
            "code": self._code("analyse"),
        }

    def _run_title(self, run: Mapping[str, str]) -> str:
        return run.get("title", str(self.method(run["method"])["title"]))

    def overview_spec(self) -> dict[str, Any]:
        """What determines the overview of all analyses, beside what they found."""
        return self._found_spec(list(self.analyses)) | {"code": self._code("overview")}

    def _found_spec(self, names: list[str]) -> dict[str, Any]:
        """Which analyses something is made of, and why some of them are not run."""
        from flowgmm.experiments.specs.analyses import printed_numbers

        reasons = {name: self.analysis_not_run(name) for name in names}
        printed = {
            name: printed_numbers(
                self.analysis(name).get("printed", {}),
                self.paper_results,
                f"config/analyses.yaml: {name}",
            )
            for name in names
        }
        return {
            "recipe": self.settings["recipe"],
            "analyses": names,
            "titles": {name: self.analysis(name)["title"] for name in names},
            "not_run": {name: why for name, why in reasons.items() if why is not None},
            "printed": printed,
        }

    def run_analyses(self, names: Iterable[str]) -> list[str]:
        """Those of these analyses that are run."""
        return [name for name in names if self.analysis_not_run(name) is None]

    def found_paths(self, names: Iterable[str]) -> list[str]:
        """The files of those analyses that are run."""
        return [self.analysis_path(name) for name in self.run_analyses(names)]

    def figure_analyses(self, name: str) -> list[str]:
        """The analyses that a figure is drawn from; none for a figure of models or a table."""
        return list(self.figures[name].get("analyses", []))

    def figure_table(self, name: str) -> list[str]:
        """The table that a figure is drawn from; none for a figure of models."""
        table = self.figures[name].get("table")
        return [f"{self.results}/tables/{table}.json"] if table else []

    def shown(self, figure: str) -> bool:
        """Whether a figure is among all.

        Not one of tuning where no neural method is tuned, nor one of analyses if none is run.
        """
        if analyses := self.figure_analyses(figure):
            return bool(self.found_paths(analyses))
        table = self.figures[figure].get("table")
        return table is None or any(
            reason is None and self.tuning_points(run)
            for run, reason in self.table_runs(table).items()
        )

    def figure_models(self, name: str) -> list[str]:
        """The model behind each panel."""
        return [self.run_file(job, "model.safetensors") for job in self.figure_jobs(name)]

    def figure_features(self, name: str) -> list[str]:
        """The features behind each panel."""
        return [self.features_path(job.run.dataset) for job in self.figure_jobs(name)]

    def figure_splits(self, name: str) -> list[str]:
        """The split behind each panel."""
        return [self.split_paths(job)[0] for job in self.figure_jobs(name)]

    def figure_spec(self, name: str) -> dict[str, Any]:
        """What determines a figure, beside its models."""
        marks: list[str] = []
        for job in self.figure_jobs(name):
            scaled = self.resolve(job.run.dataset, job.run.labels).get("scaled_down", [])
            marks += [f"scaled down: {', '.join(scaled)}"] if scaled else []
            marks += ["surrogate data"] if self.is_surrogate(job.run.dataset) else []
        for analysis in self.figure_analyses(name):
            marks += self.analysis_spec(analysis)["not_comparable"]
            runs = self.analysis_runs(analysis).values()
            marks += ["surrogate data"] if any(self.is_surrogate(r.dataset) for r in runs) else []
        return {
            **self._found_spec(self.figure_analyses(name)),
            "name": name,
            "figure": self.figures[name],
            "marks": list(dict.fromkeys(marks)),
            "code": self._code("figure"),
        }


def load(root: Path, settings: Mapping[str, Any] | None = None) -> Config:
    """Read and validate everything in `root/config`.

    Arguments:
        root: Folder that holds `config/` and `workflow/schemas/`.
        settings: `config/config.yaml` as changed on the command line; None: as in the file.

    Raises:
        UserError: If anything is unknown, missing or of the wrong kind.
    """
    folder = root / "config"
    given = read_yaml(folder / "config.yaml") if settings is None else settings
    _check(given, _schema(root, "config"), "config/config.yaml")
    values = dict(given)
    files = {}
    for name in FILES:
        files[name] = read_yaml(folder / f"{name}.yaml")
        _check(files[name], _schema(root, name), f"config/{name}.yaml")
    _share_raw_files(files["datasets"])
    config = Config(root, values, **files, recipes=_recipes(root, values["recipe"]))
    _check_names(config)
    _check_recipes(config)
    _check_targets(config)
    return config


def _share_raw_files(datasets: dict[str, Any]) -> None:
    """Give the datasets with `raw` the files of the dataset that it names.

    Raises:
        UserError: If there is no such dataset, it shares another's itself, or there are own files.
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


def _schema(root: Path, name: str) -> dict[str, Any]:
    schema: dict[str, Any] = read_yaml(root / "workflow" / "schemas" / f"{name}.schema.yaml")
    return schema


def _recipes(root: Path, name: str) -> list[dict[str, Any]]:
    """A recipe and those it extends, the oldest first."""
    folder, schema = root / "config" / "recipes", _schema(root, "recipe")
    chain: list[dict[str, Any]] = []
    where = "config/config.yaml: recipe"
    seen: list[str] = []
    current: str | None = name
    while current is not None:
        path = folder / f"{current}.yaml"
        if not NAME.fullmatch(current) or not path.is_file():
            known = sorted(p.stem for p in folder.glob("*.yaml"))
            raise nearest(current, known, "recipe", where)
        where = f"config/recipes/{current}.yaml"
        if current in seen:
            raise UserError(f"{where}: extends itself by way of {', '.join(seen)}; break the ring")
        seen.append(current)
        recipe = read_yaml(path)
        _check(recipe, schema, where)
        chain.insert(0, recipe | {"name": current})
        current = recipe.get("extends")
        where += ": extends"
    return chain


def _check_names(config: Config) -> None:
    """Names are parts of paths; those that refer to another entry must find it."""
    named = {f"config/{file}.yaml": getattr(config, file) for file in FILES[:-1]}
    for dataset, entry in config.datasets.items():
        named[f"config/datasets.yaml: {dataset}.labels"] = entry["labels"]
        named[f"config/datasets.yaml: {dataset}.files"] = [
            name.replace("-", "_") for name in entry.get("files", {})
        ]
    for where, names in named.items():
        for name in names:
            if not NAME.fullmatch(str(name)):
                raise UserError(
                    f"{where}: name {name!r} is not of letters, digits, _ and . alone, or starts "
                    "with a dot; rename it"
                )
    if "encoders" in config.datasets:
        raise UserError(
            "config/datasets.yaml: `encoders` is where encoders are; rename the dataset"
        )
    for key in ENCODERS.values():
        if not ENCODER_NAME.fullmatch(Path(config.settings[key]).name):
            raise UserError(
                f"config/config.yaml: {key} {config.settings[key]!r} ends in a name that is not of "
                "letters, digits, _, . and - alone; rename the folder or file"
            )
    rules = [path.name for path in config.rules_files()]
    for name, entry in config.datasets.items():
        for file in entry.get("files", {}).values():
            if "rules" in file and file["rules"] not in rules:
                where = f"config/datasets.yaml: {name}.files"
                raise nearest(file["rules"], rules, f"file of {RULES}", where)
    for name, entry in config.methods.items():
        where = f"config/methods.yaml: {name}"
        if parameters_of(entry["estimator"]) is None:
            raise UserError(
                f"{where}.estimator: {entry['estimator']!r} does not exist; correct the import path"
            )
        if "base" in entry and entry["base"] not in config.methods:
            raise nearest(entry["base"], config.methods, "method", f"{where}.base")
    for name in config.settings["skip"]:
        known = {*config.datasets, *config.methods}
        for part in name.split("/"):
            if part not in known:
                raise nearest(part, known, "dataset or method", "config/config.yaml: skip")


def _check_recipes(config: Config) -> None:
    """Every name and parameter in the recipes exists."""
    kinds = {entry["kind"] for entry in config.datasets.values()}
    label_sets = {f"{d}/{ls}" for d, entry in config.datasets.items() for ls in entry["labels"]}
    for recipe in config.recipes:
        where = f"config/recipes/{recipe['name']}.yaml"
        for name in recipe.get("surrogate", []):
            if name not in kinds | set(config.datasets):
                raise nearest(name, [*kinds, *config.datasets], "dataset", f"{where}: surrogate")
        for replaced, labels in recipe.get("analyses", {}).items():
            if replaced not in label_sets:
                raise nearest(replaced, sorted(label_sets), "label set", f"{where}: analyses")
            config.label_set(replaced.split("/")[0], labels)
        levels = {"all": recipe.get("all", {})}
        for group, known in (
            ("kinds", kinds),
            ("datasets", set(config.datasets)),
            ("label_sets", label_sets),
        ):
            for name, settings in recipe.get(group, {}).items():
                if name not in known:
                    raise nearest(name, sorted(known), group[:-1], f"{where}: {group}")
                levels[f"{group}.{name}"] = settings
        label_keys = [
            key
            for key in parameters_of("flowgmm.datasets.splits.draw_split") or ()
            if key not in FIXED
        ]
        for place, settings in levels.items():
            for key in settings.get("split", {}):
                if key not in label_keys:
                    raise nearest(key, label_keys, "key", f"{where}: {place}.split")
            for name, method in settings.get("methods", {}).items():
                _check_method(config, name, method, f"{where}: {place}.methods")


def _check_targets(config: Config) -> None:
    """Tables and figures find their datasets, label sets and methods; a mirror is there."""
    for name in config.datasets:
        config.absent(name)
    for name in config.tables:
        for run in config.table_runs(name):
            n_val = config.label_set(run.dataset, run.labels).get("n_val", 0)
            settings = config.resolve(run.dataset, run.labels)
            if config.method_settings(run)["tune"] and not n_val:
                raise UserError(
                    f"config/recipes/{config.settings['recipe']}.yaml: {run.method} has a grid on "
                    f"{run.dataset}/{run.labels}, but there are no validation points; give the "
                    "label set n_val, or set `tune: null`"
                )
            if settings.get("collapsed_below") and "val" not in settings["evaluate"]:
                raise UserError(
                    f"config/recipes/{config.settings['recipe']}.yaml: collapsed_below of "
                    f"{run.dataset}/{run.labels} looks at validation points; add val to `evaluate`"
                )
            if "test_tempered" in settings["evaluate"] and not (
                n_val and {"val", "test"} <= set(settings["evaluate"])
            ):
                raise UserError(
                    f"config/recipes/{config.settings['recipe']}.yaml: test_tempered of "
                    f"{run.dataset}/{run.labels} fits a temperature to validation points; give the "
                    "label set n_val, and add val and test to `evaluate`"
                )
        _check_length(config, name)
    for name, entry in config.analyses.items():
        _check_analysis(config, name, entry)
    for name, entry in config.figures.items():
        for analysis in config.figure_analyses(name):
            config.analysis(analysis)
        table = config.table(entry["table"]) if "table" in entry else None
        if table and (table.get("metric") != "tuned" or "paper" not in table):
            raise UserError(
                f"config/figures.yaml: table {entry['table']!r} shows no printed hyper-parameters; "
                "name one with `metric: tuned` and `paper`"
            )
        for panel in entry.get("panels", []):
            config.label_set(panel["dataset"], panel["labels"])
            config.method(panel["method"])


def _check_length(config: Config, name: str) -> None:
    """The command that makes a table, with its spec and all its records, is one that Linux runs."""
    spec = json.dumps(config.table_spec(name), ensure_ascii=False)
    records = config.table_records(name)
    if len(spec.encode()) + sum(len(path) + 1 for path in records) > LONGEST_COMMAND:
        raise UserError(
            f"config/tables.yaml: {name} has {len(records)} records, more than one command can "
            "name; make it several tables of fewer columns, or raise seeds_per_job"
        )


def _check_analysis(config: Config, name: str, entry: Mapping[str, Any]) -> None:
    """Its runs and data exist, its printed numbers too, and its function takes what it is given."""
    from flowgmm.analyses.registry import check_arguments

    where = f"config/analyses.yaml: {name}"
    for run in (*entry["runs"].values(), *map(vars, config.analysis_runs(name).values())):
        config.label_set(run["dataset"], run["labels"])
        config.method(run["method"])
    for dataset in entry.get("data", []):
        config.dataset(dataset)
    given = [*entry["runs"], *(["data"] if "data" in entry else []), *entry.get("options", {})]
    try:
        check_arguments(entry["function"], given)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    config.analysis_spec(name)
    config._found_spec([name])


def _check_method(config: Config, name: str, settings: Mapping[str, Any], where: str) -> None:
    if name not in config.methods:
        raise nearest(name, config.methods, "method", where)
    entry = config.methods[name]
    known = parameters_of(entry["estimator"]) or {}
    for group in ("params", "tune", "tune_with"):
        for key in settings.get(group) or {}:
            if key not in known:
                what = f"parameter of {entry['estimator'].rpartition('.')[2]}"
                raise nearest(key, known, what, f"{where}.{name}.{group}")
            if key in ("random_state", "device", "preprocess"):
                raise UserError(f"{where}.{name}.{group}.{key} is not set here; remove it")
            given = settings[group][key]
            for value in given if group == "tune" else [given]:
                # "n_labels": as many as there are labels, which the job knows.
                if not _fits(value, known[key]) and (key, value) != LABELS_A_STEP:
                    raise UserError(
                        f"{where}.{name}.{group}.{key} is {value!r}, expected {known[key]}; "
                        "see config/README.md"
                    )
    if not entry["neural"] and settings.get("restart", "none") != "none":
        raise UserError(f"{where}.{name}.restart is for neural methods; remove it")
    allowed = PREPROCESS[entry["neural"]]
    if settings.get("preprocess", "none") not in allowed:
        raise nearest(settings["preprocess"], allowed, "value", f"{where}.{name}.preprocess")
