"""Data of the report: from tables and records of a small project to claims, costs, missing ones."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.project import load, settings_with
from flowgmm.experiments.specs.departures import PARAMETERS
from flowgmm.experiments.specs.report import report_spec
from flowgmm.experiments.specs.runs import train_spec
from flowgmm.experiments.specs.tables import table_jobs, table_spec
from flowgmm.reporting.report.claims import decide_claims
from flowgmm.reporting.report.data import gather, missing_runs, write_data
from flowgmm.reporting.tables.aggregate import make_table
from flowgmm.reporting.tables.cells import Table
from flowgmm.reporting.tables.files import write
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, write_json, write_tensors

ROOT = Path(__file__).parents[2]
FOLDER = Path("results/official/report")
STEPS = list(range(0, 1000, 10))


@pytest.fixture(scope="module")
def project():
    return load_checked(ROOT, settings_with(ROOT, ["recipe=official"]))


def make_record(project, job, accuracies, nll=0.8, **changes):
    """Write a record of a job, as `train_job` does, and predictions beside it."""
    spec = json.loads(json.dumps(train_spec(project, job)))
    runs = [
        {
            "seed": seed,
            "split": spec["splits"][i],
            "status": "ok",
            "reason": None,
            "seeds": {"random_state": 5},
            "metrics": {
                part: {"accuracy": accuracies[i], "nll": nll, "class_nll": 0.2, "ece": 0.02, "n": 4}
                for part in ("test", "unlabelled")
            },
            "history": {"step": STEPS, "loss": [1.0, math.pi, None, *STEPS[3:]]},
            "tuned": None,
            "n_iter": 1000,
        }
        for i, seed in enumerate(spec["seeds"])
    ]
    record = {
        **{key: spec[key] for key in ("recipe", "dataset", "labels", "method", "seeds")},
        "spec": spec,
        "hashes": {"code": "b", "features": "c", "splits": {"0": "d"}},
        "data": {
            "classes": ["no", "yes"],
            "notes": ["made up"],
            "not_comparable": [],
            "sources": {},
            "n_labelled": 10,
            "n_test": 4,
        },
        "runs": runs,
        "environment": {
            "versions": {"torch": "2.6"},
            "python": "3.11",
            "platform": "x",
            "device": "cpu",
            "threads": 1,
        },
        "git": {"commit": "e", "dirty": False},
        "timing": {"fit_s": 1.0, "wall_s": 90.0},
    } | changes
    path = Path("results/official/runs") / job.folder / "record.json"
    write_json(path, record)
    predictions = np.tile(np.array([0, 1, 1, 1], np.int16), (len(runs), 1))
    write_tensors(path.with_name("predictions.safetensors"), {"test": predictions}, {})
    return path


@pytest.fixture
def made(project, tmp_path, monkeypatch):
    """Table 7, with moons as good as SCNF and circles far worse, and what is gathered of it."""
    monkeypatch.chdir(tmp_path)
    levels = {"moons": (0.997, 0.7), "circles": (0.90, 0.9)}
    records = []
    for job in table_jobs(project, "table_7"):
        accuracy, nll = levels.get(job.run.dataset, (0.95, 0.8))
        scores = [accuracy + 0.001 * k for k in range(job.last - job.first + 1)]
        records.append(make_record(project, job, scores, nll))
    for dataset in levels:
        truth = {"y_test": np.array([0, 0, 1, -1])}
        write_tensors(f"results/features/{dataset}.safetensors", truth, {})
    table = make_table(table_spec(project, "table_7"), records)
    write(table, "results/official/tables/table_7")
    spec = report_spec(project)
    return spec, gather(spec, FOLDER, dict.fromkeys(missing_runs(spec), 2.0), "counted")


def test_the_whole_is_json_without_nan(made, tmp_path):
    write_data(made[1], tmp_path / "data.json")
    assert json.loads(json.dumps(asdict(made[1]), allow_nan=False))["recipe"] == "official"
    assert read_json(tmp_path / "data.json")["tables"][0]["name"] == "table_7"


def test_cells_are_those_of_the_tables_json(made):
    (table,) = made[1].tables
    content = read_json("results/official/tables/table_7.json")
    for row, found in zip(content["cells"], table.cells, strict=True):
        for cell, shown in zip(row, found, strict=True):
            assert {key: getattr(shown, key) for key in cell if hasattr(shown, key)} == {
                key: cell[key] for key in cell if hasattr(shown, key)
            }
            assert [run["value"] for run in shown.values] == [run["value"] for run in cell["runs"]]
            if shown.difference is not None:
                assert shown.difference == cell["value"] - cell["printed"]["value"]
    assert any(cell.difference is not None for row in table.cells for cell in row)


def test_a_run_has_all_that_its_drawer_shows(made):
    runs = {run.id: run for run in made[1].runs}
    run = runs["moons/10/flowgmm"]
    assert run.metrics["test accuracy"][1] == 0.998
    assert (run.minutes, run.device, run.commit) == (1.5, "cpu", "e")
    assert run.history.step[0] == 0 and run.history.step[-1] == 990 and len(run.history.step) <= 60
    loss = run.history.series["loss"][0]
    assert (loss[0], loss[-1], len(loss)) == (1.0, 990.0, len(run.history.step)) and None in loss
    # Truths 0, 0, 1 and an unknown one, predicted 0, 1, 1, by five seeds.
    assert run.confusion == [[5, 5], [0, 5]]
    assert run.params["flow.n_couplings"] == 5
    assert "--forcerun results/official/runs/moons/10/flowgmm" in run.command
    differs = {d.parameter: d for d in run.differs}
    assert (differs["flow.n_inner"].here, differs["flow.n_inner"].paper) == (1, 0)
    assert "D3" in differs["flow.n_inner"].departures
    assert set(differs["flow.n_inner"].departures) <= set(made[1].departures)


def claims_of(report):
    return {claim.id: claim for claim in report.claims}


def test_a_claim_is_decided_by_its_table(made):
    claim = claims_of(made[1])["C5"]
    words = {part.title: part.decision for part in claim.parts}
    assert words["accuracy, lead over SCNF: moons, accuracy, unlabelled points"] == "holds"
    assert (
        words["accuracy, lead over SCNF: circles, accuracy, unlabelled points"] == "does not hold"
    )
    assert claim.decision == "does not hold"
    # Mean 90.2 of 90.0 ... 90.4 against the printed 95.
    assert claim.estimate == pytest.approx(90.2 - 95)
    assert claim.interval[0] < claim.estimate < claim.interval[1] < -1.5
    assert (claim.n, claim.over, claim.unit) == (5, "runs", "points")
    assert "above -1.5 points" in claim.rule
    cells = claim.parts[0].decided_by[0].cells
    assert [cell.row for cell in cells] == ["FlowGMM", "SCNF Glow+Glow"]
    assert claims_of(made[1])["C1"].decision == "not run"
    assert "table_1 has not been made" in claims_of(made[1])["C1"].why


def test_nothing_is_held_against_a_printed_number_if_scaled_down(project, made, monkeypatch):
    records = []
    for job in table_jobs(project, "table_7"):
        spec = {**train_spec(project, job), "scaled_down": ["300 steps"]}
        records.append(make_record(project, job, [0.5] * 5, spec=json.loads(json.dumps(spec))))
    table = make_table(table_spec(project, "table_7"), records)
    write(table, "results/official/tables/table_7")
    report = gather(made[0], FOLDER, {}, "")
    claim = claims_of(report)["C5"]
    assert claim.decision == "undecided" and claim.estimate is None
    assert "not comparable" in claim.why
    assert claim.instead == ("scaled down: 300 steps",)
    lines = [line for line in report.missing if line.where.table == "table_7"]
    assert {line.what for line in lines} == {"not comparable"}
    assert {line.command for line in lines} == {
        "snakemake --profile local --config recipe=official -- table_7"
    }


def test_what_is_missing_is_listed_with_its_command_and_cost(made):
    spec, report = made
    whole = {line.where.table: line for line in report.missing if not line.where.row}
    assert {"table_1", "table_3", "figure_2", "ordering"} <= set(whole)
    assert "table_7" not in whole
    assert whole["table_1"].command == "snakemake --profile local -- table_1"
    n = len(set(spec["targets"]["table_1"]) & set(missing_runs(spec)))
    assert whole["table_1"].hours == 2.0 * n
    assert "moons/10/flowgmm" not in missing_runs(spec)
    lines = {line.target: line for line in report.cost.lines}
    assert lines["table_7"].measured == pytest.approx(2 * 1.5 / 60)
    assert report.cost.hours == pytest.approx(len(report.runs) * 1.5 / 60)


def test_an_inconclusive_cell_says_how_many_seeds_would_decide_it(project, made):
    wild = {"moons": [0.90, 0.99, 0.95, 0.98, 0.93], "circles": [0.975] * 5}
    records = [
        make_record(project, job, wild[job.run.dataset]) for job in table_jobs(project, "table_7")
    ]
    write(make_table(table_spec(project, "table_7"), records), "results/official/tables/table_7")
    report = gather(made[0], FOLDER, {}, "")
    (line,) = [
        line for line in report.missing if line.where.column == "moons, accuracy, unlabelled points"
    ]
    assert line.what == "inconclusive" and 1 < line.seeds_needed < 95
    total = 5 + line.seeds_needed
    assert line.command == f"snakemake --profile local --config n_seeds={total} -- table_7"
    assert line.hours == pytest.approx(line.seeds_needed * 1.5 / 5 / 60)
    more = load(ROOT, settings_with(ROOT, [f"n_seeds={total}"]))
    jobs = [job for job in table_jobs(more, "table_7") if job.run.dataset == "moons"]
    assert jobs[-1].last == total - 1
    # The block that is done is not done again.
    assert train_spec(more, jobs[0]) == train_spec(project, table_jobs(project, "table_7")[0])


def test_curves_are_of_the_cells(made):
    curve = next(c for c in made[1].curves if c.dataset == "moons")
    (point,) = curve.points
    assert point.x == 10 and point.value == pytest.approx(99.9)
    assert point.place.table == "table_7"


# -- every claim of the config -------------------------------------------------------------------


def analysis(values, **changes):
    """Content of the json of an analysis with numbers that all have these values."""
    numbers = [
        {
            "name": name,
            "title": name,
            "unit": unit,
            "values": values,
            "value": float(np.mean(values)),
        }
        for name, unit in changes.items()
    ]
    return {
        "status": "ok",
        "numbers": numbers,
        "not_comparable": [],
        "left_out": {},
        "spec": {"runs": {"model": {"dataset": "mnist", "labels": "all", "method": "flowgmm"}}},
    }


@pytest.mark.parametrize(
    ("claim", "name", "values", "decision"),
    [
        ("C6", "boundary", [4.0, 4.4, 4.1], "holds"),
        ("C6", "boundary", [1.0, 1.4, 1.1], "does not hold"),
        ("C6", "boundary", [2.0, 4.4, 3.1], "undecided"),
        ("C6", "boundary", [7.6], "undecided"),
        ("B2", "means", [-0.4, 0.2, -0.1], "holds"),
        ("B2", "means", [0.9, 1.2, 1.1], "does not hold"),
        ("B2", "means", [0.2, 0.7, 0.1], "undecided"),
        ("S6.1", "interpolation", [-30.0, -27.0, -25.0], "does not hold"),
    ],
)
def test_claims_about_numbers_of_analyses(project, claim, name, values, decision):
    spec = [entry for entry in report_spec(project)["claims"] if entry["id"] == claim]
    numbers = {part["number"]: "ratio" for part in spec[0]["parts"]}
    (found,) = decide_claims(spec, {}, {name: analysis(values, **numbers)}, {})
    assert found.decision == decision
    assert found.n == len(values)
    assert found.runs == ("mnist/all/flowgmm",)


def test_bounds_of_an_analysis_and_of_the_claim_are_the_same(project):
    spec = [entry for entry in report_spec(project)["claims"] if entry["id"] == "C6"]
    found = analysis([4.0, 4.4, 4.1], ratio="ratio", ratio_quantile="ratio")
    for number in found["numbers"]:
        number |= {"at_least": 3.0, "at_most": None}
    assert decide_claims(spec, {}, {"boundary": found}, {})[0].decision == "holds"
    found["numbers"][0]["at_least"] = 2.0
    with pytest.raises(UserError, match=r"boundary/ratio: expected the bounds .*2\.0 and None"):
        decide_claims(spec, {}, {"boundary": found}, {})


def filled(project, name, levels):
    """A table whose rows have three runs at these levels, without records."""
    spec = table_spec(project, name)
    made = make_table(spec | {"cells": spec["cells"]}, [])
    rows = []
    for row, cells in zip(spec["rows"], made.cells, strict=True):
        level = levels.get(row.get("method"))
        line = []
        for cell in cells:
            values = [] if level is None else [level, level + 0.2, level - 0.2]
            runs = tuple(
                {"seed": k, "split": k, "value": value, "status": "ok", "reason": None}
                for k, value in enumerate(values)
            )
            line.append(type(cell)(**{**asdict(cell), "runs": runs, "n": len(runs), "verdict": ""}))
        rows.append(tuple(line))
    return Table(spec, tuple(rows), made.remarks, {})


def test_the_order_of_images_is_decided_row_by_row(project):
    (spec,) = [entry for entry in report_spec(project)["claims"] if entry["id"] == "C3"]
    order = {
        "flowgmm_sup_nl": 70.0,
        "flowgmm": 80.0,
        "flowgmm_cons": 99.9,
        "flowgmm_sup_all": 101.0,
    }
    tables = {name: filled(project, name, order) for name in ("table_3", "table_4")}
    (claim,) = decide_claims([spec], tables, {}, {})
    assert claim.decision == "holds"
    assert sum(part.decisive for part in claim.parts) == 15
    tables["table_3"] = filled(project, "table_3", order | {"flowgmm": 60.0})
    (claim,) = decide_claims([spec], tables, {}, {})
    assert claim.decision == "does not hold"
    assert claim.estimate == pytest.approx(-10.0)
    # Nothing is claimed of a part that is not there.
    del tables["table_4"]
    tables["table_3"] = filled(project, "table_3", order)
    (claim,) = decide_claims([spec], tables, {}, {})
    assert claim.decision == "undecided"
    assert "11 hold, 4 not run" in claim.why


def test_a_gap_that_shrinks(project):
    (spec,) = [entry for entry in report_spec(project)["claims"] if entry["id"] == "C2"]
    baselines = dict.fromkeys(spec["parts"][0]["against"], 80.0)
    table = filled(project, "table_2", baselines | {"flowgmm": 85.0})
    (claim,) = decide_claims([spec], {"table_2": table}, {}, {})
    words = [part.decision for part in claim.parts]
    assert words == ["holds", "holds", "holds", "undecided"]
    assert claim.parts[-1].estimate == pytest.approx(0.0)


def test_a_baseline_that_is_left_out_may_be_the_best(project):
    (spec,) = [entry for entry in report_spec(project)["claims"] if entry["id"] == "C2"]
    baselines = dict.fromkeys(spec["parts"][0]["against"][1:], 80.0)
    table = filled(project, "table_2", baselines | {"flowgmm": 85.0})
    (claim,) = decide_claims([spec], {"table_2": table}, {}, {})
    assert claim.decision == "undecided"
    assert "knn is not run" in claim.why


def test_departures_name_rows_of_the_specification(made):
    rows = set(made[1].departures)
    assert {"D1", "D51"} <= rows
    assert {row for found in PARAMETERS.values() for row in found} <= rows
    assert all(row.link.startswith("docs/spec.md#d") for row in made[1].departures.values())
