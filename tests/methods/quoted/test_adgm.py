"""ADGM and SDGM: the bound against a literal one, what differs between them, training and files."""

import math

import numpy as np
import pytest
import torch
from estimators import in_use
from sklearn.datasets import load_digits
from torch.distributions import Bernoulli, Normal

from flowgmm.flows.rng import Stream
from flowgmm.methods.base import STREAMS
from flowgmm.methods.parts import Training
from flowgmm.methods.quoted.adgm import AdgmClassifier, AuxiliaryModel
from flowgmm.methods.quoted.variational import class_sum
from flowgmm.methods.stack import fit_stack
from flowgmm.nets.gaussian import gaussian

N, N_LABELLED = 400, 50


def digits():
    X, y = load_digits(return_X_y=True)
    X = np.rint(X[:N] * 255 / 16).astype(np.uint8).reshape(N, 1, 8, 8)
    hidden = y[:N].copy()
    hidden[N_LABELLED:] = -1
    return X, y[:N], hidden


def adgm(random_state=0, precision="fp32", n_steps=10, **changes):
    training = Training(
        n_steps=n_steps,
        labelled_batch=None,
        unlabelled_batch=20,
        optimizer="adam",
        lr=5e-3,
        clip_norm=5.0,
        precision=precision,
    )
    params = {"hidden_size": 16, "n_latent": 3, "training": training, "device": "cpu"}
    return AdgmClassifier(**params | changes, random_state=random_state)


def network(skip):
    model = AuxiliaryModel(6, 4, 3, 8, skip, Stream([0])).double()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.sin(torch.arange(parameter.numel())).view_as(parameter)
    return model


def literal_bound(model, x, k, a, noise):
    """L(x, y = k; a) of one point, by PyTorch's densities."""
    x, a, y = (v[None, None] for v in (x, a, torch.eye(4, dtype=torch.float64)[k]))

    def normal(head):
        mean, log_var = head[0, 0].chunk(2)
        return Normal(mean, (log_var / 2).exp())

    q_a, q_z = normal(model.q_a(x)), normal(model.q_z(x, a, y))
    z = (q_z.mean + q_z.stddev * noise)[None, None]
    p_a = normal(model.p_a(y, z) if model.skip else model.p_a(y, z, x))
    logits = model.p_x(y, z, a) if model.skip else model.p_x(y, z)
    total = Bernoulli(logits=logits[0, 0]).log_prob(x[0, 0]).sum() - math.log(4)
    total += Normal(torch.zeros(3), torch.ones(3)).log_prob(z[0, 0]).sum()
    total += p_a.log_prob(a[0, 0]).sum() - q_a.log_prob(a[0, 0]).sum()
    return total - q_z.log_prob(z[0, 0]).sum()


@pytest.mark.parametrize("skip", [False, True])
def test_class_sum_is_a_literal_loop(skip):
    """Over points, two samples of a, and classes, which share their noise."""
    model, noise = network(skip), Stream([1])
    x = (noise.at(0).uniform((5, 1, 6)) > 0.5).double()
    auxiliary = gaussian(model.q_a(x))
    a = auxiliary.sample(noise.at(1).normal((5, 2, 3), torch.float64))
    drawn = noise.at(2).normal((5, 2, 1, 3), torch.float64)
    classes = torch.eye(4, dtype=torch.float64)[None, None, None]
    log_q = model.log_posterior(x, a)
    bounds = model.bound(x[..., None, :], classes, auxiliary, a, drawn)
    assert log_q.shape == bounds.shape == (1, 5, 2, 4)
    found = class_sum(log_q, bounds)
    for i in range(5):
        for m in range(2):
            total = 0.0
            for k in range(4):
                bound = literal_bound(model, x[0, i, 0], k, a[0, i, m], drawn[0, i, m, 0])
                total += log_q[0, i, m, k].exp() * (bound - log_q[0, i, m, k])
            torch.testing.assert_close(found[0, i, m], total)


def test_the_two_models_differ_in_what_generates():
    shapes = [
        {name: tuple(p.shape) for name, p in network(skip).named_parameters()}
        for skip in (False, True)
    ]
    different = {name for name, _ in shapes[0].items() ^ shapes[1].items()}
    assert {name.split(".")[0] for name in different} == {"p_a", "p_x"}


@pytest.mark.parametrize("samples", [1, 3])
def test_loss_is_the_objective(samples):
    X, _, y = digits()
    estimator = in_use(adgm(precision="fp64", samples=samples), 1, 8, 8)
    streams = {name: Stream([i]) for i, name in enumerate(STREAMS)}
    batches = estimator._batches(
        torch.as_tensor(X), y[None], np.arange(N)[None], streams["batches"]
    )
    model = estimator._build(batches, 10, streams).double()
    inputs = estimator._inputs(batches, streams, 3, 100)
    assert inputs["labelled"].shape == (1, N_LABELLED)  # all of them
    losses = estimator._losses(model, batches, streams, inputs)
    beta = 0.1 * N / N_LABELLED
    expected = losses["bound"] + losses["labelled_bound"] - beta * losses["labelled_ce"]
    torch.testing.assert_close(losses["loss"], -expected)
    # All classes are as likely at first, and so is every pixel.
    assert losses["labelled_ce"].item() == pytest.approx(math.log(10), abs=0.1)
    assert losses["bound"].item() == pytest.approx(-64 * math.log(2), abs=5)


def test_images_are_binarised_anew_with_their_grey_values_as_probabilities():
    estimator = in_use(adgm(precision="fp64"), 1, 8, 8)
    streams = {name: Stream([i]) for i, name in enumerate(STREAMS)}
    seen = []

    class Watched(AuxiliaryModel):
        def bound(self, x, *rest):
            seen.append(x)
            return super().bound(x, *rest)

    model = Watched(64, 10, 3, 8, False, Stream([0])).double()
    image = torch.as_tensor(digits()[0][:1])[None].expand(1, 4000, 1, 8, 8)
    for step in (0, 1):
        streams["dequantisation"].at(step)
        estimator._terms(model, image, torch.eye(10).double()[None, None], streams)
    first, second = (x[0, :, 0, 0] for x in seen)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    grey = image[0, 0].flatten().double() / 255
    torch.testing.assert_close(first.mean(0), grey, atol=0.03, rtol=0)


@pytest.mark.parametrize("skip", [False, True])
def test_learns_from_few_labels(skip):
    X, y, hidden = digits()
    model = adgm(n_steps=150, skip=skip, hidden_size=32).fit(X, hidden)
    assert model.score(X[N_LABELLED:], y[N_LABELLED:]) > 0.5  # ten classes
    assert model.history_["bound"][-1] > model.history_["bound"][0] + 5
    assert model.history_["entropy"][-1] < model.history_["entropy"][0]
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        model.predict_log_proba(X[:3]), model.predict_log_proba(X)[:3], atol=1e-4
    )
    np.testing.assert_array_equal(model.predict(X), model.predict(X / 255))
    assert model.bound(X).mean() == pytest.approx(model.history_["bound"][-1], abs=3)


def test_a_stack_is_its_seeds_alone():
    X, _, y = digits()
    models = [adgm(s, precision="fp64") for s in (0, 1)]
    fit_stack(models, X, np.stack([y, y]))
    for s, stacked in enumerate(models):
        alone = adgm(s, precision="fp64").fit(X, y)
        np.testing.assert_allclose(stacked.predict_log_proba(X), alone.predict_log_proba(X), 1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp64"])
def test_save_and_load(precision, tmp_path):
    X, _, y = digits()
    model = adgm(precision=precision, n_steps=3, skip=True, pool=2).fit(X, y)
    model.save(tmp_path / "m.safetensors")
    loaded = AdgmClassifier.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict_log_proba(X), model.predict_log_proba(X))
    np.testing.assert_array_equal(loaded.bound(X), model.bound(X))


def test_bad_input():
    X, _, y = digits()
    with pytest.raises(ValueError, match=r"images have shape \(N, C, H, W\)"):
        adgm().fit(X.reshape(N, 64), y)
    with pytest.raises(ValueError, match="pool=3 does not divide images of 8 x 8"):
        adgm(pool=3).fit(X, y)
