"""Any table through `flowgmm fit` and `predict`: a row's class depends on its own cells alone."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from customers import run, shorten
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flowgmm.apps.fit.columns import Columns
from flowgmm.apps.fit.table_model import TableModel
from flowgmm.tabular.reading import read_table
from flowgmm.utils.errors import UserError

N = 150


def messy() -> pd.DataFrame:
    """A table as text, with most of what owners of tables do."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, N)
    euros = [
        f"{v:,.2f}".translate(str.maketrans(",.", ".,"))
        for v in 2000 + 900 * y + rng.normal(0, 300, N)
    ]
    table = {
        "": rng.permutation(5 * N)[:N].astype(str),
        "customer": (10**6 + 7 * rng.permutation(N)).astype(str),
        "income": [f"{v} €" for v in euros],
        "age": [
            "?" if i % 5 == 0 else str(int(30 + 10 * y[i] + rng.normal(0, 6))) for i in range(N)
        ],
        "temp": [
            "-9999" if i % 17 == 0 else f"{20 + rng.normal():.1f}".replace(".", ",")
            for i in range(N)
        ],
        "since": [f"{1 + i % 12:02}/{1 + i % 11:02}/2020" for i in range(N)],
        "flag": rng.choice(["TRUE", "FALSE", "None"], N),
        "memo": [f"note {i}" for i in range(N)],
        "blank": [""] * N,
        "grade": np.where(rng.random(N) < 0.4, np.where(y == 1, "01", "1"), ""),
    }
    return pd.DataFrame(table, dtype="str")


@pytest.fixture(scope="module")
def fitted_messy(tmp_path_factory):
    """Folder of results, the table and the screen."""
    folder = tmp_path_factory.mktemp("messy")
    messy().to_csv(folder / "messy.csv", sep=";", index=False)
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        patch.chdir(folder)
        result = run("fit", "messy.csv", "--label", "grade", "--drop", "blank")
    assert result.exit_code == 0, result.output
    return folder, result


def test_the_screen_says_all_that_was_decided_in_25_lines(fitted_messy):
    _, result = fitted_messy
    assert len(result.output.splitlines()) <= 25 and not result.stderr
    said = " ".join(result.output.split())
    for decided in (
        "';' separates the cells",
        "Unnamed: 0 (first, unnamed)",
        "customer, memo (all different)",
        "income ('2.",
        "age (30 '?')",
        "temp (-9999 in 9 cells)",
        "since (%d/%m/%Y, or %m/%d/%Y)",
        "labelled (",
    ):
        assert decided in said


def test_predicting_the_training_table_repeats_what_fit_wrote(fitted_messy):
    folder, _ = fitted_messy
    result = run("predict", folder / "messy-flowgmm", folder / "messy.csv")
    assert result.exit_code == 0
    said = pd.read_csv(folder / "messy-flowgmm" / "predictions.csv", dtype=str)
    shown = pd.read_csv(io.StringIO(result.stdout), dtype=str)
    assert shown["predicted"].tolist() == said["predicted"].tolist()
    assert set(said["predicted"]) == {"01", "1"}
    for name in ("p_01", "p_1"):
        assert np.allclose(shown[name].astype(float), said[name].astype(float), atol=2e-6)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.integers(0, N - 1), min_size=1, max_size=12),
    st.permutations(["income", "age", "temp", "since", "flag"]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["", "maybe", "nan", "1e30"]),
)
def test_a_class_does_not_depend_on_the_rows_beside_it(
    fitted_messy, tmp_path, rows, order, sep, other
):
    """Some rows, with others beside them, in any order of rows and columns, as another file."""
    folder, _ = fitted_messy
    model = TableModel.load(folder / "messy-flowgmm")
    whole, _ = model.predict(read_table(folder / "messy.csv").frame)
    # Three rows at least, as a column that is mostly unreadable is an error.
    rows = [*rows, 0, 1]
    stranger = messy().iloc[:1].assign(flag="other", age=other if other != "nan" else "")
    part = pd.concat([stranger, messy().iloc[rows]])[order]
    part.to_csv(tmp_path / "part.csv", sep=sep, index=False)
    columns = model.columns
    X, _ = columns.transform(read_table(folder / "messy.csv").frame)
    X_part, _ = columns.transform(read_table(tmp_path / "part.csv").frame)
    assert np.array_equal(X_part[1:], X[rows])
    predicted, _ = model.predict(read_table(tmp_path / "part.csv").frame)
    for name in ("p_01", "p_1"):
        assert np.allclose(predicted[name][1:], whole[name].iloc[rows], atol=2e-6)
        assert np.isfinite(predicted[name]).all()
    assert predicted["predicted"][1:].tolist() == whole["predicted"].iloc[rows].tolist()


CELLS = st.one_of(
    st.sampled_from(["", "?", "NA", "None", "TRUE", "01", "1", "1E2", "-9999", "a", "b", "1,234"]),
    st.integers(-50, 50).map(str),
    st.floats(-1e6, 1e6).map(lambda value: f"{value:.3f}"),
    st.dates().map(str),
    st.text(max_size=3).filter(lambda text: not set(text) & set("\r\n\0")),
)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(20, 40), st.integers(2, 4))
def test_descriptions_read_any_table_the_same_way_again(data, n_rows, n_columns):
    """Features of a part of the rows, read by saved descriptions, are those of the whole table."""
    columns = [
        data.draw(
            st.lists(
                data.draw(st.sampled_from([CELLS, st.integers(0, 9).map(str)])),
                min_size=n_rows,
                max_size=n_rows,
            )
        )
        for _ in range(n_columns)
    ]
    frame = pd.DataFrame({f"c{j}": column for j, column in enumerate(columns)}, dtype="str")
    try:
        fitted, X, _ = Columns.fit(frame)
    except UserError:  # no columns that inform
        assume(False)
    assert np.isfinite(X).all()
    again = Columns.from_json(json.loads(json.dumps(fitted.to_json())))
    assert np.array_equal(again.transform(frame)[0], X)
    rows = data.draw(st.lists(st.integers(0, n_rows - 1), min_size=1, max_size=n_rows))
    part = frame.iloc[rows, ::-1].reset_index(drop=True)
    try:
        X_part, _ = again.transform(part)
    except UserError:  # a part may hold the few unreadable cells alone
        assume(False)
    assert np.array_equal(X_part, X[rows])
    again.transform(again.inverse(X))
