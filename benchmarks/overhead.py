"""Seconds of a job that has nothing to compute, beside the start of Python and of numpy alone.

Each script of `scripts/` does the smallest job that the workflow gives it, in a scratch clone with
the recipe `smoke` on Moons and Digits. Training, tuning and embedding take over what they finished.
The commands run in turn, round by round.

    python benchmarks/overhead.py --json benchmarks/overhead.json
"""

import argparse
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from embedding import quartiles
from train_step import machine

from flowgmm.utils.io import write_json

ROOT = Path(__file__).parents[1]
PYTHON = [sys.executable]
FLOORS = {
    "python -c pass": [*PYTHON, "-c", "pass"],
    "import numpy": [*PYTHON, "-c", "import numpy"],
    "import flowgmm": [*PYTHON, "-c", "import flowgmm"],
    "flowgmm --help": [*PYTHON, "-m", "flowgmm.cli", "--help"],
}
TARGETS = ["table_7", "results/smoke/tuning/ag_news/200/mlp_dropout/choice.json"]
# What these make is generated or drawn: that is no overhead.
COMPUTE = {"prepare_data", "make_figure"}
SMOKE = ["--cores", "1", "--config", "recipe=smoke", "mirror=config"]


def clone(folder: Path) -> None:
    """A copy of the repository's workflow."""
    for name in ("config", "workflow", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "environment.yml", folder)


def snakemake(folder: Path, *arguments: str) -> str:
    """What Snakemake says."""
    command = [*PYTHON, "-m", "snakemake", *SMOKE, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """As the rules have it: one thread, this Python and this package."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def first_commands(said: str) -> dict[str, list[str]]:
    """The first command of each script, out of what `--printshellcmds` printed."""
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        words = shlex.split(line.partition(" 2> >(")[0]) if " scripts/" in line else []
        words = words[next((i for i, word in enumerate(words) if word == "python"), 0) :]
        if words and words[0] == "python" and words[1].startswith("scripts/"):
            found.setdefault(Path(words[1]).stem, [*PYTHON, *words[1:]])
    return found


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds, wall and CPU, of a command that must succeed."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment(), capture_output=True, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure all commands; print a line each; write everything to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--folder", help="a prepared clone; it is made if it is not there")
    parser.add_argument("--prepare", action="store_true", help="only make the clone and its jobs")
    args = parser.parse_args()
    folder = Path(args.folder or tempfile.mkdtemp())
    if not (folder / "commands.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        clone(folder)
        said = snakemake(folder, "--dry-run", "--printshellcmds", "--", *TARGETS)
        commands = first_commands(said)
        snakemake(folder, "--quiet", "all", "--", *TARGETS)
        for script in (
            "train_stack",
            "tune_candidate",
        ):  # once more, as the finished jobs were forgotten
            subprocess.run(commands[script], cwd=folder, env=environment(), check=True)
        (folder / "commands.json").write_text(json.dumps(commands), encoding="utf-8")
    if args.prepare:
        return
    commands = FLOORS | json.loads((folder / "commands.json").read_text(encoding="utf-8"))
    commands = {name: command for name, command in commands.items() if name not in COMPUTE}
    before = machine(1)
    rounds = [
        {name: timed(command, folder) for name, command in commands.items()}
        for _ in range(args.rounds)
    ]
    results = {}
    for name in commands:
        wall, cpu = np.array([found[name] for found in rounds]).T
        results[name] = {"wall_s": quartiles(wall), "cpu_s": quartiles(cpu)}
        print(f"{name}: {results[name]['wall_s']['median']:.3f} s", flush=True)
    if args.json:
        write_json(args.json, {"machine": before, "n": args.rounds, "commands": results})


if __name__ == "__main__":
    main()
