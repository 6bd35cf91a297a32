"""SCNF: its loss against a literal one, initialisation, densities, codes and samples."""

import math

import numpy as np
import pytest
import torch
from estimators import in_use, scnf
from scipy.special import logsumexp
from sklearn.datasets import make_circles, make_moons
from steps import losses_at, points_at

from flowgmm.flows.rng import Stream
from flowgmm.methods.base import STREAMS
from flowgmm.methods.generator import GeneratorClassifier
from flowgmm.methods.quoted.class_latent import ClassFlow, ClassGaussians

SEEDS = (3, 4)
LATENTS = ("flow", "gaussians")


@pytest.fixture(scope="module")
def moons():
    """200 points of two moons, 12 of them labelled, two thirds of class 0."""
    X, y = make_moons(200, noise=0.1, random_state=0)
    partial = np.full(200, -1)
    for k, n in ((0, 8), (1, 4)):
        partial[np.flatnonzero(y == k)[:n]] = k
    return X, partial, y


@pytest.fixture(scope="module", params=LATENTS)
def fitted(request, moons):
    X, y, _ = moons
    return scnf(latent=request.param, n_steps=400, precision="fp64", random_state=0).fit(X, y)


def prepared(moons, **params):
    """A stack in float64 before its first step, with its estimator, batches and streams."""
    X, y, _ = moons
    method = in_use(scnf(precision="fp64", preprocess="none", **params), 2)
    x = torch.as_tensor(X)
    streams = {name: Stream(SEEDS) for name in STREAMS}
    rows = np.tile(np.arange(len(X)), (len(SEEDS), 1))
    batches = method._batches(x, np.tile(y, (len(SEEDS), 1)), rows, streams["batches"])
    model = method._build(batches, 2, streams).double()
    method._initialise(model, batches, streams)
    return method, model, batches, streams


def grid(low, high, n=300):
    """Midpoints of squares, shape (n * n, 2), and their area."""
    axis = (np.arange(n) + 0.5) / n * (high - low) + low
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), ((high - low) / n) ** 2


def log_normal(u, std):
    return (-0.5 * (u / std) ** 2 - np.log(std) - 0.5 * math.log(2 * math.pi)).sum(-1)


@pytest.mark.parametrize("latent", LATENTS)
def test_the_loss_is_the_literal_one(moons, latent):
    """Point by point and class by class: -log p(x | y) where labelled, -log p(x) elsewhere."""
    method, model, batches, streams = prepared(moons, latent=latent)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.1 * Stream(SEEDS).at(i).normal(parameter.shape[1:], torch.float64)
        losses = losses_at(method, model, batches, streams, 3, 10)
        x, y, unlabelled = points_at(batches, 3)
        assert (x.shape[1], unlabelled.shape[1]) == (12, 24)

        def log_class(point, s, k):
            points = point.expand(len(SEEDS), 1, 2)
            z, of_flow = model.flow(points)
            classes = torch.full((len(SEEDS), 1), k)
            u, of_latent = model.latent(z, classes)
            std = model.latent.std[s, 0].numpy()
            return float(of_flow[s] + of_latent[s]) + log_normal(u[s, 0].numpy(), std)

        for s in range(len(SEEDS)):
            labelled = [-log_class(p, s, int(k)) for p, k in zip(x[s], y[s], strict=True)]
            weights = np.log([8 / 12, 4 / 12])
            others = [
                -logsumexp([log_class(p, s, k) + weights[k] for k in (0, 1)]) for p in unlabelled[s]
            ]
            assert float(losses["loss"][s]) == pytest.approx(np.mean(labelled + others), rel=1e-10)
            assert float(losses["labelled_nll"][s]) == pytest.approx(np.mean(labelled), rel=1e-10)
            assert float(losses["unlabelled_nll"][s]) == pytest.approx(np.mean(others), rel=1e-10)


def test_a_step_evaluates_the_flow_once_and_the_latent_once_for_each_class(moons):
    method, model, batches, streams = prepared(moons)
    seen = {"flow": [], "latent": []}
    for name, module in (("flow", model.flow), ("latent", model.latent.flow)):
        module.register_forward_hook(lambda _, x, y, name=name: seen[name].append(x[0].shape[1]))
    losses_at(method, model, batches, streams, 0, 10)
    assert seen == {"flow": [12 + 24], "latent": [12 + 2 * 24]}


def test_a_third_of_a_batch_is_labelled_however_few_labels(moons):
    batches = prepared(moons, labelled_batch=85, unlabelled_batch=171)[2]
    x, _, unlabelled = points_at(batches, 0)
    assert (x.shape[1], unlabelled.shape[1]) == (85, 171)
    known = set(map(tuple, moons[0][moons[1] >= 0]))
    assert set(map(tuple, x[0].tolist())) == known
    assert known.isdisjoint(map(tuple, unlabelled[0].tolist()))


def test_norms_of_the_latent_are_fitted_to_the_output_of_the_flow(moons):
    method, model, batches, streams = prepared(moons)
    first, codes = model.latent.flow.layers[0], []
    model.latent.flow.register_forward_hook(lambda _, x, y: codes.append(first(x[0])[0]))
    losses_at(method, model, batches, streams, 0, 1)
    assert codes[0].mean(1).abs().max() < 1e-8
    assert (codes[0].std(1, correction=0) - 1).abs().max() < 1e-4
    assert first.bias.abs().max() > 1e-3  # the batch's own mean is another
    assert torch.allclose(model.latent.std, torch.tensor(math.log(2), dtype=torch.float64))


@pytest.mark.parametrize("latent", LATENTS)
def test_every_parameter_is_trained(moons, latent):
    method, model, batches, streams = prepared(moons, latent=latent)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.1 * Stream(SEEDS).at(i).normal(parameter.shape[1:], torch.float64)
    losses_at(method, model, batches, streams, 0, 10)["loss"].sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad.flatten(1).norm(dim=1) > 0).all(), name


@pytest.mark.parametrize("latent", [ClassFlow(2, 3, 2, 8, 1, 10, Stream(SEEDS)), None])
def test_latent_of_a_class_is_inverted(latent):
    latent = (latent or ClassGaussians(2, 3, Stream(SEEDS))).double()
    with torch.no_grad():
        for i, parameter in enumerate(latent.parameters()):
            parameter += 0.2 * Stream(SEEDS).at(i).normal(parameter.shape[1:], torch.float64)
    z, classes = latent.of_every_class(Stream(SEEDS).at(9).normal((5, 2), torch.float64))
    u, log_det = latent(z, classes)
    back, log_det_back = latent.inverse(u, classes)
    assert torch.allclose(back, z) and torch.allclose(log_det, -log_det_back)
    of_classes = latent.component_log_prob(z[:, :5])
    assert of_classes.shape == (2, 5, 3)
    expected = latent.log_prob(z, classes).reshape(2, 3, 5)
    assert torch.allclose(of_classes.transpose(1, 2), expected)
    assert (of_classes[..., 0] - of_classes[..., 1]).abs().min() > 1e-6


def test_it_learns_the_moons_from_the_unlabelled_points(fitted, moons):
    X, _, y = moons
    if fitted.latent == "flow":  # Gaussians cross the moons
        assert np.mean(fitted.predict(X) == y) >= 0.9
    losses = fitted.history_["unlabelled_nll"]
    assert np.mean(losses[-10:]) < np.mean(losses[:3]) - 0.3
    assert np.exp(fitted.model_.log_weights[0].numpy()) == pytest.approx([8 / 12, 4 / 12])


def test_score_samples_is_a_density_of_x(fitted):
    points, area = grid(-4, 4)
    assert np.exp(fitted.score_samples(points)).sum() * area == pytest.approx(1, abs=0.02)


def test_posterior_is_bayes_rule_with_the_shares_of_the_labels(fitted, moons):
    X = moons[0][:20]
    model, U = fitted.model_.double(), torch.as_tensor(fitted.preprocess_.modelled(X, np.float64))
    z, _ = model.flow(U[None])
    log_joint = model.latent.component_log_prob(z)[0] + torch.tensor([8 / 12, 4 / 12]).log()
    expected = torch.softmax(log_joint, -1).numpy()
    np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-6)


def test_transform_is_the_code_of_the_predicted_class(fitted, moons):
    X = moons[0][:30]
    codes = fitted.transform(X)
    assert codes.shape == (30, 2)
    model, U = fitted.model_.double(), torch.as_tensor(fitted.preprocess_.modelled(X, np.float64))
    classes = torch.as_tensor(fitted.predict(X))[None]
    expected, _ = model.latent(model.flow(U[None])[0], classes)
    np.testing.assert_allclose(codes, expected[0], atol=1e-10)
    assert fitted.get_feature_names_out().tolist() == ["scnfclassifier0", "scnfclassifier1"]


def test_samples_are_of_the_density(fitted):
    """The mean of -log p at own samples is the entropy of p, here an integral over a grid."""
    X, y = fitted.sample(4000, random_state=0)
    assert (X.shape, y.shape, X.dtype) == ((4000, 2), (4000,), np.float64)
    assert np.mean(y) == pytest.approx(4 / 12, abs=0.03)
    points, area = grid(-4, 4)
    log_p, found = fitted.score_samples(points), fitted.score_samples(X)
    entropy = -(np.exp(log_p) * log_p).sum() * area
    assert -found.mean() == pytest.approx(entropy, abs=4 * found.std() / 4000**0.5)


def test_samples_of_a_class(fitted):
    again, _ = fitted.sample(5, y=1, random_state=0)
    assert (fitted.sample(5, y=1, random_state=0)[0] == again).all()
    X, y = fitted.sample(300, y=[0, 1] * 150, temperature=0.5, random_state=1)
    assert np.mean(fitted.predict(X) == y) > 0.7
    with pytest.raises(ValueError, match=r"classes the model does not know: \[7\]; it knows \[0"):
        fitted.sample(2, y=7)


def test_constant_columns_pass_through(moons):
    X, y, _ = moons
    wide = np.column_stack([X[:, 0], np.full(len(X), 7.0), X[:, 1]])
    narrow, model = (scnf(n_steps=5, random_state=0).fit(A, y) for A in (X, wide))
    np.testing.assert_allclose(model.predict_proba(wide), narrow.predict_proba(X), rtol=1e-5)
    assert model.transform(wide).shape == wide.shape
    np.testing.assert_allclose(model.sample(4, random_state=0)[0][:, 1], 7, atol=5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"latent": "glow"}, "'latent' parameter of ScnfClassifier must be a str among"),
        ({"n_blocks": -1}, "'n_blocks' parameter of ScnfClassifier must be an int in the range"),
        ({"embedding_size": 1}, "expected at least 2 features for as many classes, got 1"),
    ],
)
def test_bad_hyper_parameters(moons, params, message):
    with pytest.raises(ValueError, match=message):
        scnf(n_steps=1, **params).fit(*moons[:2])


# -- the generator ---------------------------------------------------------------------------

GENERATORS = {
    "moons": (make_moons, {"noise": 0.05}, 0.283),
    "moons of SCNF": (make_moons, {"noise": 0.1}, 0.998),
    "circles": (make_circles, {"noise": 0.05, "factor": 0.4}, 0.495),
    "circles of SCNF": (make_circles, {"noise": 0.1, "factor": 0.2}, 0.786),
}


@pytest.mark.parametrize("name", GENERATORS)
class TestGenerator:
    def test_entropy(self, name):
        """As Monte Carlo gives it by another program (quoted systems, section 1)."""
        make, params, entropy = GENERATORS[name]
        X, y = make(4000, random_state=1, **params)
        model = GeneratorClassifier(name.split()[0], **params).fit(X, y)
        scores = model.score_samples(X)
        assert -scores.mean() == pytest.approx(entropy, abs=4 * scores.std() / 4000**0.5)
        assert np.mean(model.predict(X) == y) > 0.999
        np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)

    def test_density(self, name):
        _, params, _ = GENERATORS[name]
        model = GeneratorClassifier(name.split()[0], **params).fit([[0, 0], [1, 1]], [0, 1])
        points, area = grid(-3, 3)
        assert np.exp(model.score_samples(points)).sum() * area == pytest.approx(1, abs=1e-4)


def test_the_generator_names_the_mistake():
    with pytest.raises(ValueError, match="unknown shape 'rings'; expected moons or circles"):
        GeneratorClassifier("rings").fit([[0, 0], [1, 1]], [0, 1])
    with pytest.raises(ValueError, match="2 features and 2 classes, got 3 and 2"):
        GeneratorClassifier().fit([[0, 0, 0], [1, 1, 1]], [0, 1])
