"""The parts of FlowGMM, the choice of a preset, and scikit-learn's tools over both."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from estimators import flat, flow_gmm
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, make_moons
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowgmm import DropoutMLPClassifier, FlowGMMClassifier, presets
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import Run
from flowgmm.experiments.recipes import method_settings
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.methods import build, override, stack
from flowgmm.methods.parts import (
    LatentMixture,
    MultiscaleRealNVP,
    Objective,
    RealNVP,
    Training,
    part_from_json,
    part_to_json,
)
from flowgmm.methods.preset_parts import PRESETS, choose_preset
from flowgmm.training import hardware
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]
PARTS = (RealNVP, MultiscaleRealNVP, LatentMixture, Objective, Training)
SHORT = Training(n_steps=5)


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(80, noise=0.1, random_state=0)
    y[16:] = -1
    return X, y


@pytest.mark.parametrize("part", PARTS)
def test_a_part_keeps_its_parameters(part):
    made = part()
    made.checked()
    assert list(made.get_params()) == sorted(inspect.signature(part).parameters)
    assert clone(made) == made
    assert clone(made) is not made
    assert part_from_json(part_to_json(made)) == made
    assert all(name in inspect.getdoc(part) for name in made.get_params())


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (RealNVP(n_couplings=0), "'n_couplings' parameter of RealNVP must be an int in"),
        (RealNVP(dropout=1.0), "'dropout' parameter of RealNVP must be a float in"),
        (MultiscaleRealNVP(flip="yes"), "'flip' parameter of MultiscaleRealNVP must be"),
        (LatentMixture(std=0.0), "'std' parameter of LatentMixture must be"),
        (Objective(ramp_up=1.5), "'ramp_up' parameter of Objective must be a float in"),
        (Training(lr=-1.0), "'lr' parameter of Training must be a float in"),
    ],
)
def test_ranges(part, message):
    with pytest.raises(ValueError, match=message):
        part.checked()


@pytest.mark.parametrize(
    ("n_labelled", "n_classes", "n_steps"),
    [(40, 2, 200), (400, 2, 200), (30, 3, 200), (120, 4, 300), (40, 8, 320), (999, 9, 500)],
)
def test_automatic_steps(n_labelled, n_classes, n_steps):
    assert Training().resolved(n_labelled, n_classes) == Training(n_steps=n_steps)
    epochs = Training(n_epochs=3).resolved(n_labelled, n_classes)
    assert (epochs.n_steps, epochs.n_epochs) == (None, 3)


@pytest.mark.parametrize(
    ("n_labelled", "n_classes", "weight"), [(4, 2, 3.0), (20, 4, 10.0), (50, 3, 6.0), (900, 9, 3.0)]
)
def test_automatic_unlabelled_weight(n_labelled, n_classes, weight):
    resolved = Objective().resolved(n_labelled, n_classes)
    assert resolved == Objective(unlabelled_weight=weight)
    given = Objective(unlabelled_weight=0.0)
    assert given.resolved(n_labelled, n_classes) == given


@pytest.mark.parametrize(("n_modelled", "n_labelled", "noise"), [(4, 100, 0.2), (50, 20, 0.7)])
def test_automatic_noise(n_modelled, n_labelled, noise):
    assert RealNVP().resolved((n_modelled,), n_labelled) == RealNVP(input_noise=noise)
    assert RealNVP(input_noise=0.0).resolved(n_modelled, n_labelled) == RealNVP(input_noise=0.0)


def test_unknown_parts_of_a_recipe():
    path = "flowgmm.methods.flow_gmm.FlowGMMClassifier"
    made = build(path, {"flow": {"class": "MultiscaleRealNVP", "pool": 2}, "training": {"lr": 0.1}})
    assert (made.flow, made.training) == (MultiscaleRealNVP(pool=2), Training(lr=0.1))
    with pytest.raises(ValueError, match="unknown part 'Glow'; expected one of RealNVP"):
        build(path, {"flow": {"class": "Glow"}})
    with pytest.raises(ValueError, match="unexpected keyword argument 'n_coupling'"):
        build(path, {"flow": {"n_coupling": 2}})
    changed = override({"training": {"lr": 0.1, "n_steps": 5}}, {"training__lr": 0.2, "n_init": 2})
    assert changed == {"training": {"lr": 0.2, "n_steps": 5}, "n_init": 2}


def test_parts_are_free_of_torch():
    code = "import sys; import flowgmm.methods.parts, flowgmm.methods.preset_parts; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- presets ---------------------------------------------------------------------------------


def embedded(shape, least, seed=0):
    X = np.random.default_rng(seed).normal(size=shape)
    return np.maximum(X, least).astype(np.float32) + 1e-3 * X


@pytest.mark.parametrize(
    ("X", "name"),
    [
        (make_moons(50)[0], "tables"),
        (load_breast_cancer().data, "tables"),
        (np.eye(200)[np.arange(400) % 200], "wide_tables"),
        (np.hstack([embedded((300, 200), -9), np.ones((300, 1))]), "wide_tables"),
        (embedded((300, 384), -9), "text"),
        (embedded((300, 384), -9) / 20, "text"),
        (np.abs(embedded((300, 1280), -0.1)) - 0.1, "features"),
        (np.zeros((10, 1, 4, 4), np.uint8), "images"),
    ],
    ids=[
        "moons",
        "cancer",
        "one-hot",
        "constant column",
        "text",
        "text of length 1",
        "features",
        "images",
    ],
)
def test_the_preset_for_data(X, name):
    assert choose_preset(X) == name


@pytest.mark.parametrize(
    ("shape", "pool", "architecture"),
    [
        ((1, 28, 28), 1, "squeezed"),
        ((3, 32, 40), 2, "squeezed"),
        ((3, 32, 32), 4, "squeezed"),
        ((1, 28, 28), 2, "multi_scale"),
        ((1, 30, 28), 1, "multi_scale"),
    ],
)
def test_the_architecture_for_images(shape, pool, architecture):
    part = clone(PRESETS["images"]().flow).set_params(pool=pool)
    assert part.resolved(shape, 10).architecture == architecture
    assert part.set_params(architecture="mnist_small").resolved(shape, 10) == part


def test_parts_that_are_not_given_are_the_presets(moons):
    X, y = moons
    given = FlowGMMClassifier(RealNVP(hidden_size=8), training=SHORT, random_state=0).fit(X, y)
    assert given.preset_ == "tables"
    noise = np.sqrt(2 / 16)  # of D = 2 features and L = 16 labels
    assert (given.flow_, given.training_) == (RealNVP(hidden_size=8, input_noise=noise), SHORT)
    assert given.objective_ == Objective(unlabelled_weight=3.0)
    assert given.objective is None
    whole = presets.tables(flow=RealNVP(hidden_size=8), training=SHORT, random_state=0).fit(X, y)
    assert whole.preset_ is None
    np.testing.assert_array_equal(whole.predict_proba(X), given.predict_proba(X))


def test_used_parts_are_saved(moons, tmp_path):
    X, y = moons
    model = FlowGMMClassifier(training=SHORT, random_state=0).fit(X, y)
    model.save(tmp_path / "model")
    loaded = FlowGMMClassifier.load(tmp_path / "model")
    assert loaded.used_params() == model.used_params()
    assert loaded.preset_ == "tables"
    assert loaded.training == SHORT
    assert loaded.flow is None


def test_a_part_that_does_not_fit_the_data(moons):
    X, y = moons
    with pytest.raises(ValueError, match="flow: expected RealNVP for X of shape"):
        FlowGMMClassifier(MultiscaleRealNVP()).fit(X, y)
    with pytest.raises(ValueError, match="flow: expected MultiscaleRealNVP for X of shape"):
        FlowGMMClassifier(RealNVP()).fit(np.zeros((80, 1, 4, 4), np.uint8), y)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("paper_2d", Run("moons", "10", "flowgmm")),
        ("paper_text", Run("ag_news", "200", "flowgmm")),
        ("paper_tables", Run("miniboone", "20", "flowgmm")),
        ("paper_images", Run("mnist", "1000", "flowgmm_cons")),
    ],
)
def test_the_papers_presets_are_the_official_recipe(name, run):
    settings = method_settings(load_checked(ROOT), run)
    params = flat(settings.params) | {"preprocess": settings.preprocess}
    made = getattr(presets, name)().get_params()
    own = {key.rpartition("__")[2]: value for key, value in made.items()}
    params = {key: value for key, value in params.items() if key != "class"}
    if params["unlabelled_batch"] == "n_labels":
        params["unlabelled_batch"] = 10
    assert {key: own[key] for key in params} == params


@pytest.mark.parametrize("best", ["bf16", "fp32"])
@pytest.mark.parametrize("given", ["auto", "fp32", "bf16", "fp64"])
def test_automatic_precision_is_the_hardwares(given, best, moons, monkeypatch):
    monkeypatch.setattr(hardware, "best_precision", lambda device: best)
    X, y = moons
    model = presets.tables(training=Training(n_steps=2, precision=given), n_folds=0).fit(X, y)
    expected = best if given == "auto" else given
    assert model.training_.precision == expected
    assert model.used_params()["training__precision"] == expected
    assert model.training.precision == given


def test_only_presets_with_evidence_have_automatic_precision():
    automatic = {name for name, make in PRESETS.items() if make().training.precision == "auto"}
    assert automatic == {"text", "features"}


def test_a_checkpoint_of_another_precision_is_refused(moons, tmp_path, monkeypatch):
    X, y = moons
    state = tmp_path / "state"
    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)

    def fit(share):
        model = presets.tables(training=Training(n_steps=20, precision="auto"), random_state=0)
        stack.fit_stack([model], X, y[None], checkpoint=state, share=share)
        return model

    monkeypatch.setattr(hardware, "best_precision", lambda device: "bf16")
    fit(0.5)
    monkeypatch.setattr(hardware, "best_precision", lambda device: "fp32")
    with pytest.raises(UserError, match="belongs to another run; delete it to start"):
        fit(1.0)
    monkeypatch.setattr(hardware, "best_precision", lambda device: "bf16")
    assert fit(1.0).n_iter_ == 20


def test_the_preset_for_tables_is_the_recommended_recipe():
    settings = read_yaml(ROOT / "config" / "config.yaml") | {"recipe": "recommended"}
    found = method_settings(load_checked(ROOT, settings), Run("satimage", "60", "flowgmm"))
    made = presets.tables().get_params()
    own = {key.rpartition("__")[2]: value for key, value in made.items()}
    params = flat(found.params) | {"preprocess": found.preprocess}
    del params["consistency_target"]  # its weight is 0
    assert {key: own[key] for key in params} == params


def test_the_preset_for_images_is_the_recommended_recipe():
    settings = read_yaml(ROOT / "config" / "config.yaml") | {"recipe": "recommended"}
    found = method_settings(load_checked(ROOT, settings), Run("mnist", "1000", "flowgmm_cons"))
    made = presets.images().get_params()
    own = {key.rpartition("__")[2]: value for key, value in made.items()}
    params = flat(found.params)
    assert (own.pop("architecture"), params.pop("architecture")) == ("auto", "squeezed")
    assert own.pop("n_steps") < params.pop("n_steps")
    # One pair of runs is not the evidence that a preset needs (benchmarks/README.md).
    assert (own.pop("precision"), params.pop("precision")) == ("fp32", "auto")
    params.pop("class", None)
    assert {key: own[key] for key in params} == params


# -- scikit-learn ----------------------------------------------------------------------------


def test_the_signature_fits_on_a_screen():
    assert len(inspect.signature(FlowGMMClassifier).parameters) <= 12


def test_grid_search_over_parts(moons):
    X, y = moons
    model = presets.tables(training=SHORT, n_folds=0, random_state=0)
    grid = {"training__lr": [1e-3, 1e-2], "objective__label_weight": [1.0, 100.0]}
    known = y >= 0
    search = GridSearchCV(model, grid, cv=2).fit(X[known], y[known])
    assert set(search.best_params_) == set(grid)
    assert len(search.cv_results_["params"]) == 4
    assert model.training == SHORT  # the search works on clones
    assert search.best_estimator_.training.lr == search.best_params_["training__lr"]


def test_set_params_of_a_part_that_is_not_given(moons):
    model = FlowGMMClassifier().set_params(training__lr=0.1, flow__n_filters=4)
    assert (model.training, model.flow) == (Training(lr=0.1), MultiscaleRealNVP(n_filters=4))
    assert model.mixture is None
    assert FlowGMMClassifier().set_params(flow__hidden_size=4).flow == RealNVP(hidden_size=4)
    assert DropoutMLPClassifier().set_params(training__lr=0.1).training.n_steps == 500
    with pytest.raises(ValueError, match="Invalid parameter 'rate' for estimator Training"):
        FlowGMMClassifier().set_params(training__rate=0.1)
    grid = {"training__n_steps": [2, 3]}
    X, y = moons
    search = GridSearchCV(FlowGMMClassifier(n_folds=0, random_state=0), grid, cv=2)
    assert search.fit(X[y >= 0], y[y >= 0]).best_estimator_.training_.n_steps in (2, 3)


def test_pipelines_and_data_frames(moons):
    X, y = moons
    frame = pd.DataFrame(X, columns=["u", "v"])
    model = make_pipeline(StandardScaler(), flow_gmm(n_steps=5, random_state=0))
    model.set_output(transform="pandas").fit(frame, y)
    codes = model.transform(frame)
    assert list(codes.columns) == ["flowgmmclassifier0", "flowgmmclassifier1"]
    assert model.predict(frame).shape == (80,)


# -- temperature -----------------------------------------------------------------------------


def test_temperature_and_offsets_are_cross_fitted(moons):
    X, y = moons
    plain = FlowGMMClassifier(n_folds=0, training=SHORT, random_state=0).fit(X, y)
    model = FlowGMMClassifier(training=SHORT, random_state=0).fit(X, y)
    assert plain.temperature_ == 1
    assert model.temperature_ != 1 and not plain.offsets_.any()
    log_proba = plain.predict_log_proba(X) / model.temperature_ + model.offsets_
    log_proba -= np.logaddexp.reduce(log_proba, axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_log_proba(X), log_proba, atol=1e-12)
    again = FlowGMMClassifier(training=SHORT, random_state=0).fit(X, y)
    assert again.temperature_ == model.temperature_
    np.testing.assert_array_equal(again.offsets_, model.offsets_)
    with pytest.raises(ValueError, match="n_folds: expected None, 0 or at least 2, got 1"):
        FlowGMMClassifier(n_folds=1, training=SHORT).fit(X, y)


def test_where_columns_say_nothing_the_frequent_class_is_favoured():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5))
    y = np.where(np.arange(300) < 100, np.arange(300) % 5 == 0, -1)  # one label in five is a 1
    plain = FlowGMMClassifier(n_folds=0, random_state=0).fit(X, y)
    model = FlowGMMClassifier(random_state=0).fit(X, y)
    assert model.offsets_[0] > model.offsets_[1]
    assert (model.predict(X) == 0).mean() > (plain.predict(X) == 0).mean() + 0.02
    model.calibrate(X[:100], y[:100])
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))


def test_one_label_a_class_has_the_temperature_that_others_had(moons):
    X, y = moons
    y = y.copy()
    for k in (0, 1):
        y[np.flatnonzero(y == k)[1:]] = -1
    model = FlowGMMClassifier(training=SHORT, random_state=0).fit(X, y)
    assert model.temperature_ == pytest.approx(1.5 + 3 * 2 / 2)  # D = L = 2
