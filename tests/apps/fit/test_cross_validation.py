"""Cross-validation of all methods on the labelled rows."""

import sys
from types import ModuleType

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from flowgmm.apps.fit.cross_validation import cross_validate, fit_baselines
from flowgmm.apps.fit.methods import COMBINED, FLOWGMM, FOREST, TABPFN, make_methods
from flowgmm.evaluation import metrics
from flowgmm.methods import cross_fit
from flowgmm.utils.errors import UserError


def problem(counts=(11, 12), n_unlabelled=17):
    codes = np.r_[np.repeat(np.arange(len(counts)), counts), np.full(n_unlabelled, -1)]
    X = np.random.default_rng(0).normal(size=(len(codes), 2)) + codes[:, None]
    return X.astype(np.float32), codes


def cross(X, codes):
    """`cross_validate` with the short training."""
    methods, _ = make_methods(X, codes, 0)
    return cross_validate(methods, X, codes, 0)


def test_every_label_is_held_out_once_and_scored_by_every_method():
    X, codes = problem()
    checked = cross(X, codes)
    assert checked.rows.tolist() == list(range(23)) and set(checked.fold) == {0, 1, 2}
    assert list(checked.log_proba)[:3] == [COMBINED, FLOWGMM, FOREST]
    assert {"gradient boosting", "self-training", "logistic regression"} < set(checked.log_proba)
    for log_proba in checked.log_proba.values():
        assert log_proba.shape == (23, 2)
        assert np.allclose(np.exp(log_proba).sum(axis=1), 1)


def test_plenty_of_labels_are_held_out_in_part(monkeypatch):
    monkeypatch.setattr(cross_fit, "MAX_CROSS_VALIDATED", 50)
    X = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    codes = np.arange(80) % 2
    checked = cross(X, codes)
    assert len(checked.rows) == 16 and not checked.fold.any()
    # Labels have nothing to do with the features: confidence is softened, by the other half.
    assert checked.calibration.temperature > 1
    assert "self-training" not in checked.log_proba  # there is no unlabelled row


def test_a_class_with_one_label_does_not_soften_all_others():
    X, codes = problem((12, 12, 1), 30)
    X[codes == 2] += 5
    checked = cross(X, codes)
    y = codes[checked.rows]
    known = y < 2
    combined = checked.log_proba[COMBINED]
    assert (combined[~known].argmax(axis=1) != 2).all()
    assert metrics.class_nll(y[known], combined[known]) < 0.6
    assert checked.mean_temperature < 5


def test_progress_names_the_work():
    X, codes = problem()
    said = []
    methods, _ = make_methods(X, codes, 0)
    cross_validate(methods, X, codes, 0, lambda done, n, text: said.append((done <= n, text)))
    assert all(fine for fine, _ in said)
    assert {text for _, text in said} == {
        "held-out check, 1 of 3 folds at once",
        "held-out check, 2 of 3 folds at once",
        "held-out check, other methods",
    }


def test_divergence_is_one_line(monkeypatch):
    def diverge(models, X, ys, progress):
        fit_stack(models, X, ys)
        models[0].failure_ = "diverged at step 3"

    fit_stack = cross_fit.fit_stack
    monkeypatch.setattr(cross_fit, "fit_stack", diverge)
    with pytest.raises(UserError, match=r"diverged at step 3; .*: see --drop"):
        cross(*problem())


# -- TabPFN, by a package that pretends to be it ---------------------------------------------------


class Pretended(LogisticRegression):
    def __init__(self, model_path="auto", random_state=None):
        super().__init__(random_state=random_state)
        self.model_path = model_path

    def fit(self, X, y):
        if self.model_path.endswith("broken-classifier.ckpt"):
            raise RuntimeError("no\nlicence")
        return super().fit(X, y)


@pytest.fixture
def tabpfn(monkeypatch, tmp_path):
    """Folder of weights of an installed TabPFN."""
    module = ModuleType("tabpfn")
    module.__spec__ = sys.__spec__
    module.TabPFNClassifier = Pretended
    monkeypatch.setitem(sys.modules, "tabpfn", module)
    monkeypatch.setenv("TABPFN_MODEL_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TABPFN_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def test_tabpfn_is_compared_where_package_and_weights_are(tabpfn):
    X, codes = problem()
    methods, (note,) = make_methods(X, codes, 0)
    assert TABPFN not in methods and f"its weights are not in {tabpfn}" in note
    (tabpfn / "tabpfn-v2-classifier.ckpt").write_bytes(b"")
    methods, notes = make_methods(X, codes, 0)
    assert notes == [] and methods[TABPFN].estimator.model_path.endswith("v2-classifier.ckpt")
    assert cross_validate(methods, X, codes, 0).log_proba[TABPFN].shape == (23, 2)
    assert TABPFN in fit_baselines(methods, X, codes, X[:5])
    _, (note,) = make_methods(X, np.arange(40) % 12, 0)
    assert "at most 10 classes" in note


def test_a_tabpfn_that_fails_is_left_out_with_a_note(tabpfn):
    X, codes = problem()
    (tabpfn / "broken-classifier.ckpt").write_bytes(b"")
    methods, _ = make_methods(X, codes, 0)
    checked = cross_validate(methods, X, codes, 0)
    assert TABPFN not in checked.log_proba
    assert checked.notes == ["TabPFN left out: RuntimeError: no licence"]


def test_without_the_package_nothing_is_said(monkeypatch):
    monkeypatch.setattr("flowgmm.apps.fit.methods.find_spec", lambda name: None)
    methods, notes = make_methods(*problem(), 0)
    assert notes == [] and TABPFN not in methods
