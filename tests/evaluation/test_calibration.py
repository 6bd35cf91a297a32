"""The temperature of Table 5."""

import numpy as np
import pytest

from flowgmm.evaluation.calibration import best_temperature


@pytest.mark.parametrize("factor", [0.5, 5.0])
def test_temperature_undoes_a_factor_on_the_logits(factor):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, size=(20_000, 3))
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random((20_000, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    assert best_temperature(y, factor * logits) == pytest.approx(factor, rel=0.05)
