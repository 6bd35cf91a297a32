"""Write the data of a recipe's report."""

import argparse
import json
from pathlib import Path

from flowgmm.apps.estimate.runs import run_hours
from flowgmm.experiments.job_script import run_script
from flowgmm.experiments.project import load, settings_with
from flowgmm.experiments.specs.report import report_spec
from flowgmm.reporting.report.data import gather, missing_runs, write_data


def main(options: argparse.Namespace) -> None:
    root = Path.cwd()
    changes = json.loads(options.changes)
    project = load(root, settings_with(root, changes), Path(options.repository))
    spec = report_spec(project)
    hours, basis = run_hours(project, missing_runs(spec))
    path = Path(options.data)
    write_data(gather(spec, path.parent, hours, basis), path)


if __name__ == "__main__":
    run_script(main, "changes", "repository", "data")
