"""The neural estimators: scikit-learn's conventions, densities, sampling, saving, and errors."""

import itertools
import json
import math
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from estimators import diglm, flow_gmm, in_use, mlp, pi_model, scnf
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.datasets import make_blobs, make_moons
from sklearn.utils.estimator_checks import (
    check_classifiers_classes,
    parametrize_with_checks,
)
from steps import points_at

from flowgmm.flows.mixture import DATA_MEANS, FIXED_MEANS
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.reference.realnvp import PLAIN_OBJECTIVE
from flowgmm.flows.rng import Stream
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.mlp import DropoutMLPClassifier
from flowgmm.methods.pi_model import PiModelClassifier
from flowgmm.methods.stack import fit_stack
from flowgmm.training.batches import Batches, StandardisedPoints
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.io import add_checksum

SMALL = {"n_couplings": 2, "hidden_size": 16, "n_steps": 40, "lr": 1e-2}
LIKELIHOOD_ONLY = PLAIN_OBJECTIVE | {"dropout": 0.0}
flow = partial(flow_gmm, **LIKELIHOOD_ONLY, **SMALL)
ESTIMATORS = [
    flow_gmm(**SMALL),
    mlp(hidden_size=16, n_steps=60, lr=1e-2),
    pi_model(hidden_size=16, n_steps=60, lr=1e-2),
    diglm(**SMALL | {"n_steps": 80}, dropout=0.0, input_noise=0.0, adversarial_size=0.2),
    scnf(n_steps=60),
]
EXCUSED = {
    "check_classifiers_classes": "its last case takes -1 for a class, which marks unlabelled points"
    " here; scikit-learn exempts its own semi-supervised estimators, by name",
}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda _: EXCUSED)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_the_excused_checks_pass_otherwise(estimator):
    check_classifiers_classes("LabelSpreading", estimator)


@pytest.fixture(scope="module")
def moons():
    """150 points of two moons, 6 labelled, and 50 more."""
    X, y = make_moons(200, noise=0.08, random_state=0)
    X = X * [3.0, 0.5] + [10.0, -2.0]
    partial_y = y[:150].copy()
    partial_y[6:] = -1
    return X[:150], partial_y, X[150:], y


@pytest.mark.parametrize("dead", [0, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardised_when_asked_for_has_the_bits_of_the_whole(dtype, dead):
    """Points stay as they are, without a copy; constant columns are left out."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(50, 6)) * 10.0 ** rng.integers(-3, 4, 6) + 7).astype(dtype)
    X[:, :dead] = 3
    given = X.copy()
    preprocess = Preprocess.fit(X, "standardise")
    points = StandardisedPoints(torch.from_numpy(X), preprocess, torch.float32)
    whole = torch.from_numpy(preprocess.modelled(X, np.float32))
    assert points.shape == whole.shape == (50, 6 - dead)
    for rows in (torch.randint(50, (3, 7)), slice(4, 9)):
        assert torch.equal(points[rows], whole[rows])
    assert np.array_equal(X, given)


def test_training_makes_no_copy_of_all_points(moons, monkeypatch):
    """Whatever the number of seeds, batches read the array that was given."""
    X, y = np.float32(moons[0]), moons[1]
    seen = []
    make = FlowGMMClassifier._points
    monkeypatch.setattr(
        FlowGMMClassifier, "_points", lambda *args: seen.append(make(*args)) or seen[-1]
    )
    for preprocess in ("none", "standardise"):
        models = [flow(preprocess=preprocess, n_steps=1, random_state=s) for s in range(3)]
        fit_stack(models, X, np.tile(y, (3, 1)))
    plain, standardised = seen
    assert plain.data_ptr() == standardised._points.data_ptr() == X.ctypes.data


@pytest.mark.parametrize("estimator", [flow(), *ESTIMATORS[1:]], ids=lambda e: type(e).__name__)
class TestEveryMethod:
    def test_save_and_load(self, estimator, moons, tmp_path):
        X, y, X_new, _ = moons
        model = clone(estimator).set_params(random_state=3).fit(X, y)
        path = tmp_path / "model.safetensors"
        model.save(path)
        loaded = type(model).load(path)
        assert loaded.get_params() == model.get_params()
        np.testing.assert_array_equal(
            loaded.predict_log_proba(X_new), model.predict_log_proba(X_new)
        )
        for name in ("classes_", "history_", "seeds_", "n_iter_", "n_features_in_", "failure_"):
            assert np.all(getattr(loaded, name) == getattr(model, name)), name
        loaded.save(tmp_path / "again.safetensors")
        assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()

    def test_save_and_load_a_stack(self, estimator, moons, tmp_path):
        X, y, X_new, _ = moons
        models = [clone(estimator).set_params(random_state=s) for s in range(3)]
        fit_stack(models, X, np.stack([y, y, y]))
        type(estimator).save_stack(tmp_path / "stack", models)
        for a, b in zip(models, type(estimator).load_stack(tmp_path / "stack"), strict=True):
            assert a.random_state == b.random_state
            np.testing.assert_array_equal(a.predict_proba(X_new), b.predict_proba(X_new))

    def test_more_than_ten_estimators_in_a_file(self, estimator, moons, tmp_path):
        """Member 1 keeps its own arrays: `1.preprocess.` is also the end of `11.preprocess.`."""
        X, y, X_new, _ = moons
        models = [
            clone(estimator).set_params(random_state=s, training__n_steps=1) for s in range(12)
        ]
        fit_stack(models, X, np.stack([y] * 12))
        type(estimator).save_stack(tmp_path / "stack", models)
        for a, b in zip(models, type(estimator).load_stack(tmp_path / "stack"), strict=True):
            np.testing.assert_array_equal(a.predict_proba(X_new), b.predict_proba(X_new))

    @pytest.mark.parametrize("kind", ["none", "standardise"])
    def test_files_with_a_matrix_that_only_reorders(self, estimator, moons, tmp_path, kind):
        """Files of earlier versions hold it as `rotation`, in float64."""
        X, y, X_new, _ = moons
        X, X_new = (np.insert(x, 1, 7.0, axis=1) for x in (X, X_new))  # constant: put last
        model = (
            clone(estimator)
            .set_params(random_state=3, training__n_steps=1, preprocess=kind)
            .fit(X, y)
        )
        path, old = tmp_path / "model", tmp_path / "old"
        model.save(path)
        with safe_open(path, framework="numpy") as handle:
            metadata, names = handle.metadata(), handle.keys()
            tensors = {name: handle.get_tensor(name) for name in names}
        assert "0.preprocess.rotation" not in tensors
        assert ("0.preprocess.order" in tensors) == (kind == "standardise")
        tensors.pop("0.preprocess.order", None)
        columns = [0, 2, 1] if kind == "standardise" else [0, 1, 2]
        save_file(tensors | {"0.preprocess.rotation": np.eye(3)[columns].T.copy()}, old, metadata)
        add_checksum(old)
        for file in (path, old):
            loaded = type(model).load(file)
            np.testing.assert_array_equal(loaded.preprocess_.rotation, model.preprocess_.rotation)
            np.testing.assert_array_equal(
                loaded.predict_log_proba(X_new), model.predict_log_proba(X_new)
            )

    @pytest.mark.parametrize("damage", ["absent", "truncated", "text", "foreign", "other", "gap"])
    def test_a_bad_model_file_is_refused(self, estimator, moons, tmp_path, damage):
        X, y, _, _ = moons
        path = tmp_path / "model.safetensors"
        message = "is damaged or no"
        if damage == "absent":
            message = "not found"
        elif damage == "foreign":
            save_file({"x": np.zeros(3)}, path)
        elif damage == "gap":
            header = {"class": type(estimator).__name__, "params": {"hidden_size": 3}}
            save_file({"x": np.zeros(3)}, path, {"estimators": json.dumps([header])})
        elif damage == "other":
            others = {FlowGMMClassifier: DropoutMLPClassifier}
            other = others.get(type(estimator), FlowGMMClassifier)
            make = mlp if other is DropoutMLPClassifier else flow_gmm
            make(hidden_size=4, n_steps=1, random_state=0).fit(X, y).save(path)
            message = f"it is a {other.__name__}"
        else:
            clone(estimator).set_params(training__n_steps=1).fit(X, y).save(path)
            whole = path.read_bytes()
            path.write_bytes(whole[:-10] if damage == "truncated" else b"no model")
        with pytest.raises(UserError, match=message) as caught:
            type(estimator).load(path)
        assert "model.safetensors" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_what_cannot_be_saved(self, estimator, moons, tmp_path):
        X, y, _, _ = moons
        model = clone(estimator).set_params(
            training__n_steps=1, random_state=np.random.RandomState(0)
        )
        with pytest.raises(ValueError, match=r"cannot save: .* an int as random_state"):
            model.fit(X, y).save(tmp_path / "model")
        assert not list(tmp_path.iterdir())

    def test_labels_may_be_strings_or_have_gaps(self, estimator, moons, tmp_path):
        X, y, X_new, _ = moons
        estimator = clone(estimator).set_params(random_state=0)
        expected = clone(estimator).fit(X, y).predict(X_new)
        for names in (np.array([3, 7]), np.array(["x", "y"], dtype=object)):
            model = clone(estimator).fit(X, np.where(y < 0, -1, names[y]))
            assert model.classes_.tolist() == names.tolist()
            np.testing.assert_array_equal(model.predict(X_new), names[expected])
            model.save(tmp_path / "model")
            loaded = type(model).load(tmp_path / "model")
            np.testing.assert_array_equal(loaded.predict(X_new), names[expected])
            assert loaded.classes_.dtype == model.classes_.dtype

    def test_too_few_classes(self, estimator, moons):
        X, y, _, _ = moons
        with pytest.raises(ValueError, match="y has 0 classes among its 0 labelled points"):
            clone(estimator).fit(X, np.full_like(y, -1))
        with pytest.raises(ValueError, match=r"y has 1 class among its .* labelled points; label"):
            clone(estimator).fit(X, np.where(y == 1, 1, -1))

    def test_precisions(self, estimator, moons):
        """float64 and float32 agree closely, bfloat16 roughly."""
        X, y, X_new, _ = moons
        estimator = clone(estimator).set_params(random_state=0)
        proba = {
            precision: clone(estimator)
            .set_params(training__precision=precision)
            .fit(X, y)
            .predict_proba(X_new)
            for precision in ("fp64", "fp32", "bf16")
        }
        assert 0 < np.abs(proba["fp64"] - proba["fp32"]).max() < 0.01
        difference = np.abs(proba["fp64"] - proba["bf16"])
        assert 0 < difference.mean() < 0.03
        agreement = proba["fp64"].argmax(1) == proba["bf16"].argmax(1)
        assert agreement.mean() >= 0.9

    def test_a_stack_is_its_seeds_alone(self, estimator, moons):
        """Each seed with labels and rows of its own."""
        X, _, X_new, truth = moons
        estimator = clone(estimator).set_params(training__precision="fp64", training__clip_norm=1.0)
        if "unlabelled_batch" in estimator.get_params():
            estimator.set_params(training__unlabelled_batch=32)
        rng = np.random.default_rng(0)
        rows = np.stack([rng.permutation(150)[:100] for _ in range(3)])
        ys = np.full((3, 100), -1)
        for s in range(3):
            for k in (0, 1):
                ys[s, np.flatnonzero(truth[rows[s]] == k)[:4]] = k
        stack = [clone(estimator).set_params(random_state=s) for s in range(3)]
        fit_stack(stack, X, ys, rows=rows)
        for s, model in enumerate(stack):
            alone = [clone(estimator).set_params(random_state=s)]
            fit_stack(alone, X, ys[s : s + 1], rows=rows[s : s + 1])
            assert alone[0].seeds_ == model.seeds_
            np.testing.assert_allclose(
                alone[0].predict_log_proba(X_new), model.predict_log_proba(X_new), atol=1e-7
            )
        assert (stack[0].predict_proba(X_new) != stack[1].predict_proba(X_new)).any()

    def test_impossible_stacks(self, estimator, moons):
        X, y, _, truth = moons
        models = [clone(estimator).set_params(random_state=s) for s in range(2)]
        with pytest.raises(ValueError, match="may differ in random_state only"):
            fit_stack(
                [models[0], clone(models[1]).set_params(training__lr=1.0)], X, np.stack([y, y])
            )
        other = y.copy()
        other[20] = truth[20]
        with pytest.raises(ValueError, match=r"same number of labelled points, got \[6, 7\]"):
            fit_stack(models, X, np.stack([y, other]))
        with pytest.raises(ValueError, match="labelled points of the same classes"):
            fit_stack(models, X, np.stack([y, np.where(y == 1, 2, y)]))

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"training__precision": "fp16"}, "'precision' parameter of Training must be a str"),
            (
                {"training__sampling": "random"},
                "unknown sampling 'random'; expected one of",
            ),
            ({"training__optimizer": "sgd"}, "unknown optimizer 'sgd'"),
            ({"training__schedule": "square"}, "unknown schedule 'square'"),
            ({"training__lr": -1.0}, "'lr' parameter of Training must be a float in the range"),
            ({"preprocess": "whiten"}, "unknown preprocess 'whiten'"),
            ({"pca_components": 2}, "pca_components=2 must be 1 or more and goes with"),
            ({"training__n_steps": None}, "exactly one of n_steps and n_epochs must be given"),
            ({"training__n_steps": 0}, "'n_steps' parameter of Training must be an int in"),
        ],
    )
    def test_bad_hyper_parameters(self, estimator, parameters, message, moons):
        X, y, _, _ = moons
        with pytest.raises(ValueError, match=message):
            clone(estimator).set_params(**parameters).fit(X, y)

    def test_divergence_is_an_error(self, estimator, moons):
        X, y, _, _ = moons
        # Normalisation by data may swallow the one far point: then the rate is too large as well.
        steps = {"training__n_steps": 30, "training__lr": 10.0}
        model = clone(estimator).set_params(preprocess="none", **steps)
        with pytest.raises(DivergedError, match="diverged: mean loss"):
            model.fit(np.where(X > 10, 1e30, X).astype(np.float32), y)
        assert model.failure_.startswith("diverged")

    def test_epochs(self, estimator, moons):
        X, y, _, _ = moons
        model = clone(estimator).set_params(
            training__n_steps=None, training__n_epochs=3, training__unlabelled_batch=40
        )
        if isinstance(model, DropoutMLPClassifier) and not isinstance(model, PiModelClassifier):
            with pytest.raises(ValueError, match="no pass over unlabelled points"):
                model.fit(X, y)
        else:
            assert model.fit(X, y).n_iter_ == 3 * 4


def test_pi_model_without_consistency_is_the_dropout_mlp_in_the_first_loss(moons):
    """The same cross-entropy; the consistency term is divided as `normalize` says."""
    X, y, _, _ = moons
    first = {}
    for normalize in ("sum", "mean", "mean_over_c"):
        model = pi_model(hidden_size=16, normalize=normalize, n_steps=1, random_state=0).fit(X, y)
        first[normalize] = model.history_
    assert first["sum"]["labelled_ce"][0] == pytest.approx(math.log(2), rel=0.2)
    assert first["sum"]["consistency"][0] == pytest.approx(2 * first["mean"]["consistency"][0])
    assert first["sum"]["consistency"][0] == pytest.approx(
        4 * first["mean_over_c"]["consistency"][0]
    )
    for history in first.values():
        loss = history["labelled_ce"][0] + 30 * history["consistency"][0]
        assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    with pytest.raises(ValueError, match="unknown normalize 'max'"):
        pi_model(normalize="max").fit(X, y)


# -- FlowGMM ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(moons):
    """A flow well trained on the moons, standardised."""
    X, y, _, _ = moons
    return flow(
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
    model = flow(n_steps=150, lr=3e-3, preprocess=preprocess, random_state=0).fit(X, y)
    assert integral(model, X) == pytest.approx(1, abs=0.02)


def test_a_dropped_component_is_still_in_the_density():
    """Three features of which one hardly varies: the flow sees two, the density covers three."""
    X, y = make_blobs(200, n_features=2, centers=2, random_state=0)
    X = np.column_stack([X, 0.1 * np.random.default_rng(0).normal(size=200)])
    model = flow(n_steps=60, preprocess="pca", pca_components=2, random_state=0).fit(X, y)
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
    model = flow(n_couplings=4, means="from_latent", mean_scale=4.0, n_steps=250, random_state=0)
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

    narrow = flow(random_state=0).fit(X, y)
    wide = flow(random_state=0).fit(widen(X), y)
    np.testing.assert_allclose(
        wide.predict_proba(widen(X_new)), narrow.predict_proba(X_new), rtol=1e-5
    )
    np.testing.assert_allclose(
        wide.inverse_transform(wide.transform(widen(X_new))), widen(X_new), atol=1e-4
    )


def test_one_varying_column_is_not_enough(moons):
    X, y, _, _ = moons
    with pytest.raises(ValueError, match=r"at least 2 features that vary, got 1 feature\(s\)"):
        flow().fit(np.column_stack([X[:, 0], np.ones(150)]), y)


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
        model = flow(random_state=0).fit(X, np.where(y < 0, -1, names[y]))
        assert model.sample(4, y="out")[1].tolist() == ["out"] * 4
        with pytest.raises(ValueError, match="does not know"):
            model.sample(4, y=1)


@pytest.mark.parametrize("means", [*FIXED_MEANS, *DATA_MEANS])
def test_every_placement_trains(means, moons):
    X, y, X_new, _ = moons
    model = flow(means=means, n_steps=3, zero_init=False, random_state=0).fit(X, y)
    assert model.means_.shape == (2, 2)
    assert np.isfinite(model.score_samples(X_new)).all()


def test_means_that_look_at_the_data(moons):
    """With a flow that starts as the identity all but one are the labelled points' own means."""
    X, y, _, _ = moons
    build = partial(flow, n_steps=1, mean_scale=0.5, precision="fp64", random_state=0)
    u = (X - X.mean(0)) / X.std(0)
    expected = 0.5 * np.stack([u[y == k].mean(0) for k in (0, 1)])
    for means in ("from_latent", "from_z", "from_data"):
        np.testing.assert_allclose(build(means=means).fit(X, y).means_, expected, atol=1e-12)
    chosen = build(means="random_data").fit(X, y).means_
    for k in (0, 1):
        assert np.isclose(0.5 * u[y == k], chosen[k]).all(1).any()


def test_learnt_mixtures_learn(moons):
    X, y, _, _ = moons
    fixed = flow(random_state=0).fit(X, y)
    learnt = flow(random_state=0, learn_means=True, learn_std=True, learn_weights=True).fit(X, y)
    np.testing.assert_allclose(fixed.std_, 1, rtol=1e-6)
    np.testing.assert_allclose(fixed.weights_, 0.5, rtol=1e-6)
    for name in ("means_", "std_", "weights_"):
        assert (getattr(fixed, name) != getattr(learnt, name)).any(), name
    assert learnt.weights_.sum() == pytest.approx(1)


LEARNT = {"learn_means": True, "learn_std": True, "learn_weights": True}


def test_the_mixture_moves_after_the_flow(moons):
    """The flow's update is that with a fixed mixture; the mixture makes one update of Adam's."""
    X, y, _, _ = moons
    fit = partial(flow, precision="fp64", zero_init=False, means="random", random_state=0)
    fixed = fit(n_steps=1, learn_means=False).fit(X, y)
    in_turns = fit(n_steps=1, **LEARNT, learn_in_turns=True).fit(X, y)
    flows = [model.model_.flow.parameters() for model in (in_turns, fixed)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*flows, strict=True))
    np.testing.assert_allclose(abs(in_turns.means_ - fixed.means_), 1e-2, rtol=1e-4)
    assert in_turns.history_["loss"] == fixed.history_["loss"]
    assert in_turns.history_["loss_2"] < fixed.history_["loss"]  # once the flow has moved


def test_turns_of_a_stack_are_those_of_its_seeds(moons):
    X, y, _, _ = moons
    fit = partial(flow, precision="fp64", n_steps=20, **LEARNT, learn_in_turns=True)
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
        flow, consistency_weight=1.0, teacher_decay=0.9, n_steps=2, precision="fp64", random_state=0
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
        flow(learn_means=False, learn_in_turns=turns, random_state=0).fit(X, y)
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
        flow(**parameters).fit(X, y)


def test_the_objectives(moons):
    """The parts of the loss add up as documented, at the first step of equal models."""
    X, y, _, _ = moons
    build = partial(flow, n_steps=1, zero_init=False, precision="fp64", random_state=0)
    plain = build(unlabelled_weight=0.3).fit(X, y).history_
    expected = plain["labelled_nll"][0] + 0.3 * plain["unlabelled_nll"][0]
    assert plain["loss"][0] == pytest.approx(expected)
    pooled = build(pooled_loss=True).fit(X, y).history_
    expected = (6 * pooled["labelled_nll"][0] + 150 * pooled["unlabelled_nll"][0]) / 156
    assert pooled["loss"][0] == pytest.approx(expected)
    apart = build(labelled_in_unlabelled=False).fit(X, y).history_
    assert apart["unlabelled_nll"][0] != plain["unlabelled_nll"][0]
    alone = build(unlabelled_weight=0).fit(X, y).history_
    assert alone["loss"] == alone["labelled_nll"]
    assert "unlabelled_nll" not in alone
    supervised = build(label_weight=3.0).fit(X, y).history_
    parts = [supervised[k][0] for k in ("labelled_nll", "unlabelled_nll", "labelled_ce")]
    assert supervised["loss"][0] == pytest.approx(parts[0] + parts[1] + 3 * parts[2])


@pytest.mark.parametrize("target", ["joint", "posterior"])
def test_consistency_is_ramped_up(target, moons):
    X, y, _, _ = moons
    model = flow(
        consistency_weight=2.0,
        consistency_target=target,
        ramp_up=0.5,
        input_noise=0.1,
        n_steps=4,
        random_state=0,
    )
    history = model.fit(X, y).history_
    for t in range(4):
        weight = 2.0 * min(1.0, (t + 1) / 2)
        parts = [history[k][t] for k in ("labelled_nll", "unlabelled_nll", "consistency")]
        assert history["loss"][t] == pytest.approx(
            parts[0] + parts[1] + weight * parts[2], rel=1e-5
        )


def test_the_teacher_is_what_is_kept(moons):
    """The average of the flows at each of two steps, the start with a tenth of its weight."""
    X, y, _, _ = moons
    fit = partial(
        flow, consistency_weight=1.0, precision="fp64", zero_init=False, random_state=0, lr=1e-2
    )
    taught = fit(teacher_decay=0.999, n_steps=2, schedule="constant").fit(X, y)
    once = fit(teacher_decay=0.999, n_steps=1).fit(X, y)  # the flow before the first update
    moved = fit(teacher_decay=1e-12, n_steps=2, schedule="constant").fit(X, y)  # and after it
    for name, value in taught.model_.flow.state_dict().items():
        start, end = (m.model_.flow.state_dict()[name] for m in (once, moved))
        torch.testing.assert_close(value, start + (end - start) * (1 - 2 / 11))
    assert not any(name.startswith("teacher") for name in taught.model_.state_dict())


def test_guesses_below_the_threshold_do_not_count(moons):
    """At the first step of equal models: with the threshold at 0 all count, near 1 none."""
    X, y, _, _ = moons
    consistency = [
        flow(
            consistency_weight=2.0,
            guess_threshold=threshold,
            input_noise=0.1,
            n_steps=1,
            precision="fp64",
            random_state=0,
        )
        .fit(X, y)
        .history_["consistency"][0]
        for threshold in (0.0, 0.5, 0.6, 1 - 1e-9)
    ]
    assert consistency == sorted(consistency, reverse=True)
    assert consistency[0] == pytest.approx(consistency[1])  # the larger of two is 0.5 at least
    assert consistency[1] > consistency[2] > consistency[3] == 0


def test_consistency_of_the_unlabelled_points_alone(moons):
    """At the first step of equal models the mean over all points is that over both kinds."""
    X, y, _, _ = moons
    labelled = y >= 0

    def consistency(points, on):
        model = flow(
            consistency_weight=2.0,
            consistency_on=on,
            labelled_in_unlabelled=False,
            labelled_batch=None,
            unlabelled_batch=len(y),
            n_steps=1,
            preprocess="none",
            precision="fp64",
            random_state=0,
        ).fit(X[points], y[points])
        return model.history_["consistency"][0]

    everything = np.full(len(y), True)
    of_all, of_unlabelled = (consistency(everything, on) for on in ("all", "unlabelled"))
    of_labelled = consistency(labelled, "all")
    share = labelled.mean()
    assert of_unlabelled != pytest.approx(of_labelled)
    assert of_all == pytest.approx(share * of_labelled + (1 - share) * of_unlabelled)


def test_batches_cover_an_epoch():
    """Every unlabelled point once an epoch, in a new order each time; `fixed` repeats its order."""
    codes = np.r_[0, 1, np.full(148, -1)][None]
    seen = {}
    for sampling in ("shuffle", "fixed", "replacement"):
        model = in_use(flow(sampling=sampling, unlabelled_batch=40), 2)
        batches = model._batches(
            torch.arange(150.0)[:, None], codes, np.arange(150)[None], Stream([0])
        )
        assert batches.steps_per_epoch == 4
        seen[sampling] = [points_at(batches, step)[2][0, :, 0].tolist() for step in range(8)]
    for sampling in ("shuffle", "fixed"):
        first, second = (
            list(itertools.chain(*part)) for part in (seen[sampling][:4], seen[sampling][4:])
        )
        assert sorted(first) == sorted(second) == list(range(150))
        assert (first == second) == (sampling == "fixed")
    assert seen["fixed"][0] == list(range(40))
    assert {len(batch) for batch in seen["replacement"]} == {40}


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_labelled_and_unlabelled_batches_are_independent(sampling):
    """Batches of equal size from the same points hold different ones."""
    x = torch.arange(50.0)[:, None]
    rows = torch.arange(50)[None]
    batches = Batches(x, rows, rows % 2, rows, 10, 10, sampling, Stream([0]))
    for step in range(7):
        labelled, classes, unlabelled = points_at(batches, step)
        assert torch.equal(labelled[..., 0] % 2, classes.float())
        assert not torch.equal(labelled, unlabelled)
        assert not torch.equal(labelled, points_at(batches, step + 1)[2])


def test_of_several_initialisations_the_most_likely_is_kept():
    X, y = make_moons(120, noise=0.1, random_state=0)
    y = np.where(np.arange(120) < 10, y, -1)
    options = LIKELIHOOD_ONLY | {"n_couplings": 2, "hidden_size": 8, "n_steps": 15}
    options |= {"zero_init": False}
    several = flow_gmm(**options, n_init=4, random_state=3).fit(X, y)
    stack = [flow_gmm(**options, n_init=n, random_state=3).fit(X, y) for n in (1, 2, 3)]
    likelihoods = [model.score_samples(X).mean() for model in [*stack, several]]
    # More initialisations contain the fewer, so the best can only rise.
    assert likelihoods == sorted(likelihoods)
    assert likelihoods[-1] > likelihoods[0]


def test_balance_keeps_the_shares_of_the_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))  # one blob: the likelihood does not care where it is cut
    y = np.full(200, -1)
    y[:2], y[2:3] = 0, 1
    options = LIKELIHOOD_ONLY | {"n_couplings": 2, "hidden_size": 16, "n_steps": 150}
    options |= {"unlabelled_batch": 200}
    options |= {"means": "diag", "mean_scale": 2.0, "random_state": 0}
    shares = [
        flow_gmm(**options | {"balance_weight": weight}).fit(X, y).predict_proba(X)[:, 0].mean()
        for weight in (0.0, 100.0)
    ]
    assert abs(shares[1] - 0.5) < 0.03
    assert abs(shares[1] - 0.5) < abs(shares[0] - 0.5)


def test_noise_falls_to_nothing():
    model = in_use(flow_gmm(input_noise=0.4, noise_until=0.5), 2)
    noises = [model._schedule(step, 100).get("noise", 0.0) for step in (0, 25, 50, 99)]
    assert noises == pytest.approx([0.4, 0.2, 0.0, 0.0])
    assert in_use(flow_gmm(input_noise=0.4), 2)._schedule(99, 100)["noise"] == 0.4


def test_keeping_the_best_on_validation_points(moons, tmp_path, monkeypatch):
    """The kept model has the best validation accuracy of all looks, also after a resume."""
    X, y, _, truth = moons
    rows, val = np.arange(100)[None], np.arange(100, 150)[None]

    def fit(**options):
        model = flow(random_state=0, keep="best_val", n_steps=200)
        truth_val = truth[val]
        fit_stack([model], X, y[:100][None], rows, (val, truth_val), **options)
        return model

    model = fit()
    best = max(model.history_["val_accuracy"])
    assert np.mean(model.predict(X[100:150]) == truth[100:150]) == pytest.approx(best)
    assert best > min(model.history_["val_accuracy"])

    def stop(step, n_steps, text):
        if step >= 150:
            raise KeyboardInterrupt

    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=tmp_path / "state", progress=stop)
    resumed = fit(checkpoint=tmp_path / "state")
    assert (resumed.score_samples(X) == model.score_samples(X)).all()
    assert resumed.history_ == model.history_
    with pytest.raises(ValueError, match="needs validation points"):
        flow(keep="best_val").fit(X, y)
    with pytest.raises(ValueError, match="'keep' parameter of Training must be a str among"):
        flow(keep="first").fit(X, y)


@pytest.mark.system
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_flow_trains_the_same(moons):
    X, y, _, _ = moons
    compiled, plain = (
        flow_gmm(n_steps=5, compile=compile, random_state=0).fit(X, y) for compile in (True, False)
    )
    np.testing.assert_allclose(compiled.history_["loss"], plain.history_["loss"], 1e-4)
    assert compiled.model_.state_dict().keys() == plain.model_.state_dict().keys()
