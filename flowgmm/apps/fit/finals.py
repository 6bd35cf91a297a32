"""Final models, fitted to all labels: each method that can be saved as arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowgmm.apps.fit.cross_validation import HeldOut
from flowgmm.apps.fit.methods import COMBINED, FLOWGMM, FOREST, LOGISTIC, Method
from flowgmm.apps.fit.table_model import train
from flowgmm.utils.progress import Progress
from flowgmm.utils.threads import one_thread

__all__ = ["fit_finals"]


def fit_finals(
    methods: Mapping[str, Method],
    held_out: HeldOut,
    X: np.ndarray,
    codes: np.ndarray,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit FlowGMM, the forest and logistic regression to all labels, and combine the first two.

    Arguments:
        methods: By name.
        held_out: Cross-validation of them, whose calibrations are used.
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        progress: Called with steps done, all steps, and the losses.

    Returns:
        Fitted estimators by name.

    Raises:
        UserError: If FlowGMM diverged.
    """
    from flowgmm.methods.flow_forest import FlowForestClassifier

    known = codes >= 0
    with one_thread():
        flow = train(methods[FLOWGMM].estimator, X, codes, progress)
        forest = methods[FOREST].estimator.fit(X, codes)
        logistic = methods[LOGISTIC].estimator.fit(X[known], codes[known])
    calibration = held_out.calibration
    flow.temperature_, flow.offsets_ = calibration.temperature, calibration.offsets
    combined = FlowForestClassifier.from_fitted(flow, forest, held_out.mean_temperature)
    return {COMBINED: combined, FLOWGMM: flow, FOREST: forest, LOGISTIC: logistic}
