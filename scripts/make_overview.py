"""Put the numbers of all analyses beside the printed ones."""

import argparse
import json

from flowgmm.analyses.results import read_found
from flowgmm.experiments.job_script import run_script
from flowgmm.reporting.overview import make_overview


def main(options: argparse.Namespace) -> None:
    spec = json.loads(options.spec)
    found = read_found(spec["analyses"], spec["not_run"], options.found, spec["printed"])
    make_overview(spec, found, options.prefix)


if __name__ == "__main__":
    run_script(main, "spec", "found*", "prefix")
