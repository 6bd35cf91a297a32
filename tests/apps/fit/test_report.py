"""The page of `flowgmm fit`: its text, and its look in a browser."""

import html
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from matplotlib.figure import Figure
from playwright.sync_api import sync_playwright

from flowgmm.apps.fit.report import _draw_latent, isolated, write_page
from flowgmm.utils.io import read_json


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


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(fitted, scheme):
    folder, *_ = fitted
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(color_scheme=scheme)
        page.goto((folder / "report.html").as_uri())
        found = Axe().run(page)
        browser.close()
    assert found.violations_count == 0, found.generate_report()


def test_names_from_the_table_are_text_on_the_page(fitted, tmp_path):
    """Markup in the names of file, columns and classes is shown, not obeyed."""
    folder, *_ = fitted
    name = "<script>alert('x')</script> & \"y\""
    report = read_json(folder / "report.json")
    report |= {
        "file": name,
        "columns": {name: "number"},
        "reading": [name],
        "notes": [["dates", name, name]],
    }
    report["classes"][0]["name"] = name
    write_page(tmp_path / "report.html", report, b"")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    # Title, heading; class, reading and note in the summary; the table of classes, and name and
    # format in that of columns.
    assert html.unescape(page).count(name) == 8


def test_the_page_says_of_each_column_how_it_was_read(fitted, tmp_path):
    """Columns in use and left out have a row each, with their notes in its cells."""
    folder, *_ = fitted
    report = read_json(folder / "report.json")
    report |= {
        "columns": {"price": "number", "since": "date", "colour": "category"},
        "notes": [
            ["left out", "row", "all different"],
            ["spelling", "price", "'1.234,5'"],
            ["dates", "since", "%d/%m/%Y"],
            ["missing", "since", "3 'n.d.'"],
            ["sentinel", "price", "-1 in 9 cells"],
            ["rare", "colour", "4 of 9"],
        ],
    }
    write_page(tmp_path / "report.html", report, b"")
    page = html.unescape((tmp_path / "report.html").read_text())
    rows = [
        re.findall("<td>(.*?)</td>", row) for row in page.split("<h2>Columns</h2>")[1].split("<tr>")
    ]
    assert [row for row in rows if row] == [
        ["price", "number", "'1.234,5'", "", "-1 in 9 cells, repeated and far from all others"],
        ["since", "date", "%d/%m/%Y", "3 'n.d.'", ""],
        ["colour", "category", "", "", "4 of 9 levels are rare, taken as one"],
        ["row", "left out", "", "", "all different"],
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("3 نعم, 4 لا", "3 <bdi>نعم</bdi>, 4 <bdi>لا</bdi>"),
        ("1 כן אולי (a)", "1 <bdi>כן אולי</bdi> (a)"),
        ("<b> & größer", "&lt;b&gt; &amp; größer"),
    ],
)
def test_names_from_right_to_left_are_isolated(text, shown):
    assert str(isolated(text)) == shown


def test_every_class_has_its_own_colour():
    """Eight classes, whose features are their latent codes, in the latent picture."""
    codes = np.repeat(np.arange(8), 3)
    X = np.random.default_rng(0).normal(size=(8, 4))[codes]
    means = X[::3]

    def predict(X):
        return (X[:, None] == means).all(axis=2).argmax(axis=1)

    estimator = SimpleNamespace(means_=means, transform=lambda X: X, predict=predict)
    ax = Figure().subplots()
    _draw_latent(ax, estimator, list("abcdefgh"), X, codes)
    for dots in ax.collections[:2]:  # predicted classes, given labels
        assert len(np.unique(dots.get_facecolors(), axis=0)) == 8
