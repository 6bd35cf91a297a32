"""Make a table from the records of its runs."""

import argparse
import json
from pathlib import Path

from flowgmm.script import run_script
from flowgmm.tables import make_table, write


def main(options: argparse.Namespace) -> None:
    spec = json.loads(options.spec)
    write(make_table(spec, options.records), Path(options.folder) / spec["name"])


if __name__ == "__main__":
    run_script(main, "spec", "records*", "folder")
