"""Run the demo and print its tables, the claims that it decides, and where its page is."""

import argparse
import sys
from pathlib import Path

from flowgmm.apps.run.run import run_targets
from flowgmm.experiments.job_script import run_script
from flowgmm.experiments.project import load
from flowgmm.reporting.report.console import claim_lines
from flowgmm.reporting.tables.console import print_tables
from flowgmm.utils.io import read_json

TABLES, FIGURE = ("table_7", "demo"), "figure_1"


def main(options: argparse.Namespace) -> None:
    root = Path.cwd()
    # Table 7's trainings take the longest.
    first = ["--prioritize", "table_7"]
    if code := run_targets(root, ["demo"], options=first, verbose=bool(options.verbose)):
        sys.exit(code)
    results = Path(load(root).results)
    print_tables([results / "tables" / f"{name}.json" for name in TABLES])
    for line in claim_lines(read_json(results / "report" / "data.json")["claims"]):
        print(line)
    print(f"Figure: {results}/figures/{FIGURE}.{{png,pdf,svg}}")
    print(f"Page: {results}/report/index.html")


if __name__ == "__main__":
    run_script(main, "verbose")
