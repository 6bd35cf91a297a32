"""The page of `flowgmm fit` in a browser."""

import re
import shutil
import subprocess

import pytest


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
