"""The literal image model, and equality of the stacked one with it."""

import pytest
import torch

from flowgmm.reference_image import (
    CheckerboardCoupling,
    Logit,
    ReferenceImageFlow,
    ReferenceImageFlowGMM,
    Squeeze,
    dequantise,
)

ARCHITECTURES = ("multi_scale", "mnist_small")


def make_reference(architecture="multi_scale", n_channels=1, side=4, seed=0):
    """A tiny float64 flow, its running statistics and gains moved away from where they start."""
    torch.manual_seed(seed)
    flow = ReferenceImageFlow(n_channels, side, 4, 1, architecture).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        for _ in range(5):
            flow(images(16, n_channels, side))
    return flow.eval()


def images(n, n_channels=1, side=4):
    """Dequantised noise, float64."""
    shape = (n, n_channels, side, side)
    return dequantise(torch.randint(0, 256, shape), torch.rand(shape, dtype=torch.float64))


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_det_is_that_of_the_jacobian(architecture, n_channels):
    flow, x = make_reference(architecture, n_channels), images(2, n_channels)
    z, log_det = flow(x)
    for i in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], x[i])
        expected = torch.linalg.slogdet(jacobian.reshape(z.shape[1], z.shape[1]))[1]
        assert log_det[i].item() == pytest.approx(expected.item(), abs=1e-8)
    assert (flow.inverse(z) - x).abs().max() < 1e-5


@pytest.mark.parametrize(("n_channels", "side", "millions"), [(3, 32, 19.63), (1, 28, 19.55)])
def test_size_of_the_published_model(n_channels, side, millions):
    flow = ReferenceImageFlow(n_channels, side)
    n_parameters = sum(p.numel() for p in flow.parameters())
    assert round(n_parameters / 1e6, 2) == millions
    tiny = ReferenceImageFlow(n_channels, side, n_filters=2, n_blocks=1)
    n_latent = tiny(torch.full((2, n_channels, side, side), 0.5))[0].shape[1]
    assert n_latent == n_channels * side**2


def test_masks_and_order_of_channels():
    """Pixels with i + j even are changed first; channel 4c + 2di + dj after a squeeze."""
    coupling = CheckerboardCoupling(1, 4, 4, 1, reverse=False)
    x = torch.rand(2, 1, 4, 4)
    changed = (coupling(x)[0] != x).all(1)
    i = torch.arange(4)
    assert (changed == ((i[:, None] + i) % 2 == 0)).all()
    x = torch.rand(1, 3, 4, 4)
    for c, di, dj in ((0, 0, 1), (1, 1, 0), (2, 1, 1)):
        assert (Squeeze()(x)[0][0, 4 * c + 2 * di + dj] == x[0, c, di::2, dj::2]).all()


def test_logit_is_inverted_exactly():
    x = torch.linspace(0, 1, 257, dtype=torch.float64).reshape(1, 1, 1, 257)
    v, _ = Logit()(x)
    assert (Logit().inverse(v) - x).abs().max() < 1e-14
    assert v[0, 0, 0, 0].sigmoid().item() == pytest.approx(0.05)


@pytest.mark.parametrize("degrees", [None, 5.0])
def test_em_has_the_gradient_of_the_likelihood(degrees):
    """Fisher's identity: one M-step after one E-step is a step on -log p(x)."""
    mixture = (torch.randn(3, 16).double(), torch.ones(3).double(), torch.full((3,), 1 / 3))
    model = ReferenceImageFlowGMM(make_reference(), *mixture, degrees=degrees).train()
    x, unlabelled = images(8), torch.full((8,), -1)
    direct = -torch.logsumexp(model.log_prob_of_classes(x) + model.weights.log(), 1).mean()
    parameters = list(model.parameters())
    expected = torch.autograd.grad(direct, parameters)
    em = torch.autograd.grad(model.em_loss(x, unlabelled), parameters)
    for one, other in zip(em, expected, strict=True):
        assert (one - other).abs().max() < 1e-10
