"""Means at random against means at the labelled points' codes (Appendix B)."""

import numpy as np

from flowgmm.analyses.accuracies import accuracies
from flowgmm.analyses.inputs import Model, pairs
from flowgmm.analyses.results import Findings, number

__all__ = ["means"]


def means(random: Model, from_latent: Model, *, early: float) -> Findings:
    """Means drawn at random against means at the labelled points' first codes (Appendix B).

    Arguments:
        random: Trained with random means.
        from_latent: Trained with means of the initial latent codes of each class.
        early: Share of the steps after which the losses are compared.

    Returns:
        Arrays ``steps`` (n,) and ``loss_{name}`` (seeds, n) in nats, NaN where it was not finite.
    """
    models = {"random": random, "from_latent": from_latent}
    # The paper: it converges faster, and ends lower.
    differences = {"from_latent_minus_random": "from latent codes minus random"}
    found = accuracies(models, differences, at_most=0.0)
    curves = {}
    for name, model in models.items():
        histories = [run["history"] for run in model.runs]
        rows = [[np.nan if v is None else v for v in h["loss"]] for h in histories]
        curves[name] = np.array(rows, dtype=np.float64)
        found.arrays[f"steps_{name}"] = np.array(histories[0]["step"], dtype=np.int64)
        found.arrays[f"loss_{name}"] = curves[name]
    index = {
        name: int(np.abs(found.arrays[f"steps_{name}"] - early * steps[-1]).argmin())
        for name in models
        for steps in [found.arrays[f"steps_{name}"]]
    }
    gap = [
        curves["from_latent"][j, index["from_latent"]] - curves["random"][i, index["random"]]
        for i, j in pairs(random, from_latent)
    ]
    title = f"loss after {early:.0%} of the steps, from latent codes minus random"
    found.numbers.append(number("early_loss", title, "nats", gap, at_most=0.0))
    return found
