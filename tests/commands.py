"""The command line in this process, and a table for it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from flowgmm.apps.estimate.cost_model import Machine
from flowgmm.cli import app

MACHINE = Machine(rate=1e10, call_s=1e-6, start_s=1.0, notes=("measured: as the test says",))
GPU = Machine(rate=1e12, call_s=1e-6, start_s=1.0, notes=("a GPU is assumed",))
ADD = ("add-dataset", "mine", "mine.csv", "--label", "kind", "--n-labels", "12")


def flowgmm(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """Run a command in a folder, on a machine of known speed."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("flowgmm.apps.estimate.estimate.measure", lambda *_: MACHINE)
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def make_table(path: Path, n: int = 150, **columns: object) -> Path:
    """Write a table of three columns of numbers and a label, `kind`."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    frame["kind"] = np.where(frame["a"] + frame["b"] > 0, "yes", "1e5")
    frame.assign(**columns).to_csv(path, index=False)
    return path
