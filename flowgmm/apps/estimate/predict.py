"""Estimate of a run: jobs, hours, disk and critical path of the missing part of the DAG.

A job's time is counted (`flowgmm.apps.estimate.cost_model`) and multiplied by what finished jobs
like it took, relative to what was counted for them; a job that has run before takes what it took.
"""

import heapq
import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowgmm.apps.estimate.cost_model import (
    ASSUMED_GPU,
    Machine,
    Size,
    Work,
    count,
    embedded,
    measure,
)
from flowgmm.apps.estimate.dry_run import Plan, PlannedJob, make_plan
from flowgmm.experiments.benchmark_files import read_benchmark
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.paths import features_path
from flowgmm.experiments.project import Project, settings_with
from flowgmm.experiments.recipes import label_set
from flowgmm.experiments.specs.data import features_spec
from flowgmm.utils.io import read_header, read_json, read_meta

__all__ = [
    "BASES",
    "Estimate",
    "Finished",
    "Guess",
    "estimate",
    "finished_jobs",
    "past_error",
    "predict",
    "schedule",
    "show",
]

# Where a time comes from, the surest first.
BASES = ("measured", "scaled", "counted", "assumed")
# Finished jobs that a prediction looks at: those with the most similar work.
NEIGHBOURS = 5
# Counted times of jobs that are like each other differ by this factor at the most: what a job of
# seconds takes is its start, which says nothing of one of hours.
LIKE = 10.0
# Seconds beyond its start of a job of which nothing is known.
UNKNOWN_S = 2.0
# Bytes of an output that is neither features nor a model: tables, plots, records.
SMALL_FILE = 5e4


@dataclass(frozen=True)
class Finished:
    """A job that was run here, as its benchmark file has it.

    Attributes:
        benchmark: Path of that file.
        rule: Name of its rule.
        kind: Method, encoder or loader; empty if it has none.
        dataset: Its dataset; empty if it has none.
        work: What was counted for it; None: nothing.
        seconds: Wall time.
        threads: Cores that it took.
        gpu: Whether it used a GPU.
    """

    benchmark: str
    rule: str
    kind: str
    dataset: str
    work: Work | None
    seconds: float
    threads: int = 1
    gpu: bool = False


@dataclass(frozen=True)
class Guess:
    """Seconds of a job, and one of `BASES`."""

    seconds: float
    basis: str


@dataclass(frozen=True)
class Estimate:
    """The missing part of the DAG.

    Attributes:
        plan: Its jobs.
        guesses, gpu, n_bytes: Time, use of a GPU, and size of the outputs of each job.
        chain: Numbers of the jobs on the critical path.
        wall_s: Wall time on the plan's cores, Snakemake's own included.
        error: From `past_error`; None without finished jobs.
        n_finished: Finished jobs that the estimate rests on.
        notes: What was measured and what is assumed.
    """

    plan: Plan
    guesses: tuple[Guess, ...]
    gpu: tuple[bool, ...]
    n_bytes: tuple[float, ...]
    chain: tuple[int, ...]
    wall_s: float
    error: dict[str, float] | None
    n_finished: int
    notes: tuple[str, ...]


def estimate(
    root: Path,
    targets: Sequence[str],
    changes: Sequence[str] = (),
    profile: str = "local",
    cores: int | None = None,
) -> Estimate:
    """Plan the targets and guess what their missing jobs take.

    Arguments:
        root: The repository, which is also the working directory.
        targets: As of Snakemake.
        changes: ``key=value`` of `config/config.yaml`.
        profile: Profile of Snakemake.
        cores: Cores to use; None: as the profile says.

    Raises:
        UserError: If the config or a target is wrong.
    """
    config = load_checked(root, settings_with(root, changes))
    begin = time.monotonic()
    arguments = ["--profile", profile, *([] if cores is None else ["--cores", str(cores)])]
    # Options that take many values come last, and `--` ends them.
    arguments += ["--config", *changes] if changes else []
    plan = make_plan([*arguments, "--", *targets])
    planning_s = time.monotonic() - begin

    machine, gpu_machine, has_gpu = _machines()
    history = finished_jobs(config, has_gpu)
    gpu = tuple(_uses_gpu(job, has_gpu) for job in plan.jobs)
    guesses, sizes = [], []
    for job, on_gpu in zip(plan.jobs, gpu, strict=True):
        size = _size(config, job.spec)
        work = count(job.spec, size)
        like = _like(job.benchmark or "", job.rule, job.spec, work, 0.0, job.threads, on_gpu)
        guesses.append(_target(job) or predict(like, history, machine, gpu_machine))
        sizes.append(_bytes(config, job, size, work))
    threads = [job.threads for job in plan.jobs]
    seconds = [guess.seconds for guess in guesses]
    wall, chain = schedule(plan, seconds, threads)
    notes = list(machine.notes) + (list(gpu_machine.notes) if any(gpu) else [])
    unknown = sum("/raw/" in path for job in plan.jobs for path in job.outputs)
    if unknown and config.mirror is None:
        notes.append(f"size and time of {unknown} downloads are not known")
    return Estimate(
        plan,
        tuple(guesses),
        gpu,
        tuple(sizes),
        tuple(chain),
        wall + planning_s,
        past_error(history, machine, gpu_machine),
        len(history),
        tuple(notes),
    )


def _machines() -> tuple[Machine, Machine, bool]:
    """This machine, a GPU (its own or an assumed one), and whether it has one."""
    import torch

    machine = measure()
    if torch.cuda.is_available():
        return machine, replace(measure("cuda"), start_s=machine.start_s), True
    return machine, ASSUMED_GPU, False


def _uses_gpu(job: PlannedJob, has_gpu: bool) -> bool:
    """Check whether a job requests a GPU from a cluster, or uses one if the machine has it."""
    if any("gpu" in f"{key}={job.resources[key]}" for key in job.resources if key != "device"):
        return True
    neural = bool(job.spec.get("neural") or job.spec.get("encoder"))
    return has_gpu and neural and job.resources.get("device", "auto") != "cpu"


def _target(job: PlannedJob) -> Guess | None:
    """A job that makes nothing, such as `all_tables`, takes no time."""
    return None if job.outputs else Guess(0.0, "measured")


# History


def finished_jobs(config: Project, has_gpu: bool = False) -> list[Finished]:
    """All jobs that left a benchmark file below `results/`, whatever the recipe.

    Arguments:
        config: Says how large a dataset is where a job does not.
        has_gpu: Whether embeddings, which do not say what they ran on, ran on a GPU.
    """
    results, found = config.root / "results", []
    for folder in sorted({*results.glob("benchmarks"), *results.glob("*/benchmarks")}):
        for path in sorted(folder.rglob("*.tsv")):
            measured = read_benchmark(path)
            if measured is None:
                continue
            rule, *stem = path.relative_to(folder).with_suffix("").parts
            made = _evidence(folder.parent, Path(*stem))
            spec, where = made["spec"], made["environment"]
            size = _recorded(made["data"]) or _size(config, spec)
            gpu, threads = where.get("device", "cpu") != "cpu", where.get("threads", 1)
            if "encoder" in spec:
                gpu, threads = has_gpu, os.cpu_count() or 1
            name, work = path.relative_to(config.root).as_posix(), count(spec, size)
            found.append(_like(name, rule, spec, work, measured.seconds, threads, gpu))
    return found


def _like(
    benchmark: str,
    rule: str,
    spec: Mapping[str, Any],
    work: Work | None,
    seconds: float,
    threads: int,
    gpu: bool,
) -> Finished:
    kind = next((str(spec[k]) for k in ("method", "encoder", "loader") if k in spec), "")
    dataset = str(spec.get("dataset", ""))
    return Finished(benchmark, rule, kind, dataset, work, seconds, threads, gpu)


def _evidence(folder: Path, stem: Path) -> dict[str, Any]:
    """Metadata in the outputs of a job: ``spec``, ``data`` and ``environment``."""
    found: dict[str, Any] = {"spec": {}, "data": {}, "environment": {}}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in (place / stem / "record.json", place / f"{stem}.json"):
            if path.is_file():
                content = read_json(path)
                return {key: content.get(key, empty) for key, empty in found.items()}
        if (place / f"{stem}.safetensors").is_file():
            return found | {"spec": read_meta(place / f"{stem}.safetensors").get("spec", {})}
    return found


def _recorded(data: Mapping[str, Any]) -> Size | None:
    """Size as a record has it; None if it has none."""
    if "n_labelled" not in data:
        return None
    keys = ("n_features", "n_train", "n_test", "n_labelled", "n_unlabelled", "n_val")
    shape = tuple(data.get("image_shape") or ())
    return Size(n_classes=len(data["classes"]), shape=shape, **{key: data[key] for key in keys})


def _shapes(path: Path) -> Size:
    """Size of a features file, from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as handle:
        n_train, *shape = handle.get_slice("X_train").get_shape()
        n_test = handle.get_slice("X_test").get_shape()[0]
        classes = read_header(handle)["classes"]
    image = tuple(shape) if len(shape) == 3 else ()
    return Size(math.prod(shape), len(classes), n_train, n_test, shape=image)


def _size(config: Project, spec: Mapping[str, Any]) -> Size | None:
    """Size of a planned job's data: of its features file if that is there, else as declared."""
    name = spec.get("dataset", "")
    if name not in config.datasets:
        return None
    path = config.root / features_path(config, name)
    size = _shapes(path) if path.is_file() else _declared(config, name)
    if "estimator" not in spec or spec.get("labels") not in config.datasets[name].labels:
        return size
    chosen = label_set(config, name, spec["labels"])
    n_val = chosen.get("n_val", 0)
    n_labels = chosen.get("n_labels", len(chosen.get("indices", [])))
    if n_labels == "all":
        n_labels = size.n_train - n_val
    n_unlabelled = chosen.get("n_unlabelled") or size.n_train
    return replace(
        size,
        n_labelled=n_labels if isinstance(n_labels, int) else sum(n_labels),
        n_unlabelled=0 if spec.get("labelled_only") else n_unlabelled,
        n_val=n_val,
    )


def _declared(config: Project, name: str) -> Size:
    """Size of a set that is not there yet, from its entry; a plain one where that is silent."""
    spec = features_spec(config, name)
    options, rows = spec.get("options", {}), spec.get("rows", {})
    shape: tuple[int, ...] = ()
    if config.dataset(name).kind == "image":
        # Square, grey unless no square has so many pixels. What stands in for images is 8 x 8.
        n_pixels = spec.get("columns", 64 * options.get("channels", 1))
        channels = 1 if math.isqrt(n_pixels) ** 2 == n_pixels else 3
        shape = (channels, *2 * [math.isqrt(n_pixels // channels)])
    # Ten digits or objects in an image, two classes in a table that names none.
    n_classes = 10 if shape else len(options["classes"]) if "classes" in options else 2
    size = Size(
        n_features=options.get(
            "n_features", math.prod(shape) if shape else spec.get("columns", 20)
        ),
        n_classes=options.get("n_classes", n_classes),
        n_train=options.get("n_train", rows.get("train", 5000)),
        n_test=options.get("n_test", rows.get("test", 2000)),
        shape=shape,
    )
    return embedded(size, str(spec["encoder"])) if "encoder" in spec else size


# Prediction


def predict(job: Finished, history: Iterable[Finished], machine: Machine, gpu: Machine) -> Guess:
    """Time of a job.

    Arguments:
        job: Its `seconds` are not looked at.
        history: Finished jobs.
        machine: This machine.
        gpu: The GPU of jobs that use one.

    Returns:
        ``measured``: it ran here with the same work. ``scaled``: counted, times the median of
        measured / counted of the finished jobs of its rule and kind (else of its rule) that are
        the most like it. ``counted``: nothing like it has run. ``assumed``: nothing can be counted
        either.
    """

    def counted_for(job: Finished) -> float:
        return machine.seconds(job.work, job.threads, gpu if job.gpu else None)

    same = [
        f
        for f in history
        if f.rule == job.rule and f.gpu == job.gpu and (f.work is None) == (job.work is None)
    ]
    counted = counted_for(job)
    for finished in same:
        if finished.benchmark == job.benchmark and _as_much(finished.work, job.work):
            return Guess(finished.seconds, "measured")

    def distance(finished: Finished) -> tuple[float, bool]:
        ratio = counted_for(finished) / counted
        return abs(math.log(ratio)), finished.dataset != job.dataset

    near = [f for f in sorted(same, key=distance) if distance(f)[0] < math.log(LIKE)]
    nearest = ([f for f in near if f.kind == job.kind] or near)[:NEIGHBOURS]
    if not nearest:
        basis = "assumed" if job.work is None else "counted"
        return Guess(counted + (UNKNOWN_S if job.work is None else 0.0), basis)
    factor = statistics.median(f.seconds / counted_for(f) for f in nearest)
    return Guess(counted * factor, "scaled")


def _as_much(one: Work | None, other: Work | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one.products, other.products, rel_tol=0.01)


def past_error(
    history: Sequence[Finished], machine: Machine, gpu: Machine
) -> dict[str, float] | None:
    """Predicted / measured time of each finished job, predicted from the others.

    Returns:
        ``median``, ``low`` and ``high`` (the middle 80 %) of the ratio, and ``total``: that of the
        sums; None with fewer than two finished jobs.
    """
    if len(history) < 2:
        return None
    by_rule = defaultdict(list)
    for finished in history:
        by_rule[finished.rule].append(finished)
    guessed = [
        predict(job, [f for f in by_rule[job.rule] if f is not job], machine, gpu).seconds
        for job in history
    ]
    ratios = [g / max(f.seconds, 0.01) for g, f in zip(guessed, history, strict=True)]
    cuts = statistics.quantiles(ratios, n=10, method="inclusive")
    return {
        "median": statistics.median(ratios),
        "low": cuts[0],
        "high": cuts[-1],
        "total": sum(guessed) / sum(f.seconds for f in history),
    }


def schedule(
    plan: Plan, seconds: Sequence[float], threads: Sequence[int]
) -> tuple[float, list[int]]:
    """Wall time of a list schedule, as Snakemake makes one, and the critical path.

    Arguments:
        plan: Jobs and cores.
        seconds: Time of each job.
        threads: Cores that each takes.

    Returns:
        Seconds until the last job ends, and the numbers of the jobs on the longest chain in time.
    """
    needs = plan.needs()
    waiting = [len(before) for before in needs]
    after: list[list[int]] = [[] for _ in needs]
    for i, before in enumerate(needs):
        for j in before:
            after[j].append(i)
    # The longest chain that ends with each job, over jobs in an order that respects the needs.
    length, last = list(seconds), [-1] * len(needs)
    ready = [i for i, left_to_do in enumerate(waiting) if not left_to_do]
    left = list(waiting)
    order = list(ready)
    for i in order:
        for j in after[i]:
            if length[i] + seconds[j] > length[j]:
                length[j], last[j] = length[i] + seconds[j], i
            left[j] -= 1
            if not left[j]:
                order.append(j)
    chain: list[int] = []
    i = max(range(len(length)), key=length.__getitem__, default=-1)
    while i >= 0:
        chain.insert(0, i)
        i = last[i]

    cores = plan.cores if plan.cores is not None else math.inf
    slots = plan.at_once if plan.at_once is not None else math.inf
    rank = {i: (-plan.jobs[i].priority, i) for i in range(len(needs))}
    ready.sort(key=rank.__getitem__)
    running: list[tuple[float, int]] = []
    now, free = 0.0, cores
    while ready or running:
        for i in list(ready):
            need = min(threads[i], cores)
            if need <= free and len(running) < slots:
                ready.remove(i)
                free -= need
                heapq.heappush(running, (now + seconds[i], i))
        now, i = heapq.heappop(running)
        free += min(threads[i], cores)
        for j in after[i]:
            waiting[j] -= 1
            if not waiting[j]:
                ready.append(j)
        ready.sort(key=rank.__getitem__)
    return now, chain


def _bytes(config: Project, job: PlannedJob, size: Size | None, work: Work | None) -> float:
    """Size of a job's outputs."""
    total = 0.0
    for path in map(Path, job.outputs):
        if "/raw/" in path.as_posix():
            total += _source_bytes(config, job.spec)
        elif path.name == "model.safetensors" and work is not None:
            total += 4 * work.parameters
        elif "loader" in job.spec and size is not None:
            width = 1 if size.shape else 4  # pixels are bytes
            features = width * size.n_features * (size.n_train + size.n_test)
            # An embedding also stays in the cache.
            total += features * (2 if "encoder" in job.spec else 1)
        else:
            total += SMALL_FILE
    return total


def _source_bytes(config: Project, file: Mapping[str, Any]) -> float:
    """Size of a raw file that is on this machine already; 0 if it is not."""
    places = [Path(file["path"])] if "path" in file else []
    if config.mirror is not None and "mirror" in file:
        places.append(config.mirror / file["mirror"])
    return float(sum(place.stat().st_size for place in places if place.is_file()))


# Showing


def show(result: Estimate) -> None:
    """Print an estimate."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    jobs = [i for i, job in enumerate(result.plan.jobs) if job.outputs]
    if not jobs:
        console.print("Nothing to do: everything that was asked for is there and up to date.")
        return
    seconds = [guess.seconds for guess in result.guesses]
    table = Table("rule", show_footer=True)
    table.columns[0].footer = "total"
    for title in ("jobs", "CPU hours", "GPU hours", "disk", "times are"):
        table.add_column(title, justify="right" if title != "times are" else "left")
    by_rule = defaultdict(list)
    for i in jobs:
        by_rule[result.plan.jobs[i].rule].append(i)

    def row(members: Sequence[int]) -> list[str]:
        cpu = sum(seconds[i] * result.plan.jobs[i].threads for i in members) / 3600
        gpu = sum(seconds[i] for i in members if result.gpu[i]) / 3600
        disk = sum(result.n_bytes[i] for i in members)
        return [str(len(members)), f"{cpu:.2f}", f"{gpu:.2f}", _size_text(disk), _bases(members)]

    def _bases(members: Sequence[int]) -> str:
        spent = dict.fromkeys(BASES, 0.0)
        for i in members:
            spent[result.guesses[i].basis] += seconds[i]
        total = sum(spent.values()) or 1.0
        return ", ".join(f"{100 * s / total:.0f} % {b}" for b, s in spent.items() if s)

    for rule, members in sorted(
        by_rule.items(), key=lambda item: -sum(seconds[i] for i in item[1])
    ):
        table.add_row(rule, *row(members))
    for column, footer in zip(table.columns[1:], row(jobs), strict=True):
        column.footer = footer
    console.print(table)
    cores = result.plan.cores
    where = "a cluster, without its queue" if cores is None else f"{cores} cores"
    console.print(f"Wall time on {where}: {_time(result.wall_s)}")
    length = sum(seconds[i] for i in result.chain)
    console.print(f"Critical path, {_time(length)}:")
    for i in result.chain:
        if result.plan.jobs[i].outputs:
            console.print(f"  {_time(seconds[i]):>8}  {result.plan.jobs[i].name}", markup=False)
    if result.error is not None:
        e = result.error
        console.print(
            f"Own error so far, predicted / measured over {result.n_finished} finished jobs, each "
            f"predicted from the others: median {e['median']:.2f}, 80 % within {e['low']:.2f} to "
            f"{e['high']:.2f}, sum {e['total']:.2f}"
        )
    else:
        console.print("No jobs have finished here yet: every time is counted or assumed.")
    for note in result.notes:
        console.print(f"({note})", markup=False)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _size_text(n_bytes: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
