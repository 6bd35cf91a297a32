"""Fail if raw files or encoders could not be downloaded, with their names."""

import argparse

from flowgmm.experiments.job_script import run_script
from flowgmm.utils.absence import reason_of
from flowgmm.utils.errors import UserError


def main(options: argparse.Namespace) -> None:
    failed = [path for path in options.files if reason_of([path]) is not None]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(options.files)} files could not be downloaded: "
            f"{', '.join(failed)}; the lines `not run` say why, and the same command tries again"
        )


if __name__ == "__main__":
    run_script(main, "files*")
