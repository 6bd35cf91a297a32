"""Columns of a table as features, and back."""

import json

import numpy as np
import pandas as pd
import pytest

from flowgmm.apps.fit.columns import Columns
from flowgmm.tabular.columns import OTHER
from flowgmm.tabular.infer import Choices
from flowgmm.tabular.notes import grouped


def test_columns_are_taken_as_people_expect():
    n = 200
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "weight": rng.normal(70, 10, n),
            "count": rng.integers(0, 9, n),
            "dirty": ["?" if i == 5 else str(i % 17) for i in range(n)],
            "size": rng.choice(["S", "M", "L"], n),
            "ok": rng.random(n) < 0.5,
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "written": [f"2021-0{1 + i % 9}-{10 + i % 18} 12:30:00" for i in range(n)],
            "many": [f"level{i % 60}" for i in range(n)],
            "noted": [None if i % 3 else 1.0 for i in range(n)],
            "row": range(n),
            "name": [f"person {i}" for i in range(n)],
            "same": 1,
            "empty": None,
        }
    )
    frame.loc[3, "weight"], frame.loc[4, "weight"] = np.nan, np.inf
    columns, X, notes = Columns.fit(frame)
    kinds = {column.name: column.kind for column in columns.columns}
    assert kinds == {
        **dict.fromkeys(["weight", "count", "dirty"], "number"),
        **dict.fromkeys(["when", "written"], "date"),
        **dict.fromkeys(["size", "ok", "many", "noted"], "category"),
    }
    left_out = [note.column for note in notes if note.kind == "left out"]
    assert left_out == ["row", "name", "same", "empty"]
    said = "\n".join(grouped(notes))
    assert "weight (1 empty, 1 infinite)" in said
    assert "--text" in said
    assert np.isfinite(X).all() and X.dtype == np.float32
    assert np.allclose(X.mean(axis=0), 0, atol=1e-5) and np.allclose(X.std(axis=0), 1, atol=1e-4)

    again = Columns.from_json(json.loads(json.dumps(columns.to_json())))
    assert np.array_equal(again.transform(frame)[0], X)
    back = again.inverse(X)
    written = back["weight"].drop([3, 4]).astype(float)
    assert np.allclose(written, frame["weight"].drop([3, 4]), atol=1e-3)
    assert back["weight"][[3, 4]].tolist() == ["", ""]
    for name in ("count", "size", "written"):
        assert back[name].tolist() == frame[name].map(str).tolist()
    assert back["ok"].tolist() == frame["ok"].map(str).tolist()
    assert back["when"].tolist() == frame["when"].dt.strftime("%Y-%m-%dT%H:%M:%S").tolist()
    assert set(back["many"]) <= {*frame["many"], OTHER}


def test_text_is_embedded_when_asked_for(monkeypatch):
    rng = np.random.default_rng(0)
    words = ["red", "green", "blue"]
    vectors = {word: rng.normal(size=6) for word in [*words, "empty"]}
    monkeypatch.setattr(
        "flowgmm.embed.text.embed_texts",
        lambda texts, encoder, cache, progress: np.stack([vectors[text] for text in texts]),
    )
    frame = pd.DataFrame({"said": rng.choice([*words, None], 60), "u": rng.normal(size=60)})
    columns, X, _ = Columns.fit(frame, Choices(text=["said"]))
    assert [column.kind for column in columns.columns] == ["text", "number"] and X.shape == (60, 7)
    # Its largest principal component weighs as much as a column.
    assert np.linalg.eigvalsh(np.cov(X[:, :6].T, ddof=0))[-1] == pytest.approx(1, abs=1e-4)
    back = columns.inverse(X)
    assert set(back["said"]) == {""} and np.allclose(back["u"].astype(float), frame["u"], atol=1e-4)
