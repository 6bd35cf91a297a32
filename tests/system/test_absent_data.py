"""A table with a dataset that cannot be downloaded: one column `not run`, all others made."""

import http.server
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import yaml
from hub import serving
from workspace import copy_repository, snakemake

from flowgmm.apps.estimate.history import finished_jobs
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import settings_with
from flowgmm.reporting.tables.cells import Cell
from flowgmm.reporting.tables.files import read_table
from flowgmm.utils.absence import reason_of

TABLE = "results/absent/tables/both"
SETTINGS = ["recipe=absent", "skip=[moons/flowgmm]"]
OPTIONS = ("--profile", "local", "--config", *SETTINGS, "--", f"{TABLE}.md")
METHODS = ("logistic_regression", "flowgmm")


class Sometimes(http.server.BaseHTTPRequestHandler):
    """Serve `content`, or answer 404 while there is none."""

    content: ClassVar[bytes | None] = None
    asked: ClassVar[int] = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(404 if self.content is None else 200)
        self.send_header("Content-Length", str(len(self.content or b"")))
        self.end_headers()
        self.wfile.write(self.content or b"")

    def log_message(self, *args: object) -> None:
        pass


def table() -> bytes:
    """Two classes that a line parts, as CSV."""
    X = np.random.default_rng(0).normal(size=(200, 2))
    rows = (f"{a:.4f},{b:.4f},{int(a + b > 0)}" for a, b in X)
    return ("a,b,y\n" + "\n".join(rows) + "\n").encode()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a table of two datasets, one of them from the server."""
    folder = copy_repository(tmp_path_factory.mktemp("absent") / "clone")
    with serving(Sometimes) as url:
        entry = {"title": "Remote", "kind": "table", "licence": "none", "loader": "table"}
        entry |= {"options": {"file": "t.csv", "label": "y", "test_fraction": 0.3}}
        entry |= {"files": {"t.csv": {"url": [f"{url}/t.csv"]}}}
        entry |= {"labels": {"10": {"n_labels": 10, "n_val": 20}}}
        both = {"title": "Both", "aggregate": "mean", "spread": "std", "metric": "accuracy"}
        both |= {"evaluate": "test", "rows": list(METHODS)}
        both |= {
            "columns": [{"dataset": d, "labels": "10", "title": d} for d in ("remote", "moons")]
        }
        tune = {"tune": {"training__lr": [0.001, 0.003]}}
        steps = {"params": {"training": {"n_steps": 30}}}
        recipe = {"title": "Absent", "extends": "smoke", "all": {"n_seeds": 1}}
        recipe |= {
            "datasets": {
                "remote": {"methods": {"flowgmm": {**steps, **tune}}},
            }
        }
        for name, value in (("datasets", {"remote": entry}), ("tables", {"both": both})):
            with (folder / "config" / f"{name}.yaml").open("a") as handle:
                handle.write("\n" + yaml.safe_dump(value))
        (folder / "config" / "recipes" / "absent.yaml").write_text(yaml.safe_dump(recipe))
        yield folder


def column(clone: Path, dataset: str) -> list[Cell]:
    made = read_table(clone / f"{TABLE}.json")
    return [cell for row in made.cells for cell in row if cell.dataset == dataset]


def test_one_column_is_not_run_until_its_data_come(clone: Path) -> None:
    Sometimes.content = None
    said = snakemake(clone, *OPTIONS)
    for cell in column(clone, "remote"):
        assert cell.verdict == "not run"
        assert "data absent: cannot download t.csv" in cell.why and "status 404" in cell.why
        assert all(word in cell.why for word in ("`skip`", "`path`", "another address"))
    assert column(clone, "moons")[0].value is not None
    text = (clone / f"{TABLE}.md").read_text()
    assert "not run" in text and "status 404" in text
    # At the end of the run, and in the log.
    assert "not run: results/raw/remote/t.csv: data absent: cannot download" in said
    log = clone / "results/logs/download_file/remote/t.csv.log"
    assert "error: cannot download t.csv" in log.read_text()
    records = list((clone / "results/absent/runs/remote").rglob("*.safetensors"))
    assert records and all(reason_of([path]) for path in records)
    # Jobs that did nothing are no measure of others.
    project = load_checked(clone, settings_with(clone, SETTINGS))
    assert not [job for job in finished_jobs(project) if job.dataset == "remote"]

    # As a target of its own the download fails, and names the file below all else.
    said = snakemake(clone, *OPTIONS[:-1], "download", ok=False)
    line = next(line for line in said.splitlines() if line.startswith("error: 1 of "))
    assert "could not be downloaded: results/raw/remote/t.csv;" in line
    assert "Traceback" not in said
    assert said.index(line) < said.rindex("not run: results/raw/remote/t.csv: data absent")

    # Each later run tries again, and only that.
    asked = Sometimes.asked
    said = snakemake(clone, *OPTIONS)
    assert Sometimes.asked > asked
    made = re.findall(r"output: (\S+)", said)
    assert made and not [path for path in made if "moons" in path]
    assert {cell.verdict for cell in column(clone, "remote")} == {"not run"}

    Sometimes.content = table()
    snakemake(clone, *OPTIONS)
    for cell in [*column(clone, "remote"), column(clone, "moons")[0]]:
        assert cell.value is not None and cell.n == 1
    asked = Sometimes.asked
    snakemake(clone, *OPTIONS[:-1], "download")
    assert "Nothing to be done" in snakemake(clone, *OPTIONS)
    assert Sometimes.asked == asked
