"""Names in other scripts, and long ones: in the picture, on the page and on the screen."""

import io
import logging
import os
import re
import shutil
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from flowgmm import cli
from flowgmm.apps.fit.report import _draw_latent, write_page
from flowgmm.utils.io import read_json


def texts_drawn(classes: list[str]) -> list[str]:
    """Draw the latent space of some classes as PNG, with every warning an error."""
    codes = np.repeat(np.arange(len(classes)), 3)
    X = np.random.default_rng(0).normal(size=(len(classes), 4))[codes]
    means = X[::3]

    def predict(X: np.ndarray) -> np.ndarray:
        return (X[:, None] == means).all(axis=2).argmax(axis=1)

    estimator = SimpleNamespace(means_=means, transform=lambda X: X, predict=predict)
    figure = Figure()
    ax = figure.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _draw_latent(ax, estimator, classes, X, codes)
        figure.savefig(io.BytesIO(), format="png")
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize(
    "classes",
    [
        ["合格", "不合格"],
        ["はい", "いいえ", "다른"],
        ["نعم", "لا"],
        ["כן", "לא", "אולי"],
        ["ใช่", "ไม่"],
        ["हाँ", "नहीं"],
        ["👍🏽", "👎🏿"],
        ["yes", "no", "\U0010ffff"],
        ["one\ntwo", "three"],
        ["yes", "a name that goes on and on and on"],
    ],
    ids=ascii,
)
def test_names_that_the_picture_cannot_show_are_numbers(classes, caplog):
    with caplog.at_level(logging.WARNING):
        assert texts_drawn(classes) == [str(k) for k in range(1, len(classes) + 1)]
    assert not caplog.records


@pytest.mark.parametrize(
    "classes",
    [["έξω", "δεξί"], ["да", "нет", "может быть"], ["größer", "égal", "mały"], ["$a_1$", "0 %"]],
    ids=ascii,
)
def test_other_names_are_shown(classes):
    assert texts_drawn(classes) == classes


@pytest.mark.parametrize(
    ("name", "numbered"), [("不合格", True), ("x" * 25, True), ("да", False), ("x" * 24, False)]
)
def test_the_page_explains_the_numbers(fitted, tmp_path, name, numbered):
    report = read_json(fitted[0] / "report.json")
    report["classes"][1]["name"] = name
    write_page(tmp_path / "report.html", report, b"")
    page = (tmp_path / "report.html").read_text()
    (table,) = re.findall(r"<h2>Classes</h2>.*?</table>", page, re.DOTALL)
    rows = [re.findall("<t[hd]>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:]]
    assert [row[0] for row in rows] == ["class", "churned", name]
    assert ([row[1] for row in rows] == ["number", "1", "2"]) == numbered
    assert len({len(row) for row in rows}) == 1
    assert ("numbered as in the table of classes" in page) == numbered


def flowgmm(monkeypatch, encoding: str, *arguments: object) -> tuple[int, str, str]:
    """Exit status and both outputs of the command on a screen of an encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        patch.setattr(sys, "argv", ["flowgmm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)
    return ended.value.code or 0, out, err


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A table with names in Greek, Chinese and Arabic."""
    rng = np.random.default_rng(0)
    right = np.arange(60) % 2 == 0
    frame = pd.DataFrame(
        {
            "ηλικία": np.where(right, 60, 30) + rng.normal(0, 4, 60),
            "città": rng.choice(["Zürich", "Łódź"], 60),
            "判定": np.where(right, "合格", "مرفوض"),
        }
    )
    frame.loc[24:, "判定"] = None
    path = tmp_path_factory.mktemp("survey") / "調査.2024.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "iso8859-7"])
def test_a_screen_that_cannot_show_a_name_shows_escapes(survey, tmp_path, monkeypatch, encoding):
    monkeypatch.chdir(tmp_path)
    status, out, err = flowgmm(monkeypatch, encoding, "fit", survey, "--label", "判定")
    assert (status, err) == (0, "")
    assert r"\u5408\u683c" in out
    assert (tmp_path / "調査.2024-flowgmm" / "report.html").is_file()
    model = tmp_path / "調査.2024-flowgmm"
    for command in (("predict", model, survey), ("sample", model, "-n", 8)):
        status, out, err = flowgmm(monkeypatch, encoding, *command)
        assert status == 0
        assert r"\u5408\u683c" in out
        assert err.startswith("note: ") and err.count("\n") == 1 and "--output" in err
        status, out, err = flowgmm(monkeypatch, encoding, *command, "--output", "列.csv", "--force")
        assert (status, out, err) == (0, "", "")
        assert "合格" in (tmp_path / "列.csv").read_text(encoding="utf-8")
    status, out, err = flowgmm(monkeypatch, encoding, "sample", model, "--class", "未知")
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and r"\u672a\u77e5" in err


def test_a_screen_that_shows_all_names_has_no_note(survey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ("fit", survey, "--label", "判定", "--method", "logistic", "--output", "model")
    assert flowgmm(monkeypatch, "utf-8", *command)[0] == 0
    status, out, err = flowgmm(monkeypatch, "utf-8", "predict", "model", survey)
    assert (status, err) == (0, "") and "合格" in out


@pytest.mark.parametrize(
    "name", [b"caf\xe9.csv", b"\xff\xfe.csv", "表.csv".encode("gbk")], ids=ascii
)
def test_a_file_name_that_is_no_utf8_is_shown_as_escapes(survey, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    file = os.fsdecode(name)
    shutil.copy(survey, file)
    options = ("--label", "判定", "--method", "logistic", "--test", file)
    status, out, err = flowgmm(monkeypatch, "utf-8", "fit", file, *options)
    assert (status, err) == (0, "")
    assert r"\udc" in out
    (folder,) = tmp_path.glob("*-flowgmm")
    report = read_json(folder / "report.json")
    assert r"\udc" in report["file"] and r"\udc" in report["test"]["file"]
    assert r"\udc" in (folder / "report.html").read_text(encoding="utf-8")
