"""FlowGMMClassifier on images: objective, use, calibration, features, saving."""

import shutil

import numpy as np
import pytest
import torch
from estimators import flow_gmm, in_use
from sklearn.datasets import load_digits
from steps import losses_at

from flowgmm.evaluation.metrics import class_nll
from flowgmm.flows.pixels import dequantise
from flowgmm.flows.rng import Stream
from flowgmm.methods.base import STREAMS
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.stack import fit_stack
from flowgmm.utils.errors import UserError

# The image objective (spec 1.6c), small.
IMAGE = {
    "n_filters": 4,
    "n_blocks": 1,
    "crop_padding": 1,
    "zero_init": False,
    "means": "random",
    "learn_means": False,
    "labelled_nll": "mixture",
    "pooled_loss": True,
    "unlabelled_weight": 1.0,
    "label_weight": 3.0,
    "consistency_weight": 1.0,
    "consistency_target": "joint",
    "balance_weight": 0.0,
    "labelled_in_unlabelled": False,
    "sampling": "shuffle_full",
    "labelled_batch": 8,
    "unlabelled_batch": 8,
    "optimizer": "adam",
    "schedule": "constant",
    "weight_decay": 5e-5,
    "n_steps": 6,
    "random_state": 0,
}


def digits(n=120, n_labels=30):
    X, y = load_digits(return_X_y=True)
    X = np.rint(X[:n] * 255 / 16).astype(np.uint8).reshape(n, 1, 8, 8)
    hidden = y[:n].copy()
    hidden[n_labels:] = -1
    return X, y[:n], hidden


def fitted(**changes):
    X, _, y = digits()
    return flow_gmm(**IMAGE | changes).fit(X, y)


@pytest.fixture(scope="module")
def model():
    return fitted(n_steps=40, lr=1e-2)


def test_answers(model):
    X, y, _ = digits()
    assert model.n_features_in_ == 64
    assert model.image_shape_ == (1, 8, 8)
    assert model.score(X, y) > 0.2  # ten classes
    np.testing.assert_array_equal(model.predict(X), model.predict(X / 255))
    assert model.predict_log_proba(X).dtype == np.float64
    assert model.transform(X).shape == (len(X), 64)


def test_codes_lead_back_to_the_middle_of_the_levels(model):
    X, _, _ = digits()
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(X)), (X + 0.5) / 256, 0, 1e-5
    )


def test_density_is_that_of_the_flow(model):
    """Term by term: log p(z) + log-det - D log 256."""
    X, _, _ = digits(5)
    with torch.no_grad():
        z, log_det = model.model_.flow(dequantise(torch.as_tensor(X).float(), 0.5)[None])
        log_prob = model.model_.mixture.log_prob(z) + log_det
    np.testing.assert_allclose(model.score_samples(X), log_prob[0] - 64 * np.log(256), 1e-5)


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
@pytest.mark.parametrize("architecture", ["multi_scale", "mnist_small"])
def test_every_precision_and_architecture(architecture, precision):
    model = fitted(architecture=architecture, precision=precision, n_steps=2)
    X, _, _ = digits()
    assert np.isfinite(model.score_samples(X)).all()
    assert model.inverse_transform(model.transform(X)).shape == X.shape


def test_pooled_images():
    model = fitted(pool=2, n_steps=2)
    X, _, _ = digits()
    assert model.image_shape_ == (1, 4, 4)
    assert model.sample(3)[0].shape == (3, 1, 4, 4)
    assert model.interpolate(X[0], X[1], 5).shape == (5, 1, 4, 4)


@pytest.mark.parametrize(
    ("changes", "X", "message"),
    [
        ({}, digits()[0].reshape(-1, 64), "flow: expected RealNVP for X of shape"),
        ({"architecture": "glow"}, digits()[0], "'architecture' parameter of MultiscaleRealNVP"),
        ({"pool": 3}, digits()[0], "pool=3 does not divide images of 8 x 8"),
        (
            {"labelled_nll": "both"},
            digits()[0],
            "'labelled_nll' parameter of Objective",
        ),
        ({"label_weight_target": "x"}, digits()[0], "'label_weight_target' parameter of Objective"),
        ({"weights_from": "labels"}, digits()[0], "'weights_from' parameter of LatentMixture"),
        (
            {"student_t": -1.0},
            digits()[0],
            "'student_t' parameter of LatentMixture",
        ),
        ({}, digits()[0].astype(float), "images are uint8 in 0..255 or floats"),
    ],
)
def test_bad_input(changes, X, message):
    with pytest.raises(ValueError, match=message):
        flow_gmm(**IMAGE | changes).fit(X, digits()[2])


def test_shape_is_checked_when_used(model):
    for X in (np.zeros((2, 64)), np.zeros((2, 1, 8, 6), np.uint8)):
        with pytest.raises(ValueError, match="shape"):
            model.predict(X)


def test_save_and_load(model, tmp_path):
    X, y, _ = digits()
    model.calibrate(X, y)
    model.save(tmp_path / "m.safetensors")
    loaded = FlowGMMClassifier.load(tmp_path / "m.safetensors")
    assert loaded.temperature_ == model.temperature_
    np.testing.assert_array_equal(loaded.predict_log_proba(X), model.predict_log_proba(X))
    np.testing.assert_array_equal(loaded.feature_std_[7], model.feature_std_[7])
    model.temperature_ = 1.0
    (tmp_path / "m.safetensors").write_bytes(b"no model")
    with pytest.raises(UserError, match="is damaged or no FlowGMMClassifier"):
        FlowGMMClassifier.load(tmp_path / "m.safetensors")


# -- objective -------------------------------------------------------------------------------


def losses(changes, model=None):
    """The losses of one step and the stack that made them."""
    X, _, y = digits()
    estimator = flow_gmm(**IMAGE | changes, precision="fp64")
    streams = {name: Stream([i]) for i, name in enumerate(STREAMS)}
    in_use(estimator, *X.shape[1:])
    batches = estimator._batches(
        torch.as_tensor(X), y[None], np.arange(len(X))[None], streams["batches"]
    )
    model = model or estimator._build(batches, 10, streams).double()
    return losses_at(estimator, model, batches, streams, 3, 100), model


def gradients(changes):
    found, model = losses(changes)
    found["loss"].sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_loss_is_the_papers():
    """L = mean over all of NLL(x) + lambda CE + w NLL(x | guess), each term from another call."""
    nll = losses({"label_weight": 0.0, "consistency_weight": 0.0})[0]["loss"]
    plain = losses({"consistency_weight": 0.0})[0]
    torch.testing.assert_close(plain["loss"], nll + 3 * plain["labelled_ce"])
    # The first view of a step draws other numbers if there is a second one before it.
    whole = losses({"ramp_up": 0.1})[0]
    rest = losses({"consistency_weight": 1e-300})[0]
    torch.testing.assert_close(whole["loss"], rest["loss"] + 0.4 * rest["consistency"])


def test_em_gradient_is_the_direct_one():
    """Fisher's identity (spec 1.6d), with labelled points in the mixture term, too."""
    for labelled_nll in ("class", "mixture"):
        direct = gradients({"labelled_nll": labelled_nll, "consistency_weight": 0.0})
        em = gradients({"labelled_nll": labelled_nll, "consistency_weight": 0.0, "em": True})
        assert direct.keys() == em.keys()
        for name, value in direct.items():
            torch.testing.assert_close(em[name], value, rtol=1e-9, atol=1e-12)


def test_labelled_terms():
    """Without a likelihood of labelled points only cross-entropy is left of them (D30)."""
    supervised = {"unlabelled_weight": 0.0, "consistency_weight": 0.0, "pooled_loss": False}
    only_ce = losses(supervised | {"labelled_nll": "none", "label_weight": 1.0})[0]
    torch.testing.assert_close(only_ce["loss"], only_ce["labelled_ce"])
    joint = losses(supervised | {"labelled_nll": "class", "label_weight": 0.0})[0]
    mixture = losses(supervised | {"labelled_nll": "mixture", "label_weight": 1.0})[0]
    # -log p(x, y) = -log p(x) - log p(y | x), and p(y) = 1/10.
    torch.testing.assert_close(mixture["loss"], joint["loss"] + np.log(10))
    weighted = {"labelled_nll": "none", "label_weight": 3.0, "label_weight_target": "joint"}
    torch.testing.assert_close(losses(supervised | weighted)[0]["loss"], 3 * mixture["loss"])


def test_class_weights_learn_from_unlabelled_points_alone():
    changes = {"learn_weights": True, "consistency_weight": 0.0, "unlabelled_weight": 1.0}
    everywhere = gradients(changes)["mixture.logits"]
    unlabelled = gradients(changes | {"weights_from": "unlabelled"})["mixture.logits"]
    no_labels = gradients(changes | {"labelled_nll": "none", "label_weight": 0.0})["mixture.logits"]
    torch.testing.assert_close(unlabelled, no_labels)
    assert not torch.allclose(everywhere, unlabelled)


def test_only_gains_decay():
    estimator = flow_gmm(**IMAGE)
    _, model = losses({})
    without = {id(p) for p in estimator._undecayed_parameters(model)}
    for name, parameter in model.flow.named_parameters():
        assert (id(parameter) not in without) == name.endswith("gain")


@pytest.mark.parametrize("means", ["from_latent", "from_z", "from_data", "random_data"])
def test_means_from_images(means):
    X, y, _ = digits()
    model = fitted(means=means, n_steps=1, crop_padding=0)
    assert model.means_.shape == (10, 64)
    if means == "from_data":
        expected = (X[:30][y[:30] == 3].mean(axis=0) + 0.5) / 256
        np.testing.assert_allclose(model.means_[3], expected.ravel(), atol=0.5 / 256)


def test_running_means_end_with_the_view_that_is_learnt_from(monkeypatch):
    seen = []
    _, model = losses({})
    forward = type(model.flow).forward

    def watched(self, x, dropout=None):
        seen.append(torch.is_grad_enabled())
        return forward(self, x, dropout)

    monkeypatch.setattr(type(model.flow), "forward", watched)
    losses({}, model)
    assert seen == [False, True]


# -- use -------------------------------------------------------------------------------------


def test_calibration_lowers_the_class_nll_and_keeps_the_classes(model):
    X, y, _ = digits()
    before, predicted = model.predict_log_proba(X), model.predict(X)
    model.calibrate(X, y)
    after = model.predict_log_proba(X)
    assert class_nll(y, after) < class_nll(y, before)
    np.testing.assert_array_equal(model.predict(X), predicted)
    # The same as one scalar variance in the place of all: log-densities divided by it.
    np.testing.assert_allclose(np.diff(after), np.diff(before) / model.temperature_, 1e-9, 1e-12)
    model.temperature_ = 1.0
    with pytest.raises(ValueError, match="classes the model does not know"):
        model.calibrate(X, y + 7)


def test_decision_distance_is_that_to_a_plane(model):
    """Against the distance to every bisecting plane, of the two nearest means."""
    X, _, _ = digits(20)
    z, means = model.transform(X).astype(float), model.means_.astype(float)
    for point, found in zip(z, model.decision_distance(X), strict=True):
        first, second = means[np.argsort(np.linalg.norm(means - point, axis=1))[:2]]
        normal = (first - second) / np.linalg.norm(first - second)
        assert found == pytest.approx(abs(normal @ (point - (first + second) / 2)), rel=1e-4)


def test_interpolation_starts_and_ends_at_the_images(model):
    X, _, _ = digits()
    path = model.interpolate(X[0], X[1], 7)
    np.testing.assert_allclose(path[[0, -1]], (X[:2] + 0.5) / 256, atol=1e-4)


def test_samples(model):
    cold, classes = model.sample(4, y=3, temperature=0.0)
    assert (classes == 3).all()
    np.testing.assert_allclose(cold, model.inverse_transform(model.means_[[3] * 4]), atol=1e-5)
    assert ((cold >= 0) & (cold <= 1)).all()


@pytest.mark.parametrize("position", [None, (1, 0)])
@pytest.mark.parametrize("layer", [3, 7])
def test_a_perturbed_feature_moves_by_its_standard_deviation(model, layer, position):
    X, _, _ = digits()
    channel, alpha = len(model.feature_std_[layer]) - 1, 0.01
    np.testing.assert_allclose(
        model.perturb_feature(X[5], layer, channel, 0.0), (X[5] + 0.5) / 256, atol=1e-5
    )
    image = model.perturb_feature(X[5], layer, channel, alpha, position)
    with torch.no_grad():
        moved = model.model_.flow.run(
            torch.as_tensor(image, dtype=torch.float32)[None, None], layer
        )
    change = moved[0][0, 0].numpy() - model.feature_maps(X[5:6], layer)[0]
    expected = np.zeros_like(change)
    where = (channel, *position) if position else channel
    expected[where] = alpha * model.feature_std_[layer][channel]
    np.testing.assert_allclose(change, expected, atol=2e-4)


def test_no_features_in_other_places(model):
    X, _, _ = digits()
    for layer in (0, 13):
        with pytest.raises(ValueError, match=f"layer {layer} is not in 1..12"):
            model.feature_maps(X, layer)
    with pytest.raises(ValueError, match=r"channel 4 is not in 0..3 of layer 4"):
        model.perturb_feature(X[0], 4, 4, 1.0)
    vectors = flow_gmm(n_steps=1).fit(X.reshape(len(X), -1), digits()[2])
    with pytest.raises(ValueError, match="only an image flow has feature maps"):
        vectors.feature_maps(X.reshape(len(X), -1), 1)


def test_a_stack_of_images_is_its_seeds_alone():
    X, _, y = digits()
    models = [flow_gmm(**IMAGE | {"random_state": s}, precision="fp64") for s in (0, 1)]
    fit_stack(models, X, np.stack([y, y]))
    for s, stacked in enumerate(models):
        alone = flow_gmm(**IMAGE | {"random_state": s}, precision="fp64").fit(X, y)
        np.testing.assert_allclose(stacked.transform(X), alone.transform(X), 1e-6, 1e-8)


@pytest.mark.system
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_flow_trains_the_same():
    compiled, plain = fitted(compile=True, n_steps=3), fitted(n_steps=3)
    np.testing.assert_allclose(compiled.history_["loss"], plain.history_["loss"], 1e-4)
    assert compiled.model_.state_dict().keys() == plain.model_.state_dict().keys()


@pytest.mark.parametrize("student_t", [None, 3.0])
def test_component_log_prob_is_the_mixtures(student_t):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 2)).astype(np.float32), np.arange(40) % 2
    fitted = flow_gmm(
        n_couplings=2, hidden_size=8, n_steps=2, device="cpu", random_state=0, student_t=student_t
    ).fit(X, y)
    log_prob = fitted.component_log_prob(fitted.transform(X))
    joint = log_prob + np.log(fitted.weights_)
    posterior = joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)
    np.testing.assert_allclose(posterior, fitted.predict_log_proba(X), atol=1e-4)
    codes = torch.as_tensor(fitted.transform(X))[None]
    with torch.no_grad():
        expected = fitted.model_.mixture.component_log_prob(codes)[0].numpy()
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-4)


def test_decision_distance_refuses_unequal_spreads():
    X, y = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32), np.arange(40) % 2
    fitted = flow_gmm(n_couplings=2, hidden_size=8, n_steps=2, device="cpu", random_state=0).fit(
        X, y
    )
    assert fitted.decision_distance(X).shape == (40,)
    with torch.no_grad():
        fitted.model_.mixture.rho[0, 0] += 1
    with pytest.raises(ValueError, match="expected components of one spread"):
        fitted.decision_distance(X)
