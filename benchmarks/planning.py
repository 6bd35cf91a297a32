"""Seconds of Snakemake's dry run of many jobs, beside a bare workflow of as many.

A scratch clone with generated config has copies of Moons x the 20 methods x 20 seeds. The bare
workflow is a Snakefile of one rule with one input and one output.

    python benchmarks/planning.py --json benchmarks/planning.json

Parts: `single` has a job for each seed, `stacked` one for five (the default); `finished` has
nothing to do; `config` reads the config alone, of 20 times as many datasets; `tables` makes tables
of copies of a real record and counts the files that are opened.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    ROOT,
    chosen,
    copy_workflow,
    machine,
    make_parser,
    workflow_environment,
    write_results,
    write_splits,
)

from flowgmm.datasets.features import prepare_data
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.entries import Table, make_entry
from flowgmm.experiments.project import Run, settings_with
from flowgmm.experiments.specs.data import features_spec
from flowgmm.experiments.specs.runs import jobs_of, train_spec
from flowgmm.experiments.specs.tables import describe_table
from flowgmm.experiments.train_job import train_stack
from flowgmm.experiments.yaml_io import dump_yaml, read_yaml
from flowgmm.reporting.tables.aggregate import make_table
from flowgmm.reporting.tables.files import write
from flowgmm.utils.io import (
    content_hash,
    read_json,
    write_tensors,
)

N_SEEDS = 20
# Datasets in one table, by seeds of a job: no command can name more records.
COLUMNS = {1: 3, 5: 14}
# Datasets x 20 methods x 20 seeds: 1,200, 5,200 and 20,000 results.
SIZES = (3, 13, 50)
SHOWN = {
    "title": "Scale",
    "aggregate": "median",
    "spread": "mad",
    "metric": "accuracy",
    "evaluate": "test",
}
FLOOR = """
rule all:
    input: expand("out/{i}", i=range(int(config["jobs"])))
rule one:
    input: "Snakefile"
    output: "out/{i}"
    shell: "touch {output}"
"""


def make_clone(folder: Path, n_datasets: int, seeds_per_job: int) -> list[str]:
    """Copy the workflow with a recipe `scale` of copies of Moons; return its tables' files.

    Every method of `config/methods.yaml` is a row, so that its jobs are planned; image methods
    would fail on two dimensions.
    """
    copy_workflow(folder)
    config = folder / "config"
    datasets, methods, tables = (
        read_yaml(config / f"{name}.yaml") for name in ("datasets", "methods", "tables")
    )
    names = [f"set_{i:04}" for i in range(n_datasets)]
    labels = {"10": {"n_labels": 10, "n_val": 100}}
    datasets |= {name: datasets["moons"] | {"title": name, "labels": labels} for name in names}
    made = []
    for first in range(0, n_datasets, COLUMNS[seeds_per_job]):
        made.append(f"scale_{first:04}")
        tables[made[-1]] = {
            **SHOWN,
            "columns": [
                {"dataset": name, "labels": "10", "title": name}
                for name in names[first : first + COLUMNS[seeds_per_job]]
            ],
            "rows": list(methods),
        }
    # The labels vary with the seed, so that every method has as many results.
    recipe = {"title": "Scale", "extends": "official", "kinds": {"2d": {"n_seeds": N_SEEDS}}}
    files = {"datasets": datasets, "tables": tables, "recipes/scale": recipe}
    for name, content in files.items():
        (config / f"{name}.yaml").write_text(dump_yaml(content), encoding="utf-8")
    return [f"results/scale/tables/{name}.json" for name in made]


def dry_run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Measure a dry run: `planned_s` until all jobs are known, `wall_s` and `cpu_s` with the print.

    `jobs` is the number of jobs to run; `peak_mib` is the peak resident set.
    """
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "2", *arguments]
    environment = workflow_environment() | {"PYTHONUNBUFFERED": "1"}
    start, planned, total = time.perf_counter(), np.nan, 0
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    tail: list[str] = []
    for line in process.stdout or ():
        tail = [*tail[-20:], line]
        if np.isnan(planned) and line.startswith(("Job stats:", "Nothing to be done")):
            planned = time.perf_counter() - start
        if match := re.match(r"total +(\d+)$", line):
            total = int(match[1])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit("".join(tail))
    return {
        "jobs": total,
        "planned_s": planned,
        "wall_s": time.perf_counter() - start,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss // 1024,
    }


def scale(folder: Path, n_datasets: int, seeds_per_job: int) -> dict[str, Any]:
    """Measure a dry run of this size."""
    targets = make_clone(folder, n_datasets, seeds_per_job)
    changes = ["recipe=scale", f"seeds_per_job={seeds_per_job}"]
    results = {"results": n_datasets * 20 * N_SEEDS}
    return dry_run(folder, "--config", *changes, "--", *targets) | results


def floor(folder: Path, jobs: int) -> dict[str, Any]:
    """Measure a dry run of the bare Snakefile."""
    (folder / "Snakefile").write_text(FLOOR, encoding="utf-8")
    return dry_run(folder, "--config", f"jobs={jobs}")


def finished(folder: Path, n_jobs: int) -> dict[str, Any]:
    """Measure a dry run with nothing to do, of a bare workflow that has run.

    Snakemake reads a file of metadata for each output.
    """
    (folder / "Snakefile").write_text(FLOOR, encoding="utf-8")
    changes = ["--config", f"jobs={n_jobs}"]
    real = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", *changes]
    subprocess.run(real, cwd=folder, check=True, capture_output=True)
    metadata = [p for p in (folder / ".snakemake" / "metadata").rglob("*") if p.is_file()]
    return dry_run(folder, *changes) | {"jobs": n_jobs, "metadata_files": len(metadata)}


def with_accuracy(entry: dict[str, Any], seed: int, accuracy: float) -> dict[str, Any]:
    """Copy a seed's entry of a record, with another accuracy on test points."""
    test = entry["metrics"]["test"] | {"accuracy": accuracy}
    return entry | {"seed": seed, "metrics": entry["metrics"] | {"test": test}}


def tables(folder: Path, n_datasets: int) -> dict[str, Any]:
    """Make tables of 20 methods and 20 seeds from copies of one real record, five seeds in each."""
    config = load_checked(ROOT, settings_with(ROOT, ["recipe=smoke"]))
    job = jobs_of(config, Run("digits", "50", "knn"))[0]
    features = folder / "features"
    write_tensors(features, *prepare_data(features_spec(config, "digits"), folder))
    splits = write_splits(config, job, features, folder)
    record = train_stack(
        train_spec(config, job), features, splits, folder / "out", folder / "checkpoints"
    )
    methods = list(config.methods)
    entry: dict[str, Any] = {**SHOWN, "rows": methods}
    made, opened, found, rng = [], 0, [], np.random.default_rng(0)
    for i in range(n_datasets):
        for method in methods:
            for first in range(0, N_SEEDS, 5):
                seeds = list(range(first, first + 5))
                runs = [with_accuracy(record["runs"][0], seed, rng.random()) for seed in seeds]
                spec = record["spec"] | {"seeds": seeds, "splits": seeds, "random_states": seeds}
                named = {"dataset": f"set_{i:04}", "method": method}
                copy = record | named | {"spec": spec | named, "seeds": seeds, "runs": runs}
                path = folder / "runs" / f"{i}" / method / f"seeds-{first}-{first + 4}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                # The format of `write_json`, but not flushed to disk.
                checked = copy | {"sha256": content_hash(copy)}
                path.write_text(json.dumps(checked, indent=1, sort_keys=True), encoding="utf-8")
                made.append((i // COLUMNS[5], path))

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal opened
        opened += event == "open" and folder.name in str(arguments[0])

    sys.addaudithook(count)
    for number in sorted({number for number, _ in made}):
        columns = range(number * COLUMNS[5], min((number + 1) * COLUMNS[5], n_datasets))
        entry["columns"] = [
            {"dataset": f"set_{i:04}", "labels": "50", "title": str(i)} for i in columns
        ]
        shown = make_entry(Table, entry)
        spec = describe_table("scale", shown, {}, config.methods, recipe="smoke")
        paths = [path for n, path in made if n == number]
        start = time.process_time()
        table = make_table(spec, paths)
        read = time.process_time()
        write(table, folder / "table", [])
        found.append((len(paths), read - start, time.process_time() - read))
    n, reading, writing = (sum(column) for column in zip(*found, strict=True))
    return {
        "tables": len(found),
        "records": n,
        "opened": opened,
        "record_bytes": made[0][1].stat().st_size,
        "table_json_bytes": (folder / "table.json").stat().st_size,
        "aggregate_cpu_s": reading,
        "write_cpu_s": writing,
    }


def config(folder: Path, n_datasets: int) -> dict[str, Any]:
    """Measure CPU seconds to read and check the config, as each process of Snakemake does."""
    make_clone(folder, n_datasets, 5)
    settings = settings_with(folder, ["recipe=scale"])
    load_checked(folder, settings)
    start = time.process_time()
    load_checked(folder, settings)
    return {"datasets": n_datasets, "cpu_s": time.process_time() - start}


def fresh(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Measure in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder), *arguments)


def exponent(plans: list[dict[str, Any]], start: float) -> float:
    """Slope of log seconds against log jobs, the `start` of Snakemake left out."""
    jobs = np.log([found["jobs"] for found in plans])
    return float(np.polyfit(jobs, np.log([p["cpu_s"] - start for p in plans]), 1)[0])


def main() -> None:
    """Measure the parts; print each; add them to a file."""
    parser = make_parser(__doc__, "parts")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, help="datasets")
    args = parser.parse_args()
    parts = chosen(parser, args.parts, PARTS)
    # Other parts in the file are kept.
    results = read_json(args.json) if args.json and Path(args.json).exists() else {}
    for part in parts:
        load_before = os.getloadavg()[0]
        results[part] = PARTS[part](args.sizes) | {"load_before": load_before}
        print(f"{part}: {json.dumps(results[part])}", flush=True)
    # Last, since it imports torch, which would count as memory of the processes started above.
    write_results(args.json, results | {"machine": machine(1)})


def grown(seeds_per_job: int, sizes: Sequence[int]) -> dict[str, Any]:
    """Measure dry runs of all sizes, in turn with bare ones of as many jobs."""
    start = fresh(floor, 1)["cpu_s"]
    plans = [fresh(scale, n, seeds_per_job) for n in sizes]
    floors = [fresh(floor, found["jobs"]) for found in plans]
    slopes = {"exponent": exponent(plans, start), "floor_exponent": exponent(floors, start)}
    return {"start_cpu_s": start, "plans": plans, "floors": floors, **slopes}


PARTS: dict[str, Callable[[Sequence[int]], dict[str, Any]]] = {
    "single": lambda sizes: grown(1, sizes),
    "stacked": lambda sizes: grown(5, sizes),
    "finished": lambda sizes: {"plans": [fresh(finished, 40 * n) for n in sizes]},
    "config": lambda sizes: {"loads": [fresh(config, 20 * n) for n in sizes]},
    "tables": lambda sizes: {"made": [fresh(tables, n) for n in sizes]},
}


if __name__ == "__main__":
    main()
