"""Formulas of the authors' code that differ from the plain ones, written out (spec, D47 to D50)."""

import math

import pytest
import torch
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
