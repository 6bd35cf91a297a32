"""Seconds of a job that has nothing to compute, beside the start of Python and of numpy alone.

Each script of `scripts/` runs the smallest job that the workflow gives it, in a scratch clone with
the recipe `smoke` on Moons and Digits. Training, tuning and embedding find their finished outputs
in the cache. The commands run in turn, round by round.

    python benchmarks/overhead.py
"""

import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import (
    copy_workflow,
    machine,
    make_parser,
    quartiles,
    workflow_environment,
    write_results,
)

PYTHON = [sys.executable]
FLOORS = {
    "python -c pass": [*PYTHON, "-c", "pass"],
    "import numpy": [*PYTHON, "-c", "import numpy"],
    "import flowgmm": [*PYTHON, "-c", "import flowgmm"],
    "flowgmm --help": [*PYTHON, "-m", "flowgmm.cli", "--help"],
}
TARGETS = ["table_7", "results/smoke/tuning/ag_news/200/mlp_dropout/choice.json"]
# Scripts whose work is generating or drawing, not overhead.
COMPUTE = {"prepare_data", "make_figure"}
SMOKE = ["--cores", "1", "--config", "recipe=smoke", "mirror=config", "offline=true"]


def snakemake(folder: Path, *arguments: str) -> str:
    """Run Snakemake and return its output."""
    command = [*PYTHON, "-m", "snakemake", *SMOKE, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=workflow_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout + done.stderr


def first_commands(said: str) -> dict[str, list[str]]:
    """Find the first command of each script in the output of `--printshellcmds`."""
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        words = shlex.split(line.partition(" 2> >(")[0]) if " scripts/" in line else []
        words = words[next((i for i, word in enumerate(words) if word == "python"), 0) :]
        if words and words[0] == "python" and words[1].startswith("scripts/"):
            found.setdefault(Path(words[1]).stem, [*PYTHON, *words[1:]])
    return found


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Measure wall and CPU seconds of a command that must succeed."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=workflow_environment(), capture_output=True, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure all commands; print a line each; write everything to a file."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--folder", help="a prepared clone; made if missing")
    parser.add_argument("--prepare", action="store_true", help="only make the clone and its jobs")
    args = parser.parse_args()
    folder = Path(args.folder or tempfile.mkdtemp())
    if not (folder / "commands.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        copy_workflow(folder)
        said = snakemake(folder, "--dry-run", "--printshellcmds", "--", *TARGETS)
        commands = first_commands(said)
        snakemake(folder, "--quiet", "all", "--", *TARGETS)
        for script in (
            "train_stack",
            "tune_candidate",
        ):  # once more, as the finished jobs were forgotten
            subprocess.run(commands[script], cwd=folder, env=workflow_environment(), check=True)
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
    write_results(args.json, {"machine": before, "n": args.rounds, "commands": results})


if __name__ == "__main__":
    main()
