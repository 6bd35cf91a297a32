"""Inference of columns, and reading of other tables by their descriptions."""

import json

import numpy as np
import pandas as pd
import pytest

from flowgmm.tabular.columns import Column, read_levels, read_numbers, write_numbers
from flowgmm.tabular.infer import Choices, infer_columns
from flowgmm.utils.errors import UserError

N = 120
RNG = np.random.default_rng(0)
NUMBERS = [f"{value:.2f}" for value in RNG.normal(size=N)]


def text(**columns):
    return pd.DataFrame(columns).astype("str")


def infer(cells, name="x", **choices):
    """Description of one column beside a plain one, and its notes."""
    frame = text(**{name: list(cells), "plain": NUMBERS[: len(cells)]})
    columns, notes = infer_columns(frame, Choices(**choices))
    found = [column for column in columns if column.name == name]
    return (found or [None])[0], {note.kind: note.text for note in notes if note.column == name}


def with_every(k, mark, cells=NUMBERS):
    return [mark if i % k == 0 else cell for i, cell in enumerate(cells)]


# -- missing values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark", ["?", ".", "-", "NA", "n.d.", "<0.1", "N/A", "null", "#N/A", "*", "> 20", "absent"]
)
@pytest.mark.parametrize("k", [2, 5, 40])
def test_a_mark_among_numbers_is_a_missing_number(mark, k):
    column, notes = infer(with_every(k, mark))
    assert column.kind == "number" and column.missing and column.marks == (mark,)
    assert f"{N // k} {mark!r}" in notes["missing"]
    values, said = read_numbers(pd.Series([mark, "1.25", ""]), column)
    assert np.isnan(values[[0, 2]]).all() and values[1] == 1.25 and not said


def test_few_unreadable_cells_are_missing_and_named():
    cells = [*NUMBERS]
    cells[7:12] = ["12 apples", "3 pears", "x1", "y2", "z3"]
    column, notes = infer(cells)
    assert column.kind == "number" and "5 unreadable, e.g. '12 apples'" in notes["missing"]
    assert infer([f"{i} apples" if i % 3 else "1" for i in range(N)])[0] is None


def test_only_the_empty_cell_of_a_category_is_missing():
    cells = [["None", "NA", "null", "", "b"][i % 5] for i in range(N)]
    column, notes = infer(cells)
    assert column.levels == ("", "NA", "None", "b", "null") and not notes
    assert infer(["TRUE", "FALSE", "unknown"] * 20)[0].levels == ("FALSE", "TRUE", "unknown")


@pytest.mark.parametrize("value", ["-9999", "-3.4e38", "1e30", "999999"])
def test_a_sentinel_is_named_and_missing_if_the_user_says_so(value):
    cells = with_every(15, value)
    column, notes = infer(cells)
    assert notes["sentinel"] == f"{value} in 8 cells" and not column.missing
    column, notes = infer(cells, missing=[value])
    assert notes["missing"] == "8 as --missing says"
    assert column.missing and "sentinel" not in notes and column.low > -10 and column.high < 10
    # The same number, spelt in another way, and as a number.
    for series in (pd.Series([f"{float(value)!r}", "1.0"]), pd.Series([float(value), 1.0])):
        values, _ = read_numbers(series, column)
        assert np.isnan(values[0]) and values[1] == 1


@pytest.mark.parametrize(
    "values",
    [
        [0, 0, 0, 1, 2, 3, 4, 5, 90],  # far, but once
        [0, 1, 2, 3, 4, 5, 6, 7, 9, 9],  # repeated, but near
        [0, 0, 1, 1, 50, 50],  # too few to say
    ],
)
def test_no_sentinel_without_distance_and_repetition(values):
    assert "sentinel" not in infer([str(v) for v in values] * 1)[1]


@pytest.mark.parametrize("mark", ["zz", "-999", "1.5e3", " "])
def test_a_mark_that_no_cell_has_is_a_mistake(mark):
    with pytest.raises(UserError, match=f"--missing '{mark}' is in no cell"):
        infer(with_every(15, "?"), missing=[mark])


def test_numbers_beyond_float32_are_missing():
    column, notes = infer(with_every(20, "1.797e308"))
    assert column.missing and column.high < 10 and "6 '1.797e308'" in notes["missing"]


# -- spelling --------------------------------------------------------------------------------------


def test_one_column_tells_how_the_others_are_written():
    ambiguous = ["1,234", "2,500", "9,125"] * 20
    frame = text(a=ambiguous, b=["0,5", "1,75", "2,25"] * 20)
    columns, notes = infer_columns(frame, Choices())
    assert [c.spelling.decimal for c in columns] == [",", ","] and columns[0].high == 9.125
    frame = text(a=ambiguous, b=["0.5", "1.75", "2.25"] * 20)
    columns, notes = infer_columns(frame, Choices())
    assert columns[0].high == 9125 and columns[0].integer
    assert any("or decimal ','" in note.text for note in notes)
    columns, _ = infer_columns(frame, Choices(decimal=","))
    assert columns[0].high == 9.125 and columns[1].high == 2.25
    columns, _ = infer_columns(frame[["a", "a"]].set_axis(["a", "c"], axis=1), Choices(sep=";"))
    assert columns[0].high == 9.125


@pytest.mark.parametrize("cells", [["01", "02", "10"], ["007", "070", "700"], ["1E2", "x", "100"]])
def test_codes_of_digits_are_levels_as_they_are_spelt(cells):
    assert infer(cells * 20)[0].levels == tuple(sorted(cells))


def test_many_codes_are_numbers_of_one_width():
    column, _ = infer([f"0{i % 40:02}" for i in range(N)])
    assert column.kind == "number" and write_numbers(np.array([3.0]), column) == ["003"]


@pytest.mark.parametrize(
    ("cells", "taken", "other"),
    [
        (["03/04/2021", "05/06/2022", "11/12/2020"], "%m/%d/%Y", "%d/%m/%Y"),
        (["03/04/2021", "25/06/2022", "11/12/2020"], "%d/%m/%Y", ""),
        (["3/4/2021", "5/26/2022", "1/2/2020"], "%m/%d/%Y", ""),
        (["03.04.2021", "05.06.2022", "11.12.2020"], "%d.%m.%Y", ""),
        (["2021-03-04", "2022-05-06", "2020-11-12"], "%Y-%m-%d", ""),
        (["4 Mar 2021", "6 May 2022", "12 Nov 2020"], "%d %b %Y", ""),
        (["2021-03-04 10:00", "2022-05-06 11:30", "2020-11-12 12:00"], "%Y-%m-%d %H:%M", ""),
    ],
)
def test_the_format_of_dates_is_said(cells, taken, other):
    column, notes = infer(cells * 20)
    assert (column.kind, column.date_format) == ("date", taken)
    assert notes["dates"] == taken + (f", or {other}" if other else "")
    if other:
        assert infer(cells * 20, date_format=other)[0].date_format == other
    written = write_numbers(read_numbers(pd.Series(cells), column)[0], column)
    again, _ = read_numbers(pd.Series(written), column)
    assert np.array_equal(again, read_numbers(pd.Series(cells), column)[0])


@pytest.mark.parametrize("mark", ["n.d.", "?", "unknown"])
def test_marks_among_dates_are_said(mark):
    cells = ["03.04.2021", "05.06.2022", "11.12.2020", mark, ""] * 20
    column, notes = infer(cells)
    assert column.kind == "date" and column.missing and mark in column.marks
    assert notes["missing"] == f"20 empty, 20 {mark!r}"


# -- identifiers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("Unnamed: 0", [str(i * i % 97 + 1000 * i) for i in range(12)]),
        ("Unnamed: 0", ["a", "b"] * 30),
        ("patient", [str(1000 + 7 * i) for i in range(N)]),
        ("shuffled", [str(i) for i in np.random.default_rng(1).permutation(N)]),
        ("customer_id", [str(i) for i in (5, 9, 2, 7, 1, 3)]),
        ("code", [f"AB-{i:03}" for i in range(N)]),
        ("few", ["anna", "bert", "carl", "dora"]),
    ],
)
def test_identifiers_are_left_out_unless_kept(name, cells):
    column, notes = infer(cells, name)
    assert column is None and "left out" in notes
    if cells[0].isdigit():
        assert infer(cells, name, keep=[name])[0].kind == "number"


def test_measurements_are_not_identifiers():
    for cells in (NUMBERS, [str(i % 50) for i in range(N)], [f"{i}.5" for i in range(N)]):
        assert infer(cells)[0].kind == "number"


# -- other tables ----------------------------------------------------------------------------------


def test_cells_that_are_not_as_learnt_are_counted_and_none_depends_on_another():
    column, _ = infer(NUMBERS)
    values, notes = read_numbers(pd.Series(["0.5", "1,5", "", "1e30", "2.0"]), column)
    assert np.isnan(values[[1, 2]]).all() and np.isfinite(values[3])
    said = {note.kind: note.text for note in notes}
    assert said == {
        "unreadable": "1 cell, e.g. '1,5' in row 2",
        "empty": "1 cell",
        "outside": "1 cell, e.g. '1e30' in row 4",
    }
    alone, _ = read_numbers(pd.Series(["1e30"]), column)
    assert alone[0] == values[3]
    with pytest.raises(UserError, match=r"'x': expected numbers like .*'1,5' in row 1; 2 of 3"):
        read_numbers(pd.Series(["1,5", "2,5", "3.5"]), column)


def test_unknown_levels_are_counted():
    column, _ = infer(["TRUE", "FALSE"] * 60)
    levels, notes = read_levels(pd.Series(["TRUE", "True", ""]), column)
    assert levels.tolist() == ["TRUE", "True", ""]
    assert [note.text for note in notes] == ["1 cell, e.g. 'True' in row 2"]
    rare = ["a", "b"] * 150 + ["c", "d"]
    column, _ = infer_columns(text(x=rare), Choices())
    levels, notes = read_levels(pd.Series(["a", "c", "z"]), column[0])
    assert levels.tolist() == ["a", "(other)", "(other)"] and notes[0].text.startswith("1 cell")


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1.5, None, 3.25] * 20),
        pd.Series([True, False, True] * 20),
        pd.Series(pd.to_datetime(["2021-03-04", None, "2022-05-06"] * 20)),
        pd.Series([1, 2, 3] * 20, dtype="Int64"),
        pd.Series(["a", None, "b"] * 20, dtype="category"),
        pd.Series(np.arange(60) % 7, dtype=np.uint8),
    ],
)
def test_typed_columns_go_through_the_same_descriptions(values):
    (column, *_), _ = infer_columns(values.to_frame("x"), Choices())
    again = Column.from_json(json.loads(json.dumps(column.to_json())))
    assert again == column
    read = read_levels if column.kind == "category" else read_numbers
    first, notes = read(values, column)
    assert not notes
    # The same cells as text.
    spelt = values.astype(object).where(values.notna(), "").map(str).astype("str")
    second, notes = read(spelt, column)
    assert not notes
    pd.testing.assert_series_equal(pd.Series(first), pd.Series(second), check_names=False)
