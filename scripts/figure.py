"""Draw a figure from trained models, or from a table."""

import argparse
import json

from flowgmm.figures import load_panel, make_figure, save
from flowgmm.script import run_script
from flowgmm.tables import read_table


def main(options: argparse.Namespace) -> None:
    spec = json.loads(options.spec)
    figure = spec["figure"]
    files = zip(options.features, options.splits, options.models, strict=True)
    content = [
        load_panel(panel, *paths)
        for panel, paths in zip(figure.get("panels", []), files, strict=True)
    ] or read_table(options.table[0])
    save(make_figure(figure["function"], content, spec["marks"]), options.prefix)


if __name__ == "__main__":
    run_script(main, "spec", "features*", "splits*", "models*", "table*", "prefix")
