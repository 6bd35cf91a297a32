"""Draw a figure from trained models."""

import argparse
import json

from flowgmm.figures import load_panel, make_figure, save
from flowgmm.script import run_script


def main(options: argparse.Namespace) -> None:
    spec = json.loads(options.spec)
    figure = spec["figure"]
    files = zip(options.features, options.splits, options.models, strict=True)
    panels = [
        load_panel(panel, *paths) for panel, paths in zip(figure["panels"], files, strict=True)
    ]
    save(make_figure(figure["function"], panels, spec["marks"]), options.prefix)


if __name__ == "__main__":
    run_script(main, "spec", "features*", "splits*", "models*", "prefix")
