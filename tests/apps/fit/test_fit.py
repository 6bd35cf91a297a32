"""A table of one's own through `flowgmm fit`, `predict` and `sample`, on the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from customers import run

from flowgmm.apps.fit.run import FILES
from flowgmm.apps.fit.table_model import TableModel
from flowgmm.methods import cross_fit


def test_fit_writes_what_it_says(fitted):
    folder, frame, truth, result = fitted
    assert {path.name for path in folder.iterdir()} == set(FILES)
    report = json.loads((folder / "report.json").read_text())
    assert report["labelled"] == report["held_out"]["rows"] == 30
    accuracy = {m["method"]: m["accuracy"] for m in report["held_out"]["methods"]}
    assert report["method"] == next(iter(accuracy)) == "FlowGMM and forest"
    assert accuracy["FlowGMM"] > accuracy["most frequent class"]
    for name in ("random forest", "gradient boosting", "self-training", "logistic regression"):
        assert name in result.output
    assert f"{100 * accuracy['FlowGMM']:.1f} %" in result.output
    said = " ".join(result.output.split())
    assert report["choice"] in said
    assert "60 unlabelled rows improve probabilities, density, samples; hardly accuracy" in said
    assert "id, number (all different)" in said
    assert len(result.output.splitlines()) <= 25
    page = (folder / "report.html").read_text()
    assert report["choice"] in page
    assert "data:image/png;base64," in page and 'src="http' not in page
    assert f"{100 * accuracy['FlowGMM']:.1f} %" in page

    predictions = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    assert list(predictions) == ["row", "given", "predicted", "p_churned", "p_stays"]
    assert predictions["given"].tolist() == frame["outcome"].fillna("").tolist()
    assert np.allclose(predictions[["p_churned", "p_stays"]].sum(axis=1), 1, atol=1e-5)
    hidden = frame["outcome"].isna()
    assert (predictions["predicted"] == truth)[hidden].mean() > 0.9


def test_predict_repeats_what_fit_said_and_reads_new_levels(fitted, tmp_path):
    folder, frame, _, _ = fitted
    source = folder.parent / "customers.csv"
    assert run("predict", folder, source, "--output", tmp_path / "p.csv").exit_code == 0
    said = pd.read_csv(folder / "predictions.csv").drop(columns="given")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "p.csv"), said, atol=2e-6)
    # One row, no label, a city that was never seen, a missing number, columns in another order.
    new = frame.iloc[[1]].assign(city="Bath", visits=None).drop(columns="outcome").iloc[:, ::-1]
    new.to_csv(tmp_path / "new.csv", index=False)
    result = run("predict", folder, tmp_path / "new.csv")
    assert result.exit_code == 0 and result.stdout.count("\n") == 2
    new.drop(columns=["city", "age"]).to_csv(tmp_path / "new.csv", index=False)
    result = run("predict", folder, tmp_path / "new.csv")
    assert result.exit_code == 2 and "'age', 'city'" in result.stderr


def test_sample_gives_rows_of_the_table(fitted, tmp_path):
    folder = fitted[0]
    assert run("sample", folder, "-n", 40, "--output", tmp_path / "s.csv").exit_code == 0
    rows = pd.read_csv(tmp_path / "s.csv")
    assert list(rows) == ["age", "visits", "city", "mobile", "since", "outcome"] and len(rows) == 40
    assert set(rows["city"]) <= {"Leeds", "York", "Hull"} and rows["visits"].dtype == int
    assert pd.to_datetime(rows["since"], format="%d/%m/%Y").notna().all()
    assert set(rows["outcome"]) == {"churned", "stays"}
    means = rows.groupby("outcome")["age"].mean()
    assert means["churned"] > means["stays"] + 10
    one = run("sample", folder, "-n", 5, "--class", "stays", "--temperature", 0)
    lines = one.stdout.splitlines()[1:]
    assert len(lines) == 5 and len(set(lines)) == 1 and lines[0].endswith("stays")
    assert run("sample", folder, "--seed", 1).stdout != run("sample", folder, "--seed", 2).stdout
    unknown = run("sample", folder, "--class", "x")
    assert "unknown class 'x'; expected one of churned, stays" in unknown.stderr


def test_force_replaces_results_and_nothing_else(fitted, tmp_path):
    source = fitted[0].parent / "customers.csv"
    out = tmp_path / "out"
    command = ("fit", source, "--label", "outcome", "--output", out)
    out.mkdir()
    assert "--force" in run(*command).stderr
    (out / "report.json").write_text("old")
    (out / "thesis.tex").write_text("mine")
    assert "'thesis.tex'" in run(*command, "--force").stderr
    (out / "thesis.tex").unlink()
    assert run(*command[:2], "--label", "no", "--output", out, "--force").exit_code == 2
    assert (out / "report.json").read_text() == "old"
    assert run(*command, "--force", "--test", source).exit_code == 0
    assert json.loads((out / "report.json").read_text())["test"]["rows"] == 30
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("method", ["flowgmm", "forest", "logistic"])
def test_any_method_that_is_saved_predicts_and_those_with_a_density_sample(
    method, fitted, tmp_path
):
    source = fitted[0].parent / "customers.csv"
    out = tmp_path / "out"
    result = run("fit", source, "--label", "outcome", "--method", method, "--output", out)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "as --method says" in said
    assert ("60 unlabelled rows go unused" in said) == (method != "flowgmm")
    report = json.loads((out / "report.json").read_text())
    assert report["held_out"]["methods"][0]["method"] == report["method"] != "FlowGMM and forest"
    assert run("predict", out, source, "--output", tmp_path / "p.csv").exit_code == 0
    said = pd.read_csv(out / "predictions.csv").drop(columns="given")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "p.csv"), said, atol=2e-6)
    drawn = run("sample", out)
    if method == "flowgmm":
        assert drawn.exit_code == 0 and TableModel.load(out).estimator.temperature_ >= 1
    else:
        assert drawn.exit_code == 2 and drawn.stderr.count("\n") == 1
        assert f"method {method}, which has no density" in drawn.stderr
        assert "--method combined or flowgmm" in drawn.stderr
        # A file of another method is no model of this one.
        (out / "model.safetensors").write_bytes((fitted[0] / "model.safetensors").read_bytes())
        assert run("predict", out, source).exit_code == 2


def test_a_class_with_one_label_is_a_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cross_fit, "FOLDS_OF_SINGLES", 2)
    frame = separable(y=[*"ab" * 6, "c", *[None] * 7])
    frame.loc[12, ["u", "v"]] = 7
    frame.to_csv("t.csv", index=False)
    result = run("fit", "t.csv")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "One labelled row: 'c'; unknown when that is held out" in said and "; 2 folds." in said
    assert "held out, 2 folds" in said
    predictions = pd.read_csv("t-flowgmm/predictions.csv")
    assert predictions["predicted"][12] == "c"


def test_every_row_labelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    separable().iloc[:12].to_csv("t.csv", index=False)
    result = run("fit", "t.csv", "--test", "t.csv")
    assert result.exit_code == 0, result.output
    assert "no unlabelled row" in result.output and "self-training" not in result.output


# -- mistakes ------------------------------------------------------------------------------------


def separable(**columns):
    y = np.array(["a", "b"] * 6 + [None] * 8, dtype=object)
    u = np.arange(20) % 2 + np.linspace(0, 0.1, 20)
    return pd.DataFrame({"u": u, "v": u**2, "y": y, **columns})


def text_of(frame):
    return frame.to_csv(index=False).encode()


MISTAKES = {
    "no label column": (text_of(separable().rename(columns={"y": "Yy"})), "did you mean 'Yy'?"),
    "one class": (text_of(separable(y=["a"] * 10 + [None] * 10)), "the one class 'a'"),
    "no label": (text_of(separable(y=None)), "no row has a label"),
    "single labels": (
        text_of(separable(y=["a", "b", *[None] * 18])),
        "each class in column 'y' has one labelled row",
    ),
    "many classes": (
        text_of(pd.DataFrame({"u": np.arange(20000) % 7, "y": np.arange(20000) % 10000})),
        "10,000 different values .* looks like a number or an identifier",
    ),
    "duplicate names": (b"u,u,y\n1,2,a\n2,3,b\n", "two columns are named 'u'"),
    "one row": (b"u,y\n1,a\n", "got 1 rows"),
    "header alone": (b"u,y\n", "no rows below its header"),
    "empty": (b"", "not a table"),
    "surplus cells": (b"u,y\n1,a\n2,3,b\n", "line 3 has 3 cells, expected 2"),
    "latin-1": ("u,y\n1,café\n".encode("latin-1"), "not utf-8 .* latin-1"),
    "nothing but the label": (text_of(separable()[["y"]]), "the label is the only one"),
    "one feature": (text_of(separable(v=1)), "column 'u' alone is left"),
    "constant": (text_of(separable(u=1, v=1)), r"no column is left .*: u, v \(constant\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_csv_end_as_one_line(name, tmp_path):
    content, message = MISTAKES[name]
    (tmp_path / "t.csv").write_bytes(content)
    fails(tmp_path / "t.csv", message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.parquet", b"no parquet", "is not a Parquet file"),
        ("t.npz", b"no npz", "not a zip archive"),
        ("t.npz", {"X": np.array([[1, None]], dtype=object)}, "no objects"),
        ("t.npz", {"Z": np.zeros((3, 2))}, "no array 'X'"),
        ("t.npz", {"X": np.zeros(3)}, r"shape \(3,\)"),
        ("t.csv", None, "is not a file"),
    ],
)
def test_mistakes_in_other_files_end_as_one_line(name, content, message, tmp_path):
    if isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    fails(tmp_path / name, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drop", "w"], "column 'w' not found"),
        (["--text", "y"], "column 'y' is the label"),
        (["--output", "t.csv/inside"], "cannot write t.csv/inside"),
        (["--test", "absent.csv"], "absent.csv is not a file"),
        (["--keep", "w"], "column 'w' not found; correct --keep"),
        (["--decimal", ";"], "--decimal: expected . or , got ';'"),
        (["--date-format", "%d/%Q"], "--date-format: expected a format such as %d/%m/%Y, got"),
        (["--date-format", "%d %d %Y"], "--date-format: expected a format such as %d/%m/%Y, got"),
        (["--date-format", "dd/mm/yyyy"], "--date-format: expected a format such as %d/%m/%Y, got"),
        (["--date-format", "mixed"], "--date-format: expected a format such as %d/%m/%Y, got"),
        (["--date-format", "%d/%m/%Y"], "--date-format '%d/%m/%Y' fits no column; correct it"),
        (["--unlabelled", "?"], "no row has '.' in column 'y'; correct --unlabelled"),
        (["--sep", "|"], r"its only column suggests --sep ','"),
        (["--method", "boosting"], "unknown --method 'boosting'; expected one of auto, combined, "),
    ],
)
def test_mistakes_in_options_end_as_one_line(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    separable().to_csv("t.csv", index=False)
    fails("t.csv", message, *options)


def fails(path, message, *options):
    """`fit` ends with status 2 and one line that matches; it leaves nothing behind."""
    folder = Path(path).parent
    before = sorted(folder.iterdir())
    result = run("fit", path, "--output", folder / "out", *options)
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr)
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_a_model_that_is_absent_or_damaged_is_one_line(fitted, tmp_path):
    assert "model.json not found" in run("sample", tmp_path).stderr
    (tmp_path / "model.json").write_text('{"label": "y"}')
    result = run("sample", tmp_path)
    assert result.exit_code == 2 and "is damaged" in result.stderr
    model = TableModel.load(fitted[0])
    assert model.classes == ["churned", "stays"] and model.method == "combined"


def test_help_is_quick_and_has_an_example():
    for name in ("fit", "predict", "sample"):
        assert f"Example: flowgmm {name}" in " ".join(run(name, "--help").stdout.split())
    heavy = "{'torch', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)"
    code = f"import sys, flowgmm.cli; sys.exit(str({heavy}) if {heavy} else 0)"
    subprocess.run([sys.executable, "-c", code], check=True)
