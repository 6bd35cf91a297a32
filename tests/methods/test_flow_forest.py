"""FlowGMM and a forest together: their mean, held-out choice of it, conventions, saving."""

import numpy as np
import pandas as pd
import pytest
from estimators import flow_gmm
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_classifiers_classes, parametrize_with_checks

from flowgmm.evaluation.calibration import tempered
from flowgmm.methods import flow_forest
from flowgmm.methods.averaging import FLOW_TEMPERATURE, averaged
from flowgmm.methods.calibration import fit_offsets, fit_temperature
from flowgmm.methods.flow_forest import FlowForestClassifier
from flowgmm.methods.forest import ForestClassifier
from flowgmm.methods.stack import fit_stack
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.io import write_tensors


def small(**params):
    """A combination that trains in no time."""
    flow = flow_gmm(n_couplings=2, hidden_size=16, n_steps=30, lr=1e-2)
    params = {"n_folds": 2, "random_state": 0} | params
    return FlowForestClassifier(flow, ForestClassifier(n_estimators=10), **params)


EXCUSED = {
    "check_classifiers_classes": "its last case takes -1 for a class, which marks unlabelled points"
    " here; scikit-learn exempts its own semi-supervised estimators, by name",
}


@parametrize_with_checks([small()], expected_failed_checks=lambda _: EXCUSED)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_the_excused_check_passes_otherwise():
    check_classifiers_classes("LabelSpreading", small())


@pytest.fixture(scope="module")
def moons():
    """150 points of two moons, 30 labelled, and 50 more."""
    X, y = make_moons(200, noise=0.15, random_state=0)
    partial = y[:150].copy()
    partial[30:] = -1
    return X[:150], partial, X[150:]


@pytest.fixture(scope="module")
def fitted(moons):
    return small().fit(*moons[:2])


# -- the mean ------------------------------------------------------------------------------------


def test_the_mean_is_weighted_and_tempered(moons, fitted):
    X = moons[2]
    flow, forest = fitted.flow_gmm_, fitted.forest_
    assert fitted.temperature_ != 1
    sharp = np.exp(tempered(flow.predict_log_proba(X), FLOW_TEMPERATURE))
    mean = 0.5 * sharp + 0.5 * forest.predict_proba(X)
    expected = mean ** (1 / fitted.temperature_)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-12)
    for weight, part in ((0.0, sharp), (1.0, forest.predict_proba(X))):
        alone = FlowForestClassifier.from_fitted(flow, forest, 1.0, weight)
        np.testing.assert_allclose(alone.predict_proba(X), part, atol=1e-12)
    # FlowGMM's own calibration has no part in it.
    before = fitted.predict_proba(X)
    flow.temperature_, flow.offsets_ = 7.0, np.array([0.5, -0.5])
    np.testing.assert_allclose(fitted.predict_proba(X), before, atol=1e-12)
    flow.temperature_, flow.offsets_ = 1.0, np.zeros(2)


def test_held_out_labels_decide_as_far_as_they_outweigh_the_expected_temperature():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 2000)
    noisy = np.where(np.arange(2000) % 10 > 0, y, 1 - y)  # nine of ten are right
    right = np.log(np.where(np.eye(2)[noisy] == 1, 0.9, 0.1))
    assert fit_temperature(y[:0], right[:0], 3.0) == 3.0
    few, many = (fit_temperature(y[:n], 2 * right[:n]) for n in (10, 2000))
    assert 1 < few < many
    assert many == pytest.approx(2, abs=0.1)  # twice as sure as it should be
    assert fit_temperature(y, right, 3.0) == pytest.approx(1, abs=0.1)
    impossible = np.array([[0.0, -np.inf]])
    assert np.isfinite(fit_temperature([1], impossible))
    given = averaged(FLOW_TEMPERATURE * right, np.log(np.eye(2)[1 - y] + 1e-300), 0.25)
    own = np.exp(right[np.arange(2000), y])
    assert np.allclose(np.exp(given[np.arange(2000), y]), 0.75 * own)


def test_offsets_are_what_held_out_labels_say_beyond_their_strength():
    y = np.arange(4000) % 4 == 0
    even = np.log(np.full((4000, 2), 0.5))
    few, many = (fit_offsets(y[:n], even[:n]) for n in (20, 4000))
    assert many[0] - many[1] == pytest.approx(np.log(3), rel=0.05)  # three to one
    assert 0 < few[0] - few[1] < np.log(3) / 2
    assert few.sum() == pytest.approx(0, abs=1e-6)
    assert not fit_offsets(y[:0], even[:0]).any()
    assert np.isfinite(fit_offsets([1], np.array([[0.0, -np.inf]]))).all()


def test_numbers_need_no_folds(moons, monkeypatch):
    monkeypatch.setattr(flow_forest, "cross_fit", None)
    model = small(weight=0.4, temperature=3.0).fit(*moons[:2])
    assert (model.weight, model.temperature_, model.held_out_) == (0.4, 3.0, {})


def test_held_out_points_are_the_labelled_ones(moons, fitted):
    X, y, _ = moons
    assert fitted.held_out_["rows"].tolist() == np.flatnonzero(y >= 0).tolist()
    for name in ("flow_gmm", "forest"):
        log_proba = fitted.held_out_[name]
        assert log_proba.shape == (30, 2)
        assert (log_proba.argmax(axis=1) == y[:30]).mean() > 0.7
    # The forest's answer for its own points is another one.
    own = fitted.forest_.predict_proba(X[:30])
    assert not np.allclose(np.exp(fitted.held_out_["forest"]), own)


def test_one_label_a_class_is_the_plain_mean(moons):
    X, y, _ = moons
    y = np.full(len(X), -1)
    y[[0, 5]] = 0, 1
    model = small().fit(X, y)
    assert model.temperature_ == 1


def test_a_class_with_one_label_is_learnt(moons):
    X, y, _ = moons
    X = np.concatenate([X, [[9.0, 9.0]]])
    y = np.append(y, 2)
    model = small().fit(X, y)
    assert model.classes_.tolist() == [0, 1, 2] and model.temperature_ < 10
    assert model.predict([[9.0, 9.0]]) == [2]


# -- conventions ---------------------------------------------------------------------------------


def test_seeds(moons):
    X, y, X_new = moons
    first, second, other = (small(random_state=seed).fit(X, y) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.predict_proba(X_new), second.predict_proba(X_new))
    assert not np.allclose(first.predict_proba(X_new), other.predict_proba(X_new))
    generator = small(random_state=np.random.RandomState(0)).fit(X, y)
    assert generator.forest_.random_state is not None
    own = small(random_state=None, weight=0.5, temperature=2.0)
    own.set_params(flow_gmm__random_state=3, forest__random_state=4).fit(X, y)
    assert (own.flow_gmm_.random_state, own.forest_.random_state) == (3, 4)
    assert own.flow_gmm.random_state == 3 and not hasattr(own.forest, "classes_")


def test_string_classes_and_their_weights(moons):
    X, y, X_new = moons
    named = np.array([-1 if k < 0 else "ab"[k] for k in y], dtype=object)
    model = small().set_params(forest__class_weight={"a": 1.0, "b": 2.0}).fit(X, named)
    assert set(model.predict(X_new)) == {"a", "b"} == set(model.sample(20)[1])
    expected = small().set_params(forest__class_weight={0: 1.0, 1: 2.0}).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X_new), expected.predict_proba(X_new))


def test_search_and_pipeline(moons):
    X, y, X_new = moons
    X, y = X[:30], y[:30]
    grid = {"forest__min_samples_leaf": [1, 20], "weight": [1.0]}
    search = GridSearchCV(small(temperature=2.0), grid, cv=2).fit(X, y)
    assert search.best_params_["forest__min_samples_leaf"] == 1
    assert search.best_estimator_.forest_.min_samples_leaf == 1
    pipe = make_pipeline(StandardScaler(), clone(search.best_estimator_)).fit(X, y)
    assert pipe.predict_proba(X_new).shape == (50, 2)


def test_pandas_in_and_out(moons):
    X, y, _ = moons
    frame = pd.DataFrame(X, columns=["u", "v"], index=np.arange(150) + 7)
    model = small(weight=0.5, temperature=2.0).set_output(transform="pandas").fit(frame, y)
    codes = model.transform(frame)
    assert list(codes) == ["flowforestclassifier0", "flowforestclassifier1"]
    assert codes.index.equals(frame.index)
    assert model.feature_names_in_.tolist() == ["u", "v"]


def test_density_codes_and_samples_are_the_flows(moons, fitted):
    X = moons[2]
    np.testing.assert_array_equal(fitted.score_samples(X), fitted.flow_gmm_.score_samples(X))
    Z = fitted.transform(X)
    assert Z.shape == X.shape
    np.testing.assert_allclose(fitted.inverse_transform(Z), X, atol=1e-3)
    drawn, classes = fitted.sample(10, 1, temperature=0.5, random_state=0)
    assert drawn.shape == (10, 2) and (classes == 1).all()


# -- errors and files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"weight": 1.5}, "weight must be in 0 to 1, got 1.5"),
        ({"temperature": "cold"}, "temperature must be in"),
        ({"n_folds": 1}, "n_folds must be 2 or more, got 1"),
    ],
)
def test_parameters_out_of_range(moons, params, message):
    with pytest.raises(ValueError, match=message):
        small(**params).fit(*moons[:2])


def test_images_are_refused_in_one_line():
    with pytest.raises(ValueError, match="use FlowGMMClassifier for images") as caught:
        small().fit(np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 0, 1])
    assert "\n" not in str(caught.value)


def test_divergence_is_an_error(moons, monkeypatch):
    def diverge(models, X, ys):
        fit_stack(models, X, ys)
        models[0].failure_ = "diverged at step 3"

    monkeypatch.setattr(flow_forest, "fit_stack", diverge)
    with pytest.raises(DivergedError, match="diverged at step 3"):
        small(weight=0.5, temperature=2.0).fit(*moons[:2])


def test_save_and_load(moons, fitted, tmp_path):
    X = moons[2]
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    loaded = FlowForestClassifier.load(path)
    assert repr(loaded) == repr(fitted)
    assert loaded.temperature_ == fitted.temperature_
    for method in ("predict_log_proba", "predict", "score_samples", "transform"):
        np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(fitted, method)(X))
    loaded.save(tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    # The parts that were not given are not given afterwards.
    bare = FlowForestClassifier.from_fitted(fitted.flow_gmm_, fitted.forest_, 2.0)
    bare.set_params(flow_gmm=None, forest=None).save(path)
    assert FlowForestClassifier.load(path).flow_gmm is None


def test_files_that_are_no_model_are_one_line(moons, fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="not found"):
        FlowForestClassifier.load(path)
    fitted.save(path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        FlowForestClassifier.load(path)
    write_tensors(path, {"x": np.zeros(3)})
    with pytest.raises(UserError, match="expected a FlowForestClassifier, got no model"):
        FlowForestClassifier.load(path)
    unsaved = clone(fitted).set_params(random_state=np.random.RandomState(0))
    with pytest.raises(ValueError, match="an int as random_state"):
        unsaved.fit(*moons[:2]).save(path)
