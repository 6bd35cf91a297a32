"""Write the report of a recipe: its data, its page and, where Chromium is, its print."""

import argparse
import json
import sys
from pathlib import Path

from flowgmm.apps.estimate.runs import run_hours
from flowgmm.experiments.job_script import run_script
from flowgmm.experiments.project import load, settings_with
from flowgmm.experiments.specs.report import report_spec
from flowgmm.reporting.report.data import gather, missing_runs, write_data
from flowgmm.reporting.report.page import print_pdf, write
from flowgmm.utils.errors import UserError


def main(options: argparse.Namespace) -> None:
    root = Path.cwd()
    changes = json.loads(options.changes)
    project = load(root, settings_with(root, changes), Path(options.repository))
    spec = report_spec(project)
    hours, basis = run_hours(project, missing_runs(spec))
    page = Path(options.page)
    report = gather(spec, page.parent, hours, basis)
    write_data(report, Path(options.data))
    write(report, page)
    try:
        print_pdf(page, page.with_name("report.pdf"))
    except UserError as error:
        # The page is what was asked for.
        print(f"warning: {error}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main, "changes", "repository", "data", "page")
