"""Formulas of the authors' code that differ from the plain ones, written out (spec, D47 to D50)."""

import math

import numpy as np
import pytest
import torch
from estimators import flow_gmm, in_use, pi_model
from torch import nn

from flowgmm.flows.rng import Stream
from flowgmm.training.batches import Batches
from flowgmm.training.loop import TrainingOptions, train

SEEDS = (2, 5)


class Quadratic(nn.Module):
    def __init__(self, start):
        super().__init__()
        self.w = nn.Parameter(start.clone())


@pytest.mark.parametrize(("n_steps", "decay"), [(7, 0.0), (25, 0.1), (40, 1e-2)])
def test_the_schedule_moves_after_the_optimizer(n_steps, decay):
    """AdamW whose rate is set from the step that it has just made."""
    targets = Stream(SEEDS).at(0).normal((4,), torch.float64)
    model = Quadratic(torch.zeros(2, 4, dtype=torch.float64))
    options = TrainingOptions(n_steps, "adamw", 0.05, decay, "cosine_lagged", clip_norm=None)
    train(model, lambda at: {"loss": (model.w - targets).square().sum(1)}, options)

    w = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([w], lr=0.05, weight_decay=decay)
    rates = []
    for step in range(n_steps):
        optimizer.zero_grad()
        (w - targets).square().sum().backward()
        rates.append(optimizer.param_groups[0]["lr"] / 0.05)
        optimizer.step()
        factor = max(0.5 * (1 + math.cos(math.pi * step / n_steps)), 1e-3)
        optimizer.param_groups[0]["lr"] = 0.05 * factor
    assert rates[0] == rates[1] == 1 > rates[2]
    assert torch.allclose(model.w, w, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("n_labelled", "batch", "sampling", "epochs", "ramp"),
    [(6, 2, "shuffle_full", 5, 3), (7, 3, "shuffle_full", 6, 4), (7, 3, "shuffle", 4, 2)],
)
def test_the_ramp_is_constant_within_a_pass_over_the_labelled_points(
    n_labelled, batch, sampling, epochs, ramp
):
    """Consistency weighs min(1, (epoch + 1) / R) in every step of an epoch."""
    in_epoch = n_labelled // batch if sampling == "shuffle_full" else -(-n_labelled // batch)
    X = np.random.default_rng(0).normal(size=(30, 2))
    y = np.where(np.arange(30) < n_labelled, np.arange(30) % 2, -1)
    history = (
        flow_gmm(
            n_couplings=2,
            hidden_size=8,
            consistency_weight=2.0,
            balance_weight=0.0,
            label_weight=0.0,
            unlabelled_weight=1.0,
            ramp_up=round(ramp / epochs, 4),  # as recipes write it
            ramp_each="pass",
            n_steps=epochs * in_epoch,
            labelled_batch=batch,
            unlabelled_batch=5,
            sampling=sampling,
            precision="fp64",
            random_state=0,
        )
        .fit(X, y)
        .history_
    )
    weights = [2.0 * min(1.0, (epoch + 1) / ramp) for epoch in range(epochs)]
    expected = [
        nll + more + weight * consistency
        for nll, more, consistency, weight in zip(
            *(history[name] for name in ("labelled_nll", "unlabelled_nll", "consistency")),
            np.repeat(weights, in_epoch),
            strict=True,
        )
    ]
    assert history["loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("consistency_on", ["unlabelled", "all"])
@pytest.mark.parametrize(("normalize", "divisor"), [("sum", 1), ("mean", 3), ("mean_over_c", 9)])
def test_points_whose_answers_must_agree(consistency_on, normalize, divisor):
    """Squared difference of two masks' answers, over the unlabelled batch or over both."""
    x = Stream([1]).at(0).normal((20, 5), torch.float64)[0]
    rows = torch.arange(20).expand(2, 20)
    batches = Batches(x, rows[:, :6], rows[:, :6] % 3, rows[:, 6:], 4, 7, "shuffle", Stream(SEEDS))
    method = pi_model(
        hidden_size=8,
        consistency_weight=3.0,
        consistency_on=consistency_on,
        normalize=normalize,
        precision="fp64",
    )
    streams = {name: Stream(SEEDS) for name in ("initialisation", "dropout")}
    model = in_use(method, 5)._build(batches, 3, streams).double()
    inputs = {**batches.at(2), **method._schedule(2, 10)}
    streams["dropout"].at(2)
    losses = method._losses(model, batches, streams, inputs)

    masks = Stream(SEEDS).at(2)
    labelled, classes = x[inputs["labelled"]], inputs["classes"]
    log_p = torch.log_softmax(model(labelled, masks), -1)
    cross_entropy = -log_p.gather(-1, classes[..., None]).mean((1, 2))
    points = x[inputs["unlabelled"]]
    if consistency_on == "all":
        points = torch.cat([labelled, points], dim=1)
        assert points.shape[1] == 11
    second, first = (torch.softmax(model(points, masks), -1) for _ in range(2))
    apart = (first - second.detach()).square().sum((1, 2)) / (points.shape[1] * divisor)
    assert (apart > 0).all()
    assert torch.allclose(losses["loss"], cross_entropy + 3 * apart, rtol=1e-12)
    weights = list(model.parameters())
    ours = torch.autograd.grad(losses["loss"].sum(), weights)
    theirs = torch.autograd.grad((cross_entropy + 3 * apart).sum(), weights)
    assert all(
        torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(ours, theirs, strict=True)
    )


def test_unknown_points_for_consistency():
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.r_[0, 1, np.full(18, -1)]
    with pytest.raises(ValueError, match="consistency_on 'both'; expected unlabelled or all"):
        pi_model(consistency_on="both").fit(X, y)
