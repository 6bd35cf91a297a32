"""Bring the README's summary, docs/results/README.md and docs/claims.md up to date.

The summary lies between `<!-- summary -->` and `<!-- / -->`.
"""

import argparse
import re
from pathlib import Path

from flowgmm.experiments.job_script import run_script
from flowgmm.experiments.project import load
from flowgmm.experiments.specs.claims import claims_spec
from flowgmm.reporting.claims_page import claims_page
from flowgmm.reporting.results_page import results_page, summary_table
from flowgmm.utils.io import write_text

SUMMARY = re.compile(r"(<!-- summary -->\n).*?(<!-- / -->)", re.DOTALL)
README, RESULTS = Path("README.md"), Path("docs", "results")


def main(_: argparse.Namespace) -> None:
    table = summary_table(RESULTS, f"{RESULTS}/README.md")
    text = README.read_text(encoding="utf-8")
    write_text(README, SUMMARY.sub(lambda block: f"{block[1]}\n{table}\n{block[2]}", text))
    write_text(RESULTS / "README.md", results_page(RESULTS))
    claims = claims_spec(load(Path.cwd()))
    write_text(Path("docs", "claims.md"), claims_page(claims, RESULTS))


if __name__ == "__main__":
    run_script(main)
