"""Page of the report: one HTML file that needs no other, and its print as PDF."""

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgmm.reporting.report import formats, vega
from flowgmm.reporting.report.drawer_charts import drawer_charts
from flowgmm.reporting.report.looks import TEMPLATES, template
from flowgmm.reporting.report.view import view
from flowgmm.reporting.style import style_sheet
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path, write_text

if TYPE_CHECKING:
    from flowgmm.reporting.report.types import Report

__all__ = ["BROWSERS", "print_pdf", "write"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Runs that are compressed together.
PART = 32
# Seconds for a print.
PATIENCE = 300
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"


def write(report: "Report", path: Path) -> None:
    """Write the page.

    Arguments:
        report: The data; all of it is embedded, once.
        path: The page, in the folder from which the data's paths start.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= formats.FILTERS
    environment.globals["verdict"] = formats.verdict
    # Ten times as fast as `dataclasses.asdict`, which copies every number.
    data = json.loads(json.dumps(report, default=vars, allow_nan=False))
    library, script = vega.library(), template("report.js")
    text = environment.get_template("report.html").render(
        **view(data, path.parent),
        policy=_policy(library, script),
        style=style_sheet(),
        own_style=template("report.css"),
        blocks=_blocks(data),
        library=library,
        script=script,
    )
    write_text(path, text)


def _policy(*scripts: str) -> str:
    """Content security policy: these scripts run and no other, and nothing is requested."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{text}'" for text in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _blocks(data: Mapping[str, Any]) -> dict[str, str]:
    """Data by the name of the element that holds it: all but the runs, and the runs in parts.

    Of thousands of runs few are opened, so they are unpacked part by part. Base64 is text that no
    name in a user's data can end early.
    """
    runs = data["runs"]
    order = {"runs": [run["id"] for run in runs], "part": PART, "charts": drawer_charts()}
    parts = {f"runs-{i // PART}": _packed(runs[i : i + PART]) for i in range(0, len(runs), PART)}
    return {"data": _packed({**data, **order}), **parts}


def _packed(data: Any) -> str:
    """Data as compressed JSON; equal data give equal texts."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def print_pdf(page: Path, path: Path) -> bool:
    """Print the page with a Chromium that is on this machine.

    Arguments:
        page: The page.
        path: The PDF.

    Returns:
        False if no Chromium is found.

    Raises:
        UserError: If Chromium fails.
    """
    # A print of an older page is no print of this one.
    path.unlink(missing_ok=True)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return False
    with atomic_path(path) as part, tempfile.TemporaryDirectory() as folder:
        command = [browser, *FLAGS.split(), f"--user-data-dir={folder}", "--no-pdf-header-footer"]
        target = [f"--print-to-pdf={Path(part).resolve()}", page.resolve().as_uri()]
        try:
            done = subprocess.run(
                [*command, *target], capture_output=True, text=True, timeout=PATIENCE
            )
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            got = f"exit code {done.returncode} ({last})"
        except subprocess.TimeoutExpired:
            got = f"nothing within {PATIENCE} s"
        if not Path(part).is_file() or not Path(part).stat().st_size:
            raise UserError(
                f"{path}: expected a PDF from {browser}, got {got}; open {page} in a browser and "
                "print it there"
            )
    return True
