"""Own data sets through the workflow, and the commands `why` and `estimate` on its results."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from commands import ADD, GPU, MACHINE, flowgmm, make_table
from workspace import ROOT, copy_repository, snakemake

from flowgmm.apps.estimate.history import finished_jobs
from flowgmm.experiments.checks import load_checked
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, write_json

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
    """Read a block of the folder's README, whose example is tested."""
    text = (ROOT / "workflow" / "rules" / "datasets" / "README.md").read_text()
    (block,) = re.findall(rf"\n\n((?:    {pattern}.*\n)(?:(?:    .*)?\n)*)", text)
    return re.sub("^    ", "", block, flags=re.MULTILINE).rstrip() + "\n"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the repository with a data set of each kind, after `extra_tables` at smoke size."""
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
        f"{content['hashes']['code'][:12]}, commit none",  # the folder is in no repository
        content["hashes"]["features"][:12],
        str(content["spec"]["random_states"][0]),
        "results/smoke/logs/train_stack/mine/12/flowgmm/seeds-0-1.log",
        "hidden_size: 64",
        "precision fp32",
        "nothing since",
    ):
        assert expected in done.stdout, expected
    command = shlex.split(done.stdout.strip().splitlines()[-1])
    end = command.index("--")
    said = snakemake(ran, *command[1:end], "--dry-run", "--quiet", "rules", *command[end:])
    stats = said.split("Job stats:")[1].split("\n\n")[0].split()
    jobs = {word for word in stats if word.isidentifier()} - {"job", "count", "total"}
    assert jobs == {"train_stack", "make_table"}


def test_why_reports_changes(ran: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(ran, changed, symlinks=True)
    recipe = changed / "config/recipes/smoke.yaml"
    recipe.write_text(recipe.read_text().replace("n_steps: 60\n", "n_steps: 61\n"))
    why = ("why", "extra", "mine/12", "flowgmm", "--recipe", "smoke")
    assert "a run would redo it: its params changed" in flowgmm(changed, monkeypatch, *why).stdout
    record = changed / "results/smoke/runs/mine/12/flowgmm/seeds-0-1/record.json"
    record.write_text(record.read_text() + "\n")
    assert "the record has changed" in flowgmm(changed, monkeypatch, *why).stdout
    record.unlink()
    assert "the record was not found" in flowgmm(changed, monkeypatch, *why).stdout


def test_why_names_a_resume_that_was_not_exact(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "repository"
    shutil.copytree(ran, changed, symlinks=True)
    why = ("why", "extra", "mine", "flowgmm", "--recipe", "smoke")
    assert "went on inexactly" not in flowgmm(changed, monkeypatch, *why).stdout
    path = changed / "results/smoke/tables/extra.json"
    table = read_json(path)
    for cell in (cell for row in table["cells"] for cell in row):
        if cell["runs"]:
            resume = {"step": 14, "moments": "none", "device": "cpu"}
            cell["runs"][1]["inexact_resumes"] = [resume]
    write_json(path, {key: value for key, value in table.items() if key != "sha256"})
    said = flowgmm(changed, monkeypatch, *why).stdout
    assert "seed 1" in said and "went on inexactly after step 14: moments" in said


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
        (
            ("extra", "mine", "knn", "--recipe", "small"),
            "small/tables/extra.json not found",
        ),
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


def config_options(folder: Path) -> list[str]:
    changes = run_options(folder)[3:]
    return [word for change in changes for word in ("--config", change)]


def test_estimate_of_finished_and_of_missing_results(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = flowgmm(ran, monkeypatch, "estimate", "extra_tables", *config_options(ran))
    assert "Nothing to do" in done.stdout
    files = set((ran / "results").rglob("*"))
    # The same two methods on another data set: scaled from the jobs that ran.
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
    monkeypatch.setattr("flowgmm.apps.estimate.estimate.machines", lambda: (MACHINE, GPU, False))
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
