"""A training job: what it may see, what it writes, and how it goes on after an interruption."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowgmm.apps.pack_checkpoint import pack, unpack
from flowgmm.datasets.splits import draw_split
from flowgmm.experiments import fitting
from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.train_job import train_stack
from flowgmm.experiments.tune_job import tune_candidate
from flowgmm.experiments.tuning import choose_candidate
from flowgmm.methods import override, stack
from flowgmm.methods.flow_forest import FlowForestClassifier
from flowgmm.methods.mlp import DropoutMLPClassifier
from flowgmm.training import hardware
from flowgmm.training.checkpoint import reduce_moments
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.io import read_json, read_tensors, sha256, write_json, write_tensors

BASE = {
    "dataset": "blobs",
    "labels": "8",
    "recipe": "smoke",
    "labelled_only": True,
    "preprocess": "none",
    "params": {},
    "tune": None,
    "tune_with": {},
    "evaluate": ["val", "unlabelled", "test"],
    "vary": {"split": True, "labels": True, "initialisation": True},
    "collapsed_below": 0.0,
    "restart": "none",
    "scaled_down": [],
    "seeds": [0, 1],
    "splits": [0, 1],
    "random_states": [7, 8],
    "code": "0",
}
KNN = BASE | {
    "method": "knn",
    "neural": False,
    "estimator": "sklearn.neighbors.KNeighborsClassifier",
    "tune": {"n_neighbors": [1, 3]},
}
MLP = BASE | {
    "method": "mlp_dropout",
    "neural": True,
    "estimator": "flowgmm.methods.mlp.DropoutMLPClassifier",
    "params": {"hidden_size": 8, "training": {"n_steps": 30, "lr": 0.01, "clip_norm": None}},
}

FLOW_FOREST = BASE | {
    "method": "flow_forest",
    "neural": False,
    "estimator": "flowgmm.methods.flow_forest.flow_forest",
    "params": {"flow": {"hidden_size": 8}, "training": {"n_steps": 10, "lr": 0.01}},
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Features of two well-separated classes, and two splits."""
    rng = np.random.RandomState(0)
    y = np.arange(300) % 2
    X = (rng.standard_normal((300, 3)) + 6 * y[:, None]).astype(np.float32)
    features = tmp_path / "features.safetensors"
    arrays = {"X_train": X[:200], "y_train": y[:200], "X_test": X[200:], "y_test": y[200:]}
    meta = {"classes": ["a", "b"], "notes": [], "not_comparable": [], "sources": {}}
    splits = {}
    for k in (0, 1):
        splits[k] = tmp_path / f"split-{k}.safetensors"
        split = draw_split(
            y[:200], n_labels=8, n_val=20, stratify="balanced", split_seed=k, labels_seed=k
        )
        write_tensors(splits[k], split)
    files = {"features": features, "splits": splits, "arrays": arrays, "meta": meta}
    write_features(files, arrays)
    return files


def write_features(files: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Other features under the same splits."""
    write_tensors(files["features"], arrays, files["meta"])
    for k, path in files["splits"].items():
        meta = {"dataset": "blobs", "labels": "8", "split": k, "seeds": {"split": k, "labels": k}}
        meta["features_sha256"] = sha256(files["features"])
        write_tensors(path, read_tensors(path)[0], meta)


def run(spec: dict[str, Any], files: dict[str, Any], out: Path, **more: Any) -> dict[str, Any]:
    return train_stack(
        spec, files["features"], files["splits"], out, out.with_name(f"{out.name}-jobs"), **more
    )


@pytest.mark.parametrize("spec", [KNN, MLP], ids=["classic", "neural"])
def test_outputs(spec: dict[str, Any], files: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = run(spec, files, out)
    assert record == read_json(out / "record.json")
    predictions, _ = read_tensors(out / "predictions.safetensors")
    assert predictions["test"].shape == (2, 100)
    assert predictions["val"].shape == (2, 20)
    assert predictions["unlabelled"].shape == (2, 192)  # the labelled points do not count
    y_test = files["arrays"]["y_test"]
    for i, entry in enumerate(record["runs"]):
        assert entry["status"] == "ok"
        accuracy = np.mean(predictions["test"][i] == y_test)
        assert entry["metrics"]["test"]["accuracy"] == pytest.approx(accuracy)
        assert accuracy > 0.95
        assert entry["seeds"]["random_state"] == spec["random_states"][i]
        assert entry["seeds"]["labels"] == spec["splits"][i]
    assert (out / "model.safetensors").exists() == spec["neural"]
    assert not list(tmp_path.rglob("state*"))


@pytest.mark.parametrize("method", ["classic", "neural"])
def test_tempering_changes_probabilities_and_nothing_else(
    method: str, files: dict[str, Any], tmp_path: Path
) -> None:
    logistic = {"method": "lr", "neural": False, "params": {"C": 1.0}}
    logistic |= {"estimator": "sklearn.linear_model.LogisticRegression"}
    spec = MLP if method == "neural" else BASE | logistic
    files["arrays"]["y_train"][::7] = 1 - files["arrays"]["y_train"][::7]  # surer than it should be
    write_features(files, files["arrays"])
    plain = run(spec, files, tmp_path / "plain")
    record = run(spec | {"evaluate": ["val", "test", "test_tempered"]}, files, tmp_path / "out")
    assert set(read_tensors(tmp_path / "out" / "predictions.safetensors")[0]) == {"val", "test"}
    for before, entry in zip(plain["runs"], record["runs"], strict=True):
        assert entry["metrics"]["test"] == before["metrics"]["test"]
        tempered = entry["metrics"]["test_tempered"]
        assert tempered["accuracy"] == entry["metrics"]["test"]["accuracy"]
        assert tempered["class_nll"] != entry["metrics"]["test"]["class_nll"]
        assert "temperature" not in before
    # The temperature comes from the validation points alone.
    files["arrays"]["y_test"] = 1 - files["arrays"]["y_test"]
    write_features(files, files["arrays"])
    other = run(spec | {"evaluate": ["val", "test", "test_tempered"]}, files, tmp_path / "other")
    temperatures = [[entry["temperature"] for entry in r["runs"]] for r in (record, other)]
    assert temperatures[0] == temperatures[1]
    assert temperatures[0][0] != temperatures[0][1]  # one for each seed


def test_no_temperature_makes_the_impossible_likely(files: dict[str, Any], tmp_path: Path) -> None:
    """One neighbour gives the other class probability 0."""
    val = read_tensors(files["splits"][0])[0]["val"]
    files["arrays"]["y_train"][val[0]] = 1 - files["arrays"]["y_train"][val[0]]
    write_features(files, files["arrays"])
    spec = KNN | {"evaluate": ["val", "test", "test_tempered"]}
    entry = run(spec, files, tmp_path / "out")["runs"][0]
    assert (entry["status"], entry["temperature"]) == ("ok", None)
    assert entry["metrics"]["test_tempered"] == {}


def tune(spec: dict[str, Any], files: dict[str, Any], output: Path, **more: Any) -> dict[str, Any]:
    spec = spec | {
        "evaluate": ["val"],
        "candidate": {"training__lr": spec["params"]["training"]["lr"]},
    }
    place = (files["features"], files["splits"], output, output.parent / "checkpoints")
    return tune_candidate(spec, *place, **more)


def hide(files: dict[str, Any]) -> None:
    """A features file without a test part, and other labels where none may be seen."""
    train = {name: files["arrays"][name].copy() for name in ("X_train", "y_train")}
    seen = np.zeros(200, bool)
    for path in files["splits"].values():
        split, _ = read_tensors(path)
        seen[np.union1d(split["labelled"], split["val"])] = True
    assert not seen.all()
    train["y_train"][~seen] = 1 - train["y_train"][~seen]
    write_features(files, train)


def test_a_candidate_is_blind_to_test_points_and_hidden_labels(
    files: dict[str, Any], tmp_path: Path
) -> None:
    """Not a bit of what it writes depends on them; it does on labels that it may see."""
    spec = MLP | {"labelled_only": False}  # hidden labels are among those of its rows
    before = tune(spec, files, tmp_path / "a.json")
    assert before == read_json(tmp_path / "a.json")
    hide(files)
    after = tune(spec, files, tmp_path / "b.json")
    assert before | {"timing": 0} == after | {"timing": 0}
    val = read_tensors(files["splits"][1])[0]["val"]
    arrays = {name: array.copy() for name, array in files["arrays"].items()}
    arrays["y_train"][val] = 1 - arrays["y_train"][val]
    write_features(files, arrays)
    spoilt = tune(spec, files, tmp_path / "c.json")
    assert spoilt["hashes"] != before["hashes"]
    assert spoilt["runs"][1]["accuracy"] == pytest.approx(1 - before["runs"][1]["accuracy"])
    assert not list(tmp_path.rglob("state*"))


def test_an_interrupted_candidate_goes_on(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)
    whole = tune(MLP, files, tmp_path / "a.json")

    def stop(step: int, n_steps: int, text: str) -> None:
        if step >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(MLP, files, tmp_path / "b.json", execution=Execution(progress=stop))
    assert not (tmp_path / "b.json").exists()
    seen: list[int] = []
    again = tune(
        MLP,
        files,
        tmp_path / "b.json",
        execution=Execution(progress=lambda step, n_steps, text: seen.append(step)),
    )
    assert seen[0] > 1
    assert again | {"timing": 0} == whole | {"timing": 0}


def test_what_was_chosen_is_used_and_recorded(files: dict[str, Any], tmp_path: Path) -> None:
    grid = {"training__lr": [0.01, 1e-12]}
    points = []
    for i, lr in enumerate(grid["training__lr"]):
        spec = MLP | {"params": override(MLP["params"], {"training__lr": lr})}
        spec |= {"seeds": [0], "splits": [0], "random_states": [9]}
        only = files | {"splits": {0: files["splits"][0]}}
        points.append(tune(spec, only, tmp_path / f"point-{i}.json"))
    write_json(tmp_path / "choice.json", choose_candidate(points))
    untuned = MLP | {"params": override(MLP["params"], {"training__lr": 1e-12})}
    spec = untuned | {"tune": grid}
    record = run(spec, files, tmp_path / "tuned", choice=tmp_path / "choice.json")
    by_hand = run(MLP, files, tmp_path / "by_hand")
    for entry, expected in zip(record["runs"], by_hand["runs"], strict=True):
        assert entry["metrics"] == expected["metrics"]
        assert entry["tuned"] == {"training__lr": 0.01}
        assert [c["params"]["training__lr"] for c in entry["tuning"]] == grid["training__lr"]
        assert entry["budget"]["steps"] == 2 * 30
    assert record["hashes"]["choice"] == sha256(tmp_path / "choice.json")
    assert record["spec"] == spec
    with pytest.raises(UserError, match="blobs/8, mlp_dropout has a grid, but nothing was chosen"):
        run(spec, files, tmp_path / "forgotten")


def test_tuning_is_recorded(files: dict[str, Any], tmp_path: Path) -> None:
    entry = run(KNN, files, tmp_path / "out")["runs"][0]
    assert entry["tuned"] == {"n_neighbors": 1}  # a tie: the first
    assert [c["params"]["n_neighbors"] for c in entry["tuning"]] == [1, 3]
    assert entry["budget"]["validation_labels"] == 20


@pytest.mark.parametrize("informative", ["unit_norm", "none", "standardise"])
def test_a_classic_methods_grid_may_name_the_features(
    informative: str, files: dict[str, Any], tmp_path: Path
) -> None:
    """Classes that differ in direction, in length, or in a column that others drown."""
    rng = np.random.RandomState(1)
    y, one = np.arange(300) % 2, np.ones(300)
    if informative == "unit_norm":
        X = np.exp(2 * rng.standard_normal((300, 1))) * np.stack([one, 1 + y, one], 1)
    elif informative == "none":
        X = (1 + 3 * y + rng.random_sample(300))[:, None] * np.ones(3)
        X[:, 1:] += 1e-3 * rng.standard_normal((300, 2))
    else:
        X = np.stack([500 + 90 * rng.standard_normal(300), 500 + one, y + one], 1)
        X[:, 1] += rng.standard_normal(300)
    arrays = {"X_train": X[:200], "y_train": y[:200], "X_test": X[200:], "y_test": y[200:]}
    write_features(
        files, {k: v.astype(np.float32 if k[0] == "X" else int) for k, v in arrays.items()}
    )
    grid = {"n_neighbors": [1], "preprocess": ["unit_norm", "none", "standardise"]}
    grid["preprocess"].remove("standardise" if informative == "none" else "none")
    spec = KNN | {"preprocess": "unit_norm", "tune": grid}
    for entry in run(spec, files, tmp_path / "out")["runs"]:
        assert entry["tuned"] == {"n_neighbors": 1, "preprocess": informative}
        assert entry["metrics"]["test"]["accuracy"] > 0.9


@pytest.mark.parametrize("spec", [KNN, MLP, FLOW_FOREST], ids=["classic", "neural", "combined"])
def test_hidden_labels_move_no_prediction(
    spec: dict[str, Any], files: dict[str, Any], tmp_path: Path
) -> None:
    """Neither test labels nor labels of unlabelled points have a way in."""
    run(spec, files, tmp_path / "a")
    arrays = {name: array.copy() for name, array in files["arrays"].items()}
    arrays["y_test"] = 1 - arrays["y_test"]
    seen = np.zeros(200, bool)
    for path in files["splits"].values():
        split, _ = read_tensors(path)
        seen[np.union1d(split["labelled"], split["val"])] = True
    arrays["y_train"][~seen] = 1 - arrays["y_train"][~seen]
    write_features(files, arrays)
    run(spec, files, tmp_path / "b")
    before, _ = read_tensors(tmp_path / "a" / "predictions.safetensors")
    after, _ = read_tensors(tmp_path / "b" / "predictions.safetensors")
    for part in before:
        assert np.array_equal(before[part], after[part])


def test_diverged_seed_is_recorded_and_the_others_stand(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_stack = stack.fit_stack

    def one_fails(estimators: list[Any], *args: Any, **kwargs: Any) -> None:
        fit_stack(estimators, *args, **kwargs)
        estimators[1].failure_ = "loss is NaN at step 3"

    monkeypatch.setattr(stack, "fit_stack", one_fails)
    check_one_failed(run(MLP, files, tmp_path / "out"), tmp_path / "out")


def test_diverged_seed_of_a_method_without_a_stack(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = FlowForestClassifier.fit

    def one_fails(model: Any, X: Any, y: Any) -> Any:
        if model.random_state == BASE["random_states"][1]:
            raise DivergedError("loss is NaN at step 3")
        return fit(model, X, y)

    monkeypatch.setattr(FlowForestClassifier, "fit", one_fails)
    check_one_failed(run(FLOW_FOREST, files, tmp_path / "out"), tmp_path / "out")


def check_one_failed(record: dict[str, Any], out: Path) -> None:
    assert [entry["status"] for entry in record["runs"]] == ["ok", "failed"]
    assert record["runs"][1]["reason"] == "loss is NaN at step 3"
    assert record["runs"][1]["metrics"] == {}
    predictions, _ = read_tensors(out / "predictions.safetensors")
    assert (predictions["test"][1] == -1).all()


def test_collapsed_seed_is_marked_and_keeps_its_numbers(
    files: dict[str, Any], tmp_path: Path
) -> None:
    spec = MLP | {
        "collapsed_below": 0.6,
        "params": override(MLP["params"], {"training__n_steps": 60}),
    }
    sound = run(spec, files, tmp_path / "sound")
    assert [run["status"] for run in sound["runs"]] == ["ok", "ok"]
    # A learning rate of next to nothing: the network stays what it was drawn as.
    still = spec | {"params": override(spec["params"], {"training__lr": 1e-12})}
    record = run(still, files, tmp_path / "still")
    for entry in record["runs"]:
        collapsed = entry["metrics"]["val"]["accuracy"] < 0.6
        assert entry["status"] == ("failed" if collapsed else "ok")
        assert ("collapsed" in (entry["reason"] or "")) is collapsed
        assert entry["metrics"]["test"]["accuracy"] >= 0
    assert any(entry["status"] == "failed" for entry in record["runs"])


def test_restarts_draw_other_weights_until_the_start_is_good(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(MLP, files, tmp_path / "plain")
    spec = MLP | {"restart": "val"}
    monkeypatch.setattr(fitting, "RESTART_MARGIN", 2.0)  # any start is good enough
    record = run(spec, files, tmp_path / "good")
    assert [entry["restarts"]["count"] for entry in record["runs"]] == [0, 0]
    assert [e["metrics"] for e in record["runs"]] == [e["metrics"] for e in plain["runs"]]
    monkeypatch.setattr(fitting, "RESTART_MARGIN", -2.0)  # none is
    record = run(spec, files, tmp_path / "poor")
    assert [entry["restarts"]["count"] for entry in record["runs"]] == [3, 3]
    assert [len(entry["restarts"]["tried"]) for entry in record["runs"]] == [3, 3]
    for before, after in zip(plain["runs"], record["runs"], strict=True):
        assert before["seeds"]["initialisation"] != after["seeds"]["initialisation"]
        assert before["seeds"]["labels"] == after["seeds"]["labels"]


def test_interrupted_training_leaves_no_output_and_comes_out_the_same(
    files: dict[str, Any], tmp_path: Path
) -> None:
    run(MLP, files, tmp_path / "whole")

    def stop(step: int, n_steps: int, text: str) -> None:
        if step >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(MLP, files, tmp_path / "again", execution=Execution(progress=stop))
    assert not (tmp_path / "again").exists()
    record = run(MLP, files, tmp_path / "again")
    whole, again = (
        (tmp_path / name / "predictions.safetensors").read_bytes() for name in ("whole", "again")
    )
    assert whole == again
    assert not any("inexact_resumes" in entry for entry in record["runs"])


def test_a_job_goes_on_from_the_checkpoint_of_another_machine(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the way of docs/cluster.md; another number of threads is another machine."""
    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)
    seen = []

    def until(last: int) -> Any:
        def stop(step: int, n_steps: int, text: str) -> None:
            seen.append(step)
            if step >= last:
                raise KeyboardInterrupt

        return stop

    states = []
    for threads, last in ((2, 20), (1, 5)):
        with pytest.raises(KeyboardInterrupt):
            run(MLP, files, tmp_path / "out", execution=Execution("cpu", threads, until(last)))
        states += sorted(set(tmp_path.rglob("state")) - set(states))
    there, here = states
    pack(there, tmp_path / "packed", part_bytes=1000)
    unpack(tmp_path / "packed", here)
    seen.clear()
    record = run(MLP, files, tmp_path / "out", execution=Execution("cpu", 1, until(99)))
    assert seen[0] == 20
    assert [entry["n_iter"] for entry in record["runs"]] == [30, 30]


def test_a_record_says_that_a_resume_was_not_exact(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)

    def stop(step: int, n_steps: int, text: str) -> None:
        if step >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(MLP, files, tmp_path / "again", execution=Execution(progress=stop))
    (checkpoint,) = tmp_path.rglob("state")
    reduce_moments(checkpoint, checkpoint, "none")
    for entry in run(MLP, files, tmp_path / "again")["runs"]:
        assert entry["inexact_resumes"] == [{"step": 14, "moments": "none", "device": "cpu"}]


@pytest.mark.parametrize(
    ("spec", "given", "expected"),
    [
        (KNN, None, None),
        (MLP, None, "fp32"),
        (MLP, "auto", "bf16"),
        (MLP, "fp32", "fp32"),
        (FLOW_FOREST, "auto", "bf16"),
    ],
)
def test_the_precision_that_was_used_is_recorded(
    spec: dict[str, Any],
    given: str | None,
    expected: str | None,
    files: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "best_precision", lambda device: "bf16")
    if given is not None:
        spec = spec | {"params": override(spec["params"], {"training__precision": given})}
    record = run(spec, files, tmp_path / "out")
    assert record["environment"]["precision"] == expected
    assert record["spec"] == spec
    if spec["neural"]:
        (first, _) = DropoutMLPClassifier.load_stack(tmp_path / "out" / "model.safetensors")
        assert first.training_.precision == expected


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_job_does_not_go_on_in_another_precision(
    interrupted: bool, files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster `auto` is one thing on one machine and another on the next."""
    spec = MLP | {"params": override(MLP["params"], {"training__precision": "auto"})}
    explicit = MLP | {"params": override(MLP["params"], {"training__precision": "fp32"})}
    expected = run(explicit, files, tmp_path / "expected")
    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)
    seen: list[int] = []

    def stop(step: int, n_steps: int, text: str) -> None:
        if interrupted and step >= 15:
            raise KeyboardInterrupt

    monkeypatch.setattr(hardware, "best_precision", lambda device: "bf16")
    with pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext():
        run(spec, files, tmp_path / "out", execution=Execution(progress=stop))
    monkeypatch.setattr(hardware, "best_precision", lambda device: "fp32")
    count = Execution(progress=lambda step, n_steps, text: seen.append(step))
    record = run(spec, files, tmp_path / "out", execution=count)
    assert seen[0] == 1
    assert record["environment"]["precision"] == "fp32"
    for found, wanted in zip(record["runs"], expected["runs"], strict=True):
        assert found["history"] == wanted["history"]
        assert found["metrics"] == wanted["metrics"]


def test_missing_features(files: dict[str, Any], tmp_path: Path) -> None:
    files["features"].unlink()
    with pytest.raises(UserError, match="not found"):
        run(KNN, files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (MLP, {"params": {"training": {"n_steps": 0}}}, "'n_steps' parameter of Training must be"),
        (KNN, {"tune": {"n_neighbors": [50]}}, "Expected n_neighbors <= n_samples_fit"),
    ],
    ids=["neural", "classic"],
)
def test_a_setting_that_an_estimator_refuses(
    spec: dict[str, Any], changes: dict[str, Any], message: str, files: Any, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"blobs/8, \w+: .*; correct config/recipes/smoke"
    ) as caught:
        run(spec | changes, files, tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("state*"))
