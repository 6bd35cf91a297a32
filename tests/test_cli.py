"""The command `flowgmm`: help of every command."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from flowgmm.cli import app


def test_every_command_shows_an_example() -> None:
    for command in app.registered_commands:
        name = command.name or ""
        said = CliRunner().invoke(app, [name, "--help"]).stdout
        assert f"Example: flowgmm {name} " in " ".join(said.split()), name


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, flowgmm.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "numpy", "pandas", "sklearn", "snakemake", "yaml", "rich.table"}
    assert not heavy & set(loaded.stdout.split())


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_wait_passively(given: str | None, expected: str) -> None:
    """Set before torch is imported, which reads it."""
    code = (
        "import os, sys, flowgmm.cli as cli; "
        "cli.app = lambda: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules); cli.main()"
    )
    variables = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    variables |= {} if given is None else {"OMP_WAIT_POLICY": given}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [expected, "False"]
