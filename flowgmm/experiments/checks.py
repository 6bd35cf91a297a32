"""Cross checks between the config files, which planning needs and jobs do not."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgmm.experiments.entries import Analysis, AnalysisRun
from flowgmm.experiments.paths import ENCODERS
from flowgmm.experiments.project import FILES, NAME, RULES, Project, Run, load
from flowgmm.experiments.recipes import label_set, method_settings, resolve_settings
from flowgmm.experiments.specs.analyses import analysis_runs, analysis_spec, found_spec
from flowgmm.experiments.specs.claims import claims_spec
from flowgmm.experiments.specs.data import absent_reason
from flowgmm.experiments.specs.figures import figure_analyses
from flowgmm.experiments.specs.tables import table_records, table_runs, table_spec
from flowgmm.experiments.validation import fits, nearest, parameters_of
from flowgmm.utils.errors import UserError

__all__ = ["load_checked"]

# The last part of an encoder's name or path is part of the features' name.
ENCODER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Parameters of `draw_split` that the config does not set.
FIXED = ("y_train", "split_seed", "labels_seed")
# Linux's limit for one argument, which a rule's command is (MAX_ARG_STRLEN), less what is fixed.
LONGEST_COMMAND = 131072 - 4096
LABELS_A_STEP = ("unlabelled_batch", "n_labels")
# Parts in a recipe: the estimator's parameter and the part's class.
RECIPE_PARTS = {
    "flow": ("flow", "flowgmm.methods.parts.RealNVP"),
    "image_flow": ("flow", "flowgmm.methods.parts.MultiscaleRealNVP"),
    "mixture": ("mixture", "flowgmm.methods.parts.LatentMixture"),
    "objective": ("objective", "flowgmm.methods.parts.Objective"),
    "training": ("training", "flowgmm.methods.parts.Training"),
}
# Preprocessing that a recipe may name, by whether the method is neural.
RECIPE_PREPROCESS = {
    True: ("none", "standardise", "mixed", "pca", "zca", "per_image"),
    False: ("none", "unit_norm", "standardise"),
}


def load_checked(
    root: Path, settings: Mapping[str, Any] | None = None, repository: Path | None = None
) -> Project:
    """Load the config files and check them against each other, as planning needs it.

    Arguments:
        root: Folder that holds `config/`.
        settings: `config/config.yaml` as changed on the command line; None: as in the file.
        repository: Folder that holds `scripts/` and `workflow/`; None: `root`.

    Raises:
        UserError: If anything is unknown, missing or of the wrong kind.
    """
    project = load(root, settings, repository)
    _check_names(project)
    _check_recipes(project)
    _check_targets(project)
    return project


def _check_names(project: Project) -> None:
    """Check that names can be parts of paths, and that entries that are referred to exist."""
    named = {f"config/{file}.yaml": getattr(project, file) for file in FILES[:-1]}
    for dataset, entry in project.datasets.items():
        named[f"config/datasets.yaml: {dataset}.labels"] = entry.labels
        named[f"config/datasets.yaml: {dataset}.files"] = [
            name.replace("-", "_") for name in entry.files or {}
        ]
    for where, names in named.items():
        for name in names:
            if not NAME.fullmatch(str(name)):
                raise UserError(
                    f"{where}: name {name!r} is not of letters, digits, _ and . alone, or starts "
                    "with a dot; rename it"
                )
    if "encoders" in project.datasets:
        raise UserError(
            "config/datasets.yaml: `encoders` is where encoders are; rename the dataset"
        )
    for key in ENCODERS.values():
        encoder = getattr(project.settings, key)
        if not ENCODER_NAME.fullmatch(Path(encoder).name):
            raise UserError(
                f"config/config.yaml: {key} {encoder!r} ends in a name that is not "
                "of letters, digits, _, . and - alone; rename the folder or file"
            )
    rules = [path.name for path in project.rules_files()]
    for name, entry in project.datasets.items():
        for file in (entry.files or {}).values():
            # Else a file with a rule of a workflow that uses this one as a module.
            if "rules" in file and not (
                file["rules"] in rules or (project.root / file["rules"]).is_file()
            ):
                where = f"config/datasets.yaml: {name}.files"
                raise nearest(file["rules"], rules, f"file of {RULES}", where)
    for name, method in project.methods.items():
        where = f"config/methods.yaml: {name}"
        if parameters_of(method.estimator) is None:
            raise UserError(
                f"{where}.estimator: {method.estimator!r} does not exist; correct the import path"
            )
        if method.base is not None and method.base not in project.methods:
            raise nearest(method.base, project.methods, "method", f"{where}.base")
    for name in project.settings.skip:
        known = {*project.datasets, *project.methods}
        for part in name.split("/"):
            if part not in known:
                raise nearest(part, known, "dataset or method", "config/config.yaml: skip")


def _check_recipes(project: Project) -> None:
    """Check that the names and parameters in the recipes exist."""
    kinds = {entry.kind for entry in project.datasets.values()}
    label_sets = {f"{d}/{ls}" for d, entry in project.datasets.items() for ls in entry.labels}
    for recipe_name, recipe in project.recipes.items():
        where = f"config/recipes/{recipe_name}.yaml"
        for name in recipe.surrogate or ():
            if name not in kinds | set(project.datasets):
                raise nearest(name, [*kinds, *project.datasets], "dataset", f"{where}: surrogate")
        for replaced, labels in recipe.analyses.items():
            if replaced not in label_sets:
                raise nearest(replaced, sorted(label_sets), "label set", f"{where}: analyses")
            label_set(project, replaced.split("/")[0], labels)
        levels = {"all": recipe.all}
        for group, given, known in (
            ("kinds", recipe.kinds, kinds),
            ("datasets", recipe.datasets, set(project.datasets)),
            ("label_sets", recipe.label_sets, label_sets),
        ):
            for name, settings in given.items():
                if name not in known:
                    raise nearest(name, sorted(known), group[:-1], f"{where}: {group}")
                levels[f"{group}.{name}"] = settings
        label_keys = [
            key
            for key in parameters_of("flowgmm.datasets.splits.draw_split") or ()
            if key not in FIXED
        ]
        label_keys.append("lists")
        for place, settings in levels.items():
            for key in settings.get("split", {}):
                if key not in label_keys:
                    raise nearest(key, label_keys, "key", f"{where}: {place}.split")
            for name, method in settings.get("methods", {}).items():
                _check_method(project, name, method, f"{where}: {place}.methods")


def _check_targets(project: Project) -> None:
    """Check what tables, analyses and figures refer to, settings of their runs, and the mirror."""
    for name in project.datasets:
        absent_reason(project, name)
    for name in project.tables:
        for run in table_runs(project, name):
            n_val = label_set(project, run.dataset, run.labels).get("n_val", 0)
            settings = resolve_settings(project, run.dataset, run.labels)
            if method_settings(project, run).tune and not n_val:
                raise UserError(
                    f"config/recipes/{project.settings.recipe}.yaml: {run.method} has a grid on "
                    f"{run.dataset}/{run.labels}, but there are no validation points; give the "
                    "label set n_val, or set `tune: null`"
                )
            if settings.collapsed_below and "val" not in settings.evaluate:
                raise UserError(
                    f"config/recipes/{project.settings.recipe}.yaml: collapsed_below of "
                    f"{run.dataset}/{run.labels} needs validation points; add val to `evaluate`"
                )
            if "test_tempered" in settings.evaluate and not (
                n_val and {"val", "test"} <= set(settings.evaluate)
            ):
                raise UserError(
                    f"config/recipes/{project.settings.recipe}.yaml: test_tempered of "
                    f"{run.dataset}/{run.labels} fits a temperature to validation points; give the "
                    "label set n_val, and add val and test to `evaluate`"
                )
        _check_length(project, name)
    for name, entry in project.analyses.items():
        _check_analysis(project, name, entry)
    claims_spec(project)
    for name, figure in project.figures.items():
        for analysis in figure_analyses(project, name):
            project.analysis(analysis)
        table = None if figure.table is None else project.table(figure.table)
        if table and (table.metric != "tuned" or table.paper is None):
            raise UserError(
                f"config/figures.yaml: table {figure.table!r} shows no printed hyper-parameters; "
                "name one with `metric: tuned` and `paper`"
            )
        for panel in figure.panels or ():
            label_set(project, panel.dataset, panel.labels)
            project.method(panel.method)


def _check_length(project: Project, name: str) -> None:
    """Check that the command that makes a table, with spec and records, is not too long."""
    spec = json.dumps(table_spec(project, name), ensure_ascii=False)
    records = table_records(project, name)
    if len(spec.encode()) + sum(len(path) + 1 for path in records) > LONGEST_COMMAND:
        raise UserError(
            f"config/tables.yaml: {name} has {len(records)} records, more than one command can "
            "name; make it several tables of fewer columns, or raise seeds_per_job"
        )


def _check_analysis(project: Project, name: str, entry: Analysis) -> None:
    """Check runs, data, printed numbers and arguments of an analysis."""
    from flowgmm.analyses.registry import check_arguments

    where = f"config/analyses.yaml: {name}"
    runs: list[AnalysisRun | Run] = [*entry.runs.values(), *analysis_runs(project, name).values()]
    for run in runs:
        label_set(project, run.dataset, run.labels)
        project.method(run.method)
    for dataset in entry.data or ():
        project.dataset(dataset)
    given = [*entry.runs, *([] if entry.data is None else ["data"]), *entry.options]
    try:
        check_arguments(entry.function, given)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    analysis_spec(project, name)
    found_spec(project, [name])


def _check_value(estimator: str, key: str, value: Any, where: str) -> None:
    """Check one parameter, of the estimator or, as in ``training__lr``, of a part of it."""
    part, _, inner = key.rpartition("__")
    owner, known = estimator, parameters_of(estimator) or {}
    if part:
        # `image_flow` is the flow of images.
        if part not in RECIPE_PARTS or RECIPE_PARTS[part][0] not in known:
            raise nearest(part, [p for p in RECIPE_PARTS if p in known], "part", where)
        owner = RECIPE_PARTS[part][1]
        known, where = parameters_of(owner) or {}, f"{where}.{part}"
    if inner not in known:
        raise nearest(inner, known, f"parameter of {owner.rpartition('.')[2]}", where)
    if inner in ("random_state", "device", "preprocess"):
        raise UserError(f"{where}.{inner} is not set here; remove it")
    # "n_labels": as many as there are labels, which the job knows.
    if not fits(value, known[inner]) and (inner, value) != LABELS_A_STEP:
        raise UserError(
            f"{where}.{inner} is {value!r}, expected {known[inner]}; see config/README.md"
        )


def _check_method(project: Project, name: str, settings: Mapping[str, Any], where: str) -> None:
    """Check the settings of a method in a recipe against its estimator's parameters."""
    if name not in project.methods:
        raise nearest(name, project.methods, "method", where)
    entry = project.methods[name]
    for group in ("params", "tune_with"):
        for key, given in (settings.get(group) or {}).items():
            place = f"{where}.{name}.{group}"
            if key in RECIPE_PARTS and isinstance(given, Mapping):
                for inner, value in given.items():
                    _check_value(entry.estimator, f"{key}__{inner}", value, place)
            else:
                _check_value(entry.estimator, key, given, place)
    allowed = RECIPE_PREPROCESS[entry.neural]
    for key, values in (settings.get("tune") or {}).items():
        for value in values:
            if key != "preprocess" or entry.neural:
                _check_value(entry.estimator, key, value, f"{where}.{name}.tune")
            elif value not in allowed:
                raise UserError(
                    f"{where}.{name}.tune.preprocess: expected {', '.join(allowed)}, got {value!r}"
                )
    if not entry.neural and settings.get("restart", "none") != "none":
        raise UserError(f"{where}.{name}.restart is for neural methods; remove it")
    if settings.get("preprocess", "none") not in allowed:
        raise nearest(settings["preprocess"], allowed, "value", f"{where}.{name}.preprocess")
