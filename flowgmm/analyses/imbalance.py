"""Imbalanced classes: learnt class weights (Appendix K)."""

import numpy as np

from flowgmm.analyses.inputs import Model
from flowgmm.analyses.results import Findings, number

__all__ = ["imbalance"]


def imbalance(all_points: Model, unlabelled: Model) -> Findings:
    """Class weights learnt from unbalanced data (Appendix K).

    Half of each batch is labelled, in equal numbers of each class, so that weights learnt from all
    points settle at the average of both halves' shares (spec 2.4); weights learnt from the
    unlabelled points alone should settle at theirs.

    Arguments:
        all_points: Its weights are learnt from all points.
        unlabelled: Its weights are learnt from the unlabelled points alone.

    Returns:
        Arrays (K,): ``weights_all``, ``weights_unlabelled``, means over the seeds; ``shares``,
        those of the unlabelled points; ``predicted``, for the weights from all points.
    """
    arrays = {}
    numbers = []
    for name, model, text in (
        ("all", all_points, "all points"),
        ("unlabelled", unlabelled, "unlabelled points"),
    ):
        weights = np.stack([np.asarray(e.weights_, np.float64) for e in model.estimators])
        shares, predicted = [], []
        for i, split in enumerate(model.splits):
            y, n_classes = model.data.y_train, weights.shape[1]
            halves = [
                np.bincount(y[rows], minlength=n_classes) / len(rows)
                for rows in (split["labelled"], model.unlabelled(i))
            ]
            shares.append(halves[1])
            predicted.append(np.mean(halves, axis=0) if name == "all" else halves[1])
        deviation = np.abs(weights - predicted).max(axis=1)
        arrays[f"weights_{name}"] = weights.mean(axis=0)
        if name == "all":
            arrays |= {"shares": np.mean(shares, axis=0), "predicted": np.mean(predicted, axis=0)}
        numbers += [
            number(
                f"weight_{name}_{k}",
                f"weight of class {k}, learnt from {text}",
                "share",
                weights[:, k].tolist(),
            )
            for k in range(weights.shape[1])
        ]
        against = "the two shares' average" if name == "all" else "the unlabelled shares"
        title = f"largest deviation of the weights from {against}, learnt from {text}"
        numbers.append(
            number(f"deviation_{name}", title, "share", deviation.tolist(), at_most=0.02)
        )
    return Findings(numbers, arrays, {"classes": all_points.data.meta["classes"]})
