"""The literal image model, and equality of the stacked one with it."""

import math

import pytest
import torch
from estimators import flow_gmm
from steps import losses_at, points_at

from flowgmm.flows.mixture import StackedMixture, fixed_means
from flowgmm.flows.multiscale import ImageFlow
from flowgmm.flows.reference.multiscale import (
    CheckerboardCoupling,
    Logit,
    ReferenceImageFlow,
    ReferenceImageFlowGMM,
    Squeeze,
    dequantise,
)
from flowgmm.flows.rng import Stream
from flowgmm.methods.base import ON_DEVICE
from flowgmm.methods.flow_gmm import FlowGMM
from flowgmm.training.batches import Batches
from flowgmm.training.loop import TrainingOptions, train

# Architecture, channels, side: the sides are the smallest of which both checkerboards change some.
SHAPES = [("multi_scale", 1, 4), ("multi_scale", 3, 4), ("mnist_small", 2, 8)]
SEEDS = (3, 11)
N_CLASSES = 3
# Objective (c) of spec 1.6 in the estimator's words.
OBJECTIVE = {
    "labelled_nll": "mixture",
    "pooled_loss": True,
    "label_weight": 3.0,
    "consistency_weight": 0.7,
    "consistency_target": "joint",
    "balance_weight": 0.0,
    "crop_padding": 1,
    "flip": True,
    "precision": "fp64",
}


def pixels(n, n_channels=1, side=4):
    """Random images, uint8."""
    return (
        Stream([0])
        .at(1)
        .integers(256, n * n_channels * side**2)[0]
        .to(torch.uint8)
        .reshape(n, n_channels, side, side)
    )


def images(n, n_channels=1, side=4):
    """Dequantised noise, float64."""
    x = pixels(n, n_channels, side)
    return dequantise(x, Stream([0]).at(2).uniform(x.shape, torch.float64)[0])


def make_stack(
    architecture="multi_scale", n_channels=1, side=4, n_blocks=2, seeds=SEEDS, **mixture
):
    """A tiny float64 stack, its running statistics and gains moved away from where they start."""
    flow = ImageFlow((n_channels, side, side), 3, n_blocks, Stream(seeds), architecture).double()
    noise = Stream(seeds)
    with torch.no_grad():
        for i, parameter in enumerate(flow.parameters()):
            parameter += 0.2 * noise.at(i).normal(parameter.shape[1:], torch.float64)
        for _ in range(3):
            flow(images(16, n_channels, side).expand(len(seeds), -1, -1, -1, -1))
    means = fixed_means("random", N_CLASSES, flow.n_features, 1.0, Stream(seeds)).double()
    weights = [0.5, 0.3, 0.2]
    return FlowGMM(flow, StackedMixture(means, std=1.3, weights=weights, **mixture))


def references(model):
    n_seeds = len(model.mixture.means)
    return [ReferenceImageFlowGMM.from_stack(model.flow, model.mixture, s) for s in range(n_seeds)]


def make_batches(n_channels=1, side=4, n=24, seeds=SEEDS):
    labelled = Stream(seeds).at(2).permutation(n)[:, :9]
    classes = torch.arange(9).expand(len(seeds), 9) % N_CLASSES
    unlabelled = torch.arange(n).expand(len(seeds), n)
    x = pixels(n, n_channels, side)
    return Batches(x, labelled, classes, unlabelled, 5, 6, "replacement", Stream(seeds))


def make_streams(seeds=SEEDS):
    return {name: Stream([s + 1 for s in seeds]) for name in ON_DEVICE}


def views(method, batches, step, seeds=SEEDS):
    """Points of a step of the stack: x'' first, then x', and classes, -1 where unlabelled."""
    x, y, unlabelled = points_at(batches, step)
    x = torch.cat([x, unlabelled], dim=1)
    y = torch.cat([y, torch.full(unlabelled.shape[:2], -1)], dim=1)
    streams = {name: stream.at(step) for name, stream in make_streams(seeds).items()}
    second, first = (method._view(x, torch.float64, 0.0, streams) for _ in range(2))
    return first, second, y


# -- the literal model ---------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "n_channels", "side"), SHAPES)
def test_log_det_is_that_of_the_jacobian(architecture, n_channels, side):
    model = references(make_stack(architecture, n_channels, side, n_blocks=1).eval())[0]
    x = images(2, n_channels, side)
    z, log_det = model.flow(x)
    for i in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(lambda v: model.flow(v[None])[0][0], x[i])
        expected = torch.linalg.slogdet(jacobian.reshape(z.shape[1], z.shape[1]))[1]
        assert log_det[i].item() == pytest.approx(expected.item(), abs=1e-8)
    assert (model.flow.inverse(z) - x).abs().max() < 1e-5


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


@pytest.mark.parametrize("student_t", [None, 5.0])
def test_em_has_the_gradient_of_the_likelihood(student_t):
    """Fisher's identity: one M-step after one E-step is a step on -log p(x)."""
    model = references(make_stack(student_t=student_t))[0]
    x, unlabelled = images(8), torch.full((8,), -1)
    direct = -torch.logsumexp(model.log_prob_of_classes(x) + model.weights.log(), 1).mean()
    parameters = list(model.parameters())
    expected = torch.autograd.grad(direct, parameters)
    em = torch.autograd.grad(model.em_loss(x, unlabelled), parameters)
    for one, other in zip(em, expected, strict=True):
        assert (one - other).abs().max() < 1e-10


# -- the stacked model against it ----------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("architecture", "n_channels", "side"), SHAPES)
def test_codes_and_log_dets(architecture, n_channels, side, training):
    model = make_stack(architecture, n_channels, side).train(training)
    literal = references(model)
    x = torch.stack([images(12, n_channels, side)[s::2] for s in range(2)])
    z, log_det = model.flow(x)
    assert not torch.allclose(z[0], z[1], atol=0.1)
    for s, reference in enumerate(literal):
        for ours, theirs in zip((z[s], log_det[s]), reference.flow(x[s]), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
        for theirs, ours in reference.flow.counterparts(model.flow):  # running statistics, too
            assert torch.allclose(ours[s].view_as(theirs), theirs, rtol=1e-10, atol=1e-12)
    if not training:
        back, _ = model.flow.inverse(z)
        assert torch.allclose(back[0], literal[0].flow.inverse(z[0]), atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "seeds", "student_t"),
    [(SHAPES[0], SEEDS, 5.0), (SHAPES[1], SEEDS[:1], None), (SHAPES[2], SEEDS, None)],
)
def test_loss_and_gradients(shape, seeds, student_t):
    """Objective (c), with a second view whose classes are guessed in training mode."""
    model = make_stack(*shape, seeds=seeds, student_t=student_t)
    literal = references(model)
    method, batches = flow_gmm(**OBJECTIVE), make_batches(*shape[1:], seeds=seeds)
    losses = losses_at(method, model, batches, make_streams(seeds), 4, 10)["loss"]
    losses.sum().backward()
    first, second, y = views(method, batches, 4, seeds)
    assert (first != second).flatten(2).any(-1).all()
    log_256 = model.flow.n_features * math.log(256)
    for s, reference in enumerate(literal):
        loss = reference.loss(first[s], second[s], y[s], 3.0, 0.7)
        # The stack leaves out the constant of the 256 levels.
        assert losses[s].item() == pytest.approx(loss.item() - 1.7 * log_256, rel=1e-9)
        loss.backward()
        for theirs, ours in reference.flow.counterparts(model.flow):
            if theirs.requires_grad:
                # A bias below a normalisation has the gradient 0, but for rounding.
                assert theirs.ndim == 1 or theirs.grad.abs().max() > 0
                gradient = ours.grad[s].view_as(theirs)
                assert torch.allclose(gradient, theirs.grad, rtol=1e-6, atol=1e-8)


def test_em_loss():
    """Labelled points under their class, unlabelled ones under fixed responsibilities."""
    model = make_stack()
    em = OBJECTIVE | {
        "em": True,
        "labelled_nll": "class",
        "label_weight": 0.0,
        "consistency_weight": 0.0,
    }
    method, batches = flow_gmm(**em), make_batches()
    literal = references(model)
    losses_at(method, model, batches, make_streams(), 4, 10)["loss"].sum().backward()
    _, x, y = views(method, batches, 4)  # with one view it is the first that is drawn
    for s, reference in enumerate(literal):
        reference.em_loss(x[s], y[s]).backward()
        for theirs, ours in reference.flow.counterparts(model.flow):
            if theirs.requires_grad:
                gradient = ours.grad[s].view_as(theirs)
                assert torch.allclose(gradient, theirs.grad, rtol=1e-6, atol=1e-8)


def test_training_steps():
    """Adam with decay of the gains alone, and a clipping that bites, each group on its own."""
    model = make_stack(n_blocks=1)
    literal = references(model)
    method, batches, streams = flow_gmm(**OBJECTIVE), make_batches(), make_streams()
    training = TrainingOptions(6, "adam", 1e-3, 0.3, "constant", clip_norm=250.0)
    train(
        model,
        lambda at: losses_at(method, model, batches, streams, at["step"], 6),
        training,
        groups=training.groups(model, undecayed=method._undecayed_parameters(model)),
    )
    clipped = 0
    for s, reference in enumerate(literal):
        gains = [p for n, p in reference.named_parameters() if n.endswith(("gain", "original0"))]
        in_gains = {id(p) for p in gains}
        others = [p for p in reference.parameters() if id(p) not in in_gains]
        optimizer = torch.optim.Adam(
            [{"params": gains, "weight_decay": 0.3}, {"params": others}], lr=1e-3
        )
        for step in range(6):
            first, second, y = views(method, batches, step)
            optimizer.zero_grad()
            reference.loss(first[s], second[s], y[s], 3.0, 0.7).backward()
            for group in (gains, others):
                clipped += torch.nn.utils.clip_grad_norm_(group, 250.0) > 250
            optimizer.step()
        for theirs, ours in reference.flow.counterparts(model.flow):
            assert torch.allclose(ours[s].view_as(theirs), theirs, rtol=1e-6, atol=1e-7)
    assert 6 <= clipped < 24


def test_densities_of_a_fitted_estimator():
    """`score_samples` is log p(x) of the 256-level image, dequantised in the middle."""
    X, y = pixels(24).numpy(), torch.arange(24).numpy() % N_CLASSES
    y[9:] = -1
    method = flow_gmm(
        **OBJECTIVE, n_filters=3, n_blocks=1, n_steps=3, unlabelled_batch=8, random_state=0
    ).fit(X, y)
    model = ReferenceImageFlowGMM.from_stack(method.model_.flow, method.model_.mixture, 0)
    x = dequantise(torch.from_numpy(X), torch.tensor(0.5, dtype=torch.float64))
    joint = (model.log_prob_of_classes(x) + model.weights.log()).detach()
    assert method.score_samples(X) == pytest.approx(joint.logsumexp(1).numpy(), rel=1e-9)
    assert method.predict_log_proba(X) == pytest.approx(joint.log_softmax(1).numpy(), abs=1e-9)
