"""DIGLM: its loss term by term, virtual adversarial directions, densities, stacks and files."""

import math

import numpy as np
import pytest
import torch
from estimators import diglm, in_use
from sklearn.datasets import load_digits, make_moons
from steps import losses_at
from torch.nn import functional

from flowgmm.flows.rng import Stream
from flowgmm.methods.base import STREAMS
from flowgmm.methods.quoted.diglm import DiglmClassifier
from flowgmm.methods.quoted.virtual_adversarial import divergence, unit, worst_direction
from flowgmm.methods.stack import fit_stack

IMAGES = {
    "n_filters": 4,
    "n_blocks": 1,
    "crop_padding": 1,
    "zero_init": False,
    "sampling": "shuffle_full",
    "labelled_batch": 8,
    "unlabelled_batch": 8,
    "optimizer": "adam",
    "n_steps": 6,
    "random_state": 0,
}
VECTORS = {"n_couplings": 2, "hidden_size": 16, "n_steps": 40, "lr": 1e-2, "random_state": 0}
SUPERVISED = {"unlabelled_weight": 0.0, "adversarial_weight": 0.0}


def digits(n=120, n_labels=30):
    X, y = load_digits(return_X_y=True)
    X = np.rint(X[:n] * 255 / 16).astype(np.uint8).reshape(n, 1, 8, 8)
    hidden = y[:n].copy()
    hidden[n_labels:] = -1
    return X, y[:n], hidden


def moons(n=100, n_labels=10):
    X, y = make_moons(n, noise=0.1, random_state=0)
    hidden = y.copy()
    hidden[n_labels:] = -1
    return X, y, hidden


class Step:
    """One step of an untrained stack in float64: batches, streams, model and losses."""

    def __init__(self, X, y, **params):
        self.method = diglm(**params | {"precision": "fp64"})
        self.streams = {name: Stream([i]) for i, name in enumerate(STREAMS)}
        in_use(self.method, *X.shape[1:])
        x = torch.as_tensor(X)
        rows = np.arange(len(X))[None]
        self.batches = self.method._batches(x, y[None], rows, self.streams["batches"])
        self.model = self.method._build(self.batches, y.max() + 1, self.streams).double()

    def losses(self):
        return losses_at(self.method, self.model, self.batches, self.streams, 3, 100)


@pytest.fixture(params=["vectors", "images"])
def points(request):
    """Points, classes with -1, and the parameters of a method for them."""
    if request.param == "images":
        X, _, y = digits()
        return X, y, IMAGES
    X, _, y = moons()
    return X, y, VECTORS | {"dropout": 0.0, "input_noise": 0.0}


def test_without_likelihood_it_is_a_classifier(points):
    X, y, params = points
    step = Step(X, y, **params | SUPERVISED | {"likelihood_weight": 0.0})
    found = step.losses()
    assert found.keys() == {"loss", "labelled_ce"}
    # The same view of the same points, and a plain classifier's loss.
    inputs = step.method._inputs(step.batches, step.streams, 3, 100)
    x = step.method._view(step.batches.x[inputs["labelled"]], torch.float64, None, step.streams)
    logits = step.model.head(step.model.flow(x)[0])
    expected = functional.cross_entropy(logits[0], inputs["classes"][0])
    torch.testing.assert_close(found["loss"], expected[None])


def test_loss_is_the_sum_of_its_terms(points):
    X, y, params = points
    weights = {"likelihood_weight": 3.0, "unlabelled_weight": 0.5, "adversarial_weight": 2.0}
    found = Step(X, y, **params | weights).losses()
    weight = 3.0 / math.prod(X.shape[1:])
    expected = (
        found["labelled_ce"]
        + weight * (found["nll"] + 0.5 * found["unlabelled_nll"])
        + 2 * found["adversarial"]
    )
    torch.testing.assert_close(found["loss"], expected)
    assert (found["adversarial"] > 0).all()


def test_log_prob_is_the_flows(points):
    """Normal density of the codes and the log-det of the flow; of vectors by its Jacobian."""
    X, y, params = points
    model = diglm(**params).fit(X, y)
    z = model.transform(X[:5]).astype(float)
    latent = -0.5 * (z**2).sum(1) - z.shape[1] / 2 * np.log(2 * np.pi)
    flow = model.model_.flow.double()
    if X.ndim == 4:
        u = (torch.as_tensor(X[:5]).double() + 0.5) / 256
        log_det = flow(u[None])[1][0].detach().numpy() - z.shape[1] * np.log(256)
    else:
        U = torch.as_tensor(model.preprocess_.forward(X[:5]))
        jacobians = [
            torch.autograd.functional.jacobian(lambda v: flow(v[None, None])[0][0, 0], u) for u in U
        ]
        log_det = np.linalg.slogdet(np.stack(jacobians))[1] + model.preprocess_.log_det
    np.testing.assert_allclose(model.score_samples(X[:5]), latent + log_det, 1e-5)


def test_adversarial_term_is_zero_at_size_zero(points):
    X, y, params = points
    params = params | ({} if X.ndim == 4 else {"dropout": 0.5, "input_noise": 0.3})
    assert Step(X, y, **params, adversarial_size=0.0).losses()["adversarial"].item() == 0
    sizes = [
        Step(X, y, **params, adversarial_size=e).losses()["adversarial"].item() for e in (0.1, 0.5)
    ]
    assert 0 < sizes[0] < sizes[1]


def test_direction_is_the_gradients(points):
    """Against a central difference of the divergence, coordinate by coordinate."""
    X, y, params = points
    step = Step(X, y, **params)
    step.model.eval()  # a point's answer then depends on no other point
    x = torch.rand(1, 3, *X.shape[1:], dtype=torch.float64, generator=torch.manual_seed(0))
    start = torch.randn(x.shape, dtype=torch.float64, generator=torch.manual_seed(1))

    def log_proba(x):
        return step.model(x)[0]

    reference = log_proba(x).detach()
    found = worst_direction(log_proba, x, reference, start, 0.1)
    at, h = x + 0.1 * unit(start), 1e-6
    gradient = torch.zeros_like(x)
    with torch.no_grad():
        for i in range(x[0, 0].numel()):
            move = torch.zeros_like(x).flatten(2)
            move[..., i] = h
            move = move.view_as(x)
            up, down = (divergence(reference, log_proba(at + m)) for m in (move, -move))
            gradient.flatten(2)[..., i] = (up - down) / (2 * h)
    length = gradient.flatten(2).norm(dim=-1).view(1, 3, *[1] * (x.ndim - 2))
    torch.testing.assert_close(found, gradient / length, rtol=1e-4, atol=1e-6)


def test_perturbed_points_leave_parameters_and_running_means_alone():
    X, _, y = digits()
    with_term, without = (Step(X, y, **IMAGES, adversarial_weight=weight) for weight in (1.0, 0.0))
    for step in (with_term, without):
        step.losses()
    states = with_term.model.state_dict(), without.model.state_dict()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    moved = [name for name in states[0] if name.endswith("norm.mean")]
    assert moved
    assert all(states[0][name].abs().sum() > 0 for name in moved)
    assert all(p.grad is None for p in with_term.model.parameters())


def test_perturbed_pixels_stay_pixels(monkeypatch):
    """However far they are moved, the flow sees numbers in [0, 1]."""
    X, _, y = digits()
    step = Step(X, y, **IMAGES, adversarial_size=100.0)
    seen = []
    forward = step.model.flow.forward
    monkeypatch.setattr(
        step.model.flow, "forward", lambda x, dropout: seen.append(x) or forward(x, dropout)
    )
    assert step.losses()["adversarial"].isfinite().all()
    assert len(seen) == 4
    assert all(x.min() >= 0 and x.max() <= 1 for x in seen)


def test_zero_directions_stay_zero():
    assert torch.equal(unit(torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3))
    tiny = torch.full((1, 1, 4), 1e-25)
    torch.testing.assert_close(unit(tiny), torch.full((1, 1, 4), 0.5))


def test_it_learns_and_its_codes_lead_back():
    X, y, hidden = digits(300, 100)
    model = diglm(**IMAGES | {"n_steps": 60, "lr": 1e-2}).fit(X, hidden)
    assert model.score(X, y) > 0.4  # ten classes
    assert model.image_shape_ == (1, 8, 8)
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(X)), (X + 0.5) / 256, 0, 1e-5
    )
    assert model.history_["nll"][-1] < model.history_["nll"][0]


def test_a_stack_of_images_is_its_seeds_alone():
    X, _, y = digits()
    models = [diglm(**IMAGES | {"random_state": s}, precision="fp64") for s in (0, 1)]
    fit_stack(models, X, np.stack([y, y]))
    for s, stacked in enumerate(models):
        alone = diglm(**IMAGES | {"random_state": s}, precision="fp64").fit(X, y)
        np.testing.assert_allclose(stacked.transform(X), alone.transform(X), 1e-6, 1e-8)
        np.testing.assert_allclose(stacked.predict_proba(X), alone.predict_proba(X), 1e-6, 1e-8)


def test_a_resumed_training_has_the_same_bits(points, tmp_path, monkeypatch):
    X, y, params = points

    def fit(**options):
        model = diglm(**params)
        fit_stack([model], X, y[None], **options)
        return model

    def stop(step, n_steps, text):
        if step >= n_steps // 2:
            raise KeyboardInterrupt

    whole = fit()
    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=tmp_path / "state", progress=stop)
    resumed = fit(checkpoint=tmp_path / "state")
    assert resumed.history_ == whole.history_
    np.testing.assert_array_equal(resumed.predict_log_proba(X), whole.predict_log_proba(X))
    np.testing.assert_array_equal(resumed.score_samples(X), whole.score_samples(X))


def test_save_and_load(points, tmp_path):
    X, y, params = points
    model = diglm(**params).fit(X, y)
    model.save(tmp_path / "model")
    loaded = DiglmClassifier.load(tmp_path / "model")
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.predict_log_proba(X), model.predict_log_proba(X))
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"likelihood_weight": -1.0}, "'likelihood_weight' parameter of DiglmClassifier must be"),
        ({"adversarial_probe": 0.0}, "'adversarial_probe' parameter of DiglmClassifier must be"),
    ],
)
def test_bad_hyper_parameters(change, message):
    X, _, y = moons()
    with pytest.raises(ValueError, match=message):
        diglm(**VECTORS | change).fit(X, y)
