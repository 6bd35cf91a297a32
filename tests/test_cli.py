"""The command `flowgmm`: help of every command."""

import subprocess
import sys

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
