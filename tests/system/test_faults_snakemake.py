"""Faults around Snakemake: two at once, and clocks that jump.

After each fault no number is wrong, nothing finished is lost, and a message says what to do; the
table is in docs/faults.md. Without FLOWGMM_FAULTS=all few tries are made.
"""

import os
import random
import subprocess
import time

import pytest
from faults import record
from small_project import (
    OPTIONS,
    STEPS,
    TABLE,
    TRAINED,
    Trial,
    results,
)
from workspace import PATIENCE, snakemake, start

from flowgmm.utils.io import read_json, sha256


@pytest.fixture(scope="module")
def made(project: Trial) -> str:
    """Make the table with Snakemake in the clone; return the output of a second one at once."""
    first = start(project.clone, *OPTIONS, f"{TABLE}.md")
    locks = project.clone / ".snakemake" / "locks"
    until = time.monotonic() + PATIENCE
    while not (locks.is_dir() and list(locks.iterdir())):
        assert first.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    second = snakemake(project.clone, *OPTIONS, f"{TABLE}.md", ok=False)
    said, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, said
    return second


def test_two_snakemakes_at_once(project: Trial, made: str) -> None:
    """The second one stops without work; the table of the first one is right."""
    (line,) = [line for line in made.splitlines() if "cannot be locked" in line]
    tables = {path: bits for path, bits in results(project.clone).items() if "/tables/" in path}
    whole = {path: bits for path, bits in results(project.whole).items() if "/tables/" in path}
    assert tables == whole and len(tables) == 3
    record("two Snakemakes at once", 1, 1, "nothing", line.strip())


@pytest.mark.parametrize("shift", [-86400, 86400, None], ids=["back", "forward", "random"])
def test_a_clock_that_jumps(shift: int | None, project: Trial, made: str) -> None:
    """Contents of files decide, not times: nothing runs again."""
    rng = random.Random(0)
    now = time.time()
    for path in (project.clone / "results").rglob("*"):
        jump = rng.uniform(-1e6, 1e6) if shift is None else shift
        if shift is None or rng.random() < 0.5:
            os.utime(path, (now + jump, now + jump))
    said = snakemake(project.clone, "--dry-run", *OPTIONS, f"{TABLE}.md")
    assert "Nothing to be done" in said
    record("a clock that jumps: times of results are wrong", 1, 1, "nothing", "Nothing to be done")


def test_a_setting_is_changed_after_the_clock_jumped_back(project: Trial, made: str) -> None:
    """Snakemake refuses outputs older than their inputs; the training is not lost."""
    path = project.clone / "config" / "recipes" / "faults.yaml"
    before, future = path.read_text(), time.time() + 86400
    for file in (project.clone / "results").rglob("*"):
        os.utime(file, (future, future))
    try:
        path.write_text(before.replace(f"n_steps: {STEPS}", f"n_steps: {STEPS + 10}"))
        assert path.read_text() != before
        refused = snakemake(project.clone, *OPTIONS, f"{TABLE}.md", ok=False)
        (line,) = [line for line in refused.splitlines() if "older modification time" in line]
        assert f"{STEPS + 10}/{STEPS + 10}" in refused
        assert not (project.clone / TRAINED / "record.json").exists()
        # The README's remedy.
        remedy = "find results -newermt now -exec touch {} +"
        subprocess.run(["bash", "-c", remedy], cwd=project.clone, check=True)
        said = snakemake(project.clone, *OPTIONS, f"{TABLE}.md")
        assert "rule train_stack" in said and "rule make_table" in said
        assert f"/{STEPS + 10}" not in said  # from the cache, not trained again
        assert "rule fit_classic" not in said and "rule draw_split" not in said
        origins = read_json(project.clone / f"{TABLE}.json")["records"]
        trained = project.clone / TRAINED / "record.json"
        assert read_json(trained)["spec"]["params"]["training"]["n_steps"] == STEPS + 10
        assert origins[f"{TRAINED}/record.json"]["sha256"] == sha256(trained)
        said = snakemake(project.clone, "--dry-run", *OPTIONS, f"{TABLE}.md")
        assert "Nothing to be done" in said
    finally:
        path.write_text(before)
    record("a clock that jumped back before a setting was changed", 1, 1, "nothing", line.strip())
