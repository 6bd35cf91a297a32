"""A small table and its jobs, which the fault suites kill, damage and starve of disk."""

import contextlib
import json
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from workspace import PATIENCE, ROOT, copy_repository, environment

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.paths import run_file, split_path
from flowgmm.experiments.project import Project, Run, settings_with
from flowgmm.experiments.specs.data import features_spec
from flowgmm.experiments.specs.runs import jobs_of, split_paths, train_spec
from flowgmm.experiments.specs.splits import split_spec
from flowgmm.experiments.specs.tables import table_records, table_spec
from flowgmm.utils.io import read_json, sha256

STEPS = 150
OPTIONS = ("--profile", "local", "--config", "recipe=faults", "--")
TABLE = "results/faults/tables/tiny"
FEATURES = "results/features/moons.safetensors"
RUNS = "results/faults/runs/moons/10"
SPLITS = "results/faults/splits/moons/10"
TRAINED = f"{RUNS}/flowgmm/seeds-0-1"
CHECKPOINTS = "results/faults/checkpoints"

# Script and arguments.
Arguments = tuple[str, list[str]]


@dataclass
class Trial:
    """Small table, its jobs, and its results without a fault.

    Attributes:
        clone: Copy of the repository.
        jobs: Script and arguments of each job, in order; paths are relative to a working directory.
        whole: Working directory where all jobs are done.
        seconds: Wall time of each.
    """

    clone: Path
    jobs: dict[str, Arguments]
    whole: Path
    seconds: dict[str, float]


def commands_of(config: Project) -> dict[str, Arguments]:
    """Jobs of the table, as the rules call them."""
    flow, classic = (
        jobs_of(config, Run("moons", "10", method))[0]
        for method in ("flowgmm", "logistic_regression")
    )

    def spec(value: Any) -> list[str]:
        return ["--spec", json.dumps(value)]

    def train(job: Any) -> Arguments:
        out = str(Path(run_file(config, job, "record.json")).parent)
        files = ["--features", FEATURES, "--splits", *split_paths(config, job), "--choice"]
        places = ["--out", out, "--checkpoints", CHECKPOINTS, "--device", "cpu", "--threads", "1"]
        return "train_stack", spec(train_spec(config, job)) + files + places

    prepared = ["--raw", "results/raw/moons", "--output", FEATURES]
    splits = {
        f"split-{k}": (
            "draw_split",
            [
                *spec(split_spec(config, "moons", "10", k)),
                *("--features", FEATURES, "--list"),
                *("--output", split_path(config, "moons", "10", k)),
            ],
        )
        for k in (0, 1)
    }
    records = ["--records", *table_records(config, "tiny"), "--changes", "[]", "--prefix", TABLE]
    return {
        "prepare": ("prepare_data", spec(features_spec(config, "moons")) + prepared),
        **splits,
        "fit": train(classic),
        "train": train(flow),
        "table": ("make_table", spec(table_spec(config, "tiny")) + records),
    }


# Scripts as rules call them, with a checkpoint at every step.
OFTEN = """
import json, runpy, sys
for script, *arguments in json.loads(sys.argv[1]):
    sys.argv = [script, *arguments]
    if script.endswith("train_stack.py"):
        import flowgmm.training.loop
        flowgmm.training.loop.CHECKPOINT_EVERY = 0.0
    runpy.run_path(script, run_name="__main__")
"""


def launch(*jobs: Arguments, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """Start jobs in a working directory, one after the other in one process."""
    calls = [[str(ROOT / "scripts" / f"{script}.py"), *arguments] for script, arguments in jobs]
    command = [sys.executable, "-c", OFTEN, json.dumps(calls)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    every = environment(ROOT) | variables
    return subprocess.Popen(command, cwd=folder, env=every, text=True, **pipes)


def make_project(clone: Path, whole: Path) -> Trial:
    """Run the jobs of a small table once, from an empty clone and working directory."""
    copy_repository(clone)
    recipe = {"title": "Faults", "extends": "smoke"}
    recipe["datasets"] = {
        "moons": {"methods": {"flowgmm": {"params": {"training": {"n_steps": STEPS}}}}}
    }
    (clone / "config" / "recipes" / "faults.yaml").write_text(yaml.safe_dump(recipe))
    table = {"title": "Tiny", "aggregate": "mean", "spread": "std", "metric": "accuracy"}
    table |= {"evaluate": "test", "rows": ["logistic_regression", "flowgmm"]}
    table["columns"] = [{"dataset": "moons", "labels": "10", "title": "moons"}]
    with (clone / "config" / "tables.yaml").open("a") as handle:
        handle.write("\n" + yaml.safe_dump({"tiny": table}))
    jobs = commands_of(load_checked(clone, settings_with(clone, ["recipe=faults"])))
    seconds = {}
    for names in (["prepare", "split-0", "split-1", "fit"], ["train"], ["table"]):
        begin = time.monotonic()
        assert launch(*(jobs[name] for name in names), folder=whole).wait(timeout=PATIENCE) == 0
        seconds[names[0]] = time.monotonic() - begin
    return Trial(clone, jobs, whole, seconds)


@dataclass
class Here:
    """Runs jobs in this process, in a working directory."""

    folder: Path
    said: Callable[[], str]
    jobs: dict[str, Arguments]
    lines: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> tuple[int, str]:
        """Exit status and the last line on standard error."""
        script, arguments = self.jobs[name]
        sys.argv = [script, *arguments]
        code: Any = 0
        try:
            runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        self.lines = self.said().strip().splitlines() or [""]
        assert not any("Traceback" in line for line in self.lines)
        return code, self.lines[-1]


def results(folder: Path) -> dict[str, Any]:
    """Hashes of trained files and tables, and records without times."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "results").rglob("*")):
        if path.is_dir() or "checkpoints" in path.parts or path.suffix == ".log":
            continue
        key = str(path.relative_to(folder))
        if path.name == "record.json":
            content = read_json(path)
            found[key] = {
                k: v for k, v in content.items() if k not in ("timing", "environment", "git")
            }
        elif path.suffix in (".safetensors", ".csv", ".md", ".tex"):
            found[key] = sha256(path)
    return found


def remove(folder: Path, *places: str) -> None:
    """Remove what a job made, and the cache of finished jobs."""
    for place in (*places, CHECKPOINTS):
        path = folder / place
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a file system at `place`; a call with an option mounts it anew with that option."""

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")

    place.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    try:
        yield lambda option: mount("-o", f"remount,{option}")
    finally:
        subprocess.run(["umount", str(place)], check=True)
