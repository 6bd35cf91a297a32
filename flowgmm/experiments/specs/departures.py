"""Hyper-parameters that differ from the printed ones, and the rows of the specification on them."""

import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from flowgmm.experiments.entries import Settings
from flowgmm.experiments.project import Project, Run, load
from flowgmm.experiments.recipes import method_settings
from flowgmm.reporting.report.runs import flat
from flowgmm.reporting.report.types import Departure

__all__ = ["PARAMETERS", "departures", "differences", "references"]

# Rows of docs/spec.md, 4, by parameter; of images some are others.
PARAMETERS = {
    "mixture.means": ("D1",),
    "mixture.mean_scale": ("D1",),
    "mixture.std": ("D2",),
    "flow.n_inner": ("D3",),
    "flow.dropout": ("D4",),
    "flow.n_couplings": ("D5",),
    "flow.n_filters": ("D29",),
    "flow.flip": ("D33",),
    "training.n_epochs": ("D6",),
    "training.n_steps": ("D6",),
    "training.optimizer": ("D7",),
    "training.schedule": ("D7", "D48"),
    "training.labelled_batch": ("D8",),
    "training.unlabelled_batch": ("D8",),
    "training.lr": ("D10",),
    "training.clip_norm": ("D39",),
    "training.weight_decay": ("D40",),
    "training.keep": ("D41",),
    "training.precision": ("D51",),
    "objective.unlabelled_weight": ("D9",),
    "objective.pooled_loss": ("D9",),
    "objective.label_weight_target": ("D25",),
    "objective.ramp_up": ("D28",),
    "objective.ramp_each": ("D47",),
    "n_hidden": ("D20",),
    "consistency_weight": ("D21",),
    "normalize": ("D21", "D49"),
    "n_neighbors": ("D22",),
    "n_unlabelled": ("D23",),
    "preprocess": ("D24",),
}
OF_IMAGES = {"training.lr": ("D27",), "training.n_steps": ("D27", "D50")}
ROW = re.compile(r'^\| <a id="(d\d+)"></a>(D\d+) \| (.*) \| (.*) \| (.*) \| (.*) \|$', re.MULTILINE)
SPECIFICATION = Path("docs", "spec.md")
PRINTED, CODE = "paper", "official"


def references(project: Project) -> dict[str, Project]:
    """The project with the recipe as printed and with that of the authors' code, if it has them."""
    settings = {item.name: getattr(project.settings, item.name) for item in fields(Settings)}
    settings["skip"] = list(settings["skip"])
    folder = project.root / "config" / "recipes"
    return {
        recipe: load(project.root, settings | {"recipe": recipe}, project.repository)
        for recipe in (PRINTED, CODE)
        if (folder / f"{recipe}.yaml").is_file()
    }


def differences(
    project: Project, references: Mapping[str, Project], run: Run
) -> list[dict[str, Any]]:
    """Hyper-parameters of a run that differ from those of the recipe as printed.

    A parameter that one of the two leaves to the estimator is None there. Rows of the specification
    go with values that are the code's; others are of this project alone.
    """
    if PRINTED not in references:
        return []
    here, paper = _settings(project, run), _settings(references[PRINTED], run)
    code = _settings(references[CODE], run) if CODE in references else {}
    is_image = project.dataset(run.dataset).kind == "image"
    known = PARAMETERS | OF_IMAGES if is_image else PARAMETERS
    found = []
    for key in sorted({*here, *paper}):
        value, printed = here.get(key), paper.get(key)
        if value != printed:
            rows = known.get(key, ()) if value == code.get(key) else ()
            found.append({"parameter": key, "here": value, "paper": printed, "departures": rows})
    return found


def _settings(project: Project, run: Run) -> dict[str, Any]:
    settings = method_settings(project, run)
    return {"preprocess": settings.preprocess, **flat(settings.params)}


def departures(project: Project) -> dict[str, dict[str, Any]]:
    """Rows of the specification's table of departures, by number; none without documentation."""
    path = project.repository / SPECIFICATION
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {
        name: asdict(Departure(topic, paper, code, here, f"{SPECIFICATION.as_posix()}#{anchor}"))
        for anchor, name, topic, paper, code, here in ROW.findall(text)
    }
