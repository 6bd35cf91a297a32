"""Shared parts of the benchmarks: options, timing, quartiles, memory, inputs, result files.

PyTorch is imported where it is needed only: it would count as memory of the processes that
benchmarks of the workflow start.
"""

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm.datasets.splits import draw_split
from flowgmm.experiments.project import Job, Project
from flowgmm.experiments.specs.runs import split_numbers
from flowgmm.experiments.specs.splits import split_spec
from flowgmm.utils.io import read_tensors, sha256, write_json, write_tensors

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[1]
PRECISIONS = ("fp32", "bf16", "fp64")
# Folder with raw files, relative to the repository.
MIRROR = Path("../shared/data")


# Options


def make_parser(docstring: str | None, names: str | None = None) -> argparse.ArgumentParser:
    """Make a parser with the option `--json`.

    Arguments:
        docstring: The benchmark's; its first line is the description.
        names: Positional argument for what is measured; see `chosen`.
    """
    parser = argparse.ArgumentParser(description=(docstring or "").partition("\n")[0])
    if names:
        parser.add_argument(names, nargs="*", help="see README.md; all if none")
    parser.add_argument("--json", help="file for the results")
    return parser


def chosen(
    parser: argparse.ArgumentParser,
    names: list[str],
    known: Iterable[str],
    default: Iterable[str] | None = None,
) -> list[str]:
    """Return the names given, or `default` (all) if none; an unknown one ends the program."""
    known = list(known)
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"unknown {', '.join(unknown)}; expected any of {', '.join(known)}")
    return names or list(known if default is None else default)


# Timing


def wait(device: str) -> None:
    """Wait until a GPU has done all that was launched."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def seconds_of(function: Callable[[], Any], times: int = 1, device: str = "cpu") -> float:
    """Mean wall time of a call in seconds."""
    start = time.perf_counter()
    for _ in range(times):
        function()
    wait(device)
    return (time.perf_counter() - start) / times


def quartiles(values: Any, axis: int | None = None) -> dict[str, Any]:
    """Median and quartiles; a list of each along the other axis where `axis` is given."""
    found = np.quantile(values, [0.25, 0.5, 0.75], axis=axis).tolist()
    return dict(zip(("q25", "median", "q75"), found, strict=True))


# Machine


def machine(threads: int, device: str = "cpu") -> dict[str, Any]:
    """Environment header of a result file: device, cores, threads, PyTorch, load."""
    import torch

    return {
        "device": torch.cuda.get_device_name(device) if device != "cpu" else "cpu",
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load_before": os.getloadavg()[0],
    }


def resident(name: str) -> float:
    """VmRSS (now) or VmHWM (peak since the start, or since it was reset) of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def make_convolution(
    dtype: "torch.dtype", batch: int = 16, channels: int = 128, side: int = 28, device: str = "cpu"
) -> tuple[Callable[[], Any], int]:
    """Make a 3 x 3 convolution, channels last, that shows the machine's rate.

    Returns:
        The call, and its floating-point operations.
    """
    import torch

    layout = {"dtype": dtype, "device": device, "memory_format": torch.channels_last}
    x = torch.randn(batch, channels, side, side).to(**layout)
    convolution = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(**layout)
    return lambda: convolution(x), 2 * batch * side**2 * 9 * channels**2


# Inputs


def plain_likelihood(flow: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """Parameters under which `FlowGMMClassifier` trains as the literal model.

    Arguments:
        flow: Parameters of `RealNVP`.
        training: Parameters of `Training`.
    """
    from flowgmm import LatentMixture, Objective, RealNVP, Training

    return {
        "flow": RealNVP(**{"zero_init": False, "input_noise": 0.0, **flow}),
        "mixture": LatentMixture(means="random", learn_means=False),
        "objective": Objective(
            unlabelled_weight=1.0, label_weight=0.0, consistency_weight=0.0, balance_weight=0.0
        ),
        "training": Training(**training),
        "preprocess": "none",
    }


def copy_workflow(folder: Path) -> None:
    """Copy the parts of the repository that Snakemake reads."""
    for name in ("config", "workflow", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "environment.yml", folder)


def workflow_environment() -> dict[str, str]:
    """Variables of a job: one thread, this Python and this package."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def write_splits(config: Project, job: Job, features: Path, folder: Path) -> dict[int, Path]:
    """Draw the splits of a job, as the rule does, and write them; the files by number."""
    name, labels = job.run.dataset, job.run.labels
    y_train = read_tensors(features, ["y_train"])[0]["y_train"]
    files = {}
    for number in split_numbers(config, job):
        spec = split_spec(config, name, labels, number)
        seeds = {f"{purpose}_seed": seed for purpose, seed in spec["seeds"].items()}
        files[number] = folder / f"split-{number}.safetensors"
        meta = spec | {"features_sha256": sha256(features)}
        write_tensors(files[number], draw_split(y_train, **spec["label_set"], **seeds), meta)
    return files


# Results


def write_results(path: str | None, results: dict[str, Any]) -> None:
    """Write the results where `--json` was given."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_json(path, results)
