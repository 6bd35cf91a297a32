"""Means at the labelled points' codes, and learnt mixtures, against a random one (Appendix B)."""

import numpy as np

from flowgmm.analyses.accuracies import accuracies, difference
from flowgmm.analyses.inputs import Model, pairs
from flowgmm.analyses.results import Findings, number

__all__ = ["means"]

# Points of accuracy that would count as an improvement: half of the paper's test error (1.06 %).
IMPROVEMENT = 0.5


def means(
    random: Model, from_latent: Model, jointly: Model, in_turns: Model, *, early: float
) -> Findings:
    """Random, fixed means against means at the labelled points' first codes and learnt mixtures.

    Arguments:
        random: Trained with random means and unit variances, which stay.
        from_latent: Trained with means of the initial latent codes of each class.
        jointly: Started as `random`; means and variances are trained by the flow's updates.
        in_turns: The same; each step moves the flow first, then means and variances.
        early: Share of the steps after which the losses are compared.

    Returns:
        Arrays ``steps_{name}`` (n,) and ``loss_{name}`` (seeds, n) in nats, NaN where it was not
        finite.

    Source: Izmailov et al. (2020), Appendix B.
    """
    models = {"random": random, "from_latent": from_latent}
    learnt = {"jointly": jointly, "in_turns": in_turns}
    # The paper: it converges faster, and ends lower.
    differences = {"from_latent_minus_random": "from latent codes minus random"}
    found = accuracies(models | learnt, differences, at_most=0.0)
    # The paper: no improvement.
    for name, model in learnt.items():
        title = f"learnt {name.replace('_', ' ')} minus fixed"
        claim = difference(f"{name}_minus_random", title, model, random, at_most=IMPROVEMENT)
        found.numbers.append(claim)
    for name, model in (models | learnt).items():
        histories = [run["history"] for run in model.runs]
        rows = [[np.nan if v is None else v for v in h["loss"]] for h in histories]
        found.arrays[f"steps_{name}"] = np.array(histories[0]["step"], dtype=np.int64)
        found.arrays[f"loss_{name}"] = np.array(rows, dtype=np.float64)
    after = {name: _loss_after(found.arrays, name, early) for name in models}
    gap = [after["from_latent"][j] - after["random"][i] for i, j in pairs(random, from_latent)]
    title = f"loss after {early:.0%} of the steps, from latent codes minus random"
    found.numbers.append(number("early_loss", title, "nats", gap, at_most=0.0))
    return found


def _loss_after(arrays: dict[str, np.ndarray], name: str, share: float) -> np.ndarray:
    """Loss of each seed after a share of the steps, shape (seeds,)."""
    steps = arrays[f"steps_{name}"]
    losses: np.ndarray = arrays[f"loss_{name}"][:, np.abs(steps - share * steps[-1]).argmin()]
    return losses
