"""Print the tables of a target, and where its files are."""

import argparse
from pathlib import Path

from flowgmm.experiments.job_script import run_script
from flowgmm.experiments.project import load
from flowgmm.reporting.tables.console import print_tables

TARGETS = {"demo": (("table_7", "demo"), ("figure_1",))}


def main(options: argparse.Namespace) -> None:
    results = Path(load(Path()).results)
    tables, figures = TARGETS[options.target]
    print_tables([results / "tables" / f"{name}.json" for name in tables])
    for name in tables:
        print(f"{results}/tables/{name}.{{csv,md,tex,json}}")
    for name in figures:
        print(f"{results}/figures/{name}.{{png,pdf}}")


if __name__ == "__main__":
    run_script(main, "target")
