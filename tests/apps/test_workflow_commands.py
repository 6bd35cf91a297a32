"""Commands about the workflow without a run of it: add-dataset, and estimates by counting."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ADD, GPU, MACHINE, flowgmm, make_table
from typer.testing import CliRunner
from workspace import ROOT, copy_repository

from flowgmm.apps.estimate.cost_model import OVERHEAD, Size, Work, count
from flowgmm.apps.estimate.dry_run import Plan, PlannedJob
from flowgmm.apps.estimate.predict import (
    Finished,
    _size,
    past_error,
    predict,
    schedule,
)
from flowgmm.cli import app
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.entries import Column
from flowgmm.experiments.project import Run
from flowgmm.experiments.specs.data import absent_reason, features_spec, raw_files
from flowgmm.experiments.specs.runs import jobs_of, train_spec
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.utils.errors import UserError


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    copy_repository(tmp_path)
    make_table(tmp_path / "mine.csv")
    return tmp_path


# add-dataset


def test_add_dataset_adds_text_and_changes_none(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {
        name: (clone / "config" / name).read_text() for name in ("datasets.yaml", "tables.yaml")
    }
    done = flowgmm(clone, monkeypatch, *ADD, "--drop", "c", "--title", "Mine: own", "--n-val", "30")
    assert done.exit_code == 0, done.stderr
    assert "120 training and 30 test rows, 2 features; 12 labelled and 30 val" in done.stdout
    assert "snakemake --profile local -- extra_tables" in done.stdout
    after = (clone / "config" / "datasets.yaml").read_text()
    assert after.startswith(before["datasets.yaml"])
    # Every other line of the tables is as it was.
    added = [
        line
        for line in (clone / "config" / "tables.yaml").read_text().splitlines()
        if line not in before["tables.yaml"].splitlines()
    ]
    assert len(added) == 1
    config = load_checked(clone)
    column = Column(dataset="mine", labels="12", title="Mine: own, 12 labels")
    assert config.tables["extra"].columns[-1] == column
    assert absent_reason(config, "mine") is None
    assert features_spec(config, "mine")["options"]["drop"] == ["c"]
    (clone / "data" / "mine" / "mine.csv").unlink()
    assert absent_reason(config, "mine") == "data absent: data/mine/mine.csv is not there"


def test_classes_that_yaml_would_take_for_numbers_stay_text(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flowgmm(clone, monkeypatch, *ADD, "--classes", "1e5,yes").exit_code == 0
    entry = read_yaml(clone / "config" / "datasets.yaml")["mine"]
    assert entry["options"]["classes"] == ["1e5", "yes"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("magic", "mine.csv"), "'magic' is taken"),
        (("knn", "mine.csv"), "'knn' is taken by an entry of config/methods.yaml"),
        (("my-set", "mine.csv"), "'my-set': a data set's name consists of letters"),
        (("..", "mine.csv"), "'..': a data set's name"),
        (("new", "absent.csv"), "absent.csv is not there"),
        (("new", "mine.csv", "--label", "kinds"), "no column kinds; it has a, b, c, kind"),
        (("new", "mine.csv", "--n-labels", "6"), "n_labels is 6, but 'knn' tries up to 10"),
        (("new", "mine.csv", "--n-labels", "200"), "data set 'new': n_labels is 200"),
        (("new", "mine.csv", "--n-val", "0"), "n_val is 0, but hyper-parameters"),
        (("new", "mine.csv", "--classes", "yes,no"), "label 1e5 in column 'kind' is not one of"),
        (("new", "bad.csv"), "column text is not numeric; name it in the option `drop`"),
        (("new", "empty.csv"), "is not a table"),
        (("new", "nan.csv"), "column a: NaN or infinite values"),
        (("new", "one.csv"), "expected at least 2 classes, got 1 (yes)"),
        (("new", "false.parquet"), "is not a Parquet file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_everything_as_it_was(
    clone: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    make_table(clone / "bad.csv", text="x")
    make_table(clone / "nan.csv", a=np.nan)
    make_table(clone / "one.csv", kind="yes")
    for name in ("empty.csv", "false.parquet"):
        (clone / name).touch()
    before = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    defaults = ("--label", "kind", "--n-labels", "12")
    done = flowgmm(clone, monkeypatch, "add-dataset", *arguments[:2], *defaults, *arguments[2:])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()} == before


def test_a_file_that_has_changed_is_refused(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgmm.datasets.download import download_file

    assert flowgmm(clone, monkeypatch, *ADD).exit_code == 0
    (file,) = raw_files(load_checked(clone), "mine").values()
    download_file(file, clone / "copy.csv", None)
    assert (clone / "copy.csv").read_bytes() == (clone / "mine.csv").read_bytes()
    make_table(clone / "data" / "mine" / "mine.csv", n=151)
    with pytest.raises(UserError, match=r"expected sha256.*put the file back, or correct"):
        download_file(file, clone / "copy.csv", None)
    assert not (clone / "copy.csv").exists()


# estimate


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


def planned(name: str, needs: str, threads: int = 1, priority: float = 0) -> PlannedJob:
    return PlannedJob(name, name, tuple(needs), (name,), None, {}, threads, priority, {})


@pytest.mark.parametrize(
    ("cores", "at_once", "wall"),
    [(1, None, 16), (2, None, 9), (None, None, 9), (None, 1, 16)],
)
def test_schedule(cores: int | None, at_once: int | None, wall: float) -> None:
    """a(1) before b(5) and c(5); d(2) of two threads and e(3) at the end of b."""
    jobs = [planned("a", ""), planned("b", "a"), planned("c", "a"), planned("e", "b")]
    jobs.append(planned("d", "", threads=1))
    plan = Plan(tuple(jobs), cores, at_once)
    assert schedule(plan, [1, 5, 5, 3, 2], [1] * 5) == (wall, [0, 1, 3])


def test_urgent_jobs_start_first() -> None:
    jobs = (planned("a", ""), planned("b", ""), planned("c", "", priority=1))
    assert schedule(Plan(jobs, 2, None), [1, 1, 4], [1, 1, 1])[0] == 4


def test_a_job_of_all_cores_runs_alone() -> None:
    plan = Plan((planned("a", "", threads=9), planned("b", "", threads=1)), 2, None)
    assert schedule(plan, [3, 4], [9, 1])[0] == 7


def test_operations_of_a_training_are_counted() -> None:
    config = load_checked(ROOT)

    def work(size: Size, **changes: object) -> Work:
        spec = train_spec(config, jobs_of(config, Run("miniboone", "20", "flowgmm"))[0])
        steps = {"n_epochs": None, "n_steps": 100, "unlabelled_batch": 1000}
        counted = count(spec | {"params": spec["params"] | steps | changes}, size)
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
    ("dataset", "labels", "giga", "mega"),
    [("mnist", "1000", 9.85, 19.55), ("cifar10", "4000", 12.9, 19.63)],
)
def test_operations_of_image_flows_are_counted(
    dataset: str, labels: str, giga: float, mega: float
) -> None:
    """Spec 6 and 1.3: operations of a forward pass, parameters; a stack of one seed."""
    config = load_checked(ROOT)
    spec = train_spec(config, jobs_of(config, Run(dataset, labels, "flowgmm_cons"))[0])
    size = _size(config, spec)
    assert size is not None
    work = count(spec, size)
    assert work is not None
    assert work.parameters == pytest.approx(1e6 * mega, rel=0.005)  # with the means
    # Three forward passes' worth with a gradient, one without; evaluation counts for little.
    steps = 4 * 64 * spec["params"]["n_steps"] * 1e9 * giga
    assert work.products == pytest.approx(OVERHEAD * steps, rel=0.05)


def test_sizes_of_label_sets_that_take_all_points() -> None:
    config = load_checked(ROOT)
    for dataset, n_labelled, shape in [
        ("cifar10_calibration", 50_000, (3, 32, 32)),
        ("fashion_mnist", 60_000, (1, 28, 28)),
    ]:
        spec = train_spec(config, jobs_of(config, Run(dataset, "all", "flowgmm_sup_all"))[0])
        size = _size(config, spec)
        assert size is not None
        assert (size.n_labelled, size.n_unlabelled, size.shape) == (n_labelled, 0, shape)


@pytest.mark.parametrize("method", sorted(read_yaml(ROOT / "config" / "methods.yaml")))
def test_every_method_is_counted_and_more_points_are_more_work(method: str) -> None:
    config = load_checked(ROOT)
    spec = train_spec(config, jobs_of(config, Run("ag_news", "200", method))[0])
    few, many = (count(spec, Size(64, 4, n, n, 200, n, 100)) for n in (1000, 9000))
    assert few is not None
    assert many is not None
    assert 0 < few.products < many.products


# All commands


def test_every_command_shows_an_example() -> None:
    for command in app.registered_commands:
        name = command.name or ""
        said = CliRunner().invoke(app, [name, "--help"]).stdout
        assert f"Example: flowgmm {name} " in " ".join(said.split()), name


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, flowgmm.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "numpy", "pandas", "sklearn", "snakemake", "yaml", "rich.table"}
    assert not heavy & set(loaded.stdout.split())
