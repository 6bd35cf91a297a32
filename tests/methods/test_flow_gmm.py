"""FlowGMM on vectors: densities, codes, samples, and where its components lie."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from estimators import small_flow
from sklearn.datasets import make_blobs

from flowgmm.flows.mixture import DATA_MEANS, FIXED_MEANS
from flowgmm.methods.stack import fit_stack


@pytest.fixture(scope="module")
def fitted(moons):
    """A flow well trained on the moons, standardised."""
    X, y, _, _ = moons
    return small_flow(
        n_couplings=4,
        hidden_size=32,
        means="from_latent",
        mean_scale=2.0,
        n_steps=300,
        lr=3e-3,
        precision="fp64",
        random_state=0,
    ).fit(X, y)


def test_it_learns_the_moons(fitted, moons):
    _, _, X_new, truth = moons
    assert np.mean(fitted.predict(X_new) == truth[150:]) >= 0.9
    losses = fitted.history_["unlabelled_nll"]
    assert np.mean(losses[-10:]) < np.mean(losses[:3]) - 0.3
    assert fitted.history_["step"][-1] == 300


def integral(model, X, n=300):
    """Midpoint sum of the density over a box around the data."""
    low, high = X.min(0) - 2 * X.std(0), X.max(0) + 2 * X.std(0)
    axes = [(np.arange(n) + 0.5) / n * (b - a) + a for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return np.exp(model.score_samples(grid)).sum() * np.prod((high - low) / n)


@pytest.mark.parametrize("preprocess", ["none", "standardise", "pca"])
def test_score_samples_is_a_density_of_x(moons, preprocess):
    X, y, _, _ = moons
    X = (X - [10.0, -2.0]) if preprocess == "none" else X
    model = small_flow(n_steps=150, lr=3e-3, preprocess=preprocess, random_state=0).fit(X, y)
    assert integral(model, X) == pytest.approx(1, abs=0.02)


def test_a_dropped_component_is_still_in_the_density():
    """Three features of which one hardly varies: the flow sees two, the density covers three."""
    X, y = make_blobs(200, n_features=2, centers=2, random_state=0)
    X = np.column_stack([X, 0.1 * np.random.default_rng(0).normal(size=200)])
    model = small_flow(n_steps=60, preprocess="pca", pca_components=2, random_state=0).fit(X, y)
    assert model.means_.shape == (2, 2)
    z = model.transform(X)
    assert z.shape == X.shape
    assert z[:, 2].std() == pytest.approx(1)
    np.testing.assert_allclose(model.inverse_transform(z), X, atol=1e-4)
    line = np.tile(X[:1], (2001, 1))
    # Along the component that is set apart the density is Gaussian, with the data's own spread.
    direction = model.preprocess_.rotation[:, 2]
    steps = np.linspace(-1, 1, 2001)
    profile = np.exp(model.score_samples(line + steps[:, None] * direction))
    mean = (profile * steps).sum() / profile.sum()
    spread = math.sqrt((profile * (steps - mean) ** 2).sum() / profile.sum())
    assert spread == pytest.approx(model.preprocess_.scale[2], rel=0.02)


def test_nll_stays_above_the_entropy():
    """The mean NLL of held-out points of a known density is at least its entropy, and near it."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    centres = np.array([[-4.0, 0.0], [4.0, 0.0]])
    X = centres[y] + rng.normal(size=(4000, 2)) * [1.0, 0.3]
    # The two components do not overlap: the entropy is that of one plus log 2.
    entropy = math.log(2) + math.log(2 * math.pi * math.e) + math.log(0.3)
    y[20:2000] = -1
    model = small_flow(
        n_couplings=4, means="from_latent", mean_scale=4.0, n_steps=250, random_state=0
    )
    model.fit(X[:2000], y[:2000])
    nll = -model.score_samples(X[2000:]).mean()
    error = model.score_samples(X[2000:]).std() / math.sqrt(2000)
    assert entropy - 4 * error <= nll <= entropy + 0.25
    assert np.mean(model.predict(X[2000:]) == y[2000:]) > 0.99


def test_transform_and_inverse_transform(fitted, moons):
    _, _, X_new, _ = moons
    z = fitted.transform(X_new)
    np.testing.assert_allclose(fitted.inverse_transform(z), X_new, atol=1e-8)
    assert fitted.get_feature_names_out().tolist() == ["flowgmmclassifier0", "flowgmmclassifier1"]
    with pytest.raises(ValueError, match=r"Z must have shape \(N, 2\), got \(50, 3\)"):
        fitted.inverse_transform(np.column_stack([z, z[:, 0]]))


def test_constant_columns_pass_through(moons):
    X, y, X_new, _ = moons

    def widen(A: np.ndarray) -> np.ndarray:
        return np.column_stack([A[:, 0], np.full(len(A), 7.0), A[:, 1]])

    narrow = small_flow(random_state=0).fit(X, y)
    wide = small_flow(random_state=0).fit(widen(X), y)
    np.testing.assert_allclose(
        wide.predict_proba(widen(X_new)), narrow.predict_proba(X_new), rtol=1e-5
    )
    np.testing.assert_allclose(
        wide.inverse_transform(wide.transform(widen(X_new))), widen(X_new), atol=1e-4
    )


def test_one_varying_column_is_not_enough(moons):
    X, y, _, _ = moons
    with pytest.raises(ValueError, match=r"at least 2 features that vary, got 1 feature\(s\)"):
        small_flow().fit(np.column_stack([X[:, 0], np.ones(150)]), y)


def test_prediction_is_the_nearest_mean(fitted, moons):
    X_new = moons[2]
    apart = np.linalg.norm(fitted.transform(X_new)[:, None] - fitted.means_, axis=-1)
    np.testing.assert_array_equal(fitted.predict(X_new), fitted.classes_[apart.argmin(1)])
    np.testing.assert_allclose(fitted.predict_proba(X_new).sum(1), 1)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X_new)), fitted.predict_proba(X_new))


def test_log_probabilities_are_finite_where_probabilities_round_to_zero(fitted):
    far = fitted.inverse_transform(fitted.means_ * 100)
    assert (fitted.predict_proba(far) == 0).any()
    assert np.isfinite(fitted.predict_log_proba(far)).all()


class TestSample:
    def test_of_a_class_and_of_all(self, fitted):
        X, y = fitted.sample(500, random_state=0)
        assert X.shape == (500, 2)
        assert np.abs(np.mean(y) - 0.5) < 0.1
        assert np.mean(fitted.predict(X) == y) > 0.7
        for k in (0, 1):
            X, y = fitted.sample(200, y=k, temperature=0.25, random_state=0)
            assert (y == k).all()
            assert np.mean(fitted.predict(X) == k) > 0.95
        X, y = fitted.sample(3, y=[1, 0, 1], random_state=0)
        assert y.tolist() == [1, 0, 1]

    def test_temperature_is_a_factor_on_the_latent_noise(self, fitted):
        for temperature in (0.0, 0.25, 1.0):
            X, y = fitted.sample(2000, temperature=temperature, random_state=0)
            noise = fitted.transform(X) - fitted.means_[y]
            assert noise.std() == pytest.approx(temperature, rel=0.05, abs=1e-8)

    def test_seeds(self, fitted):
        np.testing.assert_array_equal(fitted.sample(5)[0], fitted.sample(5)[0])
        assert (fitted.sample(5)[0] != fitted.sample(5, random_state=1)[0]).all()

    @pytest.mark.parametrize("y", [2, "moon", [0, 1, 5]])
    def test_unknown_class(self, fitted, y):
        unknown = [5] if isinstance(y, list) else [y]
        message = rf"y has classes the model does not know: \{unknown}; it knows \[0, 1\]"
        with pytest.raises(ValueError, match=message):
            fitted.sample(3, y=y)

    def test_string_classes(self, moons):
        X, y, _, _ = moons
        names = np.array(["in", "out"], dtype=object)
        model = small_flow(random_state=0).fit(X, np.where(y < 0, -1, names[y]))
        assert model.sample(4, y="out")[1].tolist() == ["out"] * 4
        with pytest.raises(ValueError, match="does not know"):
            model.sample(4, y=1)


@pytest.mark.parametrize("means", [*FIXED_MEANS, *DATA_MEANS])
def test_every_placement_trains(means, moons):
    X, y, X_new, _ = moons
    model = small_flow(means=means, n_steps=3, zero_init=False, random_state=0).fit(X, y)
    assert model.means_.shape == (2, 2)
    assert np.isfinite(model.score_samples(X_new)).all()


def test_means_that_look_at_the_data(moons):
    """With a flow that starts as the identity all but one are the labelled points' own means."""
    X, y, _, _ = moons
    build = partial(small_flow, n_steps=1, mean_scale=0.5, precision="fp64", random_state=0)
    u = (X - X.mean(0)) / X.std(0)
    expected = 0.5 * np.stack([u[y == k].mean(0) for k in (0, 1)])
    for means in ("from_latent", "from_z", "from_data"):
        np.testing.assert_allclose(build(means=means).fit(X, y).means_, expected, atol=1e-12)
    chosen = build(means="random_data").fit(X, y).means_
    for k in (0, 1):
        assert np.isclose(0.5 * u[y == k], chosen[k]).all(1).any()


def test_learnt_mixtures_learn(moons):
    X, y, _, _ = moons
    fixed = small_flow(random_state=0).fit(X, y)
    learnt = small_flow(random_state=0, learn_means=True, learn_std=True, learn_weights=True).fit(
        X, y
    )
    np.testing.assert_allclose(fixed.std_, 1, rtol=1e-6)
    np.testing.assert_allclose(fixed.weights_, 0.5, rtol=1e-6)
    for name in ("means_", "std_", "weights_"):
        assert (getattr(fixed, name) != getattr(learnt, name)).any(), name
    assert learnt.weights_.sum() == pytest.approx(1)


LEARNT = {"learn_means": True, "learn_std": True, "learn_weights": True}


def test_the_mixture_moves_after_the_flow(moons):
    """The flow's update is that with a fixed mixture; the mixture makes one update of Adam's."""
    X, y, _, _ = moons
    fit = partial(small_flow, precision="fp64", zero_init=False, means="random", random_state=0)
    fixed = fit(n_steps=1, learn_means=False).fit(X, y)
    in_turns = fit(n_steps=1, **LEARNT, learn_in_turns=True).fit(X, y)
    flows = [model.model_.flow.parameters() for model in (in_turns, fixed)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*flows, strict=True))
    np.testing.assert_allclose(abs(in_turns.means_ - fixed.means_), 1e-2, rtol=1e-4)
    assert in_turns.history_["loss"] == fixed.history_["loss"]
    assert in_turns.history_["loss_2"] < fixed.history_["loss"]  # once the flow has moved


def test_turns_of_a_stack_are_those_of_its_seeds(moons):
    X, y, _, _ = moons
    fit = partial(small_flow, precision="fp64", n_steps=20, **LEARNT, learn_in_turns=True)
    stacked = [fit(random_state=s) for s in (1, 2)]
    fit_stack(stacked, X, np.stack([y, y]))
    for s, model in zip((1, 2), stacked, strict=True):
        alone = fit(random_state=s).fit(X, y)
        np.testing.assert_allclose(model.means_, alone.means_, rtol=1e-9)
        np.testing.assert_allclose(model.std_, alone.std_, rtol=1e-9)


def test_a_teacher_moves_once_a_step(moons):
    """With two turns it is, after two steps, where one turn takes it."""
    X, y, _, _ = moons
    fit = partial(
        small_flow,
        consistency_weight=1.0,
        teacher_decay=0.9,
        n_steps=2,
        precision="fp64",
        random_state=0,
    )
    fixed = fit(means="random", learn_means=False).fit(X, y)
    turns = fit(means="random", learn_means=True, learn_in_turns=True).fit(X, y)
    for ours, theirs in zip(
        turns.model_.flow.parameters(), fixed.model_.flow.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_nothing_learnt_has_no_turn(moons):
    X, y, _, _ = moons
    one, other = (
        small_flow(learn_means=False, learn_in_turns=turns, random_state=0).fit(X, y)
        for turns in (False, True)
    )
    assert one.history_ == other.history_
    assert "loss_2" not in one.history_


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"em": "mcmc"}, "'em' parameter of Objective must be"),
        ({"consistency_target": "both"}, "'consistency_target' parameter of Objective"),
        ({"means": "cirlce"}, "unknown means 'cirlce'"),
        ({"std": -1.0}, "'std' parameter of LatentMixture must be a float in"),
        ({"class_weights": [1.0]}, "class_weights must be 2 positive numbers"),
    ],
)
def test_impossible_flows(parameters, message, moons):
    X, y, _, _ = moons
    with pytest.raises(ValueError, match=message):
        small_flow(**parameters).fit(X, y)
