"""Draw a figure from trained models, from a table, or from what analyses found."""

import argparse
import json
from typing import Any

from flowgmm.analyses.results import read_found
from flowgmm.experiments.job_script import run_script
from flowgmm.reporting.figures.make import make_figure, save
from flowgmm.reporting.figures.planar import NotRun, Panel, load_panel
from flowgmm.reporting.tables.files import read_table
from flowgmm.utils.absence import reason_of


def main(options: argparse.Namespace) -> None:
    spec = json.loads(options.spec)
    figure = spec["figure"]
    if "analyses" in figure:
        found = read_found(figure["analyses"], spec["not_run"], options.found, spec["printed"])
        content: Any = list(found.values())
    elif "table" in figure:
        content = read_table(options.table[0])
    else:
        files = zip(options.features, options.splits, options.models, strict=True)
        content = [
            _panel(panel, next(files)) if reason is None else NotRun(panel["title"], reason)
            for panel, reason in zip(figure["panels"], spec["left_out"], strict=True)
        ]
    save(make_figure(figure["function"], content, spec["marks"]), options.prefix)


def _panel(panel: dict[str, Any], paths: tuple[str, str, str]) -> Panel | NotRun:
    """A panel of features, split and model, or the reason in them for which there is none."""
    reason = reason_of(paths)
    return load_panel(panel, *paths) if reason is None else NotRun(panel["title"], reason)


if __name__ == "__main__":
    run_script(main, "spec", "features*", "splits*", "models*", "table*", "found*", "prefix")
