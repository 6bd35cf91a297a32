"""Specs of the rules in `splits.smk`."""

from typing import Any

from flowgmm.experiments.paths import raw_folder
from flowgmm.experiments.project import Project, once
from flowgmm.experiments.recipes import label_lists, label_set, resolve_settings
from flowgmm.experiments.specs import rule_hash
from flowgmm.utils.seeds import derive

__all__ = ["split_index", "split_list", "split_spec"]

# Seed of the first of the authors' splits of images (spec 2.4).
AUTHORS_SEED = 10


def split_index(project: Project, dataset: str, labels: str, seed: int) -> int:
    """Number of the split that a seed uses."""
    vary = resolve_settings(project, dataset, labels).vary
    return seed if vary.split or vary.labels else 0


@once
def split_spec(project: Project, dataset: str, labels: str, split: int) -> dict[str, Any]:
    """Spec of the rule `draw_split`."""
    vary = resolve_settings(project, dataset, labels).vary
    chosen = {k: v for k, v in label_set(project, dataset, labels).items() if k != "lists"}
    numbers = {"split": split if vary.split else 0, "labels": split if vary.labels else 0}
    seeds = {p: derive(f"{dataset}/{labels}", number, p) for p, number in numbers.items()}
    if chosen.get("stratify") == "authors":
        seeds["labels"] = AUTHORS_SEED + numbers["labels"]
    return {
        "dataset": dataset,
        "labels": labels,
        "split": split,
        "seeds": seeds,
        "label_set": chosen,
        "code": rule_hash(project, "draw_split"),
    }


def split_list(project: Project, dataset: str, labels: str, split: int) -> list[str]:
    """Path of the published list of a split's labelled points; none where they are drawn."""
    names = label_lists(project, dataset, labels)
    index = split if resolve_settings(project, dataset, labels).vary.labels else 0
    return [f"{raw_folder(project, dataset)}/{name}" for name in names[index : index + 1]]
