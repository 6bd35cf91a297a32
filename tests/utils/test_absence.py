"""Reason files: written in place of any output, found again, refused as results."""

import json
from pathlib import Path

import numpy as np
import pytest

from flowgmm.utils.absence import count_failure, failures, reason_in, reason_of, write_reason
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_meta, read_tensors, write_json, write_tensors

NAMES = ["record.json", "features.safetensors", "train.csv", "t.csv.gz", "archive.tar.gz"]
REASONS = ["data absent: no network", 'with "quotes" and \\', "Umlaute: äöü; " + "x" * 3000]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_found_again(tmp_path: Path, name: str, reason: str) -> None:
    spec = {"a": 1, "long": ["text"] * 2000}
    write_reason(tmp_path / name, reason, spec)
    assert reason_in(tmp_path / name) == {"absent": reason, "spec": spec}
    assert reason_of([tmp_path / "none", tmp_path / name]) == reason


@pytest.mark.parametrize("name", ["record.json", "features.safetensors"])
def test_it_is_no_result(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_reason(path, "no network", {})
    for read in (read_json,) if name.endswith("json") else (read_tensors, read_meta):
        with pytest.raises(UserError, match=f"{name} was not made: no network"):
            read(path)


def test_a_damaged_reason_is_an_error(tmp_path: Path) -> None:
    write_reason(tmp_path / "a.json", "no network", {})
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace("no net", "no pet"))
    with pytest.raises(UserError, match="damaged"):
        reason_of([tmp_path / "a.json"])


def test_results_are_none(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"absent": "a dataset of this name", "spec": {}, "runs": []})
    write_json(tmp_path / "b.json", {"spec": {}})
    write_tensors(tmp_path / "c.safetensors", {"x": np.zeros(3)}, {"spec": {}, "dataset": "d"})
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    (tmp_path / "e.json").write_text(json.dumps({"runs": {"absent": 1}}))
    (tmp_path / "f.bin").write_bytes(bytes(range(256)))
    (tmp_path / "g.safetensors").touch()
    (tmp_path / "h").mkdir()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 8 and reason_of([*paths, tmp_path / "none"]) is None


def test_failures_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "raw" / "t.csv"
    assert failures(path) == 0
    for n in (1, 2, 3):
        count_failure(path)
        assert failures(path) == n
    path.touch()
    assert failures(path) == 3 and failures(tmp_path / "raw" / "u.csv") == 0
