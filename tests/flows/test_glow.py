"""Layers of Glow: log-dets against Jacobians, inverses, initialisation from data, seeds apart."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from flowgmm.flows.glow import (
    ActNorm,
    ClassEmbedding,
    Composition,
    DoubleCoupling,
    LeakyMLP,
    Mixing,
    ResidualMLP,
    initialise,
)
from flowgmm.flows.rng import Stream

SEEDS = (3, 4, 11)
N_CONTEXT = 4


def make_layer(name: str, n: int, seeds: tuple[int, ...] = SEEDS) -> nn.Module:
    """A layer for n features in float64, whose parameters have left their initial values."""
    stream = Stream(seeds)
    makers: dict[str, Callable[[], nn.Module]] = {
        "act_norm": lambda: ActNorm(n, len(seeds)),
        "mixing": lambda: Mixing(n, len(seeds)),
        "coupling": lambda: DoubleCoupling(n, lambda i, o: LeakyMLP(i, o, 16, stream)),
        "conditional": lambda: DoubleCoupling(
            n, lambda i, o: ResidualMLP(i, o, 16, 2, stream), N_CONTEXT
        ),
        "composition": lambda: Composition(
            make_layer(part, n, seeds) for part in ("act_norm", "mixing", "conditional", "act_norm")
        ),
    }
    layer = makers[name]().double()
    with torch.no_grad():
        for i, parameter in enumerate(layer.parameters()):
            parameter += 0.2 * Stream(seeds).at(i).normal(parameter.shape[1:], torch.float64)
    return layer


LAYERS = ("act_norm", "mixing", "coupling", "conditional", "composition")


def given(n: int, n_points: int = 6, step: int = 99) -> tuple[Tensor, Tensor]:
    """Points, shape (S, B, n), and their context."""
    x = Stream(SEEDS).at(step).normal((n_points, n), torch.float64)
    return x, Stream(SEEDS).at(step + 1).normal((n_points, N_CONTEXT), torch.float64)


def call(layer: nn.Module, name: str, x: Tensor, context: Tensor, back: bool = False):
    context = context if name in ("conditional", "composition") else None
    return layer.inverse(x, context) if back else layer(x, context)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("name", LAYERS)
class TestEveryLayer:
    def test_inverse(self, name, n):
        layer, (x, context) = make_layer(name, n), given(n)
        y, log_det = call(layer, name, x, context)
        back, log_det_back = call(layer, name, y, context, back=True)
        assert (y - x).abs().max() > 0.1
        assert (back - x).abs().max() <= 1e-10
        assert (log_det + log_det_back).abs().max() <= 1e-10

    def test_log_det_is_that_of_the_jacobian(self, name, n):
        layer, (x, context) = make_layer(name, n), given(n)
        log_det = call(layer, name, x, context)[1]
        assert log_det.shape == x.shape[:2]
        for s in range(len(SEEDS)):
            for b in range(x.shape[1]):

                def one(value, s=s, b=b):
                    full = x.clone()
                    full[s, b] = value
                    return call(layer, name, full, context)[0][s, b]

                jacobian = torch.autograd.functional.jacobian(one, x[s, b])
                assert abs(torch.linalg.slogdet(jacobian)[1] - log_det[s, b]) <= 1e-10

    def test_every_parameter_gets_a_gradient(self, name, n):
        layer, (x, context) = make_layer(name, n), given(n, 50)
        y, log_det = call(layer, name, x, context)
        (y.square().sum() - log_det.sum()).backward()
        for path, parameter in layer.named_parameters():
            assert (parameter.grad.flatten(1).norm(dim=1) > 0).all(), path

    def test_a_stack_is_its_seeds_alone(self, name, n):
        layer, (x, context) = make_layer(name, n), given(n)
        y, log_det = call(layer, name, x, context)
        for s, seed in enumerate(SEEDS):
            alone = make_layer(name, n, (seed,))
            mine = call(alone, name, x[s : s + 1], context[s : s + 1])
            assert torch.allclose(mine[0][0], y[s], rtol=1e-12, atol=1e-12)
            assert torch.allclose(mine[1][0], log_det[s], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["act_norm", "mixing"])
def test_pixels_count_in_the_log_det(name):
    """Pixels, channels last, are mapped alike, and the log-det is of all of an image."""
    layer, (pixels, _) = make_layer(name, 3), given(3, 5 * 8)
    y, log_det = layer(pixels)
    images = pixels.view(3, 5, 4, 2, 3)
    y_images, log_det_images = layer(images)
    assert torch.equal(y_images.view_as(y), y)
    assert torch.allclose(log_det_images, log_det.view(3, 5, 8).sum(-1))
    assert torch.allclose(layer.inverse(y_images)[0], images)


def test_couplings_start_near_the_identity_and_scales_stay_below_one():
    """Networks that end in zeros give the scale sigmoid(2) + 1e-6 and no shift."""
    coupling = DoubleCoupling(4, lambda i, o: ResidualMLP(i, o, 8, 1, Stream(SEEDS))).double()
    x, _ = given(4)
    y, log_det = coupling(x)
    scale = torch.sigmoid(torch.tensor(2.0, dtype=torch.float64)) + 1e-6
    assert torch.allclose(y, scale * x, rtol=1e-12)
    assert torch.allclose(log_det, 4 * scale.log().expand_as(log_det))
    assert (make_layer("coupling", 4)(10 * x)[1] < 0).all()


def test_the_second_half_sees_the_changed_first():
    coupling = make_layer("coupling", 4)
    x, _ = given(4)
    y, _ = coupling(x)
    scale, shift = coupling._scale_and_shift(1, y[..., :2], None)
    assert torch.allclose(y[..., 2:], (x[..., 2:] + shift) * scale)


def test_mixing_starts_as_the_identity():
    x, _ = given(3)
    y, log_det = Mixing(3, 3).double()(x)
    assert torch.equal(y, x)
    assert not log_det.any()


@pytest.mark.parametrize("shape", [(64,), (8, 2, 4)], ids=["points", "images"])
def test_act_norm_gives_every_seed_and_channel_mean_0_and_std_1(shape):
    norm = ActNorm(3, 3).double()
    x = 5 * Stream(SEEDS).at(1).normal((*shape, 3), torch.float64).square() + 7
    norm.fit_to(x)
    y = norm(x)[0].flatten(1, -2)
    assert y.mean(1).abs().max() < 1e-10
    assert (y.std(1, correction=0) - 1).abs().max() < 1e-5


def test_initialisation_sees_what_the_layers_before_make_of_the_data():
    """Every ActNorm, the ones inside networks too, is fitted to its own input, once."""
    stream = Stream(SEEDS)
    norms = [ActNorm(2, 3), ActNorm(2, 3)]
    coupling = DoubleCoupling(2, lambda i, o: ResidualMLP(i, o, 8, 1, stream))
    model = Composition([Mixing(2, 3), norms[0], coupling, norms[1]]).double()
    x = 3 * given(2, 200)[0] + 4
    initialise(model, lambda: model(x))
    seen = []
    for module in model.modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda module, inputs, result: seen.append(result[0]))
    model(x)
    assert len(seen) == 4
    for y in seen:
        assert y.mean(1).abs().max() < 1e-10
        spread = y.std(1, correction=0)
        # A ReLU's neuron may be off for all points: such a channel stays constant.
        assert ((spread - 1).abs() < 1e-4).double().mean() > 0.9
    before = [parameter.clone() for parameter in model.parameters()]
    model(2 * x)
    assert all(map(torch.equal, before, model.parameters()))


def test_class_embedding_starts_one_hot():
    embedding = ClassEmbedding(3, 5, 2)
    classes = torch.tensor([[0, 2, 1], [1, 1, 0]])
    assert torch.equal(embedding(classes), nn.functional.one_hot(classes, 5).float())
    with pytest.raises(ValueError, match="at least 3 features for as many classes, got 2"):
        ClassEmbedding(3, 2, 1)


def test_a_coupling_needs_two_features():
    with pytest.raises(ValueError, match=r"needs at least 2 features .*got 1 feature\(s\)"):
        make_layer("coupling", 1)
