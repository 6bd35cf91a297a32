"""Page of the report in a browser: clicks, numbers, links, requests, width, access, print."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlparse

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright
from report_data import HOSTILE, make_report

from flowgmm.reporting.report import page as page_module
from flowgmm.reporting.report.page import print_pdf, write
from flowgmm.utils.errors import UserError

BROWSER = shutil.which("chromium")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A page and its data."""
    folder = tmp_path_factory.mktemp("results") / "official" / "report"
    report = make_report(folder)
    write(report, folder / "index.html")
    return SimpleNamespace(report=report, path=folder / "index.html")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(made: SimpleNamespace, browser):
    """Function that opens the page: of a size, a colour scheme; problems are kept in `problems`."""
    contexts = []

    def open_page(viewport: dict[str, int] = DESK, scheme: str = "light") -> Page:
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.problems, page.requests = [], []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(made.path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def cells(report) -> dict:
    """Cells of all tables by the key that their buttons have."""
    return {
        f"t/{t}/{i}/{j}": cell
        for t, table in enumerate(report.tables)
        for i, row in enumerate(table.cells)
        for j, cell in enumerate(row)
    }


def open_drawer(page: Page, key: str) -> None:
    """Open a cell's drawer, and wait until its last part and its charts are there."""
    page.locator(f'.results [data-cell="{key}"]').first.click()
    page.locator("#inside h3", has_text="Data and origin").wait_for()
    page.locator("#inside .plot svg.marks").nth(5).wait_for()


@needs_browser
def test_three_clicks_from_a_claim_to_the_command_of_its_run(made, opened):
    page = opened()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#C1 summary").click()
    page.locator("#C1 details [data-cell]").first.click()
    cell = next(cell for key, cell in cells(made.report).items() if cell.method == "flowgmm")
    page.locator("#drawer code", has_text=cell.command).first.wait_for()
    page.locator("#drawer .copy").first.click()
    page.locator("#said", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == cell.command
    assert page.problems == []


@needs_browser
def test_every_number_is_that_of_its_table(made, opened):
    """Shown numbers are the data's but for rounding; what a drawer is made of is the data."""
    page = opened()
    shown = page.evaluate(
        """() => [...document.querySelectorAll(".results [data-cell^=t]")].map(button => ({
          key: button.dataset.cell, value: button.closest("td").dataset.value,
          texts: [...button.children].map(child => child.textContent)}))"""
    )
    expected = {key: cell for key, cell in cells(made.report).items() if cell.kind != "quoted"}
    assert [found["key"] for found in shown if found["key"] in expected]
    assert sorted(found["key"] for found in shown) == sorted(expected)
    for found in shown:
        cell = expected[found["key"]]
        texts = [text for text in found["texts"] if not text.startswith("difference")]
        wanted = [cell.text, f"paper {cell.printed['text']}", cell.verdict]
        assert texts == [text for text in wanted if text]
        differences = [text for text in found["texts"] if text.startswith("difference")]
        assert len(differences) == (cell.difference is not None)
        for text in differences:
            assert float(text.split()[1]) == pytest.approx(cell.difference, abs=0.051)
        value = cell.printed["value"] if cell.value is None else cell.value
        assert float(found["value"]) == value

    data = page.evaluate("block('data')")
    runs = page.evaluate(
        "Promise.all([...document.querySelectorAll('[id^=runs-]')].map(part => block(part.id)))"
    )
    values = [[c["value"] for row in table["cells"] for c in row] for table in data["tables"]]
    assert values == [[c.value for row in t.cells for c in row] for t in made.report.tables]
    found = [run for part in runs for run in part]
    assert [run["id"] for run in found] == [run.id for run in made.report.runs]
    assert [run["history"]["series"] for run in found] == [
        run.history.series for run in made.report.runs
    ]


@needs_browser
def test_a_drawer_has_every_seed_and_the_origin(made, opened):
    page = opened()
    open_drawer(page, "t/0/0/0")
    cell = made.report.tables[0].cells[0][0]
    (run,) = (run for run in made.report.runs if run.id == cell.run)
    page.locator("#inside summary", has_text="Values").click()
    rows = page.locator("#inside details[open] tbody tr").all_inner_texts()
    assert [float(row.split("\t")[2]) for row in rows] == pytest.approx(
        [value["value"] for value in cell.values], rel=1e-5
    )
    text = page.locator("#inside").text_content()
    for origin in (run.commit, run.hashes["code"], run.records[0], run.logs[0], "torch 2.14.1"):
        assert origin in text
    assert len(page.locator("#inside .plot svg.marks").all()) == 1 + len(run.history.series) + 1
    # What differs from the paper leads to the specification's entry.
    page.locator("#inside a.departure").first.click()
    assert not page.locator("#drawer").is_visible()
    assert page.url.endswith("#D3") and page.locator("tr#D3").is_visible()


@needs_browser
@pytest.mark.parametrize("key", ["a/0", "t/1/1/0", "t/1/0/2", "t/1/0/1"])
def test_every_kind_of_cell_has_a_drawer(made, opened, key):
    """Numbers of an analysis, cells that are quoted, not comparable, or failed."""
    page = opened()
    page.evaluate("key => open(key)", key)
    cell = cells(made.report).get(key)
    title = "accuracy, unlabelled minus none" if cell is None else cell.dataset
    assert title in page.locator("#drawer-title").text_content()
    if cell is not None:
        assert cell.printed["text"] in page.locator("#inside .facts").first.text_content()
    assert page.problems == []


@needs_browser
def test_a_keyboard_opens_and_closes_a_drawer(opened):
    page = opened()
    button = page.locator('.results [data-cell="t/0/1/1"]')
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#drawer[open]").wait_for()
    assert page.evaluate("document.activeElement.closest('#drawer') !== null")
    page.keyboard.press("Escape")
    assert not page.locator("#drawer").is_visible()
    assert page.evaluate("document.activeElement.dataset.cell") == "t/0/1/1"


@needs_browser
def test_all_links_resolve(made, opened):
    page = opened()
    links = page.evaluate(
        "[...document.querySelectorAll('a[href], use')].map(link => link.getAttribute('href'))"
    )
    assert len(links) > 30
    for link in links:
        if link.startswith("#"):
            assert page.evaluate("id => document.getElementById(id) !== null", link[1:]), link
        else:
            assert (made.path.parent / unquote(urlparse(link).path)).is_file(), link


@needs_browser
def test_no_request_leaves_the_page_and_no_name_is_markup(made, opened):
    page = opened()
    title = page.title()
    (hostile,) = (
        key for key, c in cells(made.report).items() if c.dataset == HOSTILE and c.method == "knn"
    )
    open_drawer(page, hostile)
    assert page.title() == title
    assert HOSTILE in page.locator("#drawer-title").text_content()
    assert page.locator("b").count() == 0
    assert [url for url in page.requests if not url.startswith("data:")] == [made.path.as_uri()]
    # A script that got in all the same would not run.
    page.evaluate("document.body.append(make('script', {textContent: \"document.title = 'in'\"}))")
    assert page.title() == title
    assert [text for text in page.problems if "Content Security Policy" not in text] == []


@needs_browser
def test_a_phone_does_not_scroll_sideways(opened):
    page = opened(PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    widths = "[document.documentElement.scrollWidth, drawer.scrollWidth]"
    assert page.evaluate(widths)[0] <= PHONE["width"]
    open_drawer(page, "t/0/0/0")
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert max(page.evaluate(widths)) <= PHONE["width"]


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("drawer", [False, True])
def test_axe_finds_no_violation(opened, scheme, drawer):
    page = opened(scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    if drawer:
        open_drawer(page, "t/0/0/0")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@needs_browser
def test_tables_sort_and_filter(made, opened):
    page = opened()
    table = page.locator("#table_1")

    def methods() -> list[str]:
        names = page.evaluate(
            "[...document.querySelectorAll('#table_1 tr.row')].filter(r => !r.hidden)"
            ".map(row => row.cells[0].textContent)"
        )
        return list(names)

    def value(cell) -> float:
        return float(cell.printed["value"] if cell.value is None else cell.value)

    column = {
        row.title: value(line[1])
        for row, line in zip(made.report.tables[0].rows, made.report.tables[0].cells, strict=True)
    }
    by_value = sorted(column, key=column.__getitem__)
    button = table.locator("button.sort").nth(1)
    button.click()
    assert methods() == by_value[::-1]
    assert table.locator("th").nth(2).get_attribute("aria-sort") == "descending"
    button.click()
    assert methods() == by_value

    page.locator("#words").fill("Logistic")
    assert methods() == ["Logistic regression"]
    assert not page.locator("#table_7").is_visible()
    page.locator("#words").fill("")
    page.locator("#word").select_option("failed")
    words = page.locator("#table_1 tr.row:not([hidden])").all_text_contents()
    assert words and all("failed" in text for text in words)


@needs_browser
def test_the_page_prints_as_a_report(made, tmp_path):
    assert print_pdf(made.path, tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 5 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 15


def test_equal_data_give_equal_bytes(made, tmp_path):
    """Also without the vector of a figure: then its pixels are shown."""
    again = tmp_path / "official" / "report" / "index.html"
    report = make_report(again.parent)
    write(report, again)
    assert again.read_bytes() == made.path.read_bytes()
    (again.parent / report.figures[0].file).unlink()
    write(report, again)
    assert "data:image/png;base64," in again.read_text(encoding="utf-8")


def test_a_report_without_results_is_a_page(tmp_path):
    """Before anything ran: all claims are open and nothing else is there."""
    import dataclasses

    full = make_report(tmp_path / "official" / "report")
    nothing = ("tables", "runs", "figures", "tuning", "curves", "calibration", "analyses")
    empty = dataclasses.replace(full, **dict.fromkeys(nothing, ()), departures={}, missing=())
    write(empty, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "No run stands behind this page yet." in text
    assert 'id="figures"' not in text


def test_without_a_browser_nothing_is_printed(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    # That of an older page goes.
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    assert not print_pdf(made.path, tmp_path / "report.pdf")
    assert not (tmp_path / "report.pdf").exists()


@pytest.mark.parametrize(
    ("does", "patience", "got"),
    [
        ("echo 'no display' >&2; exit 3", 60, r"exit code 3 \(no display\)"),
        ("exec sleep 60", 1, "nothing within 1 s"),
    ],
)
def test_a_browser_that_fails_is_an_error(made, tmp_path, monkeypatch, does, patience, got):
    monkeypatch.setattr(page_module, "PATIENCE", patience)
    fake = tmp_path / "chromium"
    fake.write_text(f"#!/bin/sh\n{does}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(UserError, match=f"report.pdf: expected a PDF from .*, got {got}"):
        print_pdf(made.path, Path(tmp_path, "report.pdf"))
    assert not (tmp_path / "report.pdf").exists()
