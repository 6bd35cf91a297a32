"""Tables: from hand-made records to cells, verdicts and the four files."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from flowgmm.experiments.entries import Method, Table, make_entries, make_entry, make_printed
from flowgmm.experiments.specs.tables import describe_table
from flowgmm.reporting.tables.aggregate import make_table
from flowgmm.reporting.tables.console import print_tables
from flowgmm.reporting.tables.files import read_table, write
from flowgmm.reporting.tables.latex_writer import escape
from flowgmm.reporting.tables.markdown_writer import markdown_text
from flowgmm.utils import io as files
from flowgmm.utils.absence import write_reason
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def config(name):
    return yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))


TABLES, PAPER = config("tables"), config("paper_results")
METHODS = make_entries(Method, config("methods"))


def describe(name, entry, **changes):
    table = make_entry(Table, entry)
    return describe_table(name, table, make_printed(PAPER), METHODS, recipe="official", **changes)


def spec_of(name, **changes):
    return describe(name, TABLES[name], **changes)


@pytest.fixture
def add_record(tmp_path, monkeypatch):
    """Write a record of the form that runs.py makes; its path is relative, as in the workflow."""
    monkeypatch.chdir(tmp_path)

    def add(dataset, labels, method, accuracies, first=0, failed=(), tuned=(), **changes):
        seeds = range(first, first + len(accuracies))
        runs = []
        for seed, accuracy in zip(seeds, accuracies, strict=True):
            scores = {
                "accuracy": accuracy,
                "class_nll": 0.3,
                "ece": 0.02,
                "n": 7600,
                "nll": 0.8,
            }
            runs.append(
                {
                    "seed": seed,
                    "status": "failed" if seed in failed else "ok",
                    "reason": "loss is NaN at step 7" if seed in failed else None,
                    "seeds": {"initialisation": 1000 + seed},
                    "metrics": {} if accuracy is None else {"test": scores, "unlabelled": scores},
                    "tuned": None,
                    "n_iter": 100,
                }
            )
        for run, params in zip(runs, tuned, strict=False):
            run |= {"tuned": params, "tuning": curve_of(params), "budget": {"points": 3}}
        record = {
            "schema": 1,
            "recipe": "official",
            "dataset": dataset,
            "labels": labels,
            "method": method,
            "seeds": list(seeds),
            "spec": {"lr": 3e-4, "scaled_down": []},
            "hashes": {"spec": "a", "code": "b", "features": "c", "splits": {"0": "d"}},
            "environment": {
                "python": "3.11",
                "packages": {},
                "platform": "x",
                "device": "cpu",
            },
            "git": {"commit": "e", "dirty": False},
            "timing": {"started": "2020-01-01T00:00:00+00:00", "wall_s": 1.5},
            "data": {"notes": [], "not_comparable": []},
            "runs": runs,
        } | changes
        path = Path(f"runs/{dataset}/{labels}/{method}/seeds-{first}-{seeds[-1]}/record.json")
        files.write_json(path, record)
        return path

    return add


def curve_of(params):
    """Three candidates around the chosen one; the last has diverged."""
    return [
        {"params": {key: factor * value for key, value in params.items()}, "accuracy": accuracy}
        for factor, accuracy in [(1, 0.9), (3, 0.8), (10, None)]
    ]


def cell_of(table, method, column=0):
    (row,) = [row for row in table.cells if row[0].method == method]
    return row[column]


# Config


@pytest.mark.parametrize("name", ["tables", "figures", "paper_results"])
def test_config_is_valid_and_unknown_keys_are_refused(name):
    schema = yaml.safe_load((ROOT / f"workflow/schemas/{name}.schema.yaml").read_text("utf-8"))
    jsonschema.validate(config(name), schema)
    entries = {k: v for k, v in config(name).items() if k not in ("meta", "table_6")}
    first = next(iter(entries))
    wrong = {first: entries[first] | {"titel": "x"}, "unknown entry": {}}
    if name == "paper_results":
        wrong = {"meta": {}, "table_9": entries[first]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_every_printed_number_has_a_cell():
    """Nothing of the paper's tables is lost on the way, and nothing is invented."""
    for number in range(1, 8):
        name = f"table_{number}"
        texts = [
            cell["printed"]["text"]
            for row in spec_of(name)["cells"]
            for cell in row
            if cell["printed"]
        ]
        if number == 6:
            assert len(texts) == 16
            assert texts[0] == "lr = 0.0003"
            continue
        leaves = []

        def collect(node, leaves=leaves):
            if "value" in node:
                leaves.append(node["value"])
            else:
                for child in node.values():
                    collect(child)

        collect(PAPER[name]["results"])
        assert len(texts) == sum(value is not None for value in leaves), name
    assert cell_printed("table_1", "flowgmm", 0) == "82.1 ± 1.0"
    assert cell_printed("table_2", "knn_label_spreading", 0) == "87.20 ± 1.10"
    assert cell_printed("table_7", "flowgmm", 0) == "0.82 ± 0.68"
    assert cell_printed("table_7", "flowgmm", 1) == "99.4 ± 1.1"
    assert cell_printed("table_5", "flowgmm_temp", 3) == "0.444"


def cell_printed(name, paper, column):
    spec = spec_of(name)
    row = [row.get("paper", row.get("method")) for row in spec["rows"]].index(paper)
    return spec["cells"][row][column]["printed"]["text"]


def test_mistakes_in_the_config_name_the_place():
    entry = TABLES["demo"] | {"rows": ["knnn"]}
    with pytest.raises(UserError, match=r"demo.rows: method 'knnn' is not in"):
        describe("demo", entry)
    entry = TABLES["table_1"] | {"columns": [{"dataset": "mars", "labels": "1", "title": "M"}]}
    with pytest.raises(UserError, match=r"points at 'mars', which was not found in table_1"):
        describe("table_1", entry)
    entry = TABLES["table_1"] | {"paper": "table_9"}
    with pytest.raises(UserError, match=r"paper_results.yaml has no table 'table_9' with results"):
        describe("table_1", entry)
    by_metric = {"columns": [{"dataset": "mnist", "labels": "1000", "title": "M"}]}
    for changes in ({"paper": "table_1"}, {"paper": "table_5"} | by_metric):
        with pytest.raises(UserError, match=r"table_6: column .* of which its printed table has n"):
            describe("table_6", TABLES["table_6"] | changes)
    entry = TABLES["demo"] | {"extra_rows": [{"title": "ours"}]}
    with pytest.raises(UserError, match=r"extra_rows: neither row 'ours' nor column 'digits"):
        describe("demo", entry)
    entry = {key: value for key, value in TABLES["demo"].items() if key != "metric"}
    with pytest.raises(UserError, match=r"demo: column 'digits, 50 labels' has no metric"):
        describe("demo", entry)


# Cells


def test_a_cell_joins_seed_blocks_in_percent(add_record):
    records = [
        add_record("ag_news", "200", "flowgmm", [0.81, 0.83], first=2),
        add_record("ag_news", "200", "flowgmm", [0.82, 0.80], first=0),
    ]
    cell = cell_of(make_table(spec_of("table_1"), records), "flowgmm")
    assert [run["seed"] for run in cell.runs] == [0, 1, 2, 3]
    assert (cell.value, cell.spread) == pytest.approx((81.5, 1.0))
    assert (cell.n, cell.n_failed, cell.n_missing) == (4, 0, 0)
    assert (cell.interval["low"], cell.interval["high"]) == pytest.approx((80.0, 83.0))
    assert cell.margin == 2.0  # 2 x printed 1.0
    assert cell.verdict == "inconclusive"  # 80.0 is below 82.1 - 2.0


def test_table_7_takes_mean_and_std_of_the_unlabelled_points(add_record):
    record = add_record("moons", "10", "flowgmm", [0.99, 1.0, 1.0, 1.0, 1.0])
    content = files.read_json(record)
    for run in content["runs"]:
        run["metrics"]["test"]["accuracy"] = 0.5
    files.write_json(record, content)
    table = make_table(spec_of("table_7"), [record])
    unlabelled, fresh = cell_of(table, "flowgmm", 1), cell_of(table, "flowgmm", 3)
    assert (unlabelled.value, unlabelled.spread) == pytest.approx((99.8, 0.4))
    assert unlabelled.verdict == "reproduced"
    assert fresh.value == 50.0
    assert (fresh.printed, fresh.verdict) == (None, "")
    quoted = cell_of(table, "scnf_glow_glow")
    assert (quoted.kind, quoted.verdict, quoted.value) == ("quoted", "", None)


def test_failed_seeds_are_shown_and_never_dropped(add_record):
    records = [
        add_record("ag_news", "200", "flowgmm", [0.82, 0.82, None, 0.25], failed=(2, 3)),
        add_record("ag_news", "200", "pi_model", [None, None, None, 0.80], failed=(0, 1, 2)),
    ]
    table = make_table(spec_of("table_1"), records)
    cell = cell_of(table, "flowgmm")
    assert (cell.n, cell.n_failed, cell.n_missing) == (4, 2, 1)
    assert (cell.value, cell.value_ok, cell.n_ok) == pytest.approx((82.0, 82.0, 2))
    assert cell.verdict == "inconclusive"
    assert cell_of(table, "pi_model").verdict == "failed"
    text = "".join(path.read_text("utf-8") for path in write(table, "t"))
    assert "82.0 ± 0.0 (n = 3 of 4, 2 failed)<br>82.0 over the 2 that did not fail" in text
    assert "failed (3 of 4 seeds) · paper 80.2 ± 0.3" in text
    assert "seed 2 failed: loss is NaN at step 7" in text


def test_a_reason_in_place_of_a_record(add_record, tmp_path):
    """The column is not run, with this reason; the others stay as they are."""
    record = add_record("ag_news", "200", "flowgmm", [0.8] * 4)
    why = "data absent: cannot download MiniBooNE_PID.txt"
    spec = {"dataset": "miniboone", "labels": "20", "method": "flowgmm", "seeds": [0]}
    write_reason(tmp_path / "record.json", why, spec)
    table = make_table(spec_of("table_1"), [record, tmp_path / "record.json"])
    cells = {cell.dataset: cell for row in table.cells for cell in row if cell.method == "flowgmm"}
    assert (cells["miniboone"].verdict, cells["miniboone"].why) == ("not run", why)
    assert cells["ag_news"].value == pytest.approx(80)
    assert why in write(table, "t")[1].read_text("utf-8")


def test_resumes_that_were_not_exact_are_noted(add_record):
    path = add_record("ag_news", "200", "flowgmm", [0.9, 0.8])
    table = make_table(spec_of("table_1"), [path])
    record = files.read_json(path)
    resume = {"step": 14, "moments": "none", "device": "cpu"}
    record["runs"][1]["inexact_resumes"] = [resume]
    files.write_json(path, record)
    resumed = make_table(spec_of("table_1"), [path])
    assert cell_of(resumed, "flowgmm").runs[1]["inexact_resumes"] == [resume]
    assert "went on from a checkpoint" in write(resumed, "t")[1].read_text("utf-8")
    assert "went on from a checkpoint" not in write(table, "t")[1].read_text("utf-8")


def test_what_is_not_run_says_why(add_record):
    spec = spec_of("table_1", not_run={"hepmass/20/flowgmm": "data absent"})
    table = make_table(spec, [])
    assert cell_of(table, "flowgmm", 2).why == "data absent"
    assert {cell.verdict for row in table.cells for cell in row} == {"not run"}
    spec = spec_of("table_3", not_run={"mnist/all/flowgmm_sup_all": "left out"})
    images = make_table(spec, [])
    assert cell_of(images, "flowgmm_sup_all").why == "left out"
    assert cell_of(images, "flowgmm").why == "no record was given"
    markdown = write(images, "t")[1].read_text("utf-8")
    assert "not run<br>paper 98.94" in markdown
    assert "not run (left out)" in markdown
    # A density is not something that every method has.
    record = add_record("moons", "10", "flowgmm", [0.9])
    content = files.read_json(record)
    del content["runs"][0]["metrics"]["unlabelled"]["nll"]
    files.write_json(record, content)
    cell = cell_of(make_table(spec_of("table_7"), [record]), "flowgmm")
    assert (cell.verdict, cell.why) == (
        "not run",
        "this method has no nll on unlabelled points",
    )


def test_a_row_may_have_a_label_set_of_its_own(add_record):
    """The model with all labels beside those with 1000, in the column of the latter."""
    notes = {"data": {"notes": ["as cropped"], "not_comparable": []}}
    records = [
        add_record("mnist", "all", "flowgmm_sup_all", [0.996] * 3, **notes),
        add_record("mnist", "1000", "flowgmm", [0.989] * 3),
    ]
    small = {"mnist/all": ["20 steps"], "mnist/1000": ["40 steps"], "mnist/100": ["60 steps"]}
    table = make_table(spec_of("table_3", scaled_down=small), records)
    assert (cell_of(table, "flowgmm_sup_all").labels, cell_of(table, "flowgmm").labels) == (
        "all",
        "1000",
    )
    assert cell_of(table, "flowgmm_sup_all").value == pytest.approx(99.6)
    assert cell_of(table, "flowgmm_sup_all").verdict == "reproduced"
    assert table.remarks[0]["notes"] == ["scaled down: 20 steps, 40 steps", "as cropped"]
    with pytest.raises(UserError, match="mnist/1000/flowgmm_sup_all is not a cell of table_3"):
        make_table(spec_of("table_3"), [add_record("mnist", "1000", "flowgmm_sup_all", [0.9])])


def test_one_model_may_fill_two_rows(add_record):
    """Table 5: the same runs before and after tempering; the model depends on the column."""
    records = [
        add_record("mnist", "1000", "flowgmm_sup_nl", [0.97, 0.98, 0.97]),
        add_record("cifar10_calibration", "all", "flowgmm_sup_all", [0.89]),
    ]
    for path in records:
        content = files.read_json(path)
        for run in content["runs"]:
            run["metrics"]["test_tempered"] = run["metrics"]["test"] | {"class_nll": 0.1}
        files.write_json(path, content)
    table = make_table(spec_of("table_5"), records)
    raw, tempered = table.cells
    assert [cell.method for cell in raw] == ["flowgmm_sup_nl"] * 3 + ["flowgmm_sup_all"] * 3
    assert [cell.method for cell in tempered] == [cell.method for cell in raw]
    assert (raw[0].value, tempered[0].value) == (0.3, 0.1)
    assert (raw[0].printed["text"], tempered[0].printed["text"]) == ("0.295", "0.094")
    assert (raw[2].value, raw[2].printed) == (tempered[2].value, None)
    csv_path, md_path, *_ = write(table, "t")
    assert "not the model of Table 3" in md_path.read_text("utf-8")  # the columns' own notes
    rows = list(csv.DictReader(io.StringIO(csv_path.read_text("utf-8"))))
    kinds = {(r["dataset"], r["metric"], r["evaluate"]) for r in rows}
    assert len(kinds) == len(rows) == 12


def quoted_table(**row):
    """Table 3 with rows of M1+M2 and of the Π-model with augmentation that are run."""
    rows = [
        {"method": "flowgmm", "paper": "m1m2_vae_ssl", "title": "M1+M2"} | row,
        {"method": "flowgmm_cons", "paper": "pi_model_augmented", "title": "Π-model"},
        "flowgmm_sup_nl",
    ]
    return describe("table_3", TABLES["table_3"] | {"rows": rows, "quoted": []})


def test_a_quoted_number_is_compared_within_the_spread_of_its_source(add_record):
    records = [
        add_record("svhn", "1000", "flowgmm_cons", [0.952] * 3),
        add_record("cifar10", "4000", "flowgmm_cons", [0.876] * 3),
    ]
    table = make_table(quoted_table(), records)
    _, svhn, cifar10 = table.cells[1]
    assert (svhn.verdict, cifar10.verdict) == ("reproduced", "reproduced")
    entry = {"value": 50.0, "spread": None, "source_spread": 2.0, "text": "50", "source": "X"}
    spec = quoted_table()
    spec["cells"][1][1]["printed"] = entry | {"reported_by": "quoted"}
    wide = make_table(spec, records).cells[1][1]
    assert (wide.margin, wide.verdict) == (4.0, "higher")
    markdown = write(table, "t")[1].read_text("utf-8")
    # The paper prints one of the two settings for each data set; the other is the source's.
    assert "reproduced · source 95.18 ± 0.17 <sup>" in markdown
    assert "reproduced · paper 87.64 <sup>" in markdown
    assert "Laine & Aila 2016: error 12.36 ± 0.31 with augmentation" in markdown
    assert "Kingma et al. 2014: error 2.40 ± 0.02" in markdown  # of a cell that is not run, too


def test_scnfs_numbers_are_compared_on_its_own_data_alone(add_record):
    """Their data are not known; the paper's own have another entropy."""
    own = add_record("moons_scnf", "10", "scnf", [0.997] * 5)
    papers = add_record("moons", "10", "scnf", [0.997] * 5)
    table = make_table(spec_of("table_7_scnf"), [own, papers])
    cells = [cell for cell in table.cells[1] if cell.runs and cell.metric == "accuracy"]
    assert [(cell.dataset, cell.evaluate, cell.verdict) for cell in cells] == [
        ("moons_scnf", "unlabelled", "reproduced"),
        ("moons_scnf", "test", "reproduced"),
        ("moons", "unlabelled", "not comparable"),
        ("moons", "test", ""),
    ]
    assert all(cell.printed is None for cell in table.cells[0][:8])  # FlowGMM's are of its data
    assert [cell.printed["text"] for cell in table.cells[0][8:10]] == ["0.82 ± 0.68", "99.4 ± 1.1"]


def test_a_number_of_another_setting_is_not_compared(add_record):
    spec = quoted_table()
    spec["cells"][1][1]["printed"]["not_comparable"] = "five times as many labels"
    record = add_record("svhn", "1000", "flowgmm_cons", [0.952] * 3)
    table = make_table(spec, [record])
    assert table.cells[1][1].why == "five times as many labels"
    markdown = write(table, "t")[1].read_text("utf-8")
    assert "not comparable to the source's 95.18 ± 0.17" in markdown
    assert "with augmentation, 10 runs; not comparable: five times as many labels" in markdown


def test_a_row_may_have_notes_and_cells_on_some_data_sets_alone(add_record):
    spec = quoted_table(datasets=["mnist"], notes=["50,000 training images"])
    record = add_record("mnist", "1000", "flowgmm", [0.976] * 3)
    table = make_table(spec, [record])
    mnist, svhn, cifar10 = table.cells[0]
    assert mnist.verdict == "reproduced"
    assert (svhn.verdict, svhn.why) == ("not run", "not among the row's data sets")
    assert (cifar10.verdict, cifar10.printed) == ("", None)
    lines = write(table, "t")[1].read_text("utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith("| M1+M2 <sup>1</sup> |")]
    assert row.endswith("| - |")
    assert "1. 50,000 training images" in lines
    stray = add_record("svhn", "1000", "flowgmm", [0.9])
    with pytest.raises(UserError, match="svhn/1000/flowgmm is not a cell of table_3"):
        make_table(spec, [record, stray])


def test_the_papers_footnote_is_shown():
    table = make_table(spec_of("table_4"), [])
    assert "99.04 percent" in markdown_text(table)
    assert "footnote" not in markdown_text(make_table(spec_of("table_3"), []))


def test_other_data_and_scaled_down_runs_are_never_compared(add_record):
    other = {
        "notes": ["67,200 rows"],
        "not_comparable": ["encoder MiniLM in place of BERT"],
    }
    records = [
        add_record("ag_news", "200", "flowgmm", [0.82] * 4, data=other),
        add_record("yahoo", "800", "flowgmm", [0.579] * 4, spec={"scaled_down": ["60 steps"]}),
    ]
    spec = spec_of("table_1", scaled_down={"miniboone/20": ["60 steps"]})
    table = make_table(spec, records)
    for column, why in [
        (0, "encoder MiniLM in place of BERT"),
        (1, "scaled down: 60 steps"),
    ]:
        cell = cell_of(table, "flowgmm", column)
        assert (cell.verdict, cell.why) == ("not comparable", why)
    markdown = write(table, "t")[1].read_text("utf-8")
    header = markdown.splitlines()[2]
    assert "AG-News, 200 labels (not the paper's data) <sup>1, 2</sup>" in header
    assert "Yahoo! Answers, 800 labels (scaled down) <sup>3</sup>" in header
    assert "MiniBooNE, 20 labels (scaled down) <sup>3</sup>" in header
    assert "not comparable to the paper's 82.1 ± 1.0" in markdown
    assert "1. encoder MiniLM in place of BERT\n2. 67,200 rows\n3. scaled down" in markdown


def table_6(add_record):
    small = {"spec": {"scaled_down": ["60 steps"]}}
    four, lr = [0.8] * 4, {"lr": 3.0e-4}
    return make_table(
        spec_of("table_6", not_run={"miniboone/20/knn": "data absent"}),
        [
            add_record("ag_news", "200", "flowgmm", four, tuned=[lr] * 4),
            add_record("ag_news", "200", "pi_model", four, tuned=[lr | {"weight": 3.0}] * 4),
            add_record("ag_news", "200", "knn", [0.8], tuned=[{"n_neighbors": 9}]),
            add_record("yahoo", "800", "flowgmm", four),
            add_record(
                "yahoo", "800", "knn", four, tuned=[{"n_neighbors": k} for k in (19, 5, 19, 3)]
            ),
            add_record("hepmass", "20", "flowgmm", four, failed=(1,), tuned=[lr] * 4, **small),
        ],
    )


def test_table_6_shows_what_was_chosen_beside_what_is_printed(add_record):
    table = table_6(add_record)
    found = {
        (cell.dataset, cell.method): (cell.verdict, cell.value)
        for row in table.cells
        for cell in row
    }
    assert found["ag_news", "flowgmm"] == ("reproduced", 3.0e-4)
    assert found["ag_news", "pi_model"] == ("lower", 3.0e-4)
    assert found["ag_news", "knn"] == ("higher", 9)
    assert found["yahoo", "flowgmm"] == ("not run", None)
    assert found["yahoo", "knn"] == ("inconclusive", None)
    assert found["hepmass", "flowgmm"] == ("not comparable", 3.0e-4)
    assert cell_of(table, "flowgmm").runs[0]["tuning"] == curve_of({"lr": 3.0e-4})
    csv_path, md_path, tex_path, json_path = write(table, "t")
    markdown = md_path.read_text("utf-8")
    assert "| lr = 0.0003<br>reproduced · paper lr = 0.0003 |" in markdown
    assert "| lr = 0.0003, weight = 3<br>lower · paper lr = 0.001 |" in markdown
    assert "k = 19 (2 of 4)<br>k = 5 (1 of 4)<br>k = 3 (1 of 4)<br>inconclusive" in markdown
    assert "not run (not tuned in this recipe)" in markdown
    assert "not run (data absent)" in markdown
    assert "not comparable to the paper's lr = 0.003" in markdown
    assert r"lr = 0.0003\\reproduced $\cdot$ paper lr = 0.0003" in tex_path.read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(csv_path.read_text("utf-8"))))
    (flow,) = [r for r in rows if (r["dataset"], r["method"]) == ("ag_news", "flowgmm")]
    assert (flow["value"], flow["paper"], flow["verdict"]) == ("0.0003", "0.0003", "reproduced")
    again = read_table(json_path)
    assert write(again, "u")[1].read_text("utf-8") == markdown


def test_records_that_do_not_fit_are_refused(add_record):
    spec = spec_of("table_1")
    stray = add_record("digits", "50", "knn", [0.9])
    with pytest.raises(UserError, match="digits/50/knn is not a cell of table_1"):
        make_table(spec, [stray])
    one = add_record("ag_news", "200", "flowgmm", [0.8, 0.8])
    two = add_record("ag_news", "200", "flowgmm", [0.8, 0.8], first=1)
    with pytest.raises(UserError, match="seed 1 is in another record"):
        make_table(spec, [one, two])
    hashes = {"spec": "a", "code": "changed", "features": "c", "splits": {}}
    three = add_record("ag_news", "200", "flowgmm", [0.8], first=2, hashes=hashes)
    with pytest.raises(UserError, match="its code differ"):
        make_table(spec, [one, three])
    small = add_record("ag_news", "200", "pi_model", [0.8], recipe="small")
    with pytest.raises(UserError, match="recipe 'small'"):
        make_table(spec, [small])


# Claims


CLAIM = {
    "method": "flowgmm",
    "against": {"the baselines": ["knn", "pi_model"], "self-training": ["self_training"]},
}


def test_a_claim_is_judged_by_paired_runs(add_record):
    records = [
        add_record("digits", "50", "flowgmm", [0.82, 0.85, 0.80, 0.84]),
        add_record("digits", "50", "knn", [0.70, 0.71, 0.72, 0.70]),
        add_record("digits", "50", "pi_model", [0.80, 0.83, 0.79, 0.82]),
        add_record("breast_cancer", "10", "flowgmm", [0.90, 0.91, 0.92, 0.93]),
        add_record("breast_cancer", "10", "knn", [0.92, 0.93, 0.95, 0.95]),
        add_record("breast_cancer", "10", "pi_model", [0.99, None, 0.99, 0.99], failed=(1,)),
    ]
    table = make_table(describe("demo", TABLES["demo"] | {"claim": CLAIM}), records)
    assert table.claim["title"] == "FlowGMM"
    baselines, alone = table.claim["groups"]
    first, second = baselines["sets"]
    assert (first["dataset"], first["baseline"]) == ("digits", "Π-model with dropout")
    assert (first["difference"], first["word"]) == (pytest.approx(1.75), "best")
    # A baseline that diverged is not compared, which the table says.
    assert (second["baseline"], second["word"]) == ("k nearest neighbours", "not best")
    assert second["left_out"] == ["Π-model with dropout"]
    assert (alone["title"], alone["sets"], alone["summary"]) == ("self-training", [], None)
    _, md_path, tex_path, json_path = write(table, "t")
    markdown = md_path.read_text("utf-8")
    assert "ahead on 1 of 2 sets; shown to be the best on 1, not to be on 1; mean lead" in markdown
    assert "FlowGMM against self-training: nothing to compare." in markdown
    assert "| digits, 50 labels | +1.8 [" in markdown
    assert "(k nearest neighbours); without Π-model with dropout | - |" in markdown
    assert "FlowGMM against the baselines: ahead on 1 of 2" in tex_path.read_text("utf-8")
    assert read_table(json_path).claim == table.claim
    assert make_table(describe("demo", TABLES["demo"]), records).claim is None


def test_a_set_where_the_method_diverged_is_said_to_be_left_out(add_record):
    records = [
        add_record("digits", "50", "flowgmm", [0.82, None], failed=(1,)),
        add_record("digits", "50", "knn", [0.70, 0.71]),
    ]
    table = make_table(describe("demo", TABLES["demo"] | {"claim": CLAIM}), records)
    assert table.claim["groups"][0]["summary"] is None
    said = "Left out, since a run of FlowGMM has no number: digits, 50 labels."
    assert said in markdown_text(table)


def test_a_method_that_ran_once_a_split_is_paired_by_split(add_record):
    paths = [
        add_record("digits", "50", "flowgmm", [0.8, 0.9]),
        add_record("digits", "50", "knn", [0.7]),
    ]
    for path in paths:
        content = files.read_json(path)
        for run in content["runs"]:
            run["split"] = 0
        files.write_json(path, content)
    claim = {"method": "flowgmm", "against": {"kNN": ["knn"]}}
    table = make_table(describe("demo", TABLES["demo"] | {"claim": claim}), paths)
    ((found,),) = (group["sets"] for group in table.claim["groups"])
    assert (found["n"], found["difference"]) == (2, pytest.approx(15.0))


def test_a_claim_that_does_not_fit_its_table_is_refused():
    for claim in (CLAIM | {"method": "flowgm"}, CLAIM | {"against": {"x": ["flowgm"]}}):
        with pytest.raises(UserError, match=r"demo\.claim: unknown row 'flowgm'; did you"):
            describe("demo", TABLES["demo"] | {"claim": claim})
    with pytest.raises(UserError, match=r"demo\.claim: column 'digits, 50 labels' is not of acc"):
        describe("demo", TABLES["demo"] | {"claim": CLAIM, "metric": "class_nll"})


# Files


@pytest.fixture
def table(add_record):
    records = [
        add_record("ag_news", "200", method, [0.8 + 0.01 * i for i in range(n)])
        for method, n in [("knn", 1), ("flowgmm", 4), ("self_training", 1)]
    ]
    return make_table(spec_of("table_1", not_run={"yahoo/800/knn": "data absent"}), records)


def test_csv_is_tidy(table):
    rows = list(csv.DictReader(io.StringIO(write(table, "t")[0].read_text("utf-8"))))
    assert len(rows) == 7 * 4
    (flow,) = [r for r in rows if (r["dataset"], r["method"]) == ("ag_news", "flowgmm")]
    assert float(flow["value"]) == pytest.approx(81.5)
    assert (flow["n"], flow["paper"], flow["verdict"]) == ("4", "82.1", "inconclusive")
    extra = [r for r in rows if r["kind"] == "extra"]
    assert {r["method"] for r in extra} == {"self_training"}
    assert {r["paper"] for r in extra} == {""}


def test_json_leads_from_a_cell_to_its_runs(table):
    path = write(table, "results/t")[3]
    content = json.loads(path.read_text("utf-8"))
    cell = content["cells"][5][0]
    assert cell["runs"][3]["seeds"] == {"initialisation": 1003}
    record = cell["runs"][3]["record"]
    origin = content["records"][record]
    assert not Path(record).is_absolute()
    assert origin["sha256"] == files.sha256(record)
    assert origin["hashes"]["splits"] == {"0": "d"}
    assert origin["environment"]["device"] == "cpu"
    assert origin["timing"]["wall_s"] == 1.5
    assert origin["spec"]["lr"] == 3e-4
    again = read_table(path)
    assert write(again, "u")[1].read_text("utf-8") == (path.with_suffix(".md").read_text("utf-8"))


def test_markdown_has_equal_columns_and_sets_extra_rows_apart(table):
    lines = write(table, "t")[1].read_text("utf-8").splitlines()
    body = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in body} == {6}
    heading = next(i for i, line in enumerate(body) if "Beside the paper's rows" in line)
    assert body[heading + 1].startswith("| Self-training")
    assert heading == len(body) - 2
    assert "| FlowGMM | 81.5 ± 1.0 (n = 4)<br>inconclusive · paper 82.1 ± 1.0 |" in "\n".join(body)


def test_many_columns_run_down_the_page(add_record):
    record = add_record("circles", "10", "flowgmm", [0.97] * 5)
    markdown = write(make_table(spec_of("table_7"), [record]), "t")[1]
    lines = markdown.read_text("utf-8").splitlines()
    assert lines[2] == "|  | FlowGMM | SCNF Glow+Glow (as printed) |"
    assert any(
        line.startswith("| circles, accuracy, unlabelled points | 97.0 ± 0.0 (n = 5)<br>")
        and "| 95 ± 1.9 <sup>" in line
        for line in lines
    )


@pytest.mark.parametrize("name", sorted(TABLES))
def test_latex_is_balanced_ascii_and_compiles(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tex = write(make_table(spec_of(name), []), "t")[2].read_text("utf-8")
    assert tex.isascii()
    bare = re.sub(r"\\[\\{}&%$#_]", "", tex)  # without escaped characters and line ends
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#_~^]", bare)
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", tex) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)
    columns = len(re.search(r"begin{tabular}{(l+)}", tex)[1])
    rows = [line for line in tex.splitlines() if " & " in line]
    assert {len(re.findall(r" & ", row)) for row in rows} == {columns - 1}
    if shutil.which("pdflatex"):
        subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], check=True, capture_output=True)


def test_escaping():
    assert escape(r"50 % of a_b & {c} \ ~ ± [1]") == (
        r"50 \% of a\_b \& \{c\} \textbackslash{} \textasciitilde{} $\pm$ {[}1{]}"
    )


def test_print_tables(table, capsys):
    path = write(table, "results/table_1")[3]
    print_tables([path])
    shown = capsys.readouterr().out
    assert "81.5" in shown
    assert re.search(r"Verdicts: .*1 inconclusive", shown)
    assert "results/table_1.{csv,md,tex,json}" in shown
