"""The commands about the workflow: add-dataset, estimate, why; and data sets by rules files."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result
from workspace import ROOT, snakemake

from flowgmm.apps.estimate.cost_model import OVERHEAD, Machine, Size, Work, count
from flowgmm.apps.estimate.dry_run import Plan, PlannedJob
from flowgmm.apps.estimate.predict import (
    Finished,
    _size,
    finished_jobs,
    past_error,
    predict,
    schedule,
)
from flowgmm.cli import app
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import Run
from flowgmm.experiments.specs.data import absent_reason, features_spec, raw_files
from flowgmm.experiments.specs.runs import jobs_of, train_spec
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.utils.errors import UserError

MACHINE = Machine(rate=1e10, call_s=1e-6, start_s=1.0, notes=("measured: as the test says",))
GPU = Machine(rate=1e12, call_s=1e-6, start_s=1.0, notes=("a GPU is assumed",))


def copy_repository(folder: Path) -> Path:
    """What a fresh clone has."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("config", "workflow", "scripts", "flowgmm"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("slurm", "local"):
        shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    shutil.copy(ROOT / "environment.yml", folder)
    return folder


def flowgmm(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("flowgmm.apps.estimate.predict.measure", lambda *_: MACHINE)
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def make_table(path: Path, n: int = 150, **columns: object) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    frame["kind"] = np.where(frame["a"] + frame["b"] > 0, "yes", "1e5")
    frame.assign(**columns).to_csv(path, index=False)
    return path


ADD = ("add-dataset", "mine", "mine.csv", "--label", "kind", "--n-labels", "12")


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
    column = config.tables["extra"]["columns"][-1]
    assert column == {"dataset": "mine", "labels": "12", "title": "Mine: own, 12 labels"}
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


# One set of each kind, through the workflow

SPIRALS = """
import sys
import numpy as np
rng = np.random.default_rng(0)
parts = {}
for part, n in (("train", 120), ("test", 60)):
    y = np.arange(n) % 2
    t = rng.uniform(1, 6, n)
    x = np.stack([t * np.cos(t + np.pi * y), t * np.sin(t + np.pi * y)], 1)
    parts |= {f"X_{part}": x, f"y_{part}": y}
np.savez(sys.argv[1], **parts)
"""
KEPT = ("knn", "flowgmm")


def example(pattern: str) -> str:
    """A block of the folder's README, so that what it shows is what is tested."""
    text = (ROOT / "workflow" / "rules" / "datasets" / "README.md").read_text()
    (block,) = re.findall(rf"\n\n((?:    {pattern}.*\n)(?:(?:    .*)?\n)*)", text)
    return re.sub("^    ", "", block, flags=re.MULTILINE).rstrip() + "\n"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with a set of each kind, after `extra_tables` at smoke size."""
    folder = copy_repository(tmp_path_factory.mktemp("ran"))
    make_table(folder / "mine.csv")
    with pytest.MonkeyPatch.context() as patch:
        assert flowgmm(folder, patch, *ADD).exit_code == 0
    (folder / "workflow/rules/datasets/spirals.smk").write_text(example("rule make_spirals"))
    (folder / "scripts/spirals.py").write_text(SPIRALS)
    datasets, tables = folder / "config/datasets.yaml", folder / "config/tables.yaml"
    datasets.write_text(datasets.read_text() + "\n" + example("spirals:"))
    column = example("- {dataset")
    rows = "  # D38: the paper describes label spreading"  # the line after the columns of `extra`
    tables.write_text(tables.read_text().replace(rows, f"    {column}{rows}"))
    snakemake(folder, *run_options(folder), "--", "extra_tables")
    return folder


def run_options(folder: Path) -> tuple[str, ...]:
    config = load_checked(folder)
    skipped = [name for name in config.datasets if name not in ("mine", "spirals")]
    skipped += [name for name in config.methods if name not in KEPT]
    skipped += ["spirals/flowgmm"] if "spirals" in config.datasets else []
    return ("--profile", "local", "--config", "recipe=smoke", f"skip=[{','.join(skipped)}]")


def test_a_set_of_each_kind_is_in_the_extra_table(ran: Path) -> None:
    table = json.loads((ran / "results/smoke/tables/extra.json").read_text())
    made = {
        (c["dataset"], c["method"]): c["value"] for row in table["cells"] for c in row if c["n"]
    }
    assert set(made) == {("mine", "knn"), ("mine", "flowgmm"), ("spirals", "knn")}
    assert made["mine", "flowgmm"] > 70
    assert made["spirals", "knn"] > 50
    assert "Nothing to be done" in snakemake(ran, *run_options(ran), "--", "extra_tables")


def test_a_set_made_by_rules_meets_the_contract(ran: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt"
    ignore = shutil.ignore_patterns("results", ".snakemake")
    shutil.copytree(ran, spoilt, symlinks=True, ignore=ignore)
    script = spoilt / "scripts/spirals.py"
    script.write_text(script.read_text().replace("np.arange(n) % 2", "0 * np.arange(n)"))
    target = "results/features/spirals.safetensors"
    said = snakemake(spoilt, *run_options(spoilt), "--", target, ok=False)
    assert "error: dataset 'spirals': expected at least 2 classes, got 1 (0)" in said
    assert not (spoilt / target).exists()
    (spoilt / "workflow/rules/datasets/spirals.smk").unlink()
    with pytest.raises(UserError, match=r"unknown file of workflow/rules/datasets 'spirals\.smk'"):
        load_checked(spoilt)


# why


def test_why_leads_from_a_cell_to_the_command_that_remakes_it(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = flowgmm(ran, monkeypatch, "why", "extra", "mine", "flowgmm", "--recipe", "smoke")
    assert done.exit_code == 0, done.stderr
    record = "results/smoke/runs/mine/12/flowgmm/seeds-0-1/record.json"
    content = json.loads((ran / record).read_text())
    spread = json.loads((ran / "results/smoke/tables/extra.json").read_text())["cells"]
    (cell,) = (
        c for row in spread for c in row if (c["dataset"], c["method"]) == ("mine", "flowgmm")
    )
    for expected in (
        f"{cell['value']:.1f}",
        record,
        content["hashes"]["code"][:12],
        content["hashes"]["features"][:12],
        str(content["spec"]["random_states"][0]),
        "results/smoke/logs/train_stack/mine/12/flowgmm/seeds-0-1.log",
        "hidden_size: 64",
        "nothing since",
    ):
        assert expected in done.stdout, expected
    command = shlex.split(done.stdout.strip().splitlines()[-1])
    end = command.index("--")
    said = snakemake(ran, *command[1:end], "--dry-run", "--quiet", "rules", *command[end:])
    stats = said.split("Job stats:")[1].split("\n\n")[0].split()
    jobs = {word for word in stats if word.isidentifier()} - {"job", "count", "total"}
    assert jobs == {"train_stack", "make_table"}


def test_why_says_what_has_changed(
    ran: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(ran, changed, symlinks=True)
    recipe = changed / "config/recipes/smoke.yaml"
    recipe.write_text(recipe.read_text().replace("n_steps: 60\n", "n_steps: 61\n"))
    why = ("why", "extra", "mine/12", "flowgmm", "--recipe", "smoke")
    assert "a run would redo it: its params would be" in flowgmm(changed, monkeypatch, *why).stdout
    record = changed / "results/smoke/runs/mine/12/flowgmm/seeds-0-1/record.json"
    record.write_text(record.read_text() + "\n")
    assert "the record is another one now" in flowgmm(changed, monkeypatch, *why).stdout
    record.unlink()
    assert "the record is gone" in flowgmm(changed, monkeypatch, *why).stdout


def test_why_gives_the_reason_where_nothing_was_run(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = ("why", "extra", "magic", "flowgmm", "--recipe", "smoke")
    said = flowgmm(ran, monkeypatch, *why).stdout
    assert "not run: left out by `skip: [magic]`" in said
    assert "--forcerun" not in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("extr", "mine", "knn"), "did you mean 'extra'"),
        (("extra", "mnie", "knn"), "did you mean 'mine'"),
        (("extra", "mine", "kn"), "did you mean 'knn'"),
        (("extra", "mine", "knn", "--recipe", "smok"), "did you mean 'smoke'"),
        (("extra", "mine", "knn", "--recipe", "small"), "results/small/tables/extra.json is not"),
    ],
)
def test_why_names_the_nearest(
    ran: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    recipe = () if "--recipe" in arguments else ("--recipe", "smoke")
    done = flowgmm(ran, monkeypatch, "why", *arguments, *recipe)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


# estimate


def config_options(folder: Path) -> list[str]:
    changes = run_options(folder)[3:]
    return [word for change in changes for word in ("--config", change)]


def test_estimate_of_what_is_there_and_of_what_is_missing(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = flowgmm(ran, monkeypatch, "estimate", "extra_tables", *config_options(ran))
    assert "Nothing to do" in done.stdout
    files = set((ran / "results").rglob("*"))
    # The same two methods on another set: known from those that ran.
    config = [word.replace("breast_cancer,", "") for word in config_options(ran)]
    record = "results/smoke/runs/breast_cancer/10/{}/seeds-0-1/record.json"
    targets = [record.format(method) for method in KEPT]
    done = flowgmm(ran, monkeypatch, "estimate", *targets, *config)
    assert done.exit_code == 0, done.stderr
    rows = {row[1]: row for row in map(str.split, done.stdout.splitlines()) if len(row) > 9}
    assert rows["train_stack"][3] == rows["fit_classic"][3] == rows["prepare_data"][3] == "1"
    assert rows["draw_split"][3] == "2"
    assert rows["total"][3] == "5"
    assert "100 % scaled" in done.stdout
    assert "train_stack breast_cancer/10/flowgmm/0/1" in done.stdout  # on the critical path
    assert re.search(r"Own error so far.* over \d+ finished jobs", done.stdout)
    assert set((ran / "results").rglob("*")) == files  # nothing ran


def test_estimate_on_a_cluster_counts_gpu_hours(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgmm.apps.estimate.predict._machines", lambda: (MACHINE, GPU, False))
    target = "results/official/runs/miniboone/20/flowgmm/seeds-0-3/record.json"
    done = flowgmm(ran, monkeypatch, "estimate", target, "--profile", "slurm")
    rows = {row[1]: row for row in map(str.split, done.stdout.splitlines()) if len(row) > 9}
    assert float(rows["train_stack"][7]) > 0 == float(rows["draw_split"][7])
    # Four cores beside the GPU, as the profile says.
    assert float(rows["train_stack"][5]) == pytest.approx(
        4 * float(rows["train_stack"][7]), abs=0.02
    )
    assert "a GPU is assumed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("tabel_1",), "No rule to produce tabel_1"),
        (("demo", "--config", "recipe"), "not of the form key=value"),
        (("demo", "--config", "recpie=smoke"), "did you mean 'recipe'"),
        (("demo", "--profile", "no_such"), "no_such"),
    ],
)
def test_mistakes_of_estimate(
    ran: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    done = flowgmm(ran, monkeypatch, "estimate", *arguments)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_finished_jobs_are_known_by_what_they_made(ran: Path) -> None:
    found = {(job.rule, job.dataset, job.kind): job for job in finished_jobs(load_checked(ran))}
    flow = found["train_stack", "mine", "flowgmm"]
    assert flow.work is not None
    assert flow.work.parameters > 1000
    assert flow.seconds > 0
    assert not flow.gpu
    assert found["prepare_data", "spirals", "arrays"].work is not None
    assert ("make_table", "", "") in found


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
