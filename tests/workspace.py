"""Copies of the repository that tests may change, and Snakemake in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Seconds after which something hangs, however busy the machine is.
PATIENCE = 1800


def copy_repository(folder: Path) -> Path:
    """Copy the parts of a fresh clone, with a copy of the package, which tests may edit."""
    for name in ("config", "workflow", "scripts", "flowgmm"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True
        )
    for name in ("slurm", "local"):
        shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    shutil.copy(ROOT / "environment.yml", folder)
    return folder


def environment(clone: Path) -> dict[str, str]:
    """Set variables such that `python` is this one and the package is the clone's."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}


def start(clone: Path, *arguments: str, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start Snakemake in the clone; `within` is a command that runs it."""
    command = [*within, sys.executable, "-m", "snakemake", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=clone, env=environment(clone), text=True, **pipes)


def snakemake(clone: Path, *arguments: str, ok: bool = True, within: tuple[str, ...] = ()) -> str:
    """Run Snakemake in the clone and return its output."""
    process = start(clone, *arguments, within=within)
    said, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode == 0) == ok, said
    return said
