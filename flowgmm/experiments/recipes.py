"""Resolve settings of a recipe: by dataset, label set, method and grid."""

import copy
from collections.abc import Mapping
from typing import Any

from flowgmm.experiments.entries import MethodSettings, RunSettings, make_entry
from flowgmm.experiments.project import Project, Run, once
from flowgmm.experiments.validation import nearest
from flowgmm.utils.errors import UserError

__all__ = [
    "grid_candidates",
    "is_surrogate",
    "label_lists",
    "label_set",
    "merge",
    "method_settings",
    "replaced_labels",
    "resolve_settings",
]

TAKES_IMAGES = (
    "flowgmm.methods.flow_gmm.FlowGMMClassifier",
    "flowgmm.methods.quoted.adgm.AdgmClassifier",
    "flowgmm.methods.quoted.badgan.BadGanClassifier",
    "flowgmm.methods.quoted.diglm.DiglmClassifier",
    "flowgmm.methods.quoted.m1m2.M1M2Classifier",
    "flowgmm.methods.quoted.pi_conv.PiConvClassifier",
)


def merge(base: Any, extra: Any) -> Any:
    """`extra` laid over `base`: mappings key by key, anything else replaced."""
    if not (isinstance(base, Mapping) and isinstance(extra, Mapping)):
        return copy.deepcopy(extra)
    merged = dict(base)
    for key, value in extra.items():
        merged[key] = merge(base[key], value) if key in base else copy.deepcopy(value)
    return merged


@once
def resolve_settings(project: Project, dataset: str, labels: str) -> RunSettings:
    """The recipe's settings for a dataset and label set.

    Within a recipe `all` is overlaid by kind, dataset and label set; what a recipe says at any
    level is overlaid by the recipe that extends it. `n_seeds` of `config.yaml` goes before all.

    Raises:
        UserError: If a setting that every run needs is missing.
    """
    kind = project.dataset(dataset).kind
    settings: dict[str, Any] = {}
    for recipe in project.recipes.values():
        for level in (
            recipe.all,
            recipe.kinds.get(kind, {}),
            recipe.datasets.get(dataset, {}),
            recipe.label_sets.get(f"{dataset}/{labels}", {}),
        ):
            settings = merge(settings, level)
    vary = [f"vary.{key}" for key in settings.get("vary", {})]
    needed = ("n_seeds", "vary.split", "vary.labels", "vary.initialisation", "evaluate")
    for key in needed:
        if key not in [*settings, *vary]:
            raise UserError(
                f"config/recipes/{project.settings.recipe}.yaml: {dataset}/{labels} has no "
                f"`{key}`; set it in `all`, or extend a recipe that does"
            )
    if (wanted := project.settings.n_seeds) is not None:
        chosen = project.dataset(dataset).labels.get(labels, {})
        lists = merge(chosen, settings.get("split", {})).get("lists")
        # Published lists of labelled points cannot be more than they are.
        settings["n_seeds"] = min(wanted, len(lists)) if lists else wanted
    return make_entry(RunSettings, settings)


@once
def label_set(project: Project, dataset: str, labels: str) -> dict[str, Any]:
    """Choice of labelled, unlabelled and validation points, as `draw_split` takes it."""
    known = project.dataset(dataset).labels
    if labels not in known:
        raise nearest(labels, known, "label set", f"config/datasets.yaml: {dataset}.labels")
    merged: dict[str, Any] = merge(known[labels], resolve_settings(project, dataset, labels).split)
    return merged


def label_lists(project: Project, dataset: str, labels: str) -> list[str]:
    """Published lists of the labelled points, one a split; none where they are drawn.

    Generated data have none: the lists name rows of the real ones.

    Raises:
        UserError: If the dataset has no such list, or fewer than the recipe has splits.
    """
    names = label_set(project, dataset, labels).get("lists") or ()
    if is_surrogate(project, dataset):
        return []
    known = project.dataset(dataset).label_lists or {}
    for name in names:
        if name not in known:
            where = f"config/recipes/{project.settings.recipe}.yaml: {dataset}/{labels}.split.lists"
            raise nearest(name, known, "list", where)
    settings = resolve_settings(project, dataset, labels)
    needed = settings.n_seeds if settings.vary.split or settings.vary.labels else 1
    if names and len(names) < needed:
        raise UserError(
            f"config/recipes/{project.settings.recipe}.yaml: {dataset}/{labels} has {needed} "
            f"splits, but {len(names)} `lists` of labelled points; lower n_seeds or add lists"
        )
    return list(names)


@once
def is_surrogate(project: Project, dataset: str) -> bool:
    """True if the recipe replaces the dataset by generated data."""
    named = [r.surrogate for r in project.recipes.values() if r.surrogate is not None]
    return bool(named) and bool({dataset, project.dataset(dataset).kind} & set(named[-1]))


@once
def method_settings(project: Project, run: Run) -> MethodSettings:
    """Preprocessing, parameters and tuning of a method on a dataset.

    Raises:
        UserError: If the dataset has images, which the method cannot take.
    """
    entry = project.method(run.method)
    if project.dataset(run.dataset).kind == "image" and entry.estimator not in TAKES_IMAGES:
        raise UserError(
            f"{run.method} takes no images, but {run.dataset} is of kind image; name a method "
            f"whose estimator is one of {', '.join(TAKES_IMAGES)}, or a dataset of kind transfer"
        )
    methods = resolve_settings(project, run.dataset, run.labels).methods
    base = methods.get(entry.base, {}) if entry.base else {}
    merged = merge(base, methods.get(run.method, {}))
    if "params" in merged:
        merged["params"] = _with_flow(merged["params"], project.dataset(run.dataset).kind)
    return make_entry(MethodSettings, merged)


def _with_flow(params: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Parameters with the flow that suits the kind of data: `image_flow` is that of images."""
    chosen = {key: value for key, value in params.items() if key not in ("flow", "image_flow")}
    if kind == "image" and "image_flow" in params:
        chosen["flow"] = {"class": "MultiscaleRealNVP", **params["image_flow"]}
    elif kind != "image" and "flow" in params:
        chosen["flow"] = params["flow"]
    return chosen


@once
def grid_candidates(project: Project, run: Run) -> dict[str, dict[str, Any]]:
    """The candidates of a neural method's grid by name, in grid order; none without a grid."""
    from flowgmm.experiments.tuning import candidates, point_name

    grid = method_settings(project, run).tune if project.method(run.method).neural else None
    return {point_name(candidate): candidate for candidate in candidates(grid)} if grid else {}


def replaced_labels(project: Project, dataset: str, labels: str) -> str:
    """The label set that the recipe's analyses use for this one."""
    found = labels
    for recipe in project.recipes.values():
        found = recipe.analyses.get(f"{dataset}/{labels}", found)
    return found
