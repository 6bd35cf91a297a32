"""The image flow: properties of every architecture and shape, and of every stack."""

from itertools import product

import pytest
import torch

from flowgmm.flows.multiscale import ChannelWise, Checkerboard, ImageFlow, Squeeze
from flowgmm.flows.residual_net import ResidualNet
from flowgmm.flows.rng import Stream

SEEDS = (3, 4)


def make_flow(shape, architecture="multi_scale", seeds=SEEDS, zero_init=False, n_blocks=1):
    """A float64 flow in evaluation, far from its start, with batch norms that have seen data."""
    flow = ImageFlow(shape, 4, n_blocks, Stream(seeds), architecture, zero_init).double()
    noise = Stream(seeds)
    with torch.no_grad():
        for i, parameter in enumerate(flow.parameters()):
            parameter += 0.1 * noise.at(i).normal(parameter.shape[1:], torch.float64)
        flow(images(shape, n=20, seeds=seeds))
    return flow.eval()


def images(shape, n=4, seeds=SEEDS):
    return Stream(seeds).at(99).uniform((n, *shape), torch.float64)


FLOWS = [
    {"shape": (1, 4, 4), "architecture": "multi_scale", "zero_init": True},
    {"shape": (1, 4, 4), "architecture": "multi_scale", "zero_init": False},
    {"shape": (3, 4, 6), "architecture": "multi_scale", "zero_init": False},
    {"shape": (1, 8, 8), "architecture": "mnist_small", "zero_init": False},
    {"shape": (2, 4, 8), "architecture": "mnist_small", "zero_init": True},
    {"shape": (1, 4, 8), "architecture": "squeezed", "zero_init": False},
    {"shape": (3, 4, 4), "architecture": "squeezed", "zero_init": True},
]


@pytest.mark.parametrize("options", FLOWS, ids=str)
class TestEveryImageFlow:
    def test_inverse(self, options):
        flow, x = make_flow(**options), images(options["shape"])
        z, log_det = flow(x)
        back, log_det_back = flow.inverse(z)
        assert z.shape == (2, 4, flow.n_features)
        assert (back - x).abs().max() <= 1e-10
        assert (log_det + log_det_back).abs().max() <= 1e-8

    def test_log_det_is_that_of_the_jacobian(self, options):
        flow, x = make_flow(**options), images(options["shape"], n=2)
        log_det = flow(x)[1]
        for s, b in product(range(2), range(2)):

            def one(value, s=s, b=b):
                full = x.clone()
                full[s, b] = value
                return flow(full)[0][s, b]

            jacobian = torch.autograd.functional.jacobian(one, x[s, b]).flatten(1)
            assert torch.linalg.slogdet(jacobian)[1] == pytest.approx(log_det[s, b].item(), 1e-10)

    def test_every_parameter_gets_a_gradient(self, options):
        flow, x = make_flow(**options).train(), images(options["shape"], n=20)
        z, log_det = flow(x)
        (z.square().sum() - log_det.sum()).backward()
        for name, parameter in flow.named_parameters():
            assert (parameter.grad.flatten(1).norm(dim=1) > 0).all(), name

    def test_any_layer_can_be_left_and_entered(self, options):
        flow, x = make_flow(**options), images(options["shape"])
        for layer in range(len(flow.steps) + 1):
            h, factored, _ = flow.run(x, layer)
            assert h.shape == (4, 2, *flow.shapes[layer])
            assert (flow.back(h, factored, layer)[0] - x).abs().max() <= 1e-10


@pytest.mark.parametrize(
    ("shape", "n_blocks", "architecture", "n_parameters", "n_latent"),
    [
        ((3, 32, 32), 8, "multi_scale", 19.63e6, 3072),
        ((1, 28, 28), 8, "multi_scale", 19.55e6, 784),
        ((1, 28, 28), 4, "mnist_small", 5.14e6, 784),
    ],
)
def test_papers_sizes(shape, n_blocks, architecture, n_parameters, n_latent):
    """Spec 1.3 has the first two counts; that of `mnist_small` is 16 conditioners' by hand."""
    flow = ImageFlow(shape, 64, n_blocks, Stream([0]), architecture)
    assert sum(p.numel() for p in flow.parameters()) == pytest.approx(n_parameters, abs=5e3)
    assert flow.n_features == n_latent


def test_steps_and_shapes_are_those_of_the_paper():
    flow = ImageFlow((3, 32, 32), 2, 1, Stream([0]))
    assert flow.shapes[0] == flow.shapes[3] == (3, 32, 32)
    assert flow.shapes[4] == flow.shapes[7] == (12, 16, 16)
    assert flow.shapes[8] == flow.shapes[12] == (6, 16, 16)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_checkerboard_changes_every_other_pixel(is_reversed):
    net = {"width": 3, "n_blocks": 1, "initialisation": Stream(SEEDS), "zero_init": False}
    coupling = Checkerboard(1, (4, 4), is_reversed, **net).eval()
    x = torch.rand(2, 2, 1, 4, 4)
    changed = (coupling(x)[0] != x).all(dim=(0, 1, 2))
    i, j = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    assert torch.equal(changed, (i + j) % 2 == int(is_reversed))


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_channel_coupling_changes_one_half(is_reversed):
    net = ResidualNet(2, 3, 1, False, Stream(SEEDS), zero_init=False)
    coupling = ChannelWise(net, is_reversed).eval()
    x = torch.rand(2, 2, 4, 2, 2)
    changed = (coupling(x)[0] != x).all(dim=(0, 1, 3, 4)).tolist()
    assert changed == ([False, False, True, True] if is_reversed else [True, True, False, False])


def test_a_dense_coupling_sees_the_whole_image():
    """One pixel that stays moves numbers of every part of the half that changes."""
    flow, x = make_flow((1, 8, 8), "squeezed"), images((1, 8, 8), n=1)
    first = flow.shapes.index((64, 1, 1))
    h = flow.run(x, first)[0]
    moved = h.clone()
    moved[:, :, 40] += 1.0
    change = (flow.steps[first](moved)[0] - flow.steps[first](h)[0]).abs()[0, :, :32]
    assert (change > 0).all()


def test_squeeze_order():
    """Channel c * 4 + 2 * di + dj holds the pixels (2i + di, 2j + dj) of channel c."""
    x = torch.rand(2, 3, 2, 4, 6)
    y, _ = Squeeze()(x)
    for c, di, dj in product(range(2), range(2), range(2)):
        assert torch.equal(y[:, :, c * 4 + 2 * di + dj], x[:, :, c, di::2, dj::2])


@pytest.mark.parametrize("architecture", ["multi_scale", "squeezed"])
def test_one_stack_is_its_seeds_alone(architecture):
    shape = (2, 4, 4)
    stack = make_flow(shape, architecture, seeds=(3, 4, 11)).train()
    x = images(shape, n=6, seeds=(3, 4, 11))
    z, log_det = stack(x)
    for s, seed in enumerate((3, 4, 11)):
        alone = make_flow(shape, architecture, seeds=(seed,)).train()
        z_alone, log_det_alone = alone(x[s : s + 1])
        assert (z_alone[0] - z[s]).abs().max() <= 1e-10
        assert (log_det_alone[0] - log_det[s]).abs().max() <= 1e-8
        for name, value in alone.state_dict().items():
            assert torch.allclose(value[0], stack.state_dict()[name][s], 1e-10, 1e-12), name


def test_zero_init_leaves_the_logit():
    flow = ImageFlow((1, 4, 4), 4, 1, Stream([0]), zero_init=True)
    x = images((1, 4, 4), seeds=(0,)).float()
    expected = torch.logit(((2 * x - 1) * 0.9 + 1) / 2).flatten(2)
    assert torch.allclose(flow(x)[0].sort(-1).values, expected.sort(-1).values, atol=1e-5)


def test_measured_spread_is_that_of_the_features():
    flow, x = make_flow((2, 4, 4)), images((2, 4, 4), n=10)
    flow.measure([x[:, :7], x[:, 7:]])
    for layer in (1, 4, 7, 12):
        h = flow.run(x, layer)[0]
        expected = h.transpose(0, 1).transpose(1, 2).flatten(2).std(-1, correction=0)
        assert torch.allclose(flow.spreads()[layer], expected, 1e-9)


def test_bfloat16_keeps_log_dets_in_float32():
    flow = ImageFlow((1, 8, 8), 8, 1, Stream(SEEDS))
    x = images((1, 8, 8), n=16).float()
    exact, log_det = flow(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, log_det_bf16 = flow(x)
    assert z.dtype == log_det_bf16.dtype == torch.float32
    assert 0 < (z - exact).abs().mean() < 0.05
    assert (log_det_bf16 - log_det).abs().max() < 2


@pytest.mark.parametrize(
    ("shape", "architecture", "message"),
    [
        ((1, 7, 8), "multi_scale", "images of 7 x 8 pixels cannot be halved 1 times"),
        ((1, 6, 6), "squeezed", "images of 6 x 6 pixels cannot be halved 2 times"),
        ((1, 6, 6), "mnist_small", "images of 6 x 6 pixels cannot be halved 2 times"),
        ((1, 8, 8), "glow", "unknown architecture 'glow'; expected one of multi_scale"),
    ],
)
def test_impossible_flows(shape, architecture, message):
    with pytest.raises(ValueError, match=message):
        ImageFlow(shape, 4, 1, Stream([0]), architecture)
