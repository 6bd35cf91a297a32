"""Calibration of one temperature on validation points (Table 5)."""

import numpy as np

from flowgmm.analyses.inputs import Model
from flowgmm.analyses.results import Findings, number

__all__ = ["calibration"]

# What calibration compares.
KEYS = ("class_nll", "ece", "accuracy")


def calibration(model: Model) -> Findings:
    """Class NLL and calibration on test points, before and after one temperature (Table 5).

    Arguments:
        model: Its runs are evaluated on ``test`` and ``test_tempered``.
    """
    before, after = (
        {key: np.array([run["metrics"][part][key] for run in model.runs]) for key in KEYS}
        for part in ("test", "test_tempered")
    )
    ratios = after["class_nll"] / before["class_nll"]
    change = 100 * (after["accuracy"] - before["accuracy"])
    numbers = [
        number("nll", "class NLL", "nats", before["class_nll"]),
        number("nll_tempered", "class NLL, tempered", "nats", after["class_nll"]),
        number("nll_ratio", "class NLL, tempered to plain", "ratio", ratios, at_most=0.5),
        number("ece", "expected calibration error", "share", before["ece"]),
        number("ece_tempered", "the same, tempered", "share", after["ece"], at_most=0.06),
        number(
            "accuracy_change",
            "accuracy, tempered minus plain",
            "percent",
            change,
            at_least=0.0,
            at_most=0.0,
        ),
    ]
    return Findings(numbers, {"temperature": np.array([r["temperature"] for r in model.runs])})
