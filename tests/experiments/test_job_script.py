"""Scripts of rules whose inputs could not be made, and downloads that fail for good."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from flowgmm.utils.absence import failures, reason_of, write_reason

SCRIPTS = Path(__file__).parents[2] / "scripts"
REASON = "data absent: cannot download t.csv"
SPEC = {"dataset": "d", "labels": "10", "method": "m", "files": {"t.csv": {}}, "neural": True}


def run(monkeypatch: pytest.MonkeyPatch, script: str, **options: str) -> None:
    given = [part for name, value in options.items() for part in (f"--{name}", *value.split())]
    monkeypatch.setattr(sys, "argv", [script, *given])
    runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")


TRAINING = {"checkpoints": "c", "device": "cpu", "threads": "1"}


@pytest.mark.parametrize(
    ("script", "absent", "options", "outputs"),
    [
        (
            "prepare_data",
            "raw/t.csv",
            {"raw": "raw", "output": "o.safetensors"},
            ["o.safetensors"],
        ),
        (
            "embed_data",
            "raw/t.csv",
            {"raw": "raw", "encoder": "", "cache": "c", "output": "o.safetensors"},
            ["o.safetensors"],
        ),
        (
            "embed_data",
            "e.json",
            {"raw": "raw", "encoder": "e.json", "cache": "c", "output": "o.safetensors"},
            ["o.safetensors"],
        ),
        (
            "draw_split",
            "f.safetensors",
            {"features": "f.safetensors", "list": "", "output": "o.safetensors"},
            ["o.safetensors"],
        ),
        (
            "tune_candidate",
            "f.safetensors",
            {"features": "f.safetensors", "splits": "s", "output": "o.json", **TRAINING},
            ["o.json"],
        ),
        ("choose_candidate", "p.json", {"points": "q.json p.json", "output": "o.json"}, ["o.json"]),
        (
            "train_stack",
            "s.safetensors",
            {"features": "f", "splits": "s.safetensors", "choice": "", "out": "o", **TRAINING},
            ["o/record.json", "o/predictions.safetensors", "o/model.safetensors"],
        ),
        (
            "train_stack",
            "c.json",
            {"features": "f", "splits": "s", "choice": "c.json", "out": "o", **TRAINING},
            ["o/record.json", "o/predictions.safetensors", "o/model.safetensors"],
        ),
        (
            "run_analysis",
            "r.json",
            {"records": "q.json r.json", "splits": "", "features": "", "output": "o.json"}
            | {"device": "cpu"},
            ["o.json", "o.safetensors"],
        ),
    ],
)
def test_reasons_are_passed_on(
    script: str,
    absent: str,
    options: dict[str, str],
    outputs: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every output says why, whatever its format, and the log does."""
    monkeypatch.chdir(tmp_path)
    write_reason(absent, REASON, {})
    before = set(tmp_path.rglob("*.*"))
    spec = json.dumps(SPEC, separators=(",", ":"))
    run(monkeypatch, script, spec=spec, **options)
    made = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*.*")) - before}
    assert made == set(outputs)
    assert {reason_of([path]) for path in outputs} == {REASON}
    assert capsys.readouterr().err == f"not run: {REASON}\n"


def test_a_download_that_fails_for_good_leaves_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = json.dumps({"url": ["http://host.invalid/t.csv"]}, separators=(",", ":"))
    for n in (1, 2):
        options = {"mirror": "", "offline": "false", "output": "raw/t.csv"}
        given = [f"--{name}={value}" for name, value in {"spec": spec, **options}.items()]
        monkeypatch.setattr(sys, "argv", ["download_file", *given])
        runpy.run_path(str(SCRIPTS / "download_file.py"), run_name="__main__")
        reason = str(reason_of(["raw/t.csv"]))
        assert "data absent: cannot download t.csv (http://host.invalid/t.csv" in reason
        assert failures("raw/t.csv") == n
        assert capsys.readouterr().err.startswith("error: cannot download t.csv")
