"""Test accuracies of several models, and their differences split by split."""

from collections.abc import Mapping

import numpy as np

from flowgmm.analyses.inputs import Model, pairs
from flowgmm.analyses.results import Findings, Number, number

__all__ = ["accuracies", "difference"]


def accuracies(
    models: Mapping[str, Model], differences: Mapping[str, str], **claim: float
) -> Findings:
    """Accuracies of models, and differences of two on the seeds, and so splits, of both.

    Arguments:
        models: By name.
        differences: Title by ``{name}_minus_{name}``.
        claim: Bounds of every difference.
    """
    numbers = [
        number(
            name,
            f"test accuracy, {model.title}",
            "percent",
            model.accuracies(),
            n_points=model.n_test(),
        )
        for name, model in models.items()
    ]
    for name, title in differences.items():
        more, less = (models[part] for part in name.split("_minus_"))
        numbers.append(difference(name, title, more, less, **claim))
    arrays = {f"accuracy_{name}": np.array(m.accuracies()) for name, m in models.items()}
    details = {"titles": {name: model.title for name, model in models.items()}}
    return Findings(numbers, arrays, details)


def difference(name: str, title: str, more: Model, less: Model, **claim: float) -> Number:
    """Test accuracy of `more` minus that of `less`, on the seeds of both, with bounds."""
    a, b = less.accuracies(), more.accuracies()
    gaps = [b[j] - a[i] for i, j in pairs(less, more)]
    return number(name, f"accuracy, {title}", "percent", gaps, **claim)
