"""Data of the tests of estimators."""

import pytest
from sklearn.datasets import make_moons


@pytest.fixture(scope="module")
def moons():
    """150 points of two moons, 6 labelled, and 50 more."""
    X, y = make_moons(200, noise=0.08, random_state=0)
    X = X * [3.0, 0.5] + [10.0, -2.0]
    partial_y = y[:150].copy()
    partial_y[6:] = -1
    return X[:150], partial_y, X[150:], y
