"""Estimates by counting: predicted times, the schedule, operations and sizes."""

import json

import pytest
from commands import GPU, MACHINE
from workspace import ROOT

from flowgmm.apps.estimate.cost_model import OVERHEAD, Work, count
from flowgmm.apps.estimate.dry_run import DryRun, DryRunJob
from flowgmm.apps.estimate.history import Finished
from flowgmm.apps.estimate.predict import past_error, predict
from flowgmm.apps.estimate.schedule import critical_path, wall_time
from flowgmm.apps.estimate.sizes import data_size
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import Job, Run, settings_with
from flowgmm.experiments.recipes import resolve_settings
from flowgmm.experiments.sizes import Size
from flowgmm.experiments.specs.runs import jobs_of, train_spec
from flowgmm.experiments.yaml_io import read_yaml


def finished(seconds: float, products: float | None, **changes: object) -> Finished:
    work = None if products is None else Work(products)
    job = {"benchmark": f"{seconds}", "rule": "train", "kind": "flowgmm", "dataset": "d"}
    return Finished(**(job | {"work": work, "seconds": seconds} | changes))


def test_a_prediction_is_measured_scaled_or_counted() -> None:
    twice = [finished(2 * (1 + n), n * 1e10, benchmark=f"b{n}") for n in (1, 10, 100)]
    slow = [finished(1e4, 3e11, kind="other"), finished(1e4, 3e11, rule="other")]
    guess = predict(finished(0, 1e10, benchmark="b1"), twice + slow, MACHINE, GPU)
    assert (guess.seconds, guess.basis) == (4, "measured")
    guess = predict(finished(0, 3e11), twice + slow, MACHINE, GPU)
    assert (guess.seconds, guess.basis) == (pytest.approx(62), "scaled")
    # The same job after its work has changed is no longer measured.
    assert predict(finished(0, 2e10, benchmark="b1"), twice, MACHINE, GPU).basis == "scaled"
    assert predict(finished(0, 1e14), twice, MACHINE, GPU).basis == "counted"  # far larger
    guess = predict(finished(0, 3e11, kind="new"), slow[:1], MACHINE, GPU)
    assert (guess.seconds, guess.basis) == (pytest.approx(1e4), "scaled")
    assert predict(finished(0, 3e11), [], MACHINE, GPU).seconds == pytest.approx(31)
    assert predict(finished(0, 3e11, gpu=True), twice, MACHINE, GPU).seconds == pytest.approx(1.3)
    assert predict(finished(0, None), [], MACHINE, GPU).basis == "assumed"
    guess = predict(finished(0, None), [finished(7.0, None, kind="")], MACHINE, GPU)
    assert (guess.seconds, guess.basis) == (7, "scaled")


def test_past_error_leaves_each_job_out() -> None:
    steady = [finished(3 * (1 + n), n * 1e10) for n in (1, 2, 5, 10)]
    error = past_error(steady, MACHINE, GPU)
    assert error == {key: pytest.approx(1) for key in ("median", "low", "high", "total")}
    odd = past_error([*steady, finished(300, 1e10)], MACHINE, GPU)
    assert odd is not None
    assert odd["low"] < 0.5  # the odd one is not predicted from itself
    assert odd["median"] == pytest.approx(1)
    assert past_error(steady[:1], MACHINE, GPU) is None


def job(name: str, needs: str, threads: int = 1, priority: float = 0) -> DryRunJob:
    return DryRunJob(name, name, tuple(needs), (name,), None, {}, threads, priority, {})


@pytest.mark.parametrize(
    ("cores", "max_jobs", "wall"),
    [(1, None, 16), (2, None, 9), (None, None, 9), (None, 1, 16)],
)
def test_schedule(cores: int | None, max_jobs: int | None, wall: float) -> None:
    """a(1) before b(5) and c(5); d(2) of two threads and e(3) at the end of b."""
    jobs = [job("a", ""), job("b", "a"), job("c", "a"), job("e", "b")]
    jobs.append(job("d", "", threads=1))
    dry_run = DryRun(tuple(jobs), cores, max_jobs)
    assert wall_time(dry_run, [1, 5, 5, 3, 2]) == wall
    assert critical_path(dry_run, [1, 5, 5, 3, 2]) == [0, 1, 3]


def test_urgent_jobs_start_first() -> None:
    jobs = (job("a", ""), job("b", ""), job("c", "", priority=1))
    assert wall_time(DryRun(jobs, 2, None), [1, 1, 4]) == 4


def test_a_job_of_all_cores_runs_alone() -> None:
    dry_run = DryRun((job("a", "", threads=9), job("b", "", threads=1)), 2, None)
    assert wall_time(dry_run, [3, 4]) == 7


def test_operations_of_a_training_are_counted() -> None:
    config = load_checked(ROOT)

    def work(size: Size, **changes: object) -> Work:
        spec = train_spec(config, jobs_of(config, Run("miniboone", "20", "flowgmm"))[0])
        steps = {"n_epochs": None, "n_steps": 100, "unlabelled_batch": 1000}
        training = spec["params"]["training"] | steps | changes
        counted = count(spec | {"params": spec["params"] | {"training": training}}, size)
        assert counted is not None
        return counted

    size = Size(50, 2, 60_000, 7000, 20, 60_000, 5000)
    # Ten couplings 25 -> 256 -> 256 -> 50, with 25 gains each; two means of 50, two spreads and
    # weights at the most; four seeds.
    network = 10 * (25 * 256 + 256 + 256 * 256 + 256 + 256 * 50 + 50 + 25)
    assert work(size).parameters == pytest.approx(4 * network, rel=0.01)
    steps = work(size, n_steps=200).products - work(size).products
    assert steps == pytest.approx(100 * 4 * 6 * network * 1020, rel=0.6)
    epochs = work(size, n_steps=None, n_epochs=10)
    assert epochs.products > 5 * work(size).products
    assert count({"estimator": "sklearn.neighbors.KNeighborsClassifier"}, None) is None


@pytest.mark.parametrize(
    ("labels", "method", "peta"), [("1000", "diglm", 400), ("all", "diglm_sup", 177)]
)
def test_operations_of_diglm_are_counted(labels: str, method: str, peta: float) -> None:
    """At full size, as the specification of the quoted systems has them."""
    config = load_checked(ROOT)
    spec = train_spec(config, jobs_of(config, Run("mnist", labels, method))[0])
    work = count(spec, data_size(config, spec))
    assert work is not None
    assert work.products == pytest.approx(1e15 * peta, rel=0.35)


@pytest.mark.parametrize(
    ("dataset", "labels", "giga", "mega"),
    [("mnist", "1000", 9.85, 19.55), ("cifar10", "4000", 12.9, 19.63)],
)
def test_operations_of_image_flows_are_counted(
    dataset: str, labels: str, giga: float, mega: float
) -> None:
    """Spec 6 and 1.3: operations of a forward pass, parameters; a stack of one seed."""
    config = load_checked(ROOT)
    spec = train_spec(config, jobs_of(config, Run(dataset, labels, "flowgmm_cons"))[0])
    size = data_size(config, spec)
    assert size is not None
    work = count(spec, size)
    assert work is not None
    assert work.parameters == pytest.approx(1e6 * mega, rel=0.005)  # with the means
    # Three forward passes' worth with a gradient, one without; evaluation counts for little.
    steps = 4 * 64 * spec["params"]["training"]["n_steps"] * 1e9 * giga
    assert work.products == pytest.approx(OVERHEAD * steps, rel=0.05)


def test_a_guess_counts_where_one_is_made() -> None:
    """32 labelled and 64 unlabelled images a step: 32 fewer forward passes of 352."""
    config = load_checked(ROOT, settings_with(ROOT, ["recipe=recommended"]))
    spec = train_spec(config, jobs_of(config, Run("mnist", "1000", "flowgmm_cons"))[0])
    size, changed = data_size(config, spec), json.loads(json.dumps(spec))
    assert changed["params"]["objective"]["consistency_on"] == "unlabelled"
    changed["params"]["objective"]["consistency_on"] = "all"
    of_some, of_all = count(spec, size), count(changed, size)
    assert of_some is not None and of_all is not None
    assert of_some.products / of_all.products == pytest.approx(352 / 384, rel=0.02)


@pytest.mark.parametrize(
    ("method", "dataset", "labels", "peta"),
    [
        ("pi_model_conv", "cifar10", "4000", 132),
        ("pi_model_conv_augmented", "svhn", "1000", 193),
        ("badgan", "svhn", "1000", 265),
        ("badgan", "cifar10", "4000", 516),
        ("m1m2", "mnist", "100", 0.49 + 0.7),  # M1 and M2
        ("adgm", "mnist", "100", 30),
        ("sdgm", "mnist", "100", 30),
    ],
)
def test_operations_of_quoted_systems_are_counted(
    method: str, dataset: str, labels: str, peta: float
) -> None:
    """Operations of a whole training, counted by hand from the published sizes."""
    config = load_checked(ROOT)
    spec = train_spec(config, jobs_of(config, Run(dataset, labels, method))[0])
    work = count(spec, data_size(config, spec))
    assert work is not None
    assert work.products == pytest.approx(OVERHEAD * peta * 1e15, rel=0.05)


def test_sizes_of_label_sets_that_take_all_points() -> None:
    config = load_checked(ROOT)
    for dataset, n_labelled, shape in [
        ("cifar10_calibration", 50_000, (3, 32, 32)),
        ("fashion_mnist", 60_000, (1, 28, 28)),
    ]:
        spec = train_spec(config, jobs_of(config, Run(dataset, "all", "flowgmm_sup_all"))[0])
        size = data_size(config, spec)
        assert size is not None
        assert (size.n_labelled, size.n_unlabelled, size.shape) == (n_labelled, 0, shape)


@pytest.mark.parametrize("method", sorted(read_yaml(ROOT / "config" / "methods.yaml")))
def test_every_method_is_counted_and_more_points_are_more_work(method: str) -> None:
    """On the first of a text, an image and a 2-D set that the recipe has settings of it for."""
    config = load_checked(ROOT)
    named = {method, config.method(method).base}
    data = {("ag_news", "200"): (), ("mnist", "1000"): (1, 28, 28), ("moons", "10"): ()}
    set_for = (p for p in data if named & resolve_settings(config, *p).methods.keys())
    dataset, labels = next(set_for, ("ag_news", "200"))  # of a method without settings, any
    spec = train_spec(config, jobs_of(config, Run(dataset, labels, method))[0])
    shape = data[dataset, labels]
    few, many = (count(spec, Size(64, 4, n, n, 200, n, 100, shape)) for n in (1000, 9000))
    assert few is not None
    assert many is not None
    assert 0 < few.products < many.products


def test_flow_and_forest_train_once_and_in_folds_for_each_seed() -> None:
    project = load_checked(ROOT)
    size = Size(10, 2, 1000, 500, 40, 1000, 100)
    (flow, both) = (
        count(train_spec(project, Job(Run("magic", "40", name), 0, 2)), size)
        for name in ("flowgmm", "flow_forest")
    )
    assert flow is not None and both is not None
    assert both.products == pytest.approx(6 * flow.products)
    assert both.calls == pytest.approx(2 * 3 * flow.calls)  # one stack for all seeds
