"""Homes that are missing or cannot be written, caches and results that lie elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import make_table
from workspace import ROOT, copy_repository, environment, snakemake

OPTIONS = ("--cores", "1", "--config", "recipe=smoke", "--")
FIGURE = "results/smoke/figures/figure_1.png"
SPLIT = "results/smoke/splits/moons/10/split-0.safetensors"
# A process of a user whom the machine does not know.
STRANGER = ("unshare", "--user", "--map-user=54321", "--map-group=54321")
# A home that cannot be made.
NOWHERE = "/proc/nowhere"


def without_home(*changes: str) -> tuple[str, ...]:
    """Program that runs another one without HOME, and with these variables."""
    caches = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HOME", "USER", "LOGNAME")
    return ("env", *(f"--unset={name}" for name in caches), *changes)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return copy_repository(tmp_path)


def stranger() -> tuple[str, ...]:
    """Program that runs another one as a user without an account."""
    if subprocess.run([*STRANGER, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces")
    return STRANGER


def test_a_figure_without_a_home_and_with_results_on_scratch(clone: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch" / "of mine"
    scratch.mkdir(parents=True)
    (clone / "results").symlink_to(scratch)
    snakemake(clone, *OPTIONS, FIGURE, within=without_home())
    assert (scratch / "smoke" / "figures" / "figure_1.png").stat().st_size > 10_000
    assert (clone / "results").is_symlink()
    # What finished jobs keep are hard links, which stay within the file system.
    assert not list((scratch / "smoke" / "checkpoints").iterdir())
    said = snakemake(clone, *OPTIONS, FIGURE, within=without_home())
    assert "Nothing to be done" in said


def test_a_cache_of_ones_own_in_place_of_the_home(clone: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    within = without_home(f"HOME={NOWHERE}", f"XDG_CACHE_HOME={cache}")
    snakemake(clone, *OPTIONS, SPLIT, within=within)
    assert (cache / "snakemake").is_dir()
    assert (clone / SPLIT).is_file()


def test_a_user_without_an_account(clone: Path) -> None:
    """As in docs/cluster.md: Snakemake asks for a name and a home."""
    variables = ("USER=somebody", f"HOME={clone}")
    snakemake(clone, *OPTIONS, SPLIT, within=(*stranger(), *without_home(*variables)))
    assert (clone / SPLIT).is_file()


@pytest.mark.parametrize("known", [True, False])
def test_fit_without_a_home(tmp_path: Path, known: bool) -> None:
    make_table(tmp_path / "own.csv", n=60)
    command = [sys.executable, "-m", "flowgmm", "fit", "own.csv", "--label", "kind"]
    within = (*(() if known else stranger()), *without_home())
    done = subprocess.run(
        [*within, *command, "--method", "flowgmm"],
        cwd=tmp_path,
        env=environment(ROOT),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own-flowgmm", "own.csv"]


@pytest.mark.parametrize("leads", ["away", "to a file"])
def test_a_results_link_that_leads_nowhere(clone: Path, tmp_path: Path, leads: str) -> None:
    target = tmp_path / "scratch"
    if leads == "to a file":
        target.touch()
    (clone / "results").symlink_to(target)
    said = snakemake(clone, *OPTIONS, SPLIT, ok=False)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    (line,) = errors
    assert "results is no folder that can be written; check its permissions and, of a link" in line
    assert "Traceback" not in said


@pytest.mark.parametrize("path", sorted(ROOT.glob("workflow/rules/*.smk")), ids=lambda p: p.name)
def test_threads_of_every_job_wait_passively(path: Path) -> None:
    commands = re.findall(r"\n    shell:\n((?:        .*\n?)+)", path.read_text())
    for command in commands:
        assert ("OMP_NUM_THREADS" in command) == ("OMP_WAIT_POLICY=passive" in command)
