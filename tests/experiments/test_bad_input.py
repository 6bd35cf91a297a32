"""A user's mistake ends a rule's script as one line, exit status 2, and nothing half-written."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from flowgmm.utils.io import sha256, write_tensors

SCRIPTS = Path(__file__).parents[2] / "scripts"
GOOD = "a,b,y\n" + "".join(f"{k},{k % 5},{k % 2}\n" for k in range(20))
TEXT = {"fields": 1, "classes": ["x", "y"]}


def table(**options: Any) -> dict[str, Any]:
    """Spec of `prepare_data.py` for the table that the test writes."""
    options = {"file": "t.csv", "label": "y"} | options
    return {"dataset": "t", "kind": "tabular", "loader": "table", "options": options}


def text(encoder: str = "none") -> dict[str, Any]:
    """Spec of `embed_data.py` for the texts that the test writes."""
    return {"dataset": "t", "kind": "text", "loader": "text", "options": TEXT, "encoder": encoder}


def training(**changes: Any) -> dict[str, Any]:
    """Spec of `train_stack.py`."""
    return {
        "dataset": "t",
        "labels": "4",
        "method": "m",
        "recipe": "r",
        "code": "",
        "neural": True,
        "labelled_only": False,
        "preprocess": "none",
        "evaluate": ["test"],
        "seeds": [0],
        "estimator": "flowgmm.methods.flow_gmm.FlowGMMClassifier",
        "params": {},
        "tune": None,
        "restart": "none",
        "splits": [0],
        "random_states": [0],
        **changes,
    }


def split(**label_set: Any) -> dict[str, Any]:
    """Spec of `draw_split.py`."""
    seeds = {"split": 0, "labels": 0}
    return {"dataset": "t", "labels": "4", "split": 0, "seeds": seeds, "label_set": label_set}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with good files, which a case spoils."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    Path("raw/t.csv").write_text(GOOD)
    for name in ("train", "test"):
        Path(f"raw/{name}.csv").write_text('"1","a text"\n"2","another"\n')
    import numpy as np

    X, y = np.random.default_rng(0).standard_normal((20, 2), np.float32), np.arange(20) % 4
    arrays = {"X_train": X, "y_train": y, "X_test": X, "y_test": y}
    write_tensors("features", arrays, {"dataset": "t", "classes": list("abcd")})
    rows = {"labelled": np.arange(4), "unlabelled": np.arange(20), "val": np.arange(0)}
    described = {"dataset": "t", "labels": "4", "split": 0, "seeds": {}}
    write_tensors("split-0", rows, described | {"features_sha256": sha256("features")})
    Path("file").touch()
    return tmp_path


def prepare(**more: Any) -> tuple[str, dict[str, str]]:
    return "prepare_data", {
        "spec": json.dumps(table(**more)),
        "raw": "raw",
        "output": "out/features",
    }


def embed(encoder: str = "none") -> tuple[str, dict[str, str]]:
    options = {"spec": json.dumps(text(encoder)), "raw": "raw", "encoder": ""}
    return "embed_data", options | {"cache": "cache", "output": "out/features"}


def fetch(mirror: str = "raw", file: str = "t.csv", **checksum: str) -> tuple[str, dict[str, str]]:
    spec = json.dumps({"mirror": file} | checksum)
    return "download_file", {
        "spec": spec,
        "mirror": mirror,
        "offline": "false",
        "output": "out/t.csv",
    }


def train(**changes: Any) -> tuple[str, dict[str, str]]:
    options = {"spec": json.dumps(training(**changes)), "features": "features", "splits": "split-0"}
    more = {
        "choice": "",
        "out": "out",
        "checkpoints": "checkpoints",
        "device": "cpu",
        "threads": "1",
    }
    return "train_stack", options | more


def draw(**label_set: Any) -> tuple[str, dict[str, str]]:
    spec = json.dumps(split(**label_set))
    options = {"spec": spec, "features": "features", "list": "", "output": "out/split"}
    return "draw_split", options


def blocked(case: tuple[str, dict[str, str]]) -> tuple[str, dict[str, str]]:
    """The case with an output below what is a file, where not even root can write."""
    return case[0], case[1] | {"output": "file/out"}


CSV = "raw/t.csv"


@pytest.mark.parametrize(
    ("spoil", "case", "expected"),
    [
        ({CSV: GOOD.replace("9,4,1", "9,4,7")}, prepare(classes=["0", "1"]), "label 7 in column"),
        ({"raw/train.csv": '"3","a"\n'}, embed(), "train.csv row 1: label '3' is not one of 1..2"),
        ({CSV: GOOD.replace("9,4,1", ",4,1")}, prepare(), "column a: NaN or infinite values"),
        ({CSV: "a,b,y\n" + "1,2,0\n3,2,1\n" * 9}, prepare(), "column b: one value only"),
        ({CSV: GOOD}, prepare(header=["a", "y"]), "expected 2 columns, got 3"),
        ({"raw/test.csv": '"1","a","b"\n'}, embed(), "test.csv row 1: expected 2 columns, got 3"),
        ({CSV: b"a,b,y\n1,2,caf\xe9\n"}, prepare(), "is not utf-8 (byte 0xe9"),
        ({"raw/train.csv": b'"1","caf\xe9"\n'}, embed(), "is not utf-8 (byte 0xe9); set the opt"),
        ({"raw/train.csv": '"1","a"\n"2",""\n'}, embed(), "csv row 2: the text is empty; take"),
        (
            {CSV: "a,b,y\n" + "1,2,0\n3,4,0\n" * 9},
            prepare(),
            "expected at least 2 classes, got 1 (0)",
        ),
        ({}, fetch(sha256="0" * 64), "expected sha256:000"),
        ({}, fetch(mirror="none"), "mirror 'none' is not a folder"),
        ({}, fetch(file="u.csv"), "u.csv not found"),
        ({}, blocked(prepare()), "cannot write file/out: "),
        ({}, blocked(fetch()), "cannot write file/out: "),
        ({}, draw(n_labels=3), "n_labels is 3, fewer than the 4 classes"),
        ({}, train(params={"n_couplngs": 3}), "has no parameter n_couplngs"),
        (
            {},
            train(params={"mixture": {"means": "cirle"}}),
            "unknown means 'cirle'; expected one of",
        ),
        ({"features": b"cut off"}, train(), "features is damaged"),
    ],
)
def test_one_line_and_nothing_half_written(
    spoil: dict[str, str | bytes],
    case: tuple[str, dict[str, str]],
    expected: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path, content in spoil.items():
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    script, options = case
    pairs = [(f"--{key}", value) if value else (f"--{key}",) for key, value in options.items()]
    arguments = [word for pair in pairs for word in pair]
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert stopped.value.code == 2
    # Before it there may be progress, but nothing else of the error.
    *before, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not any("error" in text.lower() or "Traceback" in text for text in before)
    assert expected in line
    assert not [path for path in Path("out").rglob("*") if path.is_file()]
    assert not list(place.rglob("*.part"))
