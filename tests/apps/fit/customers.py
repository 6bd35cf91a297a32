"""A table of customers, and `flowgmm` on the command line with a short training."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from flowgmm.apps.fit import cross_validation, methods
from flowgmm.cli import app
from flowgmm.methods import preset_parts

N = 90


def shorten(patch: pytest.MonkeyPatch) -> None:
    preset = preset_parts.tables()
    short = replace(preset, training=preset.training.set_params(n_steps=60))
    patch.setattr(preset_parts, "tables", lambda: short)
    patch.setattr(cross_validation, "N_FOLDS", 3)
    patch.setattr(methods, "N_TREES", 20)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def customers(n: int = N, n_labelled: int = 30) -> tuple[pd.DataFrame, pd.Series]:
    """Two classes, told apart by age and city; a third of the rows has a label."""
    rng = np.random.default_rng(0)
    churned = np.arange(n) % 3 == 0
    frame = pd.DataFrame(
        {
            "id": [f"c{i:05}" for i in range(n)],
            "number": np.arange(n) + 100,
            "age": np.where(churned, 60, 30) + rng.normal(0, 4, n),
            "visits": rng.poisson(5, n),
            "city": np.where(churned, "Leeds", np.where(rng.random(n) < 0.5, "York", "Hull")),
            "mobile": rng.random(n) < 0.5,
            "since": [f"{1 + i % 28:02}/03/2020" for i in range(n)],
            "country": "UK",
        }
    )
    frame.loc[::9, "age"] = np.nan
    frame["outcome"] = np.where(churned, "churned", "stays")
    truth = frame["outcome"].copy()
    frame.loc[rng.permutation(n)[n_labelled:], "outcome"] = None
    return frame, truth
