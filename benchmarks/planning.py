"""Seconds that Snakemake takes to plan many jobs, and a bare workflow of as many beside it.

A clone with generated config has datasets x the 20 methods x seeds in one table. The floor is a
Snakefile of one rule with one input and one output a job. Both run in turn, dry.

    python benchmarks/planning.py --json benchmarks/planning.json
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from train_step import machine

from flowgmm.config import dump_yaml, read_yaml
from flowgmm.files import write_json

ROOT = Path(__file__).parents[1]
TARGET = "results/scale/tables/scale.json"
N_SEEDS = 20
# Datasets of 20 methods and 20 seeds: 1,200, 5,200 and 20,000 training jobs of one seed each.
SIZES = (3, 13, 50)
FLOOR = """
rule all:
    input: expand("out/{i}", i=range(int(config["jobs"])))
rule one:
    input: "Snakefile"
    output: "out/{i}"
    shell: "touch {output}"
"""


def make_clone(folder: Path, n_datasets: int, n_seeds: int = N_SEEDS) -> None:
    """A copy of the workflow whose recipe `scale` has `n_datasets` copies of Moons in one table.

    Every method of `config/methods.yaml` is a row, so that its jobs are planned; those of images
    would fail on two dimensions.
    """
    for name in ("config", "workflow", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "environment.yml", folder)
    config = folder / "config"
    datasets, methods = (read_yaml(config / f"{name}.yaml") for name in ("datasets", "methods"))
    moons = datasets["moons"] | {"labels": {"10": {"n_labels": 10, "n_val": 100}}}
    names = [f"set_{i:04}" for i in range(n_datasets)]
    table = {
        "title": "Scale",
        "aggregate": "median",
        "spread": "mad",
        "metric": "accuracy",
        "evaluate": "test",
        "columns": [{"dataset": name, "labels": "10", "title": name} for name in names],
        "rows": list(methods),
    }
    recipe = {
        "title": "Scale",
        "extends": "official",
        "kinds": {"2d": {"n_seeds": n_seeds, "methods": {"self_training": {"tune": None}}}},
    }
    files = {
        "datasets": datasets | {name: moons | {"title": name} for name in names},
        "tables": read_yaml(config / "tables.yaml") | {"scale": table},
        "recipes/scale": recipe,
    }
    for name, content in files.items():
        (config / f"{name}.yaml").write_text(dump_yaml(content), encoding="utf-8")


def timed(folder: Path, *arguments: str) -> dict[str, Any]:
    """Seconds (wall, CPU) and peak MiB of Snakemake; `jobs` is what it says it would run."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    said = done.stdout + done.stderr
    counts = dict(
        (name, int(count))
        for name, count in (
            line.split() for line in said.partition("Job stats:")[2].splitlines()[3:20]
            if len(line.split()) == 2
        )
    )
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall, "cpu_s": cpu, "peak_mib": after.ru_maxrss // 1024, "jobs": counts}
