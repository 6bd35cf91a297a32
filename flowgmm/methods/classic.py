"""Classic estimators that need more than one constructor, flat so that a config can state them."""

from typing import Any, Self

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import SelfTrainingClassifier

from flowgmm.methods.labels import check_labels, encode_labels

__all__ = ["self_training"]


class _SelfTraining(SelfTrainingClassifier):
    """scikit-learn's classifier with this package's errors for labels."""

    def fit(self, X: Any, y: Any, **params: Any) -> Self:
        check_labels(y)
        encode_labels(np.asarray(y))
        fitted: Self = super().fit(X, y, **params)
        return fitted


def self_training(
    C: float = 1.0,
    logistic_max_iter: int = 1000,
    criterion: str = "threshold",
    threshold: float = 0.75,
    k_best: int = 10,
    max_iter: int | None = 10,
    random_state: Any = None,
) -> SelfTrainingClassifier:
    """Logistic regression that labels the points it is sure of and fits again.

    Arguments:
        C: Inverse weight of the L2 penalty of the logistic regression.
        logistic_max_iter: Most iterations of each of its fits.
        criterion: ``"threshold"`` or ``"k_best"``: what it takes to be sure.
        threshold: Probability above which a point is labelled.
        k_best: Points labelled per round.
        max_iter: Most rounds; None: until no point changes.
        random_state: Seed of the logistic regression.
    """
    base = LogisticRegression(C=C, max_iter=logistic_max_iter, random_state=random_state)
    return _SelfTraining(
        base, criterion=criterion, threshold=threshold, k_best=k_best, max_iter=max_iter
    )
