"""Convolutional networks: layers against PyTorch's, initialisation by data, stacks."""

import pytest
import torch
from torch.nn import functional

from flowgmm.flows.residual_net import Conv
from flowgmm.flows.rng import Stream
from flowgmm.nets.adversarial import Discriminator, Encoder, Generator
from flowgmm.nets.layers import (
    MeanOnlyNorm,
    TransposedConv,
    dropped,
    from_groups,
    initialise,
    to_groups,
)
from flowgmm.nets.mean_only import MeanOnlyNet

SHAPE = (3, 16, 16)


def images(n_seeds=2, n=6, shape=SHAPE):
    return torch.randn(n_seeds, n, *shape, generator=torch.Generator().manual_seed(0)).double()


def net(*seeds, shape=SHAPE, momentum=0.9):
    return MeanOnlyNet(shape, 5, 8, 0.5, momentum, Stream(seeds)).double()


def discriminator(*seeds, shape=SHAPE, whole=True):
    return Discriminator(shape, 5, 8, (0.15, 0.5), whole, Stream(seeds)).double()


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_groups_there_and_back(seeds):
    x = images(len(seeds))
    assert torch.equal(from_groups(to_groups(x), len(seeds)), x)


@pytest.mark.parametrize("normalised", [False, True])
def test_transposed_convolution_is_pytorchs(normalised):
    """Each seed against the layer of one seed, and the gradient of a convolution of stride 2."""
    layer = TransposedConv(3, 4, Stream([0, 1]), normalised).double()
    x = images(2, 5, (3, 4, 6))
    out = from_groups(layer(to_groups(x)), 2)
    assert out.shape == (2, 5, 4, 8, 12)
    for s in range(2):
        weight = layer.direction[s]
        if normalised:
            weight = weight / weight.flatten(2).norm(dim=(0, 2))[:, None, None]
        expected = functional.conv_transpose2d(x[s], weight, None, 2, 2, 1)
        torch.testing.assert_close(out[s], expected)


def test_mean_only_norm_centres_a_batch_and_then_by_running_means():
    norm = MeanOnlyNorm(3, 2, momentum=0.75).double()
    x = images(2, 50) + 3
    out = norm(to_groups(x))
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(6).double())
    # Its scale stays.
    torch.testing.assert_close(out.std((0, 2, 3)), to_groups(x).std((0, 2, 3)))
    mean = x.mean((1, 3, 4))
    torch.testing.assert_close(norm.mean, 0.25 * mean)
    norm(to_groups(x), track=False)
    torch.testing.assert_close(norm.mean, 0.25 * mean)
    norm.eval()
    expected = to_groups(x) - 0.25 * mean.flatten()[:, None, None]
    torch.testing.assert_close(norm(to_groups(x)), expected)
    torch.testing.assert_close(norm.mean, 0.25 * mean)


@pytest.mark.parametrize("whole", [False, True])
def test_dropout_keeps_the_mean_and_drops_channels_whole(whole):
    x = to_groups(torch.ones(2, 400, 3, 2, 2))
    out = dropped(x, 0.25, Stream([0, 1]), 2, whole)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert (out == out[:, :, :1, :1]).all() == whole
    assert torch.equal(dropped(x, 0.25, None, 2, whole), x)


def outputs(network, layers, *inputs):
    """Outputs of each of the layers while the network is called."""
    found = {}
    handles = [
        layer.register_forward_hook(lambda layer, args, out: found.update({layer: out.clone()}))
        for layer in layers
    ]
    network(*inputs)
    for handle in handles:
        handle.remove()
    return found


def test_outputs_have_unit_variance_after_initialisation():
    model = net(0, 1)
    x = images(2, 40)
    initialise(model, x, None, False)
    convs = [layer for layer in model.modules() if isinstance(layer, Conv)]
    assert len(convs) == 10
    for out in outputs(model, convs, x, None, False).values():
        assert (out.var((0, 2, 3), correction=0) - 1).abs().max() < 1e-3
    assert not any(norm.mean.any() for norm in model.modules() if isinstance(norm, MeanOnlyNorm))


def test_initialisation_sets_biases_and_the_last_layers_smaller_scale():
    model = discriminator(0, 1)
    x = images(2, 40)
    initialise(model, x, last=model.last)
    convs = [layer for layer in model.modules() if isinstance(layer, Conv)]
    for layer, out in outputs(model, convs, x).items():
        std = 0.1 if layer is model.last else 1.0
        assert out.mean((0, 2, 3)).abs().max() < 1e-9
        assert (out.std((0, 2, 3), correction=0) / std - 1).abs().max() < 1e-2


def test_only_the_last_gains_of_the_discriminator_are_trained():
    trained = {name for name, p in discriminator(0).named_parameters() if p.requires_grad}
    assert {name for name in trained if name.endswith("gain")} == {"last.gain"}


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 7, 7), (3, 8, 8), (1, 14, 14), (3, 32, 32)])
def test_every_size_of_image(shape):
    x = images(2, 2, shape)
    assert net(0, 1, shape=shape)(x).shape == (2, 2, 5)
    assert discriminator(0, 1, shape=shape)(x).shape == (2, 2, 5)
    made = Generator(shape, 10, 4, Stream([0, 1])).double()(torch.rand(2, 2, 10).double())
    assert made.shape == x.shape and (made.abs() < 1).all()
    assert Encoder(shape, 10, 4, Stream([0, 1])).double()(x).shape == (2, 2, 2, 10)


def test_sizes_as_published():
    """3.1 million parameters of the Pi-model's network, and 8 x 8 to 6 x 6 without padding."""
    model = MeanOnlyNet((3, 32, 32), 10, 128, 0.5, 0.999, Stream([0]))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(3.1e6, rel=0.02)
    third = model.blocks[2][0]
    assert third(torch.zeros(1, 256, 8, 8), True).shape == (1, 512, 6, 6)
    with pytest.raises(ValueError, match="images of 3 x 3 pixels are too small"):
        MeanOnlyNet((1, 3, 3), 10, 8, 0.5, 0.9, Stream([0]))


@pytest.mark.parametrize("make", [net, discriminator])
def test_a_stack_is_its_seeds_alone(make):
    x = images()
    both = make(4, 7)(x, Stream([2, 3]))
    for s, seed in enumerate((4, 7)):
        alone = make(seed)(x[s : s + 1], Stream([2 + s]))
        torch.testing.assert_close(both[s : s + 1], alone)


def test_a_stack_of_generators_is_its_seeds_alone():
    noise = torch.rand(2, 6, 10).double()
    both = Generator(SHAPE, 10, 4, Stream([4, 7])).double()(noise)
    for s, seed in enumerate((4, 7)):
        alone = Generator(SHAPE, 10, 4, Stream([seed])).double()(noise[s : s + 1])
        torch.testing.assert_close(both[s : s + 1], alone)
