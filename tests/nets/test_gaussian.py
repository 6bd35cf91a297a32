"""Gaussian heads and perceptrons of several inputs."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from flowgmm.flows.rng import Stream
from flowgmm.nets.gaussian import (
    MOST_LOG_VAR,
    Gaussian,
    Linear,
    Perceptron,
    bernoulli_log_prob,
    gaussian,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gaussian_is_pytorchs():
    ours, x = Gaussian(draw(2, 5, 3), draw(2, 5, 3, seed=1)), draw(2, 5, 3, seed=2)
    normal = Normal(ours.mean, (0.5 * ours.log_var).exp())
    torch.testing.assert_close(ours.log_prob(x), normal.log_prob(x).sum(-1))
    standard = Normal(torch.zeros(3).double(), torch.ones(3).double())
    torch.testing.assert_close(ours.kl(), kl_divergence(normal, standard))
    torch.testing.assert_close(ours.sample(x), normal.mean + normal.stddev * x)


def test_log_variances_are_clamped():
    head = torch.tensor([[[0.0, 1e3], [0.0, -1e3]]])
    assert gaussian(head).log_var.flatten().tolist() == [MOST_LOG_VAR, -MOST_LOG_VAR]
    assert torch.isfinite(gaussian(head).log_prob(torch.ones(1, 2, 1))).all()


def test_bernoulli_is_pytorchs_and_linear_in_grey_pixels():
    logits = draw(4, 6)
    black_and_white = (draw(4, 6, seed=1) > 0).double()
    expected = Bernoulli(logits=logits).log_prob(black_and_white).sum(-1)
    torch.testing.assert_close(bernoulli_log_prob(black_and_white, logits), expected)
    ones, zeros = torch.ones(4, 6).double(), torch.zeros(4, 6).double()
    both = 0.3 * bernoulli_log_prob(ones, logits) + 0.7 * bernoulli_log_prob(zeros, logits)
    torch.testing.assert_close(bernoulli_log_prob(0.3 * ones, logits), both)


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_inputs_broadcast_as_if_repeated(activation):
    net = Perceptron([3, 4], [8, 8], 5, Stream([0, 1]), activation, gain=2.0).double()
    points, classes = draw(2, 6, 1, 3), draw(2, 1, 4, 4, seed=1)
    found = net(points, classes)
    assert found.shape == (2, 6, 4, 5)
    repeated = net(points.expand(2, 6, 4, 3), classes.expand(2, 6, 4, 4))
    torch.testing.assert_close(found, repeated)
    # The first layer is that of the inputs side by side.
    joined = Perceptron([7], [8, 8], 5, Stream([0, 1]), activation, gain=2.0).double()
    joined.load_state_dict(
        {
            name: value
            for name, value in net.state_dict().items()
            if not name.startswith("inputs.1") and name != "inputs.0.weight"
        }
        | {"inputs.0.weight": torch.cat([layer.weight for layer in net.inputs], dim=1)}
    )
    both = torch.cat([points.expand(2, 6, 4, 3), classes.expand(2, 6, 4, 4)], dim=-1)
    torch.testing.assert_close(found, joined(both))


def test_a_member_of_a_stack_is_the_network_of_its_seed():
    stack, alone = (Perceptron([3], [8], 2, Stream(seeds), gain=1.0) for seeds in ([3, 4], [4]))
    x = draw(1, 5, 3).float()
    torch.testing.assert_close(stack(x.expand(2, 5, 3))[1:], alone(x))


@pytest.mark.parametrize(("gain", "std"), [(None, 1e-3), (1.0, 0.05), (2.0, 0.1)])
def test_initial_weights(gain, std):
    """Glorot and Bengio's variance 2 / (400 + 400), times the square of the gain."""
    net = Perceptron([400], [400], 400, Stream([0]), gain=gain)
    assert net.inputs[0].weight.std().item() == pytest.approx(std, rel=0.02)
    assert net.head.weight.std().item() == pytest.approx(1e-3, rel=0.02)


def test_a_map_without_bias_is_linear():
    linear = Linear(3, 2, Stream([0]), std=1.0, bias=False).double()
    torch.testing.assert_close(linear(draw(1, 4, 3) * 2), linear(draw(1, 4, 3)) * 2)
    assert [name for name, _ in linear.named_parameters()] == ["weight"]
