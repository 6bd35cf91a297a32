"""Runs with a screen of their own, in a copy of the repository: bars, failures, mistakes."""

import subprocess
import sys

import pytest
import yaml
from workspace import copy_repository, environment

CODE = """
import sys
from pathlib import Path
from flowgmm.apps.run.run import run_targets
from flowgmm.utils.errors import UserError
try:
    sys.exit(run_targets(Path.cwd(), sys.argv[1:], ["recipe=tiny"]))
except UserError as error:
    sys.exit(f"error: {error}")
"""
# In place of the first line of the script that trains.
FIRST = "    spec = json.loads(options.spec)\n"
FAILS = (
    "    from flowgmm.utils.errors import UserError\n    raise UserError('no luck; try again')\n"
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the repository with a table of seconds."""
    folder = copy_repository(tmp_path_factory.mktemp("clone"))
    recipe = {"title": "Tiny", "extends": "smoke"}
    recipe["datasets"] = {
        "moons": {"methods": {"flowgmm": {"params": {"training": {"n_steps": 30}}}}}
    }
    (folder / "config" / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    table = {"title": "Tiny", "aggregate": "mean", "spread": "std", "metric": "accuracy"}
    table |= {"evaluate": "test", "rows": ["logistic_regression", "flowgmm"]}
    table["columns"] = [{"dataset": "moons", "labels": "10", "title": "moons"}]
    with (folder / "config" / "tables.yaml").open("a") as handle:
        handle.write("\n" + yaml.safe_dump({"table_tiny": table}))
    return folder


def run(clone, *targets):
    """Exit status and what was shown on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *targets],
        cwd=clone,
        env=environment(clone),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_run_tells_little_and_a_failure_is_shown_whole(clone):
    code, said = run(clone, "table_tiny")
    assert code == 0, said
    assert (clone / "results" / "tiny" / "tables" / "table_tiny.md").is_file()
    # What is to be done, what was done, and perhaps a line every quarter of a minute.
    assert " jobs, about " in said and " jobs in " in said
    assert "rule train_stack" not in said and "Finished jobid" not in said
    assert run(clone, "table_tiny") == (
        0,
        "Nothing to do: all targets exist and are up to date.\n",
    )

    script = clone / "scripts" / "train_stack.py"
    text = script.read_text()
    assert FIRST in text
    script.write_text(text.replace(FIRST, FAILS + FIRST))
    code, said = run(clone, "table_tiny")
    assert code == 1
    assert "failed: train_stack moons/10/flowgmm/0/" in said
    assert "results/tiny/logs/train_stack/moons/10/flowgmm" in said
    # The log's own line, with the remedy.
    assert "error: no luck; try again" in said
    assert "the same command goes on from here" in said


def test_a_mistake_before_any_job_is_one_line(clone):
    code, said = run(clone, "table_tinny")
    assert code == 1
    assert "error: " in said and "table_tinny" in said
