"""Make a table from the records of its runs."""

import argparse
import json

from flowgmm.experiments.job_script import run_script
from flowgmm.reporting.tables.aggregate import make_table
from flowgmm.reporting.tables.files import write


def main(options: argparse.Namespace) -> None:
    table = make_table(json.loads(options.spec), options.records)
    write(table, options.prefix, json.loads(options.changes))


if __name__ == "__main__":
    run_script(main, "spec", "records*", "changes", "prefix")
