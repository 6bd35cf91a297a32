"""The neural estimators: scikit-learn's conventions, stacks, saving, and errors."""

import json
import math

import numpy as np
import pytest
import torch
from estimators import SMALL, diglm, flow_gmm, mlp, pi_model, scnf, small_flow
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.utils.estimator_checks import (
    check_classifiers_classes,
    parametrize_with_checks,
)

from flowgmm.flows.preprocessing import Preprocess
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.mlp import DropoutMLPClassifier
from flowgmm.methods.pi_model import PiModelClassifier
from flowgmm.methods.stack import fit_stack
from flowgmm.training.batches import StandardisedPoints
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.io import add_checksum

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
        models = [small_flow(preprocess=preprocess, n_steps=1, random_state=s) for s in range(3)]
        fit_stack(models, X, np.tile(y, (3, 1)))
    plain, standardised = seen
    assert plain.data_ptr() == standardised._points.data_ptr() == X.ctypes.data


@pytest.mark.parametrize(
    "estimator", [small_flow(), *ESTIMATORS[1:]], ids=lambda e: type(e).__name__
)
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
