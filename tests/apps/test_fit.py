"""A table of one's own through `flowgmm fit`, `predict` and `sample`, on the command line."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from flowgmm.apps.fit import columns as tabular
from flowgmm.apps.fit import cross_validation as held_out
from flowgmm.apps.fit import table_model as own_data
from flowgmm.apps.fit.columns import Columns, read_labels, read_table
from flowgmm.apps.fit.table_model import TableModel
from flowgmm.cli import app
from flowgmm.evaluation import metrics
from flowgmm.utils.errors import UserError

N = 90


@pytest.fixture(autouse=True)
def _short_training(monkeypatch):
    monkeypatch.setitem(own_data.SETTINGS, "n_steps", 60)
    monkeypatch.setattr(held_out, "N_FOLDS", 3)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def customers(n=N, n_labelled=30):
    """Two classes, told apart by age and city; a third of the rows has a label."""
    rng = np.random.default_rng(0)
    churned = np.arange(n) % 3 == 0
    frame = pd.DataFrame(
        {
            "id": [f"c{i:05}" for i in range(n)],
            "number": np.arange(n) + 100,
            "age": np.where(churned, 60, 30) + rng.normal(0, 4, n),
            "visits": rng.poisson(5, n),
            "city": np.where(churned, "Leeds", np.where(rng.random(n) < 0.5, "York", "Hull")),
            "mobile": rng.random(n) < 0.5,
            "since": [f"{1 + i % 28:02}/03/2020" for i in range(n)],
            "country": "UK",
        }
    )
    frame.loc[::9, "age"] = np.nan
    frame["outcome"] = np.where(churned, "churned", "stays")
    truth = frame["outcome"].copy()
    frame.loc[rng.permutation(n)[n_labelled:], "outcome"] = None
    return frame, truth


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The folder of results, its table and the true classes."""
    folder = tmp_path_factory.mktemp("own")
    frame, truth = customers()
    frame.to_csv(folder / "customers.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(own_data.SETTINGS, "n_steps", 60)
        patch.setattr(held_out, "N_FOLDS", 3)
        patch.chdir(folder)
        result = run("fit", "customers.csv", "--label", "outcome")
    assert result.exit_code == 0, result.output
    return folder / "customers-flowgmm", frame, truth, result


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_the_whole_page(fitted, tmp_path):
    """At a phone's width nothing is cut off to the right, and the picture is drawn."""
    folder, *_ = fitted
    # The page itself has no script: one that reports on the layout is added to a copy.
    script = (
        "<script>onload = () => { const picture = document.images[0]; document.title = ["
        "document.documentElement.scrollWidth <= innerWidth, picture.naturalWidth,"
        "picture.getBoundingClientRect().width <= innerWidth].join() }</script>"
    )
    page = tmp_path / "report.html"
    page.write_text((folder / "report.html").read_text() + script)
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--window-size=500,900 --virtual-time-budget=5000 --dump-dom"
    )
    shown = subprocess.run(
        ["chromium", *flags.split(), f"--user-data-dir={tmp_path}/user", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    title = re.search("<title>(.*?)</title>", shown)
    assert title is not None
    fits, width, picture_fits = title[1].split(",")
    assert (fits, picture_fits) == ("true", "true")
    assert int(width) > 500


def test_fit_writes_what_it_says(fitted):
    folder, frame, truth, result = fitted
    assert {path.name for path in folder.iterdir()} == set(own_data.FILES)
    report = json.loads((folder / "report.json").read_text())
    assert report["labelled"] == report["held_out"]["rows"] == 30
    accuracy = {m["method"]: m["accuracy"] for m in report["held_out"]["methods"]}
    assert accuracy["FlowGMM"] > accuracy["most frequent class"]
    assert f"{100 * accuracy['FlowGMM']:.1f} %" in result.output
    assert "'id': dropped" in " ".join(result.output.split())
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page and 'src="http' not in page
    assert f"{100 * accuracy['FlowGMM']:.1f} %" in page

    predictions = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    assert list(predictions) == ["row", "given", "predicted", "p_churned", "p_stays"]
    assert predictions["given"].tolist() == frame["outcome"].fillna("").tolist()
    assert np.allclose(predictions[["p_churned", "p_stays"]].sum(axis=1), 1, atol=1e-5)
    hidden = frame["outcome"].isna()
    assert (predictions["predicted"] == truth)[hidden].mean() > 0.9


def cross(X, codes, seen=None):
    """`cross_validate` with the short training; what was trained on which labels goes to `seen`."""

    def fit(folds, ys, _):
        estimators = [own_data._estimator(X, 0, int(fold)) for fold in folds]
        (seen if seen is not None else []).extend(zip(estimators, ys, strict=True))
        return own_data._train(estimators, X, ys, None)

    return held_out.cross_validate(X, codes, 0, fit)


def test_every_label_is_held_out_once_and_hidden_from_the_model_that_is_scored_on_it():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2)).astype(np.float32)
    codes = np.r_[np.zeros(11), np.ones(12), np.full(17, -1)].astype(int)
    seen = []
    checked = cross(X, codes, seen)
    assert checked.rows.tolist() == list(range(23))
    scored = np.zeros(23, int)
    for estimator, y in seen:
        hidden = np.flatnonzero((y == -1) & (codes >= 0))
        scored[hidden] += 1
        assert len(set(checked.fold[hidden])) == 1
        expected = estimator.predict_log_proba(X[hidden])
        assert np.allclose(checked.log_proba["FlowGMM"][hidden], expected, atol=1e-5)
    assert (scored == 1).all() and len(seen) == 3


def test_plenty_of_labels_are_held_out_in_part(monkeypatch):
    monkeypatch.setattr(held_out, "PLENTY", 50)
    X = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    codes = np.arange(80) % 2
    checked = cross(X, codes)
    assert len(checked.rows) == 16 and not checked.fold.any()
    # Labels that agree with the model would make it surer than it is.
    raw = checked.log_proba["FlowGMM"]
    assert np.allclose(checked.calibrated(raw.argmax(axis=1)), raw, atol=1e-6)
    assert (checked.calibrated(raw.argmin(axis=1)).max(axis=1) < raw.max(axis=1)).all()


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
    assert (
        "'x' is none of the model's churned, stays" in run("sample", folder, "--class", "x").stderr
    )


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


# -- columns -------------------------------------------------------------------------------------


def test_columns_are_taken_as_people_expect():
    n = 200
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "weight": rng.normal(70, 10, n),
            "count": rng.integers(0, 9, n),
            "dirty": ["?" if i == 5 else str(i % 17) for i in range(n)],
            "size": rng.choice(["S", "M", "L"], n),
            "ok": rng.random(n) < 0.5,
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "written": [f"2021-0{1 + i % 9}-{10 + i % 18} 12:30:00" for i in range(n)],
            "many": [f"level{i % 60}" for i in range(n)],
            "noted": [None if i % 3 else 1.0 for i in range(n)],
            "row": range(n),
            "name": [f"person {i}" for i in range(n)],
            "same": 1,
            "empty": None,
        }
    )
    frame.loc[3, "weight"], frame.loc[4, "weight"] = np.nan, np.inf
    columns, X, notes = Columns.fit(frame)
    kinds = {column.name: column.kind for column in columns.columns}
    assert kinds == {
        **dict.fromkeys(["weight", "count", "dirty"], "number"),
        **dict.fromkeys(["when", "written"], "date"),
        **dict.fromkeys(["size", "ok", "many", "noted"], "category"),
    }
    said = "\n".join(notes)
    for dropped in ("row", "name", "same", "empty"):
        assert f"'{dropped}': dropped" in said
    assert "'weight': 2 missing values, 1 of them not a finite number" in said
    assert "--text 'name'" in said
    assert np.isfinite(X).all() and X.dtype == np.float32
    assert np.allclose(X.mean(axis=0), 0, atol=1e-5) and np.allclose(X.std(axis=0), 1, atol=1e-4)

    again = Columns.from_json(json.loads(json.dumps(columns.to_json())))
    assert np.array_equal(again.transform(frame), X)
    back = again.inverse(X)
    assert np.allclose(back["weight"].drop([3, 4]), frame["weight"].drop([3, 4]), atol=1e-3)
    assert back["weight"][[3, 4]].isna().all()
    for name in ("count", "size", "written"):
        assert back[name].tolist() == frame[name].tolist()
    assert back["ok"].tolist() == frame["ok"].map(str).tolist()
    assert back["when"].tolist() == frame["when"].dt.strftime("%Y-%m-%dT%H:%M:%S").tolist()
    assert set(back["many"]) <= {*frame["many"], tabular.OTHER}


def test_text_is_embedded_when_asked_for(monkeypatch):
    rng = np.random.default_rng(0)
    words = ["red", "green", "blue"]
    vectors = {word: rng.normal(size=6) for word in [*words, "empty"]}
    monkeypatch.setattr(
        "flowgmm.embed.text.embed_texts",
        lambda texts, encoder, cache, progress: np.stack([vectors[text] for text in texts]),
    )
    frame = pd.DataFrame({"said": rng.choice([*words, None], 60), "u": rng.normal(size=60)})
    columns, X, _ = Columns.fit(frame, text=["said"])
    assert [column.kind for column in columns.columns] == ["text", "number"] and X.shape == (60, 7)
    # Its largest principal component weighs as much as a column.
    assert np.linalg.eigvalsh(np.cov(X[:, :6].T, ddof=0))[-1] == pytest.approx(1, abs=1e-4)
    back = columns.inverse(X)
    assert set(back["said"]) == {""} and np.allclose(back["u"], frame["u"], atol=1e-4)


def test_label_is_read_as_classes():
    codes, names = read_labels(pd.DataFrame({"y": [10, None, 9, 10, 9]}), "y", "t")
    assert names == ["9", "10"] and codes.tolist() == [1, -1, 0, 1, 0]
    codes, _ = read_labels(pd.DataFrame({"y": ["9", " ", "10"]}), "y", "t", names)
    assert codes.tolist() == [0, -1, 1]
    with pytest.raises(UserError, match="class '8' in column 'y' is none of the model's 9, 10"):
        read_labels(pd.DataFrame({"y": ["8"]}), "y", "t", names)


def test_formats_hold_the_same_table(tmp_path):
    X = np.arange(12.0).reshape(4, 3)
    y = np.array([0, 1, -1, 1])
    np.savez(tmp_path / "t.npz", X=X, y=y)
    frame = pd.DataFrame(X, columns=["x0", "x1", "x2"]).assign(y=[0, 1, None, 1])
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for suffix in ("npz", "csv", "csv.gz", "parquet"):
        pd.testing.assert_frame_equal(read_table(tmp_path / f"t.{suffix}"), frame)


# -- mistakes ------------------------------------------------------------------------------------


def separable(**columns):
    y = np.array(["a", "b"] * 6 + [None] * 8, dtype=object)
    u = np.arange(20) % 2 + np.linspace(0, 0.1, 20)
    return pd.DataFrame({"u": u, "v": u**2, "y": y, **columns})


def text_of(frame):
    return frame.to_csv(index=False).encode()


MISTAKES = {
    "no label column": (text_of(separable().rename(columns={"y": "Yy"})), "did you mean 'Yy'?"),
    "other separator": (b"u;y\n1;a\n2;b\n", "suggests --sep ';'"),
    "one class": (text_of(separable(y=["a"] * 10 + [None] * 10)), "the one class 'a'"),
    "no label": (text_of(separable(y=None)), "no row has a label"),
    "single label": (
        text_of(separable(y=[*"ababac", *[None] * 14])),
        "class 'c' .* one labelled row",
    ),
    "many classes": (
        text_of(pd.DataFrame({"u": np.arange(20000) % 7, "y": np.arange(20000) % 10000})),
        "10,000 different values .* looks like a number or an identifier",
    ),
    "duplicate names": (b"u,u,y\n1,2,a\n2,3,b\n", "column 'u' is there twice"),
    "one row": (b"u,y\n1,a\n", "has 1 rows"),
    "header alone": (b"u,y\n", "no rows below its header"),
    "empty": (b"", "not a table"),
    "surplus cells": (b"u,y\n1,2,a\n2,3,b\n", "more cells than the header has names"),
    "latin-1": ("u,y\n1,café\n".encode("latin-1"), "not utf-8 .* latin-1"),
    "nothing but the label": (text_of(separable()[["y"]]), "the label is the only one"),
    "one feature": (text_of(separable(v=1)), "column 'u' alone is left"),
    "constant": (text_of(separable(u=1, v=1)), "'u': dropped, it is the same everywhere"),
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
        ("t.npz", b"no npz", "it is no zip archive"),
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
        (["--drop", "w"], "column 'w' is not there"),
        (["--text", "y"], "column 'y' is the label"),
        (["--output", "t.csv/inside"], "cannot write t.csv/inside"),
        (["--test", "absent.csv"], "absent.csv is not a file"),
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
    assert "model.json is not there" in run("sample", tmp_path).stderr
    (tmp_path / "model.json").write_text('{"label": "y"}')
    result = run("sample", tmp_path)
    assert result.exit_code == 2 and "is damaged" in result.stderr
    model = TableModel.load(fitted[0])
    assert model.classes == ["churned", "stays"] and model.temperature >= 1


def test_help_is_quick_and_has_an_example():
    for name in ("fit", "predict", "sample"):
        assert f"Example: flowgmm {name}" in " ".join(run(name, "--help").stdout.split())
    heavy = "{'torch', 'pandas', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)"
    code = f"import sys, flowgmm.cli; sys.exit(str({heavy}) if {heavy} else 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- figures ---------------------------------------------------------------------------------


def test_reliability_adds_up_to_the_calibration_error():
    rng = np.random.default_rng(0)
    log_proba = np.log(rng.dirichlet([1, 1, 1], 300))
    y, predicted = rng.integers(0, 3, 300), log_proba.argmax(axis=1)
    bins = held_out.reliability(y, predicted, log_proba, n_bins=15)
    assert sum(b["n"] for b in bins) == 300
    gap = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / 300
    assert gap == pytest.approx(metrics.expected_calibration_error(y, predicted, log_proba))


def test_interval_and_paired_test_against_known_values():
    # Wilson's interval for 8 of 10, as in Brown, Cai and DasGupta's formula.
    z, n, p = 1.959964, 10, 0.8
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert held_out.accuracy_interval(8, 10) == pytest.approx(expected, abs=1e-6)
    # Alone right on 6 rows against 0: 2 / 2^6, whatever happens on the other rows.
    first = np.r_[np.ones(6), np.ones(5), np.zeros(4)]
    second = np.r_[np.zeros(6), np.ones(5), np.zeros(4)]
    assert held_out.paired_p_value(first, second) == pytest.approx(2 / 64)
    assert held_out.paired_p_value(first, first) == 1
