"""M1+M2: the bounds against literal ones, M1's independence of labels, training and files."""

import math

import numpy as np
import pytest
import torch
from estimators import in_use
from sklearn.datasets import load_digits
from torch.distributions import Normal

from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.m1_cache import provide_m1
from flowgmm.flows.rng import Stream
from flowgmm.methods.base import STREAMS
from flowgmm.methods.parts import Training
from flowgmm.methods.quoted.m1m2 import M1M2Classifier
from flowgmm.methods.quoted.vae import LEAST_SPREAD, LatentFeatures
from flowgmm.methods.quoted.variational import class_sum
from flowgmm.methods.stack import digest, fit_stack
from flowgmm.nets.gaussian import Gaussian, gaussian
from flowgmm.training import loop
from flowgmm.utils.errors import UserError

N, N_LABELLED = 600, 60
M1 = {
    "m1_n_latent": 8,
    "m1_hidden_size": 32,
    "m1_n_epochs": 60,
    "m1_batch": 50,
    "m1_lr": 5e-3,
    "m1_gain": 3.0,
}


def digits():
    X, y = load_digits(return_X_y=True)
    X = np.rint(X[:N] * 255 / 16).astype(np.uint8).reshape(N, 1, 8, 8)
    hidden = y[:N].copy()
    hidden[N_LABELLED:] = -1
    return X, y[:N], hidden


def m1m2(random_state=0, precision="fp32", n_steps=10, lr=5e-3, **changes):
    training = Training(
        n_steps=n_steps,
        labelled_batch=20,
        unlabelled_batch=30,
        optimizer="adam",
        lr=lr,
        weight_decay=2e-3,
        clip_norm=None,
        precision=precision,
    )
    params = {**M1, "hidden_size": 16, "n_latent": 4, "training": training, "device": "cpu"}
    return M1M2Classifier(**params | changes, random_state=random_state)


@pytest.fixture(scope="module")
def m1():
    return m1m2().fit_m1(digits()[0])


@pytest.fixture
def with_m1(m1, monkeypatch):
    """Every training takes M1 from here."""
    monkeypatch.setattr(LatentFeatures, "fit", lambda *args, **options: m1)


# -- bounds ----------------------------------------------------------------------------------


def stack_of(m1, seeds=(0, 1), step=3):
    """Estimator, untrained stack with large weights, batches, streams and inputs of a step."""
    X, _, y = digits()
    estimator = in_use(m1m2(precision="fp64", gain=3.0), 1, 8, 8)
    streams = {name: Stream([10 * i + s for s in seeds]) for i, name in enumerate(STREAMS)}
    codes, rows = np.stack([y] * len(seeds)), np.stack([np.arange(N)] * len(seeds))
    x = torch.as_tensor(m1.modelled(X, np.float64))
    batches = estimator._batches(x, codes, rows, streams["batches"])
    model = estimator._build(batches, 10, streams).double()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.sin(torch.arange(parameter.numel())).view_as(parameter)
    return estimator, model, batches, streams, estimator._inputs(batches, streams, step, 100)


def literal_bound(model, v, k, noise):
    """L(v, y = k) of one point of a stack of one, densities by PyTorch."""
    y = torch.eye(10, dtype=torch.float64)[k][None, None]
    mean, log_var = model.encoder(v[None, None], y)[0, 0].chunk(2)
    q = Normal(mean, (log_var / 2).exp())
    z = mean + (log_var / 2).exp() * noise
    mean, log_var = model.decoder(y, z[None, None])[0, 0].chunk(2)
    p = Normal(mean, (log_var / 2).exp())
    kl = torch.distributions.kl_divergence(q, Normal(torch.zeros(4), torch.ones(4)))
    return p.log_prob(v).sum() - math.log(10) - kl.sum()


def test_class_sum_is_a_literal_loop(m1):
    _, model, *_ = stack_of(m1, seeds=(0,))
    v = torch.as_tensor(m1.modelled(digits()[0][:5], np.float64))[None, :, : len(m1.kept)]
    noise = torch.linspace(-2, 2, 20, dtype=torch.float64).view(1, 5, 1, 4)
    classes = torch.eye(10, dtype=torch.float64)[None, None]
    log_q = model.log_posterior(v)
    found = class_sum(log_q, model.bound(v[:, :, None], classes, noise))[0]
    for i in range(5):
        total = 0.0
        for k in range(10):
            bound = literal_bound(model, v[0, i], k, noise[0, i, 0])
            total += log_q[0, i, k].exp() * (bound - log_q[0, i, k])
        torch.testing.assert_close(found[i], total)


def test_bound_is_the_mean_of_its_monte_carlo_estimate(m1):
    """Log p(v, y, z) - log q(z | v, y) at many z, in place of the closed divergence."""
    _, model, *_ = stack_of(m1, seeds=(0,))
    v = torch.as_tensor(m1.modelled(digits()[0][:1], np.float64))[None, :, : len(m1.kept)]
    v, y = v[:, :, None], torch.eye(10, dtype=torch.float64)[3][None, None, None]
    noise = Stream([5]).normal((1, 20_000, 4), torch.float64)
    q = gaussian(model.encoder(v, y))
    z = q.sample(noise)
    prior = Gaussian(torch.zeros_like(z), torch.zeros_like(z)).log_prob(z)
    estimates = gaussian(model.decoder(y, z)).log_prob(v) - math.log(10) + prior - q.log_prob(z)
    # Samples stand where classes otherwise do.
    apart = model.bound(v, y, noise) - estimates
    error = (apart.std() / math.sqrt(20_000)).item()
    assert apart.mean().item() == pytest.approx(0, abs=5 * error)
    assert q.kl().sum().item() > 20 * error


def test_loss_is_the_objective_over_all_points(m1):
    """A batch of all points: minus the objective divided by their number."""
    estimator, model, batches, streams, _ = stack_of(m1, seeds=(0,))
    batches.labelled_batch, batches.unlabelled_batch = None, N
    inputs = estimator._inputs(batches, streams, 0, 100)
    losses = estimator._losses(model, batches, streams, inputs)
    estimator._inputs(batches, streams, 0, 100)  # the streams, at the start of the step again
    eye = torch.eye(10, dtype=torch.float64)
    joint, log_q = estimator._terms(
        model, batches.x[inputs["labelled"]], eye[inputs["classes"]][:, :, None], streams
    )
    label = torch.stack([log_q[0, i, 0, k] for i, k in enumerate(inputs["classes"][0])])
    bounds, log_q = estimator._terms(
        model, batches.x[inputs["unlabelled"]], eye[None, None], streams
    )
    beta = 0.5 * N / N_LABELLED
    objective = joint.sum() + beta * label.sum() + class_sum(log_q, bounds).sum()
    torch.testing.assert_close(losses["loss"][0], -objective / N)
    assert not set(inputs["labelled"].flatten().tolist()) & set(
        inputs["unlabelled"].flatten().tolist()
    )


def test_features_are_redrawn_at_each_step(m1):
    estimator, model, batches, streams, inputs = stack_of(m1)
    first, again = (estimator._losses(model, batches, streams, inputs)["bound"] for _ in range(2))
    assert not torch.equal(first, again)
    estimator._inputs(batches, streams, 3, 100)
    torch.testing.assert_close(estimator._losses(model, batches, streams, inputs)["bound"], first)


def test_bound_of_images_is_that_of_m1_with_another_prior(m1):
    """The rest of `draw` with M1's own prior of the coordinates in use, on average."""
    X, _, _ = digits()
    stream, estimates = Stream([3]), []
    for step in range(40):
        v, rest = m1.draw(X, stream.at(step))
        v = torch.as_tensor(v)
        prior = Gaussian(torch.zeros_like(v), torch.zeros_like(v)).log_prob(v)
        estimates.append(rest.mean() + prior.mean().item())
    model = m1.model()
    x = torch.as_tensor(X.reshape(1, N, 64)).float() / 255
    bounds = [model.bound(x, Stream([9]).at(i).normal((N, 8))).mean().item() for i in range(40)]
    assert np.mean(estimates) == pytest.approx(np.mean(bounds), abs=0.05)


# -- M1 --------------------------------------------------------------------------------------


def test_m1_learns_and_keeps_the_coordinates_in_use(m1):
    X, _, _ = digits()
    constant = (X / 255).mean(axis=0).clip(1e-6, 1 - 1e-6)
    without = (X / 255 * np.log(constant) + (1 - X / 255) * np.log(1 - constant)).sum() / N
    assert m1.bound_ > without + 1
    features = m1.modelled(X)
    n = len(m1.kept)
    assert features.shape == (N, m1.n_modelled) == (N, 2 * n)
    assert (features[:, :n].std(axis=0) > LEAST_SPREAD).all()
    np.testing.assert_allclose(m1.modelled(X[:7]), features[:7], atol=1e-5)
    np.testing.assert_allclose(m1.modelled(X / 255), features, atol=1e-6)


def test_m1_that_uses_no_coordinate_is_refused():
    X, _, y = digits()
    with pytest.raises(ValueError, match="uses none of its 8 latent coordinates after 1 passes"):
        m1m2(m1_n_epochs=1, m1_gain=None).fit(X, y)


def test_m1_sees_no_label():
    """Nor M2's seed: with other labels and seeds it has the same bits, so that its file serves."""
    X, y, hidden = digits()
    quick = {"m1_n_epochs": 30}
    first = m1m2(**quick, n_steps=1).fit(X, hidden)
    other = m1m2(**quick, n_steps=1, random_state=5).fit(X, np.where(np.arange(N) % 7, -1, y))
    for name, value in first.preprocess_.arrays().items():
        np.testing.assert_array_equal(other.preprocess_.arrays()[name], value)


class InterruptedRunError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [30, 310])
def test_an_interrupted_training_goes_on_to_the_same_bits(stop_at, tmp_path, monkeypatch):
    """In the training of M1, of 300 steps, and in that of M2."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 0.0)
    X, _, y = digits()
    done = []

    def progress(step, n_steps, text):
        done.append(n_steps)
        if step + (300 if n_steps == 20 else 0) >= stop_at:
            raise InterruptedRunError

    def fit(**options):
        model = m1m2(m1_n_epochs=25, n_steps=20)
        fit_stack([model], X, y[None], **options)
        return model

    whole = fit()
    with pytest.raises(InterruptedRunError):
        fit(checkpoint=tmp_path / "state", progress=progress)
    found = fit(checkpoint=tmp_path / "state", progress=lambda *said: done.append(said))
    np.testing.assert_array_equal(found.predict_log_proba(X), whole.predict_log_proba(X))
    np.testing.assert_array_equal(found.bound(X), whole.bound(X))
    assert found.history_ == whole.history_
    assert (tmp_path / "m1.safetensors").exists()


def test_the_file_of_m1_belongs_to_its_images_and_settings(m1, tmp_path):
    X, _, y = digits()
    m1.save(tmp_path / "m1.safetensors", digest(X))

    def fit(X, **changes):
        fit_stack([m1m2(n_steps=1, **changes)], X, y[None], checkpoint=tmp_path / "state")

    fit(X)
    for images, changes in ((255 - X, {}), (X, {"m1_lr": 1e-3})):
        with pytest.raises(UserError, match="belongs to another run; delete it to train M1"):
            fit(images, **changes)


def test_jobs_on_the_same_images_share_m1(tmp_path, monkeypatch):
    X, _, _ = digits()
    trained = []
    fit_m1 = M1M2Classifier.fit_m1
    monkeypatch.setattr(
        M1M2Classifier, "fit_m1", lambda *args: trained.append(args[2]) or fit_m1(*args)
    )

    def provide(job, **params):
        path = f"{M1M2Classifier.__module__}.M1M2Classifier"
        own = {"neural": True, "estimator": path, "code": "c"}
        spec = own | {"params": {**M1, "m1_n_epochs": 30} | params}
        provide_m1(spec, X, tmp_path / job, Execution(device="cpu"))
        return (tmp_path / job / "m1.safetensors").read_bytes()

    assert provide("100", hidden_size=300) == provide("3000", hidden_size=500)
    assert len(trained) == 1
    assert provide("other", m1_seed=1) != provide("600")
    assert len(trained) == 2
    for neural, method in (
        (True, "flow_gmm.FlowGMMClassifier"),
        (False, "forest.ForestClassifier"),
    ):
        other = {"neural": neural, "estimator": f"flowgmm.methods.{method}", "params": {}}
        provide_m1(other, X, tmp_path / "none", Execution(device="cpu"))
    assert not (tmp_path / "none").exists()


# -- the estimator ---------------------------------------------------------------------------


@pytest.mark.usefixtures("with_m1")
def test_learns_from_few_labels():
    X, y, hidden = digits()
    model = m1m2(n_steps=300, hidden_size=32).fit(X, hidden)
    unlabelled = slice(N_LABELLED, None)
    assert model.score(X[unlabelled], y[unlabelled]) > 0.6  # ten classes
    assert model.history_["bound"][-1] > model.history_["bound"][0]
    assert model.history_["entropy"][-1] < model.history_["entropy"][0]
    assert model.predict_log_proba(X).dtype == np.float64
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
    bound = model.bound(X)
    assert bound.shape == (N,)
    assert bound.mean() > -64 * math.log(2)
    with pytest.raises(ValueError, match="shape"):
        model.predict(X.reshape(N, 64))


@pytest.mark.usefixtures("with_m1")
def test_a_stack_is_its_seeds_alone():
    X, _, y = digits()
    models = [m1m2(s, precision="fp64") for s in (0, 1)]
    fit_stack(models, X, np.stack([y, y]))
    for s, stacked in enumerate(models):
        alone = m1m2(s, precision="fp64").fit(X, y)
        np.testing.assert_allclose(stacked.predict_log_proba(X), alone.predict_log_proba(X), 1e-6)


@pytest.mark.usefixtures("with_m1")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp64"])
def test_save_and_load(precision, tmp_path):
    X, _, y = digits()
    model = m1m2(precision=precision, n_steps=3).fit(X, y)
    model.save(tmp_path / "m.safetensors")
    loaded = M1M2Classifier.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict_log_proba(X), model.predict_log_proba(X))
    np.testing.assert_array_equal(loaded.bound(X), model.bound(X))
    assert loaded.preprocess_.header() == model.preprocess_.header()
    assert loaded.history_ == model.history_


def test_vectors_are_refused():
    X, _, y = digits()
    with pytest.raises(ValueError, match=r"images have shape \(N, C, H, W\)"):
        m1m2().fit(X.reshape(N, 64), y)
