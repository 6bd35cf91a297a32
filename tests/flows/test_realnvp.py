"""The flow: properties of every coupling and every stack, and equality with the literal model."""

from itertools import product

import pytest
import torch
from estimators import flow_gmm
from steps import losses_at, points_at

from flowgmm.flows.layers import StackedMLP
from flowgmm.flows.mixture import StackedMixture, fixed_means
from flowgmm.flows.realnvp import CouplingFlow
from flowgmm.flows.reference.realnvp import PLAIN_OBJECTIVE, ReferenceFlowGMM
from flowgmm.flows.rng import Stream
from flowgmm.methods.base import STREAMS
from flowgmm.methods.flow_gmm import FlowGMM
from flowgmm.training.batches import Batches
from flowgmm.training.loop import TrainingOptions, train
from flowgmm.training.schedules import learning_rate_factor

SEEDS = (3, 4, 11)
LIKELIHOOD_ONLY = PLAIN_OBJECTIVE | {"dropout": 0.0}


def make_flow(n_features=5, seeds=SEEDS, zero_init=False, dropout=0.0, n_inner=1, n_couplings=4):
    """A float64 flow that is far from the identity even if its last layers start from zero."""
    flow = CouplingFlow(
        n_features, n_couplings, 16, Stream(seeds), n_inner, dropout, zero_init
    ).double()
    noise = Stream(seeds)
    with torch.no_grad():
        for i, parameter in enumerate(flow.parameters()):
            parameter += 0.2 * noise.at(i).normal(parameter.shape[1:], torch.float64)
    return flow


def points(n_features, n=6, seeds=SEEDS):
    return Stream(seeds).at(99).normal((n, n_features), torch.float64)


def jacobian_log_det(function, x):
    """log|det| of the Jacobian of (S, B, D) -> (S, B, D) at every point, by autograd."""

    def one(s, b):
        def slice_of(value):
            full = x.clone()
            full[s, b] = value
            return function(full)[s, b]

        return torch.linalg.slogdet(torch.autograd.functional.jacobian(slice_of, x[s, b]))[1]

    return torch.stack(
        [torch.stack([one(s, b) for b in range(x.shape[1])]) for s in range(x.shape[0])]
    )


FLOWS = [
    {"n_features": d, "zero_init": zero, "dropout": p, "n_inner": inner}
    for d, zero, p, inner in product((2, 5, 6), (False, True), (0.0, 0.5), (0, 1))
]


@pytest.mark.parametrize("options", FLOWS, ids=str)
class TestEveryFlow:
    def test_inverse(self, options):
        flow, x = make_flow(**options), points(options["n_features"])
        z, log_det = flow(x)
        back, log_det_back = flow.inverse(z)
        assert (z - x).abs().max() > 0.1
        assert (back - x).abs().max() <= 1e-8
        assert (log_det + log_det_back).abs().max() <= 1e-8

    def test_log_det_is_that_of_the_jacobian(self, options):
        """With the dropout masks held fixed, too: every set of masks is a flow."""
        flow, x = make_flow(**options), points(options["n_features"], n=2)
        masks = Stream(SEEDS) if options["dropout"] else None

        def forward(points):
            return flow(points, masks and masks.at(5))

        assert (forward(x)[1] - jacobian_log_det(lambda v: forward(v)[0], x)).abs().max() <= 1e-8

    def test_every_parameter_gets_a_gradient(self, options):
        flow, x = make_flow(**options), points(options["n_features"], n=50)
        z, log_det = flow(x)
        (z.square().sum() - log_det.sum()).backward()
        for name, parameter in flow.named_parameters():
            assert (parameter.grad.flatten(1).norm(dim=1) > 0).all(), name


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("n_features", [2, 4, 5])
def test_log_det_of_one_coupling(n_features, dropout):
    flow, x = make_flow(n_features, n_couplings=1, dropout=dropout), 3 * points(n_features, n=2)
    masks = Stream(SEEDS)

    def forward(points):
        return flow(points, masks.at(2))

    assert (forward(x)[1] - jacobian_log_det(lambda v: forward(v)[0], x)).abs().max() <= 1e-8
    z, log_det = flow(x)
    back, log_det_back = flow.inverse(z)
    assert (back - x).abs().max() <= 1e-8
    assert torch.equal(log_det, -log_det_back)


@pytest.mark.parametrize("n_features", [2, 5])
def test_the_fused_couplings_equal_the_readable_ones(n_features):
    """Values and gradients of `FusedCouplings` are those of `Coupling.forward`, one by one."""
    flow, x = make_flow(n_features, n_couplings=3), points(n_features)

    def readable(x):
        halves, log_det = [x[..., : flow.split], x[..., flow.split :]], 0.0
        for i, coupling in enumerate(flow.couplings):
            change = 1 - i % 2
            halves[change], term = coupling(halves[change], halves[1 - change])
            log_det = log_det + term
        return torch.cat(halves, dim=-1), log_det

    inputs = [x.requires_grad_(), *flow.parameters()]
    for ours, theirs in zip(flow(x), readable(x), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
        weights = torch.linspace(-1, 1, ours.numel(), dtype=ours.dtype).view_as(ours)
        for fused, plain in zip(
            torch.autograd.grad(ours, inputs, weights, retain_graph=True, allow_unused=True),
            torch.autograd.grad(theirs, inputs, weights, retain_graph=True, allow_unused=True),
            strict=True,
        ):
            # The last coupling's shift has no part in log_det: zero here, unused there.
            plain = torch.zeros_like(fused) if plain is None else plain
            assert torch.allclose(fused, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_inner", [0, 1])
def test_gradients_of_the_flow(n_inner):
    """Against finite differences, of points and parameters, with the masks held fixed."""
    flow = make_flow(5, n_couplings=3, n_inner=n_inner, dropout=0.3)
    masks, x = Stream(SEEDS), points(5, n=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *_: flow(x, masks.at(1)), [x, *flow.parameters()])


def test_gradients_where_only_some_are_asked_for():
    flow, x = make_flow(), points(5)
    z, log_det = flow(x.requires_grad_())
    everything = torch.autograd.grad((z.square().sum() - log_det.sum()), [x, *flow.parameters()])
    z, log_det = flow(x.detach())
    of_parameters = torch.autograd.grad(z.square().sum() - log_det.sum(), list(flow.parameters()))
    z, log_det = flow.requires_grad_(False)(x)
    (of_x,) = torch.autograd.grad(z.square().sum() - log_det.sum(), [x])
    for ours, theirs in zip([of_x, *of_parameters], everything, strict=True):
        assert torch.equal(ours, theirs)


def test_zero_init_is_the_identity():
    flow = CouplingFlow(5, 4, 16, Stream(SEEDS), zero_init=True).double()
    z, log_det = flow(points(5))
    assert torch.equal(z, points(5))
    assert not log_det.any()


def test_couplings_alternate_between_the_halves():
    """First half is the smaller for odd D; coupling 0 passes it and changes the other."""
    x = points(5)
    z, _ = make_flow(n_couplings=1)(x)
    assert torch.equal(z[..., :2], x[..., :2])
    assert (z[..., 2:] != x[..., 2:]).all()
    z, _ = make_flow(n_couplings=2)(x)
    assert (z != x).all()


def test_initial_weights_are_pytorchs_default_of_the_masked_layer():
    """Uniform within 1/sqrt(fan in), where the first layer's fan in counts the masked features."""
    flow = CouplingFlow(6, 1, 400, Stream(SEEDS))
    bounds = [6**-0.5, 400**-0.5, 400**-0.5]
    for layer, bound in zip(flow.couplings[0].net.layers, bounds, strict=True):
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= bound
            if parameter[0].numel() >= 400:
                assert parameter.abs().max() > 0.95 * bound
                assert abs(parameter.mean()) < 0.1 * bound


def test_a_flow_needs_two_features():
    with pytest.raises(ValueError, match=r"needs at least 2 features .*got 1 feature\(s\)"):
        CouplingFlow(1, 4, 16, Stream(SEEDS))


def test_a_flow_needs_a_coupling():
    with pytest.raises(ValueError, match="n_couplings must be 1 or more, got 0"):
        CouplingFlow(4, 0, 16, Stream(SEEDS))


@pytest.mark.parametrize("dropout", [-0.1, 1.0, [0.5], [0.5, 0.5, 0.5]])
def test_impossible_dropout(dropout):
    with pytest.raises(ValueError, match="dropout must be one probability in"):
        StackedMLP([3, 4, 4, 2], Stream(SEEDS), dropout=dropout)


def test_dropout_drops_and_rescales():
    """In the mean over masks an activation is what it is without dropout."""
    mlp = StackedMLP([4, 6, 3], Stream(SEEDS), dropout=0.3).double()
    x = points(4, n=1)
    masks = Stream(SEEDS)
    answers = torch.stack([mlp(x, masks.at(i)) for i in range(4000)])
    assert answers.std(0).min() > 0
    error = (answers.mean(0) - mlp(x)).abs()
    assert (error <= 5 * answers.std(0) / 4000**0.5).all()


def test_gradients_under_dropout():
    """Against finite differences, with the masks held fixed."""
    mlp = StackedMLP([4, 6, 5, 3], Stream(SEEDS), dropout=0.3).double()
    masks = Stream(SEEDS)
    x = points(4).requires_grad_()
    parameters = list(mlp.parameters())
    assert torch.autograd.gradcheck(lambda *_: mlp(x, masks.at(1)), [x, *parameters])


def test_one_stack_is_its_seeds_alone():
    stack = make_flow(dropout=0.5)
    x = points(5)
    z, log_det = stack(x, Stream(SEEDS).at(1))
    for s, seed in enumerate(SEEDS):
        alone = make_flow(dropout=0.5, seeds=[seed])
        z_alone, log_det_alone = alone(x[s : s + 1], Stream([seed]).at(1))
        assert torch.allclose(z[s], z_alone[0], rtol=1e-12, atol=1e-12)
        assert torch.allclose(log_det[s], log_det_alone[0], rtol=1e-12, atol=1e-12)


# -- the literal model -----------------------------------------------------------------------


def make_pair(n_features, seeds=SEEDS, dropout=0.0, n_inner=1):
    """A stacked model and, for each of its seeds, the literal one."""
    flow = make_flow(n_features, seeds, dropout=dropout, n_inner=n_inner, n_couplings=3)
    means = fixed_means("random", 3, n_features, 1.0, Stream(seeds)).double()
    model = FlowGMM(flow, StackedMixture(means, std=1.3133, weights=[0.5, 0.3, 0.2]))
    return model, [
        ReferenceFlowGMM.from_stack(model.flow, model.mixture, s) for s in range(len(seeds))
    ]


def make_batches(n_features, seeds=SEEDS, sampling="replacement"):
    x = Stream([0]).at(1).normal((60, n_features), torch.float64)[0]
    labelled = Stream(seeds).at(2).permutation(60)[:, :12]
    classes = torch.arange(12).expand(len(seeds), 12) % 3
    unlabelled = torch.arange(60).expand(len(seeds), 60)
    return Batches(x, labelled, classes, unlabelled, 6, 16, sampling, Stream(seeds))


@pytest.mark.parametrize("n_features", [4, 5])
@pytest.mark.parametrize("n_inner", [0, 1, 2])
def test_equals_the_literal_model(n_features, n_inner):
    model, references = make_pair(n_features, n_inner=n_inner)
    x = points(n_features)
    z, log_det = model.flow(x)
    back, log_det_back = model.flow.inverse(x)
    for s, reference in enumerate(references):
        for ours, theirs in zip(
            (z[s], log_det[s], back[s], log_det_back[s]),
            (*reference(x[s]), *reference.inverse(x[s])),
            strict=True,
        ):
            assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_loss_and_gradients_equal_those_of_the_literal_model():
    model, references = make_pair(5)
    batches = make_batches(5)
    method = flow_gmm(**LIKELIHOOD_ONLY | {"unlabelled_weight": 0.6}, precision="fp64")
    streams = {name: Stream(SEEDS) for name in STREAMS}
    losses = losses_at(method, model, batches, streams, 0, 1)["loss"]
    losses.sum().backward()
    x, y, unlabelled = points_at(batches, 0)
    for s, reference in enumerate(references):
        loss = reference.loss(x[s], y[s], unlabelled[s], 0.6)
        assert torch.allclose(losses[s], loss, rtol=1e-11)
        loss.backward()
        for ours, theirs in zip(model.flow.couplings, reference.couplings, strict=True):
            changed = ~theirs.mask.bool()
            assert torch.allclose(ours.gain.grad[s, 0], theirs.gain.grad[changed], rtol=1e-9)
            first, hidden, last = ours.net.layers
            assert torch.allclose(
                first.weight.grad[s].T, theirs.net[0].weight.grad[:, ~changed], atol=1e-12
            )
            assert torch.allclose(hidden.weight.grad[s].T, theirs.net[3].weight.grad, atol=1e-12)
            rows = torch.cat([changed, changed])
            assert torch.allclose(
                last.weight.grad[s].T, theirs.net[5].weight.grad[rows], atol=1e-12
            )
            assert torch.allclose(last.bias.grad[s, 0], theirs.net[5].bias.grad[rows], atol=1e-12)


def test_a_hundred_steps_equal_those_of_the_literal_model():
    """With decay, schedule and a clipping that bites; the losses agree at every step."""
    model, references = make_pair(5)
    batches = make_batches(5)
    method = flow_gmm(**LIKELIHOOD_ONLY | {"unlabelled_weight": 0.6}, precision="fp64")
    training = TrainingOptions(100, lr=3e-3, weight_decay=1e-2, clip_norm=5.0)
    streams = {name: Stream(SEEDS) for name in STREAMS}
    seen = []

    def losses(inputs):
        values = losses_at(method, model, batches, streams, inputs["step"], 100)
        seen.append(values["loss"].detach())
        return values

    train(model, losses, training)
    clipped = 0
    for s, reference in enumerate(references):
        optimizer = torch.optim.AdamW(reference.parameters(), lr=3e-3, weight_decay=1e-2)
        for step in range(100):
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * learning_rate_factor("cosine", step, 100)
            x, y, unlabelled = points_at(batches, step)
            loss = reference.loss(x[s], y[s], unlabelled[s], 0.6)
            assert torch.allclose(seen[step][s], loss, rtol=1e-8), step
            optimizer.zero_grad()
            loss.backward()
            clipped += torch.nn.utils.clip_grad_norm_(reference.parameters(), 5.0) > 5
            optimizer.step()
        final = ReferenceFlowGMM.from_stack(model.flow, model.mixture, s)
        x = points(5)[s]
        assert torch.allclose(final(x)[0], reference(x)[0], rtol=1e-7, atol=1e-7)
    assert 10 < clipped < 300
    assert seen[-1].mean() < seen[0].mean() - 0.5


@pytest.mark.parametrize("sampling", ["shuffle", "fixed", "replacement"])
def test_training_a_stack_is_training_its_seeds_alone(sampling):
    """Twenty steps with dropout, noise, clipping, two views and batches of each seed's own."""
    method = flow_gmm(dropout=0.5, input_noise=0.1, consistency_weight=0.5, precision="fp64")

    def run(seeds):
        model, _ = make_pair(5, seeds, dropout=0.5)
        batches = make_batches(5, seeds, sampling)
        streams = {name: Stream([s + 1 for s in seeds]) for name in STREAMS}
        training = TrainingOptions(20, lr=1e-3, clip_norm=5.0)
        history = train(
            model, lambda at: losses_at(method, model, batches, streams, at["step"], 20), training
        )
        return list(model.parameters()), history.losses["loss"]

    together, losses = run(SEEDS)
    for s, seed in enumerate(SEEDS):
        alone, losses_alone = run([seed])
        for a, b in zip(together, alone, strict=True):
            assert torch.allclose(a[s], b[0], rtol=1e-8, atol=1e-10)
        for row, row_alone in zip(losses, losses_alone, strict=True):
            assert row[s] == pytest.approx(row_alone[0], rel=1e-9)


def test_the_em_gradient_is_the_direct_one():
    """Fisher's identity: one M-step per E-step follows the gradient of -log p(x)."""
    gradients = []
    for objective in ("direct", "em"):
        model, _ = make_pair(5)
        streams = {name: Stream(SEEDS) for name in STREAMS}
        method = flow_gmm(**LIKELIHOOD_ONLY, em=objective == "em", precision="fp64")
        losses = losses_at(method, model, make_batches(5), streams, 0, 1)
        losses["loss"].sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert gradients[0].norm() > 1
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)
