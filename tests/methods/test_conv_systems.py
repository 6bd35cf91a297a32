"""Pi-model on images and BadGAN: objectives, gradients, use, saving, resuming."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from flowgmm.flows.rng import Stream
from flowgmm.methods import base, stack
from flowgmm.methods.parts import Training
from flowgmm.methods.quoted.badgan import BadGanClassifier, pull_away, real_or_fake
from flowgmm.methods.quoted.pi_conv import PiConvClassifier
from flowgmm.methods.stack import fit_stack
from flowgmm.training.optim import Optimizer
from flowgmm.training.schedules import learning_rate_factor
from flowgmm.utils.errors import UserError

SMALL = {
    "n_epochs": None,
    "labelled_batch": 16,
    "unlabelled_batch": 16,
    "sampling": "shuffle_full",
    "optimizer": "adam",
    "weight_decay": 0.0,
    "clip_norm": None,
}


def pi(n_steps=6, lr=3e-3, precision="fp32", **params):
    own = {"width": 6, "mean_momentum": 0.8, "preprocess": "none", "random_state": 0}
    training = Training(n_steps=n_steps, lr=lr, precision=precision, schedule="ramps", **SMALL)
    return PiConvClassifier(**own | params, training=training)


def badgan(n_steps=6, lr=3e-3, precision="fp32", **params):
    own = {"width": 6, "generator_width": 3, "random_state": 0}
    training = Training(
        n_steps=n_steps, lr=lr, precision=precision, schedule="flat_linear", **SMALL
    )
    return BadGanClassifier(**own | params, training=training)


MAKE = {
    "Pi": pi,
    "Pi, augmented": lambda **p: pi(crop_padding=1, flip=True, **p),
    "BadGAN": badgan,
    "BadGAN, encoder": lambda **p: badgan(
        variational_weight=0.01, pull_away_weight=0.0, entropy_weight=0.0, whole_channels=False, **p
    ),
}


def digits(n=120, n_labels=30):
    X, y = load_digits(return_X_y=True)
    X = np.rint(X[:n] * 255 / 16).astype(np.uint8).reshape(n, 1, 8, 8)
    hidden = y[:n].copy()
    hidden[n_labels:] = -1
    return X, y[:n], hidden


class Bench:
    """A method with its untrained stack and batches, to look at single steps."""

    def __init__(self, method, n_seeds=1):
        X, _, y = digits()
        names = stack.STREAMS
        self.method = method
        self.streams = {
            n: Stream([10 * i + s for s in range(n_seeds)]) for i, n in enumerate(names)
        }
        for name, part in method._choose_parts(X, 30, 10).items():
            setattr(method, name, part)
        front = method._fit_preprocess(X)
        x = torch.as_tensor(front.modelled(X, np.float64))
        codes, rows = np.stack([y] * n_seeds), np.stack([np.arange(len(X))] * n_seeds)
        self.batches = method._batches(x, codes, rows, self.streams["batches"])
        self.model = method._build(self.batches, 10, self.streams).double()
        method._initialise(self.model, self.batches, self.streams)

    def inputs(self, step, n_steps=300):
        return self.method._inputs(self.batches, self.streams, step, n_steps)

    def losses(self, step, turn=0, n_steps=300):
        inputs = self.inputs(step, n_steps)
        return self.method._turns()[turn](self.model, self.batches, self.streams, inputs)


# -- Pi-model --------------------------------------------------------------------------------


def test_pi_loss_is_the_papers():
    """Term by term from the network's logits of the two views."""
    bench = Bench(pi())
    seen = []
    bench.model.register_forward_hook(lambda model, args, out: seen.append(out))
    found = bench.losses(100)
    inputs = bench.inputs(100)
    first, second = (torch.softmax(logits[0], dim=-1) for logits in seen)
    classes = inputs["classes"][0]
    known = classes >= 0
    assert 0 < known.sum() < len(classes) == 16
    ce = functional.nll_loss(first[known].log(), classes[known], reduction="sum") / 16
    consistency = functional.mse_loss(first, second)
    weight = 100 * 30 / 120  # at its end
    torch.testing.assert_close(found["loss"][0], ce + weight * consistency)
    # Known classes are those of labelled images, all others are hidden.
    _, _, y = digits()
    np.testing.assert_array_equal(classes, y[inputs["rows"][0]])


def test_pi_without_consistency_is_cross_entropy_times_the_labelled_share():
    bench = Bench(pi())
    seen = []
    bench.model.register_forward_hook(lambda model, args, out: seen.append(out))
    found = bench.losses(0)  # w(0) = 0
    classes = bench.inputs(0)["classes"][0]
    known = classes >= 0
    mean = functional.cross_entropy(seen[0][0][known], classes[known])
    torch.testing.assert_close(found["loss"][0], mean * known.double().mean())


@pytest.mark.parametrize("share", [80 / 300, 0.4])
def test_weight_of_the_consistency_grows_to_its_largest(share):
    method = pi(ramp_up=share)
    ramp = [method._schedule(step, 300)["consistency"] for step in range(301)]
    end = round(share * 300)
    assert ramp[0] == 0
    assert ramp[end] == 1 > ramp[end - 1]
    assert ramp == sorted(ramp)
    assert ramp[end // 2] == pytest.approx(np.exp(-5 / 4))


def test_both_views_carry_gradient_and_the_second_reaches_the_running_means():
    bench = Bench(pi(precision="fp64"))
    modes = []
    forward = type(bench.model).forward

    def watched(x, dropout=None, track=True):
        modes.append((track, torch.is_grad_enabled()))
        return forward(bench.model, x, dropout, track)

    bench.model.forward = watched
    bench.losses(100)
    assert modes == [(False, True), (True, True)]


def test_mirrors_are_shared_by_the_views_and_shifts_are_not():
    bench = Bench(pi(noise=0.0, crop_padding=1, flip=True))
    seen = []
    bench.model.register_forward_pre_hook(lambda model, args: seen.append(args[0]))
    bench.losses(100)
    x = bench.batches.x[bench.inputs(100)["rows"]]

    def mirrored(view):
        """True for each image that is, at its best shift, nearer to the mirrored original."""
        inner = (..., slice(2, 6), slice(2, 6))
        gaps = [
            (view.roll((i, j), (3, 4))[inner] - other[inner]).abs().mean((2, 3, 4))
            for other in (x, x.flip(-1))
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
        gaps = torch.stack(gaps)
        return gaps[:9].amin(0) > gaps[9:].amin(0)

    first, second = seen
    assert torch.equal(mirrored(first), mirrored(second))
    assert 0 < mirrored(first).sum() < 16
    assert not torch.equal(first, second)


def test_first_moments_decay_falls_with_the_rate():
    method = pi()
    bench = Bench(method)
    (group,) = method._groups(method._training(7), bench.model)
    assert group.beta1(1.0) == 0.9
    assert group.beta1(0.0) == 0.5
    assert learning_rate_factor("ramps", 300, 300) < 1e-5
    assert len(Optimizer([group], "adam", recorded=False).parameters) == 30


def test_supervised_alone_has_one_view_of_the_same_batch():
    bench, other = Bench(pi(consistency_weight=0.0)), Bench(pi())
    assert torch.equal(bench.inputs(3)["rows"], other.inputs(3)["rows"])
    seen = []
    bench.model.register_forward_hook(lambda model, args, out: seen.append(out))
    found = bench.losses(100)
    assert len(seen) == 1
    torch.testing.assert_close(found["loss"], found["labelled_ce"])
    torch.testing.assert_close(found["loss"], other.losses(100)["labelled_ce"])
    assert bench.model.last.norm.mean.any()


# -- BadGAN ----------------------------------------------------------------------------------


def test_each_turn_moves_its_own_networks():
    """Gradients of one turn never reach the other's: a step with one rate 0 leaves it in place."""
    bench = Bench(badgan(variational_weight=0.01))
    for turn, own in enumerate(({"discriminator"}, {"generator", "encoder"})):
        groups = bench.method._groups(bench.method._training(7), bench.model)
        named = {id(p): name.split(".")[0] for name, p in bench.model.named_parameters()}
        parameters = [p for group in groups if group.turn == turn for p in group.parameters]
        assert {named[id(p)] for p in parameters} == own
        bench.model.zero_grad()
        bench.losses(5, turn)["loss"].sum().backward(inputs=parameters)
        for name, p in bench.model.named_parameters():
            assert (p.grad is not None) == (name.split(".")[0] in own and p.requires_grad)


def test_discriminators_loss_has_no_gradient_in_the_generator():
    bench = Bench(badgan())
    bench.losses(5)["loss"].sum().backward()
    assert all(p.grad is None for p in bench.model.generator.parameters())
    assert all(
        p.grad is not None for p in bench.model.discriminator.parameters() if p.requires_grad
    )


def test_groups_have_the_published_decays_and_rates():
    method = badgan(lr=6e-4, generator_lr=3e-4, variational_weight=0.01)
    bench = Bench(method)
    groups = method._groups(method._training(7), bench.model)
    assert [(g.betas, g.lr, g.turn) for g in groups] == [
        ((0.5, 0.999), 6e-4, 0),
        ((0.0, 0.999), 3e-4, 1),
        ((0.0, 0.999), 3e-4, 1),
    ]


def test_real_or_fake_is_a_softmax_with_a_further_class_of_logit_0():
    rng = torch.Generator().manual_seed(0)
    real, fake = (3 * torch.randn(2, n, 10, generator=rng).double() for n in (7, 5))

    def log_p_fake(logits):
        zero = torch.zeros_like(logits[..., :1])
        return torch.log_softmax(torch.cat([logits, zero], dim=-1), dim=-1)[..., -1]

    expected = -(1 - log_p_fake(real).exp()).log().mean(-1) - log_p_fake(fake).mean(-1)
    torch.testing.assert_close(real_or_fake(real, fake), expected)


def test_pull_away():
    rows = torch.randn(2, 1, 6).double()
    scales = torch.tensor([1.0, 2.0, 5.0]).double()[:, None]
    torch.testing.assert_close(pull_away(rows * scales), torch.ones(2).double())
    torch.testing.assert_close(pull_away(torch.eye(4)[None]), torch.zeros(1))
    features = torch.randn(1, 5, 3).double()
    cosines = functional.cosine_similarity(features[0, :, None], features[0, None], dim=-1)
    expected = sum(cosines[i, j] ** 2 for i in range(5) for j in range(5) if i != j) / 20
    torch.testing.assert_close(pull_away(features)[0], expected)


def test_generator_matches_the_means_of_features():
    """Its loss term by term from what the discriminator's last layer sees."""
    bench = Bench(badgan(variational_weight=0.01))
    seen, made = [], []
    features = bench.model.discriminator.features
    bench.model.discriminator.features = lambda *args: seen.append(features(*args)) or seen[-1]
    bench.model.encoder.register_forward_hook(lambda model, args, out: made.append(out))
    bench.model.generator.register_forward_hook(lambda model, args, out: made.append(args[0]))
    found = bench.losses(5, turn=1)
    real, fake = (f[0] for f in seen)
    assert not real.requires_grad and fake.requires_grad
    noise, (mean, log_std) = made[0][0], made[1][0].unbind(1)
    normal = torch.distributions.Normal(mean, log_std.exp())
    nll = -(normal.log_prob(noise) + np.log(2 * np.pi) / 2).sum(-1).mean()
    matching = (real.mean(0) - fake.mean(0)).abs().mean()
    expected = matching + 0.8 * pull_away(fake[None])[0] + 0.01 * nll
    torch.testing.assert_close(found["loss"][0], expected)


# -- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("Pi", {"width": 12, "dropout": 0.2, "consistency_weight": 20.0, "ramp_up": 0.8}),
        ("BadGAN", {"dropout": 0.2}),
    ],
)
def test_it_learns_digits(name, params):
    X, y, _ = digits(400)
    keep = y < 4
    X, y = X[keep], y[keep]
    hidden = np.where(np.arange(len(y)) < 60, y, -1)
    model = MAKE[name](n_steps=150, lr=1e-2, **params).fit(X, hidden)
    assert model.score(X[60:], y[60:]) > 0.7
    assert model.predict_log_proba(X).dtype == np.float64


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MAKE)
def test_kinds_of_images(name, precision):
    X, _, y = digits()
    model = MAKE[name](precision=precision, n_steps=2).fit(X, y)
    assert model.n_features_in_ == 64
    np.testing.assert_array_equal(model.predict(X), model.predict(X / 255))
    again = MAKE[name](precision=precision, n_steps=2).fit(X / 255, y)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("name", MAKE)
def test_a_stack_of_networks_is_its_seeds_alone(name):
    X, _, y = digits()
    models = [MAKE[name](precision="fp64", random_state=s) for s in (0, 1)]
    fit_stack(models, X, np.stack([y, y]))
    for s, stacked in enumerate(models):
        alone = MAKE[name](precision="fp64", random_state=s).fit(X, y)
        np.testing.assert_allclose(
            stacked.predict_log_proba(X), alone.predict_log_proba(X), 1e-6, 1e-8
        )
    assert not np.allclose(models[0].predict_proba(X), models[1].predict_proba(X))


@pytest.mark.parametrize("name", ["Pi, augmented", "BadGAN, encoder"])
def test_an_interrupted_training_goes_on_to_the_same_bits(name, tmp_path):
    X, _, y = digits()

    def fit(**options):
        model = MAKE[name](n_steps=8)
        fit_stack([model], X, y[None], **options)
        return model

    from flowgmm.training import loop
    from flowgmm.utils.signals import Interrupted

    whole = fit()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_EVERY", 0.0)

        def stop(step, n_steps, text):
            if step == 5:
                raise KeyboardInterrupt

        with pytest.raises((KeyboardInterrupt, Interrupted)):
            fit(checkpoint=tmp_path / "state", progress=stop)
    assert (tmp_path / "state").exists()
    resumed = fit(checkpoint=tmp_path / "state")
    for key, value in whole.model_.state_dict().items():
        assert torch.equal(value, resumed.model_.state_dict()[key]), key
    assert resumed.history_ == whole.history_


@pytest.mark.parametrize("preprocess", ["none", "zca"])
@pytest.mark.parametrize("name", ["Pi", "BadGAN, encoder"])
def test_saved_and_loaded(name, preprocess, tmp_path):
    X, _, y = digits()
    model = MAKE[name](preprocess=preprocess, n_steps=2).fit(X, y)
    model.save(tmp_path / "m.safetensors")
    loaded = type(model).load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict_log_proba(X), model.predict_log_proba(X))
    (tmp_path / "m.safetensors").write_bytes(b"no model")
    with pytest.raises(UserError, match=f"is damaged or no {type(model).__name__}"):
        type(model).load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("change", "make_X", "message"),
    [
        ({}, lambda X: X.reshape(len(X), -1), r"images have shape \(N, C, H, W\), got"),
        ({"pool": 3}, lambda X: X, "pool=3 does not divide images of 8 x 8"),
        ({"preprocess": "pca"}, lambda X: X, "unknown preprocess 'pca'"),
        ({"dropout": 1.0}, lambda X: X, r"a probability in \[0, 1\), got 1.0"),
        ({}, lambda X: X.astype(float), "images are uint8 in 0..255 or floats"),
    ],
)
@pytest.mark.parametrize("name", ["Pi", "BadGAN"])
def test_bad_images_and_parameters(name, change, make_X, message):
    X, _, y = digits()
    with pytest.raises(ValueError, match=message):
        MAKE[name](**change).fit(make_X(X), y)


def test_purposes_have_streams_of_their_own():
    """Noise does not move when dropout is switched off, nor batches with the augmentation."""
    assert {"noise", "dropout", "augmentation"} <= set(base.ON_DEVICE)
    rows = [Bench(pi(crop_padding=padding)).inputs(4)["rows"] for padding in (0, 1)]
    assert torch.equal(*rows)
