"""The workflow in a copy of the repository: dry runs, a small run, reruns, users' mistakes."""

import os
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import yaml
from faults import record
from safetensors import SafetensorError, safe_open
from workspace import PATIENCE, copy_repository, snakemake, start

from flowgmm.utils.io import read_header, read_json, read_tensors, sha256

MADE = (
    "table_1",
    "table_2",
    "table_3",
    "table_4",
    "table_5",
    "table_6",
    "table_7",
    "figure_1",
    "figure_2",
    "figure_3",
    "figure_4",
    "figure_5",
    "figure_6",
    "analyses",
    "demo",
    "extra",
    "standardised",
    "extra_tables",
)
ALL = ("all", "all_tables", "all_figures", "all_data", "download")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_repository(tmp_path_factory.mktemp("clone"))


def test_lint(clone: Path) -> None:
    assert "good condition" in snakemake(clone, "--lint")


class Job(NamedTuple):
    """Job of a dry run, as Snakemake prints it."""

    rule: str
    fields: dict[str, str]

    def paths(self, field: str) -> list[str]:
        return self.fields.get(field, "").split(", ")


def jobs_of(said: str) -> list[Job]:
    """Parse the jobs that a dry run prints; those of a group are indented."""
    found = []
    for indent, rule, block in re.findall(
        r"^( *)(?:local)?rule (\w+):\n((?:\1    \S.*\n)+)", said, re.MULTILINE
    ):
        lines = (line.removeprefix(f"{indent}    ") for line in block.splitlines())
        found.append(Job(rule, dict(line.partition(": ")[::2] for line in lines)))
    return found


@pytest.fixture(scope="module")
def planned(clone: Path) -> str:
    """Output of a dry run of all targets in a fresh clone, with the slurm profile."""
    return snakemake(clone, "--profile", "slurm", "--dry-run", "--", *MADE, *ALL)


def test_every_target_is_planned_in_a_fresh_clone(planned: str) -> None:
    assert "Job stats:" in planned
    jobs = jobs_of(planned)
    makers = {path: job for job in jobs for path in job.paths("output") if path}
    targets = {job.rule: job for job in jobs if job.rule in (*MADE, *ALL)}
    assert targets.keys() == {*MADE, *ALL}
    for name, target in targets.items():
        trains = "train_stack" in {job.rule for job in behind(target, makers)}
        assert trains == (name not in ("all_data", "download", "table_6", "standardised")), name


def behind(target: Job, makers: dict[str, Job]) -> list[Job]:
    """Jobs on which a target depends, itself included."""
    found, waiting, seen = [], [target], set()
    while waiting:
        found.append(waiting.pop())
        inputs = set(found[-1].paths("input")) - seen
        seen |= inputs
        waiting += [makers[path] for path in inputs if path in makers]
    return found


def test_trainings_ask_for_a_gpu(planned: str) -> None:
    stacks = [job for job in jobs_of(planned) if job.rule == "train_stack"]
    assert stacks
    for job in stacks:
        asked = job.fields["resources"]
        assert "slurm_partition=gpu" in asked and "gres=gpu:1" in asked
        assert "mem_mb=" in asked and "runtime=" in asked


def test_a_group_waits_for_one_dataset_alone(clone: Path, planned: str) -> None:
    groups = re.findall(r"Group job (\w+) .*:\n\n((?: {4}.*\n)+)", planned)
    for name, jobs in groups:
        assert {name.partition("_")[2]} == set(re.findall(r"wildcards: dataset=(\w+)", jobs))
    tables = yaml.safe_load((clone / "config" / "tables.yaml").read_text())
    datasets = {column["dataset"] for column in tables["table_1"]["columns"]}
    assert len(datasets) == 4
    expected = {f"{kind}_{dataset}" for kind in ("splits", "classic") for dataset in datasets}
    assert expected <= {name for name, _ in groups}


def test_one_job_per_dataset_method_and_block(clone: Path) -> None:
    arguments = ("--profile", "slurm", "--dry-run", "--config", "seeds_per_job=2", "--", "table_1")
    said = snakemake(clone, *arguments)
    stats = dict(
        line.split() for line in said.splitlines() if len(line.split()) == 2 and "_" in line
    )
    assert stats["train_stack"] == str(4 * 3 * 2)  # datasets, neural methods, blocks of 4 seeds
    assert stats["fit_classic"] == str(4 * 4)


SMOKE = ("--profile", "local", "--config", "recipe=smoke", "skip=[yahoo,hepmass,miniboone]")
TARGETS = ("--", "table_1", "table_6", "table_7", "figure_1", "figure_tuning")


@pytest.fixture(scope="module")
def smoke(clone: Path) -> Path:
    """Results of a small run of three tables and two figures."""
    said = snakemake(clone, *SMOKE, *TARGETS)
    assert "moons/10 flowgmm seeds 0-1: 300/300" in said  # progress reaches the terminal
    return clone / "results" / "smoke"


def test_small_run_makes_everything(smoke: Path) -> None:
    for name in ("table_1", "table_6", "table_7"):
        for suffix in ("csv", "md", "tex", "json"):
            assert (smoke / "tables" / f"{name}.{suffix}").stat().st_size > 0
    for name in ("figure_1", "figure_tuning"):
        for suffix in ("png", "pdf", "svg"):
            assert (smoke / "figures" / f"{name}.{suffix}").stat().st_size > 0
    text = (smoke / "tables" / "table_1.md").read_text()
    assert "surrogate data" in text
    assert "scaled down" in text
    assert "left out by `skip: [yahoo]`" in text
    log = smoke / "logs" / "train_stack" / "moons" / "10" / "flowgmm" / "seeds-0-1.log"
    assert "300/300" in log.read_text()
    assert list((smoke / "benchmarks").rglob("*.tsv"))
    assert not list((smoke / "checkpoints").iterdir())


def test_the_report_has_captions(clone: Path, smoke: Path) -> None:
    said = snakemake(clone, *SMOKE, "--report", "report.html", "--", "table_7", "figure_1")
    assert "Report created" in said
    text = (clone / "report.html").read_text()
    assert "made anew with the recipe" in text  # workflow.rst
    assert "Runs behind a cell" in text  # table.rst
    assert "seed of each run" in text  # figure.rst


def test_a_choice_goes_into_the_runs_and_the_table(smoke: Path) -> None:
    place = Path("ag_news", "200", "mlp_dropout")
    choice = read_json(smoke / "tuning" / place / "choice.json")
    assert [candidate["params"]["training__lr"] for candidate in choice["curve"]] == [1e-4, 1e-3]
    record = read_json(smoke / "runs" / place / "seeds-0-1" / "record.json")
    assert [run["tuned"] for run in record["runs"]] == [choice["params"]] * 2
    assert record["hashes"]["choice"] == sha256(smoke / "tuning" / place / "choice.json")
    text = (smoke / "tables" / "table_6.md").read_text()
    lr = choice["params"]["training__lr"]
    assert f"| MLP with dropout | lr = {lr:g}<br>not comparable" in text
    assert "not run (not tuned in this recipe)" in text


def test_a_table_asks_for_a_split_that_could_not_be_drawn_anew(
    clone: Path, smoke: Path, tmp_path: Path
) -> None:
    """Snakemake deletes a failed job's old output and its metadata."""
    failed = tmp_path / "clone"
    shutil.copytree(clone, failed, symlinks=True)
    splits = [path.relative_to(clone) for path in (smoke / "splits" / "moons" / "10").iterdir()]
    snakemake(failed, *SMOKE, "--cleanup-metadata", *map(str, splits), "--")
    for split in splits:
        (failed / split).unlink()
    datasets = failed / "config" / "datasets.yaml"
    changed = datasets.read_text().replace('"10": {n_labels: 10,', '"10": {n_labels: 12,', 1)
    datasets.write_text(changed)
    said = snakemake(failed, *SMOKE, "--dry-run", "--", "table_7")
    assert {*map(str, splits)} <= {*re.findall(r"output: (\S+)", said)}
    assert "runs/moons/10/flowgmm/seeds-0-1/record.json" in said


def test_another_grid_runs_its_new_candidates_alone(clone: Path, smoke: Path) -> None:
    path = clone / "config" / "recipes" / "smoke.yaml"
    before = path.read_text()
    try:
        path.write_text(before.replace("lr: [1.0e-4, 1.0e-3]", "lr: [1.0e-4, 3.0e-4, 1.0e-3]"))
        assert path.read_text() != before
        said = snakemake(clone, *SMOKE, "--dry-run", "--", "table_6")
    finally:
        path.write_text(before)
    assert re.findall(r"output: .*/(point-.*)\.json", said) == ["point-lr=0.0003"]


def steps_done(checkpoints: Path) -> int:
    """Steps in the only checkpoint; 0 if there is none yet."""
    try:
        for path in checkpoints.glob("*/state"):
            with safe_open(path, framework="numpy") as handle:
                return int(read_header(handle)["step"])
    except (FileNotFoundError, SafetensorError):  # replaced meanwhile
        return 0
    return 0


def test_killed_in_the_middle_it_goes_on_to_the_same_bits(
    clone: Path, smoke: Path, tmp_path: Path
) -> None:
    """Both Snakemake and the job under it get SIGKILL; compared with the run of `smoke`."""
    killed = tmp_path / "clone"
    ignore = shutil.ignore_patterns("results", ".snakemake")
    shutil.copytree(clone, killed, symlinks=True, ignore=ignore)
    train = killed / "flowgmm" / "training" / "loop.py"
    text, n_changed = re.subn("CHECKPOINT_EVERY = .*", "CHECKPOINT_EVERY = 0.0", train.read_text())
    assert n_changed == 1
    train.write_text(text)
    job = Path("moons", "10", "flowgmm", "seeds-0-1")
    run = Path("results", "smoke", "runs") / job
    arguments = (*SMOKE, "--", str(run / "record.json"))

    process = start(killed, *arguments)
    until = time.monotonic() + PATIENCE
    while (reached := steps_done(killed / "results" / "smoke" / "checkpoints")) < 30:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    for victim in (psutil.Process(process.pid), *psutil.Process(process.pid).children(True)):
        victim.kill()
    process.communicate()
    assert not (killed / run / "record.json").exists()
    left = killed / "results" / "smoke" / "splits" / ".0.safetensors.1-0123abcd.part"
    left.touch()  # as a job of another rule, killed while it wrote
    os.utime(left, (1, 1))

    snakemake(killed, *SMOKE, "--unlock")
    snakemake(killed, *arguments)
    record("kill -9 of Snakemake and of its job", 1, 1, "one step", "`snakemake --unlock`")
    log = killed / "results" / "smoke" / "logs" / "train_stack" / f"{job}.log"
    first = re.search(r": (\d+)/300 ", log.read_text())
    assert first is not None
    assert reached < int(first[1]) < 300  # resumed, not started afresh
    assert not list((killed / "results" / "smoke" / "checkpoints").iterdir())
    assert not left.exists()
    for name in ("model", "predictions"):
        whole, resumed = (
            read_tensors(root / run / f"{name}.safetensors")[0] for root in (clone, killed)
        )
        assert whole.keys() == resumed.keys()
        assert all(whole[key].tobytes() == resumed[key].tobytes() for key in whole)


# Rules that an edited file reruns, and rules that it leaves alone.
EDITS = {
    "flowgmm/reporting/tables/aggregate": (
        {"make_table"},
        {"train_stack", "tune_candidate", "fit_classic", "draw_split"},
    ),
    "flowgmm/reporting/figures/make": ({"make_figure"}, {"make_table", "train_stack"}),
    "flowgmm/methods/mlp": ({"tune_candidate", "train_stack"}, {"fit_classic", "draw_split"}),
    "flowgmm/datasets/splits": ({"draw_split", "train_stack", "fit_classic"}, {"prepare_data"}),
    "scripts/train_stack": ({"train_stack", "fit_classic"}, {"tune_candidate", "draw_split"}),
    "scripts/make_figure": ({"make_figure"}, {"make_table", "train_stack"}),
}


def test_second_run_does_nothing_though_comments_changed(clone: Path, smoke: Path) -> None:
    before = {clone / f"{file}.py": (clone / f"{file}.py").read_text() for file in EDITS}
    try:
        for path, text in before.items():
            path.write_text(text + "\n# A comment changes nothing.\n")
        assert "Nothing to be done" in snakemake(clone, *SMOKE, *TARGETS)
    finally:
        for path, text in before.items():
            path.write_text(text)


@pytest.mark.parametrize("file", EDITS)
def test_edited_file_reruns_what_depends_on_it(clone: Path, smoke: Path, file: str) -> None:
    rerun, kept = EDITS[file]
    path = clone / f"{file}.py"
    before = path.read_text()
    try:
        path.write_text(before + "\n_EDITED = True\n")
        said = snakemake(clone, *SMOKE, "--dry-run", "--quiet", "rules", *TARGETS)
    finally:
        path.write_text(before)
    stats = said.split("Job stats:")[1].split("\n\n")[0]
    assert all(rule in stats for rule in rerun)
    assert not any(rule in stats for rule in kept)


def test_mistake_on_the_command_line_is_one_line(clone: Path) -> None:
    """One of the mistakes of tests/experiments/test_project.py, through Snakemake."""
    options = ("--profile", "local", "--config", "recipe=oficial", "--", "table_7")
    said = snakemake(clone, *options, ok=False)
    errors = [line for line in said.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert "did you mean 'official'" in errors[0]
    assert "Traceback" not in said


def test_unknown_target(clone: Path) -> None:
    said = snakemake(clone, "--profile", "local", "--", "table_99", ok=False)
    assert "table_99" in said
    assert "Traceback" not in said


def test_results_that_cannot_be_written(clone: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "clone"
    shutil.copytree(clone, spoilt, symlinks=True, ignore=shutil.ignore_patterns("results"))
    (spoilt / "results").touch()
    said = snakemake(spoilt, "--profile", "local", "--", "table_7", ok=False)
    assert "error: results is no folder that can be written" in said
    assert "Traceback" not in said


def test_mistake_inside_a_job_is_one_line_and_leaves_no_output(clone: Path, tmp_path: Path) -> None:
    """Fewer labelled points than classes."""
    spoilt = tmp_path / "clone"
    shutil.copytree(
        clone, spoilt, symlinks=True, ignore=shutil.ignore_patterns("results", ".snakemake")
    )
    datasets = spoilt / "config" / "datasets.yaml"
    content = yaml.safe_load(datasets.read_text())
    content["digits"]["labels"]["50"]["n_labels"] = 5
    datasets.write_text(yaml.safe_dump(content))
    split = "results/smoke/splits/digits/50/split-0.safetensors"
    said = snakemake(spoilt, *SMOKE, "--", split, ok=False)
    assert "error: digits, label set '50': n_labels is 5, fewer than the 10 classes" in said
    assert "Traceback" not in said
    assert not (spoilt / split).exists()
