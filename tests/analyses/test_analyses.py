"""Analyses of image models, with a linear flow whose numbers are known, and their overview."""

import csv
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import multivariate_normal, ortho_group, rankdata

from flowgmm.analyses.boundary import _ratio
from flowgmm.analyses.features import pooled
from flowgmm.analyses.inputs import Data, Model
from flowgmm.analyses.interpolation import _drop
from flowgmm.analyses.registry import FUNCTIONS, check_arguments
from flowgmm.analyses.results import Found, read_found
from flowgmm.evaluation.decisions import Bounds
from flowgmm.experiments.analysis_job import leave_out_absent, run_analysis
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.entries import Recipe, make_printed
from flowgmm.experiments.specs.analyses import analysis_runs, analysis_spec, printed_numbers
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.reporting.figures.make import make_figure
from flowgmm.reporting.overview import judged, make_overview
from flowgmm.utils.absence import write_reason
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_tensors, write_json, write_tensors

ROOT = Path(__file__).parents[2]
K, SIDE = 3, 4
D = SIDE * SIDE
SCALE = 30.0  # latent units per grey range
ROTATION = ortho_group.rvs(D, random_state=0)


class Linear:
    """z = SCALE (x - 1/2) R with a rotation R: what an image FlowGMMClassifier offers."""

    failure_ = None

    def __init__(self, means, weights=None):
        self.means_ = means
        self.std_ = np.ones(K)
        self.weights_ = np.full(K, 1 / K) if weights is None else np.asarray(weights)
        self.classes_ = np.arange(K)
        self.feature_std_ = {1: np.array([0.1])}

    def set_params(self, **params):
        self.device = params["device"]
        return self

    def transform(self, X):
        x = X / 255 if X.dtype == np.uint8 else X
        return SCALE * (x.reshape(len(X), D) - 0.5) @ ROTATION

    def inverse_transform(self, z):
        return (z @ ROTATION.T / SCALE + 0.5).reshape(len(z), 1, SIDE, SIDE)

    def _log_joint(self, X):
        return self.component_log_prob(self.transform(X)) + np.log(self.weights_)

    def component_log_prob(self, z):
        density = [multivariate_normal(mu).logpdf(z).reshape(-1) for mu in self.means_]
        return np.stack(density, axis=1)

    def score_samples(self, X):
        return np.logaddexp.reduce(self._log_joint(X), axis=1) + D * np.log(SCALE)

    def predict_log_proba(self, X):
        joint = self._log_joint(X)
        return joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)

    def predict(self, X):
        return self._log_joint(X).argmax(axis=1)

    def decision_distance(self, X):
        """Distance to the plane halfway between the two nearest means, by projection."""
        found = []
        for z in self.transform(X):
            a, b = sorted(self.means_, key=lambda mu: np.linalg.norm(z - mu))[:2]
            normal = (a - b) / np.linalg.norm(a - b)
            found.append(abs((z - (a + b) / 2) @ normal))
        return np.array(found)

    def sample(self, n, y, temperature, random_state):
        noise = np.random.default_rng(random_state).normal(size=(n, D))
        return self.inverse_transform(self.means_[y] + temperature * noise), y

    def feature_maps(self, X, layer):
        return X / 255.0

    def perturb_feature(self, x, layer, channel, alpha, position=None):
        moved = x / 255.0
        moved[channel] += alpha * self.feature_std_[layer][channel]
        return moved


RNG = np.random.default_rng(0)
CENTRES = RNG.integers(40, 215, size=(K, 1, SIDE, SIDE))
MEANS = SCALE * (CENTRES.reshape(K, D) / 255 - 0.5) @ ROTATION


def images(n, rng=RNG):
    """Grey images around the centres, in latent space with unit noise, and their classes."""
    y = np.arange(n) % K
    noise = 255 / SCALE * rng.normal(size=(n, 1, SIDE, SIDE))
    return np.clip(np.rint(CENTRES[y] + noise), 0, 255).astype(np.uint8), y


def write_data(path, name, X_test, y_test, n_train=90):
    X, y = images(n_train)
    arrays = {"X_train": X, "y_train": y, "X_test": X_test, "y_test": y_test}
    meta = {"dataset": name, "classes": ["a", "b", "c"], "not_comparable": []}
    write_tensors(path, arrays, meta)
    return Data(path, name.upper())


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "home", "home", *images(60))


def within(number, value):
    return Bounds(at_least=number.at_least, at_most=number.at_most).contain(value, value)


def holds(number):
    return within(number, number.value)


def n_holds(number):
    return sum(within(number, value) for value in number.values)


def model(data, *estimators, accuracies=None, history=None, title="m", split=None):
    n = len(estimators)
    accuracies = accuracies or [0.9] * n
    runs = [
        {"metrics": {"test": {"accuracy": a, "n": 1000}}, "history": history} for a in accuracies
    ]
    rows = {"labelled": np.arange(6), "unlabelled": np.arange(60), "val": np.arange(0)}
    splits = [split or rows] * n
    return Model(title, "home", data, list(range(n)), runs, splits, lambda: list(estimators))


def values(found):
    return {number.name: number for number in found.numbers}


def test_interpolation_measures_the_drop_along_latent_lines(data):
    fitted = Linear(MEANS)
    options = {"n_points": 5, "n_pairs": 7, "n_shown": 2}
    found = FUNCTIONS["interpolation"](model(data, fitted), **options)
    assert found.arrays["images_same"].shape == (2, 5, 1, SIDE, SIDE)
    # The map is linear, so images on the line are averages of its ends.
    ends = found.arrays["images_different"][:, [0, -1]]
    middle = found.arrays["images_different"][:, 2]
    np.testing.assert_allclose(middle, ends.mean(axis=1), atol=1e-5)
    for kind in ("same", "different"):
        log_p = found.arrays[f"log_p_{kind}"]
        expected = np.mean((log_p[:, 0] + log_p[:, 4]) / 2 - log_p[:, 2])
        assert values(found)[f"drop_{kind}"].value == pytest.approx(expected)
        np.testing.assert_allclose(
            log_p[0], fitted.score_samples(found.arrays[f"images_{kind}"][0]), rtol=1e-4
        )
        # This flow's log-det is constant: both drops are the latent one.
        assert values(found)[f"drop_latent_{kind}"].value == pytest.approx(expected)
        same = [a == b for a, b in found.details["classes"][kind]]
        assert all(same) if kind == "same" else not any(same)
    assert holds(values(found)["contrast"])


def test_an_even_path_has_two_middle_points():
    log_p = np.array([[0.0, -3.0, -5.0, -2.0]])
    assert _drop(log_p) == pytest.approx(-1 + 4)


def test_boundary_counts_what_lies_close(data):
    close, far = Linear(0.3 * MEANS), Linear(MEANS)
    found = FUNCTIONS["boundary"](
        model(data, close, close), model(data, far, far), threshold=2.0, quantile=0.5
    )
    X = data.X_train[6:60]
    sup, cons = (m.decision_distance(X) for m in (close, far))
    number = values(found)
    assert number["n_close_sup"].values == ((sup < 2).sum(),) * 2
    assert number["share_close_cons"].value == pytest.approx(100 * (cons < 2).mean())
    assert number["ratio"].value == pytest.approx((sup < 2).sum() / max((cons < 2).sum(), 1))
    limit = np.median(sup)
    expected = (sup < limit).sum() / max((cons < limit).sum(), 1)
    assert number["ratio_quantile"].value == pytest.approx(expected)
    np.testing.assert_allclose(found.arrays["cons"], cons, rtol=1e-6)


def test_ratio_is_that_of_the_sums():
    number = _ratio("r", "", [[30, 10], [1, 0]])
    assert number.values == (3.0, 1.0)
    assert number.value == pytest.approx(3.1)
    assert holds(number)
    assert n_holds(number) == 1


def test_features_move_one_channel(data):
    found = FUNCTIONS["features"](
        model(data, Linear(MEANS)), maps=[[1, 0]], alphas=[-2, 0, 2], n_images=2
    )
    moved = found.arrays["images_0"]
    assert moved.shape == (2, 3, 1, SIDE, SIDE)
    np.testing.assert_allclose(moved[:, 1], found.arrays["images"], atol=1e-6)
    np.testing.assert_allclose(moved[:, 2] - moved[:, 1], 0.2, atol=1e-6)
    assert found.arrays["counts_0"].sum() == 60 * D
    assert holds(values(found)["round_trip"])
    assert values(found)["moved"].value == pytest.approx(0.2)


def test_pooled_averages_blocks():
    image = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    np.testing.assert_allclose(255 * pooled(image, 2)[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_allclose(pooled(image, 4), image / 255)


def test_ood_compares_likelihoods_and_modes(data, tmp_path):
    fitted = Linear(MEANS)
    far, y = images(60)
    strange = write_data(tmp_path / "strange", "strange", 255 - far, y)
    # At a class's mean its likelihood is highest.
    at_mean = np.repeat(CENTRES[1:2], 60, axis=0).astype(np.uint8)
    central = write_data(tmp_path / "central", "central", at_mean, y)
    found = FUNCTIONS["ood"](
        model(data, fitted),
        {"home": data, "strange": strange, "central": central},
        above=[["home", "strange"], ["home", "central"], ["home", "absent"]],
        mode={"central": 1, "absent": 2},
        blank_class=1,
    )
    number = values(found)
    home, other = (fitted.score_samples(d.test[0]) for d in (data, strange))
    assert number["home_above_strange"].value == pytest.approx(np.median(home) - np.median(other))
    assert holds(number["home_above_strange"])
    assert not holds(number["home_above_central"])
    ranks = rankdata(np.concatenate([home, other]))[: len(home)]
    auroc = (ranks.sum() - 60 * 61 / 2) / 60**2
    assert number["auroc_strange"].value == pytest.approx(auroc)
    assert number["median_home"].value == pytest.approx(-np.median(home) / D / np.log(2))
    assert number["share_central"].value == 100
    assert number["lead_central"].value == 100
    assert number["likelier_central"].value == 100
    assert len(found.arrays["examples_central"]) == 12
    blank = np.zeros((1, 1, SIDE, SIDE), np.uint8)
    assert found.details["blank_classes"] == fitted.predict(blank).tolist()
    rank = 100 * (home < fitted.score_samples(blank)).mean()
    assert number["blank_rank"].value == pytest.approx(rank)
    assert found.details["left_out"] == ["absent"]


def test_samples_lie_around_the_means(data):
    found = FUNCTIONS["samples"](model(data, Linear(MEANS)), temperatures=[0.0, 0.5], n_per_class=4)
    np.testing.assert_allclose(found.arrays["means"], CENTRES / 255, atol=1e-5)
    expected = np.repeat(found.arrays["means"][:, None], 4, axis=1)
    np.testing.assert_allclose(found.arrays["samples_0"], expected, atol=1e-5)
    assert values(found)["agree_0"].value == 100
    noise = SCALE * (found.arrays["samples_1"] - expected)
    assert noise.std() == pytest.approx(0.5, rel=0.15)


def test_em_is_compared_on_the_seeds_that_both_have(data):
    direct = model(data, None, None, None, accuracies=[0.9, 0.92, 0.91], title="direct")
    em = replace(model(data, None, None, accuracies=[0.93, 0.9], title="EM"), seeds=[1, 2])
    found = values(FUNCTIONS["em"](direct, em))
    np.testing.assert_allclose(found["em_minus_direct"].values, [1.0, -1.0])
    assert found["direct"].value == pytest.approx(91)
    assert holds(found["em_minus_direct"])
    with pytest.raises(UserError, match="no seed in common"):
        FUNCTIONS["em"](replace(direct, seeds=[5, 6, 7]), em)


def test_calibration_compares_test_points_before_and_after(data):
    plain = {"class_nll": 4.0, "ece": 0.2, "accuracy": 0.7}
    tempered = {"class_nll": 1.0, "ece": 0.05, "accuracy": 0.7}
    runs = [{"metrics": {"test": plain, "test_tempered": tempered}, "temperature": 9.0}]
    found = FUNCTIONS["calibration"](replace(model(data, None), runs=runs))
    number = values(found)
    assert number["nll_ratio"].value == 0.25
    assert number["ece_tempered"].value == 0.05
    assert all(holds(n) for n in found.numbers)
    tempered["accuracy"] = 0.71
    changed = values(FUNCTIONS["calibration"](replace(model(data, None), runs=runs)))
    assert not holds(changed["accuracy_change"])


def test_ordering_is_judged_split_by_split(data):
    runs = {"sup": [0.6, 0.7], "plain": [0.7, 0.8], "cons": [0.8, 0.78]}
    models = {name: model(data, None, None, accuracies=values) for name, values in runs.items()}
    found = values(FUNCTIONS["ordering"](**models))
    np.testing.assert_allclose(found["plain_minus_sup"].values, [10, 10])
    np.testing.assert_allclose(found["cons_minus_plain"].values, [10, -2])
    assert holds(found["cons_minus_plain"])
    assert n_holds(found["cons_minus_plain"]) == 1
    assert found["cons_minus_sup"].value == pytest.approx(14)


def test_means_compares_losses_early_and_accuracies_late(data):
    step = [0, 10, 20, 100]
    random = model(data, None, history={"step": step, "loss": [9.0, 8.0, 7.0, 1.0]})
    latent = model(
        data, None, history={"step": step, "loss": [5.0, None, 6.0, 2.0]}, accuracies=[0.8]
    )
    found = FUNCTIONS["means"](random, latent, random, random, early=0.2)
    assert values(found)["early_loss"].value == -1
    assert values(found)["from_latent_minus_random"].value == pytest.approx(-10)
    assert np.isnan(found.arrays["loss_from_latent"][0, 1])


def test_learnt_mixtures_are_compared_with_the_fixed_one():
    history = {"step": [0, 10], "loss": [9.0, 8.0]}
    fixed, jointly, in_turns = (
        model(None, None, None, accuracies=scores, history=history)
        for scores in ([0.9, 0.92], [0.904, 0.926], [0.89, 0.95])
    )
    found = FUNCTIONS["means"](fixed, fixed, jointly, in_turns, early=0.2)
    np.testing.assert_allclose(values(found)["jointly_minus_random"].values, [0.4, 0.6])
    assert n_holds(values(found)["jointly_minus_random"]) == 1
    assert not holds(values(found)["in_turns_minus_random"])
    assert found.arrays["loss_in_turns"].shape == (2, 2)


def test_student_t_counts_low_confidences(data):
    sure, unsure = Linear(0.1 * MEANS), Linear(0.01 * MEANS)
    found = FUNCTIONS["student_t"](model(data, sure), model(data, unsure), confidence=0.99)
    confidence = np.exp(unsure.predict_log_proba(data.test[0])).max(axis=1)
    assert values(found)["n_below_student_t"].value == (confidence < 0.99).sum() > 0
    errors = 100 - values(found)["student_t"].value
    below = 100 * np.mean(confidence < 0.99)
    assert values(found)["doubt_minus_error"].value == pytest.approx(below - errors)
    np.testing.assert_allclose(found.arrays["doubt_student_t"], np.sort(1 - confidence), atol=1e-9)
    assert 0 < found.arrays["doubt_gaussian"][0] < 1e-16  # not rounded to 0


def test_imbalance_predicts_the_average_of_both_halves(data):
    y = data.y_train
    unlabelled = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:10]])
    labelled = np.concatenate([np.flatnonzero(y == k)[-3:] for k in range(K)])
    split = {"labelled": labelled, "unlabelled": np.union1d(unlabelled, labelled)}
    rest = np.setdiff1d(unlabelled, labelled)
    shares = np.bincount(y[rest], minlength=K) / len(rest)
    expected = (1 / K + shares) / 2
    fitted = Linear(MEANS, weights=np.add(expected, [0.05, -0.05, 0]))
    own = Linear(MEANS, weights=np.add(shares, [-0.01, 0, 0.01]))
    found = FUNCTIONS["imbalance"](model(data, fitted, split=split), model(data, own, split=split))
    np.testing.assert_allclose(found.arrays["predicted"], expected)
    assert values(found)["deviation_all"].value == pytest.approx(0.05)
    assert not holds(values(found)["deviation_all"])
    assert values(found)["deviation_unlabelled"].value == pytest.approx(0.01)


# Files

SPEC = {
    "name": "em",
    "title": "EM",
    "function": "student_t",
    "recipe": "r",
    "runs": {
        "gaussian": {"dataset": "home", "labels": "6", "method": "a", "title": "Gaussian"},
        "student_t": {"dataset": "home", "labels": "6", "method": "b", "title": "Student-t"},
    },
    "data": [],
    "left_out": {},
    "titles": {"home": "Home"},
    "options": {"confidence": 0.99},
    "not_comparable": [],
}


PRINTED = {"em": {"n_below_student_t": {"value": 24, "spread": None, "path": "p"}}}


@pytest.fixture
def inputs(tmp_path, data, monkeypatch):
    """Records of two jobs of three seeds in all, of which one failed, and what they refer to."""
    from flowgmm.methods.flow_gmm import FlowGMMClassifier

    records = []
    for method in "ab":
        for seeds in ([0, 1], [2]):
            runs = [
                {
                    "seed": seed,
                    "split": seed,
                    "status": "failed" if (method, seed) == ("b", 1) else "ok",
                    "reason": "diverged" if (method, seed) == ("b", 1) else None,
                    "metrics": {"test": {"accuracy": 0.9 + seed / 100, "n": 60}},
                    "history": None,
                }
                for seed in seeds
            ]
            path = tmp_path / method / f"{seeds[0]}" / "record.json"
            run = {"dataset": "home", "labels": "6", "method": method, "seeds": seeds}
            write_json(path, run | {"runs": runs})
            records.append(path)
    splits = []
    for k in range(3):
        path = tmp_path / f"split-{k}"
        arrays = {"labelled": np.arange(6), "unlabelled": np.arange(60), "val": np.arange(0)}
        write_tensors(path, arrays, {"dataset": "home", "labels": "6", "split": k})
        splits.append(path)

    def load_stack(path, run):
        assert run["method"] == path.parent.parent.name and str(run["seeds"][0]) == path.parent.name
        scale = 0.05 if path.parent.parent.name == "b" else 1.0
        return [Linear((scale + 0.01 * i) * MEANS) for i in range(2)]

    monkeypatch.setattr(FlowGMMClassifier, "load_stack", load_stack)
    return records, splits, [data.path]


def test_an_analysis_gathers_seeds_and_leaves_out_failed_ones(tmp_path, inputs, data):
    result = run_analysis(SPEC, *inputs, tmp_path / "x.json", device="cpu")
    assert read_json(tmp_path / "x.json") == result
    assert result["seeds"] == {"gaussian": [0, 1, 2], "student_t": [0, 2]}
    assert result["failed"] == {"gaussian": {}, "student_t": {"1": "diverged"}}
    numbers = {number["name"]: number for number in result["numbers"]}
    count = numbers["n_below_student_t"]
    # Seeds 0 and 2 are the first of their stacks.
    proba = np.exp(Linear(0.05 * MEANS).predict_log_proba(data.test[0]))
    assert count["values"] == [(proba.max(axis=1) < 0.99).sum()] * 2
    # Judged later, so that an edited rule of verdicts reruns no analysis.
    assert not {"verdict", "interval", "decision", "printed"} & set(count)
    (found,) = read_found(["em"], {}, [tmp_path / "x.json"], PRINTED).values()
    numbers = {number["name"]: number for number in judged(found)}
    assert numbers["n_below_student_t"]["verdict"] == "inconclusive"  # a seed has no number
    assert numbers["gaussian"]["verdict"] == ""  # nothing is printed
    assert set(read_tensors(tmp_path / "x.safetensors")[0]) >= {"doubt_gaussian"}


@pytest.mark.parametrize(
    ("values", "decision"),
    [
        ([7.0, 8.0, 9.0], "holds"),
        ([-7.0, -8.0, -9.0], "does not hold"),
        ([-50.0, 40.0, 31.0], "undecided"),  # the mean is within the bounds, the interval is not
        ([7.0], "undecided"),
    ],
)
def test_an_interval_decides_on_what_is_claimed(values, decision):
    number = {"name": "drop", "title": "drop", "unit": "nats", "at_least": 0.0, "at_most": None}
    number |= {"value": float(np.mean(values)), "values": values, "n_points": 100}
    unclaimed = {**number, "name": "other", "at_least": None}
    result = {"name": "x", "numbers": [number, unclaimed], "failed": {}, "not_comparable": []}
    result |= {"seeds": {"flow": list(range(len(values)))}}
    first, second = judged(Found(result, {}))
    assert (first["decision"], second["decision"]) == (decision, "")
    assert first["n_holds"] == sum(value >= 0 for value in values)


def test_analyse_without_a_seed_is_failed(tmp_path, inputs):
    for path in inputs[0][2:]:
        record = read_json(path)
        for run in record["runs"]:
            run |= {"status": "failed", "reason": "diverged: loss nan"}
        write_json(path, record)
    result = run_analysis(SPEC, *inputs, tmp_path / "x.json")
    assert result["status"] == "failed"
    assert "Student-t: diverged: loss nan" in result["reason"]
    found = read_found(["em"], {}, [tmp_path / "x.json"], {})
    assert found["em"].missing.startswith("failed: no seed is left")


def test_what_is_printed_must_be_there(tmp_path, inputs):
    run_analysis(SPEC, *inputs, tmp_path / "x.json")
    (found,) = read_found(["em"], {}, [tmp_path / "x.json"], {"em": {"typo": {}}}).values()
    with pytest.raises(UserError, match="unknown number typo; expected one of gaussian"):
        judged(found)
    number = {"value": 75, "spread": None, "aggregation": "single", "reported_by": "own"}
    number |= {"approximate": True}
    paper = make_printed({"a": {"b": number, "list": [0.1, 0.2], "word": "x"}})
    found = printed_numbers({"n": "a/b", "w": "a/list"}, paper, "here")
    assert found["n"] == {"value": 75, "spread": 2.5, "path": "a/b"}
    assert found["w_1"]["value"] == 0.2
    with pytest.raises(UserError, match="no 'a/c'; 'c' was not found"):
        printed_numbers({"n": "a/c"}, paper, "here")
    with pytest.raises(UserError, match=r"'a/word'.* is not a number"):
        printed_numbers({"n": "a/word"}, paper, "here")


def test_an_analysis_without_data_is_not_run(tmp_path):
    write_reason(tmp_path / "em.json", "data absent: no network", {"name": "em"})
    found = read_found(["em"], {}, [tmp_path / "em.json"], PRINTED)
    assert found["em"].missing == "not run: data absent: no network"


def test_further_data_that_are_absent_are_left_out(tmp_path):
    spec = {"data": ["far", "near"], "left_out": {"other": "skipped"}}
    spec |= {"titles": {"far": "Far", "near": "Near", "own": "Own"}, "name": "ood"}
    write_reason(tmp_path / "far.safetensors", "no network", {"dataset": "far"})
    write_tensors(tmp_path / "near.safetensors", {}, {"dataset": "near"})
    paths = [tmp_path / f"{name}.safetensors" for name in ("far", "near")]
    changed, left = leave_out_absent(spec, paths)
    assert left == paths[1:] and changed["data"] == ["near"]
    assert changed["left_out"] == {"other": "skipped", "far": "no network"}
    assert changed["titles"] == {"near": "Near", "own": "Own"}
    assert leave_out_absent(spec, paths[1:]) == (spec, paths[1:])


def test_overview_has_every_number_and_says_what_is_not_run(tmp_path, inputs):
    reason = {"not_comparable": ["scaled down: few steps"]}
    result = run_analysis(SPEC | reason, *inputs, tmp_path / "em.json")
    spec = {"recipe": "r", "titles": {"em": "EM", "ood": "Elsewhere"}}
    files = [tmp_path / "em.json"]
    found = read_found(["em", "ood"], {"ood": "data absent"}, files, PRINTED)
    make_overview(spec, found, tmp_path / "o")
    rows = read_json(tmp_path / "o.json")["rows"]
    assert len(rows) == len(result["numbers"]) + 1
    assert rows[-1]["verdict"] == "not run"
    text = (tmp_path / "o.md").read_text()
    assert "Not run: data absent." in text
    assert "seed 1 of student_t failed: diverged" in text
    assert "not comparable: scaled down: few steps" in text
    assert " | 24 | not comparable |" in text
    with (tmp_path / "o.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert len(lines) == len(rows)
    assert any(line["low"] for line in lines)
    for line, row in zip(lines, rows, strict=True):
        box = row.get("interval") or {"low": "", "high": "", "kind": "", "coverage": ""}
        cells = [line[key] for key in ("low", "high", "interval", "coverage")]
        assert cells == [str(box[key]) for key in ("low", "high", "kind", "coverage")]


# Config and figures


def test_every_analysis_of_the_config_takes_what_it_is_given():
    entries = read_yaml(ROOT / "config" / "analyses.yaml")
    assert {entry["function"] for entry in entries.values()} == set(FUNCTIONS)
    for entry in entries.values():
        data = ["data"] if "data" in entry else []
        given = [*entry["runs"], *data, *entry.get("options", {})]
        check_arguments(entry["function"], given)
        with pytest.raises(UserError, match="it takes"):
            check_arguments(entry["function"], [*given, "typo"])
        with pytest.raises(UserError, match="missing a required argument"):
            check_arguments(entry["function"], given[1:])
    with pytest.raises(UserError, match="'pie' is not known"):
        check_arguments("pie", [])


def found_of(name, numbers, arrays, details, **more):
    made = [{**asdict(n), "values": list(n.values)} for n in numbers]
    result = {"status": "ok", "numbers": made, "details": details, "seeds": more.get("seeds", {})}
    return Found({"name": name, **result}, arrays)


def run_all(data, tmp_path):
    """Findings of every analysis on the linear flow, by name."""
    fitted, other = Linear(MEANS), Linear(0.5 * MEANS)
    one, two = model(data, fitted, title="one"), model(data, other, title="two")
    step = {"step": list(range(50)), "loss": list(np.linspace(9, 1, 50))}
    strange = write_data(tmp_path / "s", "strange", *images(60))
    both = {"home": data, "strange": strange}
    calls = {
        "interpolation": ((one,), {"n_points": 10, "n_pairs": 5, "n_shown": 4}),
        "boundary": ((other_ := two, one), {"threshold": 2.0, "quantile": 0.1}),
        "features": ((one,), {"maps": [[1, 0]] * 2, "alphas": [-4, -2, 0, 2, 4], "n_images": 4}),
        "ood": ((one, both), {"above": [], "mode": {"strange": 1}, "blank_class": None}),
        "samples": ((one,), {"temperatures": [0.25, 1.0], "n_per_class": 8}),
        "em": ((one, two), {}),
        "means": (
            [model(data, None, history=step)] * 4,
            {"early": 0.1},
        ),
        "student_t": ((one, other_), {"confidence": 0.99}),
        "imbalance": ((one, one), {}),
    }
    found = {}
    for name, (arguments, options) in calls.items():
        made = FUNCTIONS[name](*arguments, **options)
        seeds = {role: [0] for role in ("direct", "em")}
        found[name] = found_of(name, made.numbers, made.arrays, made.details, seeds=seeds)
    return found


def panels_of(found):
    """Analyses that each figure is drawn from."""
    return {
        "latent_space": [found["interpolation"], found["boundary"], found["features"]],
        "likelihoods": [found["ood"]] * 2,
        "samples": [found["samples"]],
        "accuracies": [found["em"]],
        "convergence": [found["means"]],
        "confidences": [found["student_t"]],
        "class_weights": [found["imbalance"]],
    }


def test_figures_draw_what_was_found_and_say_what_was_not(data, tmp_path):
    for function, content in panels_of(run_all(data, tmp_path)).items():
        figure = make_figure(function, content, ["scaled down: a"])
        figure.canvas.draw()
        assert figure.get_supxlabel() == "scaled down: a"
        missing = [Found({"status": "not run", "reason": "data absent"}, {})] * len(content)
        figure = make_figure(function, missing)
        words = [text.get_text() for ax in figure.axes for text in ax.texts]
        assert words.count("not run: data absent") >= len(content)
        plt.close("all")


def test_figure_5_shows_the_likelihoods(data, tmp_path):
    found = run_all(data, tmp_path)["ood"]
    axes = make_figure("likelihoods", [found, found]).axes
    heights = [patch.get_height() for patch in axes[0].containers[0]]
    assert sum(heights) == pytest.approx(1)
    assert axes[0].get_title() == "(a) model of HOME"
    plt.close("all")


def test_recipes_may_replace_label_sets():
    config = load_checked(ROOT)
    runs = analysis_runs(config, "boundary")
    assert {run.labels for run in runs.values()} == {"1000"}
    extra = Recipe(title="Other label sets", analyses={"mnist/1000": "100"})
    config = replace(config, recipes={**config.recipes, "extra": extra})
    assert {run.labels for run in analysis_runs(config, "boundary").values()} == {"100"}
    reasons = analysis_spec(config, "boundary")["not_comparable"]
    assert "label set 100 in place of 1000" in reasons
    assert analysis_runs(config, "ood_mnist")["model"].labels == "all"
