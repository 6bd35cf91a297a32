"""Put what recipes have made into docs/results, for git and the README."""

import argparse

from flowgmm.experiments.job_script import run_script
from flowgmm.reporting.publish import publish


def main(options: argparse.Namespace) -> None:
    for recipe in options.recipes:
        publish(f"results/{recipe}", f"docs/results/{recipe}")


if __name__ == "__main__":
    run_script(main, "recipes*")
