"""Benchmarks: every script imports what the package has, and shows its options."""

import re
import runpy
import sys

import pytest
from workspace import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "common.py")


@pytest.mark.parametrize("script", SCRIPTS)
def test_options_are_shown(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    monkeypatch.syspath_prepend(str(FOLDER))
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(FOLDER / script), run_name="__main__")
    assert end.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_readme_describes_every_script() -> None:
    named = re.findall(r"`(\w+\.py)`", (FOLDER / "README.md").read_text())
    assert set(SCRIPTS) <= set(named)
