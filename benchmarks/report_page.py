"""Size of a report's page, and the time until Chromium shows it and opens a drawer.

The report is made up, as in the tests, with as many runs as asked for.

    python benchmarks/report_page.py --runs 2000
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import ROOT, machine, make_parser, quartiles, write_results
from playwright.sync_api import Browser, sync_playwright

from flowgmm.reporting.report.page import print_pdf, write

sys.path.insert(0, str(ROOT / "tests"))
from report_data import make_report

# After the first frame: by then all is laid out.
SHOWN = """new Promise(resolve => requestAnimationFrame(() => setTimeout(() => resolve([
  performance.getEntriesByName("first-contentful-paint")[0].startTime,
  performance.getEntriesByType("navigation")[0].loadEventEnd, performance.now()]))))"""


def open_page(browser: Browser, path: Path) -> tuple[float, ...]:
    """Open the page in a new tab, then a drawer.

    Returns:
        Milliseconds from the start until the first text, the load event and the first whole frame;
        processor time of the page by then, which other work on the machine does not lengthen much;
        and from the click until the drawer has its charts.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    tools = context.new_cdp_session(page)
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(path.as_uri())
    shown = page.evaluate(SHOWN)
    counters = {c["name"]: c["value"] for c in tools.send("Performance.getMetrics")["metrics"]}
    start = time.perf_counter()
    page.locator(".results .cell").first.click()
    page.locator("#inside h3", has_text="Data and origin").wait_for()
    page.locator("#inside .plot svg.marks").nth(5).wait_for()
    drawer = 1000 * (time.perf_counter() - start)
    context.close()
    return *shown, 1000 * counters["ProcessTime"], drawer


def main() -> None:
    """Measure a page; print its figures; write everything to a file."""
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    args = parser.parse_args()
    header = machine(1)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder, "official", "report", "index.html")
        report = make_report(path.parent, args.runs, args.seeds)
        start = time.perf_counter()
        write(report, path)
        seconds = time.perf_counter() - start
        browser = playwright.chromium.launch(executable_path=args.browser, args=["--no-sandbox"])
        times = [open_page(browser, path) for _ in range(args.repeats)]
        browser.close()
        start = time.perf_counter()
        print_pdf(path, path.with_name("report.pdf"))
        results: dict[str, Any] = {
            "runs": len(report.runs),
            "megabytes": path.stat().st_size / 1e6,
            "write_seconds": seconds,
            "print_seconds": time.perf_counter() - start,
        }
    names = ("first_text", "load", "first_frame", "processor", "drawer")
    columns = zip(*times, strict=True)
    results |= {f"{n}_ms": quartiles(c) for n, c in zip(names, columns, strict=True)}
    for name, value in results.items():
        print(f"{name}: {value}")
    write_results(args.json, header | results)


if __name__ == "__main__":
    main()
