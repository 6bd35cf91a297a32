"""Formulas of the authors' code that differ from the plain ones, written out (spec, D47 to D50)."""

import math

import numpy as np
import pytest
import torch
from estimators import flow_gmm
from torch import nn

from flowgmm.flows.rng import Stream
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
