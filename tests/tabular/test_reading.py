"""Reading of tables: every cell as it is spelt, or one line that says why not."""

import csv
import io
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flowgmm.tabular.reading import read_table
from flowgmm.utils.errors import UserError

FUZZ = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def read(tmp_path):
    """Read text or bytes as a file; warnings are errors."""

    def call(content, name="t.csv", **options):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_table(path, **options)

    return call


def rows_of(table):
    return table.frame.to_numpy().tolist()


def fails(read, content, message, **options):
    with pytest.raises(UserError, match=message) as caught:
        read(content, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def attempt(read, content, **options):
    """Return the table or None, and the error or an empty text."""
    try:
        return read(content, **options), ""
    except UserError as error:
        return None, str(error)


# -- cells ---------------------------------------------------------------------------------------

SPELT = ["None", "NA", "null", "nan", "TRUE", "False", "01", "1E2", "1.50", "-0", "1,5", "inf", "#"]


@pytest.mark.parametrize("cell", SPELT)
def test_cells_stay_as_they_are_spelt(cell, read):
    table = read(f"a;b\n{cell};1\n{cell};2\n", sep=";")
    assert rows_of(table) == [[cell, "1"], [cell, "2"]]
    assert not table.typed and table.notes == []
    assert all(isinstance(dtype, pd.StringDtype) for dtype in table.frame.dtypes)


def test_cells_are_stripped_and_empty_ones_are_no_missing_values(read):
    table = read('a , b\xa0,c\n x\t,\xa0y\u3000,"  z z "\n,"", \xa0\n')
    assert list(table.frame.columns) == ["a", "b", "c"]
    assert rows_of(table) == [["x", "y", "z z"], ["", "", ""]]
    assert table.notes == ["1 row is entirely empty."]
    assert not table.frame.isna().any(axis=None)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n  \n"])
def test_line_ends_and_blank_lines(end, last, read):
    text = '\n\na,b\n\n1,x\n   \n2,"y\nz"\n'.rstrip() + last
    table = read(text.replace("\n", end))
    assert rows_of(table) == [["1", "x"], ["2", "y\nz"]]
    assert table.notes == ["1 cell holds line breaks."]


def test_numbers_and_their_neighbours_do_not_depend_on_each_other(read):
    alone = read("a,b\n007,TRUE\n").frame
    beside = read("a,b\n007,TRUE\nx,\n,3.5\n").frame
    pd.testing.assert_frame_equal(alone, beside[:1])


# -- separators ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sep", "rows"),
    [
        ("a;b;y\n0,5;1,5;p\n0,7;2,5;q\n", ";", [["0,5", "1,5", "p"], ["0,7", "2,5", "q"]]),
        ("a\tb\n1, 2\tx\n3, 4\ty\n", "\t", [["1, 2", "x"], ["3, 4", "y"]]),
        ("a|b|y\n1|2|p,q;r\n", "|", [["1", "2", "p,q;r"]]),
        ('a,y\n"1;2;3",p\n"4;5;6",q\n', ",", [["1;2;3", "p"], ["4;5;6", "q"]]),
        ("a,b;c\n1,2;3\n", ",", [["1", "2;3"]]),
        ('"a;b",y\n1,"x;\ny"\n', ",", [["1", "x;\ny"]]),
        ("name\nx\ny\n", ",", [["x"], ["y"]]),
        ("k;v\n1;1,5\n2;\n3;2,5\n", ";", [["1", "1,5"], ["2", ""], ["3", "2,5"]]),
    ],
)
def test_separator_is_found(text, sep, rows, read):
    table = read(text)
    assert (table.sep, rows_of(table)) == (sep, rows)
    said = [note for note in table.notes if "separates" in note]
    assert said == ([] if sep == "," else [f"{sep!r} separates the cells."])


@pytest.mark.parametrize("mark", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;"])
def test_separator_in_the_first_line_is_obeyed(mark, read):
    table = read(f"{mark}\r\na;b,c\r\n1;2,3\r\n")
    assert rows_of(table) == [["1", "2,3"]] and list(table.frame.columns) == ["a", "b,c"]
    assert table.notes == ["The first line says that ';' separates the cells."]
    assert rows_of(read(f"{mark}\na|b\n1|2\n", sep="|")) == [["1", "2"]]


@pytest.mark.parametrize(
    ("sep", "text", "rows"),
    [
        (r"\t", "a\tb\n1\t2,3\n", [["1", "2,3"]]),
        ("tab", "a\tb\n1\t2\n", [["1", "2"]]),
        ("\t", "a\tb\n1\t\n", [["1", ""]]),
        (" ", "a b\n1 2\n", [["1", "2"]]),
        (r"\s+", '  a   b\tc\n1 "x  y"\t 2  \n\n3 4 5\n', [["1", "x  y", "2"], ["3", "4", "5"]]),
        ("::", "a::b\n1::2:3\n", [["1", "2:3"]]),
        (r"[,;]\s*", 'a, b; c\n1;2, "x, y"\n', [["1", "2", "x, y"]]),
        (r"\|", "a|b\n1|2\n", [["1", "2"]]),
        ("¦", 'a¦b\n1¦"2¦\n3"\n', [["1", "2¦\n3"]]),
    ],
)
def test_separator_as_typed(sep, text, rows, read):
    table = read(text, sep=sep)
    assert rows_of(table) == rows and table.notes in ([], ["1 cell holds line breaks."])


@pytest.mark.parametrize(
    ("sep", "message"),
    [
        ("[;", "not a regular expression"),
        ("(?P<end>;;)", "not a regular expression"),
        ("", "cannot separate"),
        ('"', "cannot separate"),
        (r"\s*", "cannot separate"),
        ("\n", "cannot separate"),
    ],
)
def test_separators_that_are_none(sep, message, read):
    fails(read, "a,b\n1,2\n", message, sep=sep)


# -- rows and columns ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "got", "expected"),
    [
        ("a,b\n1,2\n3\n", 3, "1 cell", 2),
        ("a,b\n1,2\n3,4,5\n", 3, "3 cells", 2),
        ("a,b,c\n\n1,2,3\n\n4,5\n", 5, "2 cells", 3),
        ('a,b\n"x\ny",1\n2\n', 4, "1 cell", 2),
        ("sep=;\na;b\n1;2\n1;2;3\n", 4, "3 cells", 2),
        ("a,b\n1,2,x\n3,4,y\n5,6\n", 4, "2 cells", 3),  # row names in the others
        ("a,b\n1,2,3\n4,5\n6,7\n", 2, "3 cells", 2),
        ("A title\na,b,c\n1,2,3\n", 2, "3 cells", 1),
        ("a,b\r1,2\r3\r", 3, "1 cell", 2),
        ("a b\n1 2\n1 2 3\n", 3, "3 cells", 2),
    ],
)
def test_a_row_of_another_length_is_named(text, line, got, expected, read):
    sep = {"sep": r"\s+"} if text.startswith("a b") else {}
    fails(read, text, f"not a table: line {line} has {got}, expected {expected} as in", **sep)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ('"u","y"\n"1",0.5,"a"\n"2",0.7,"b"\n', ["Unnamed: 0", "u", "y"]),
        (",u,y\n7,1,a\n3,2,b\n", ["Unnamed: 0", "u", "y"]),
        ("u,,y\n7,1,a\n3,,b\n", ["u", "Unnamed: 1", "y"]),
        ("u;y\n9;5;a\n8;7;b\n", ["Unnamed: 0", "u", "y"]),
    ],
)
def test_columns_without_a_name(text, columns, read):
    table = read(text)
    assert list(table.frame.columns) == columns and len(table.frame) == 2
    r_names = text.partition("\n")[0].count('"') == 4 or ";" in text
    assert any("names of the rows" in note for note in table.notes) == r_names


@pytest.mark.parametrize(
    ("text", "columns", "left_out"),
    [
        ("a,b,,\n1,2,,\n3,4,,\n", ["a", "b"], 2),
        ("a,b\n1,2,\n3,4,\n", ["a", "b"], 1),
        (",a,b\n,1,2\n,3,4\n", ["a", "b"], 1),
        ("a,,b,\n1,,2,\n3,x,4,\n", ["a", "Unnamed: 1", "b"], 1),
    ],
)
def test_empty_columns_without_a_name_are_left_out(text, columns, left_out, read):
    table = read(text)
    assert list(table.frame.columns) == columns and "1" in rows_of(table)[0]
    plural = "s" if left_out > 1 else ""
    assert f"{left_out} empty column{plural} without a name: left out." in table.notes


def test_names_for_a_file_without_a_header(read):
    table = read("1,2\n3,4\n", header=["a", "b"])
    assert list(table.frame.columns) == ["a", "b"] and rows_of(table) == [["1", "2"], ["3", "4"]]
    fails(read, "1,2\n3,4\n", "expected 1 columns, got 2", header=["a"])
    fails(read, "1,2\n3,4\n", "expected 3 columns, got 2", header=["a", "b", "c"])
    fails(read, "1,2\n3,4,5\n", "line 2 has 3 cells, expected 2", header=["a", "b"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a table"),
        (" \n\t\n", "not a table"),
        ("\ufeff", "not a table"),
        ("a,b\n", "no rows below its header"),
        ("a,b", "no rows below its header"),
        ("a,b\n\n  \n", "no rows below its header"),
        (" a,a\n1,2\n", "two columns are named 'a'"),
        (",Unnamed: 0\n1,2\n", "two columns are named 'Unnamed: 0'"),
        (",\n,\n", "no columns"),
    ],
)
def test_texts_that_are_no_table(content, message, read):
    fails(read, content, message)


def test_names_with_line_breaks_are_one_line(read):
    assert list(read('"width\n (cm)",y\n1,2\n').frame.columns) == ["width (cm)", "y"]


# -- quotes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b\n3/4" pipe,1\n5",2\n', [['3/4" pipe', "1"], ['5"', "2"]]),
        ('a,b\n"3/4"" pipe",1\n"say ""hi""",2\n', [['3/4" pipe', "1"], ['say "hi"', "2"]]),
        ('a,b\n"x,y",1\n"x\ny",2\n', [["x,y", "1"], ["x\ny", "2"]]),
        ('a,b,c\n1,"one\n\ntwo, three\n",2\n', [["1", "one\n\ntwo, three", "2"]]),
        # Lines like rows, but other cells show that quotes enclose cells.
        ('t,y\n"a, b\nc",p\n"d\ne",q\n', [["a, b\nc", "p"], ["d\ne", "q"]]),
        ('t,y\n"a, b\nc",p\n"d, e",q\n', [["a, b\nc", "p"], ["d, e", "q"]]),
        ('t\n"a\nb"\nc\n', [["a\nb"], ["c"]]),
    ],
)
def test_quotes_that_enclose_cells(text, rows, read):
    assert rows_of(read(text, sep=",")) == rows


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b,c\n1,2,3\n"4,5,6\n7,8,9\n', 3),
        ('a,b,c\n1,2,3\n4,5,"6\n', 3),
        ('a,b,c\n\n1,"2,3\n4,5,6\n1,"2,3\n4,5,6\n', 3),
        ('a,b,c\n"1,2,3\n4,5,6\n7",8,9\n', 2),
        ('a,b,c\n"1,2,3\n\n4,5,6\n7",8,9\n', 2),
        ('"a,b,c\n1,2,3\n4",5,6\n7,8,9\n', 1),
        ('"a,b,c\n1,2,3\n', 1),
        ('a,b,c\n"x, y",2,3\n"4,5,6\n"x, y",8,9\n', 3),
        ('a,b,c\n",2,3\n4,5,6\n",8,9\n', 2),
        ('a,b,c\n1,2,"\n4,5,"\n', 2),
    ],
)
def test_quotes_that_swallow_rows_are_named(text, line, read):
    message = f"in line {line} a cell begins with a quote .*; double the quotes"
    fails(read, text, message)
    fails(read, text.replace("\n", "\r\n"), message)


def test_an_open_quote_beside_a_regular_expression(read):
    fails(read, 'a  b\n1  "2\n3  4\n', "in line 2 a quote is not closed", sep=r"\s+")


RAW_CELL = st.text('"ab 1', max_size=4).filter(lambda cell: cell.strip() == cell)


@FUZZ
@given(st.lists(st.lists(RAW_CELL, min_size=3, max_size=3), min_size=1, max_size=6))
def test_quotes_never_cost_a_row(read, rows):
    """Cells that hold no separators, written without regard to quotes."""
    text = "a,b,c\n" + "".join(",".join(row) + "\n" for row in rows)
    table, _ = attempt(read, text, sep=",")
    if table:
        assert len(table.frame) == len(rows)
    else:
        assert any(cell.startswith('"') for row in rows for cell in row)


@FUZZ
@given(
    st.lists(st.lists(st.text('",;\n\té 1'), min_size=4, max_size=4), min_size=1, max_size=5),
    st.sampled_from([",", ";", "\t", "|", "é"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_writer_quotes_is_read_back(read, rows, sep, quoting, end):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=sep, quoting=quoting, lineterminator=end).writerows(
        [["a", "b", "c", "d"], *rows]
    )
    assume(any(cell.strip() for row in rows for cell in row))
    table, error = attempt(read, out.getvalue(), sep=sep)
    if table:
        assert rows_of(table) == [[cell.strip() for cell in row] for row in rows]
    else:
        # Lines with three separators each look like rows: an error, but no other table.
        assert "whole rows" in error


# -- types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f8", ">i2", "f2", "g", "?", "u1"])
@pytest.mark.parametrize("labels", [np.array([0, -1, 1]), np.array([0.0, -1, 1], ">f8"), None])
def test_arrays(dtype, labels, read):
    X = np.arange(6).reshape(3, 2).astype(dtype)
    file = io.BytesIO()
    np.savez(file, X=X, **({} if labels is None else {"y": labels}))
    table = read(file.getvalue(), "t.npz")
    assert table.typed and table.notes == [] and table.sep is None
    np.testing.assert_array_equal(table.frame[["x0", "x1"]].to_numpy(float), X.astype(float))
    if labels is not None:
        assert table.frame["y"].isna().tolist() == [False, True, False]
    table.frame.sort_values("x1")  # fails for another byte order


def test_labels_of_arrays_may_be_text(read):
    for labels in (np.array(["a", "b"]), np.array(["a", "b"], ">U3"), np.array([b"a", b"b"])):
        file = io.BytesIO()
        np.savez_compressed(file, X=np.eye(2), y=labels)
        assert read(file.getvalue()).frame["y"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Z": np.eye(2)}, "no array 'X'"),
        ({"X": np.array([[1, None]], dtype=object)}, "no objects"),
        ({"X": np.zeros(3)}, r"shape \(3,\)"),
        ({"X": np.array([["a"]])}, "type <U1"),
        ({"X": np.eye(2), "y": np.zeros(3)}, r"y of shape \(3,\)"),
        ({"X": np.eye(2), "y": np.zeros(2, complex)}, "type complex128"),
        ({"X": np.eye(2), "y": np.array([b"\xff", b"a"])}, "no text in UTF-8"),
        ({"X": np.zeros((0, 2))}, "no rows"),
        ({"X": np.zeros((2, 0))}, "no columns"),
    ],
)
def test_arrays_that_are_no_table(arrays, message, read):
    file = io.BytesIO()
    np.savez(file, **arrays)
    fails(read, file.getvalue(), message, name="t.npz")


def parquet(frame, **options):
    file = io.BytesIO()
    frame.to_parquet(file, **options)
    return file.getvalue()


def test_columns_of_parquet(read):
    from datetime import date, time
    from decimal import Decimal

    frame = pd.DataFrame(
        {
            " decimal": [Decimal("1.50"), None],
            "day": [date(2021, 3, 4), None],
            "zone": pd.to_datetime(["2021-03-04 12:00", None]).tz_localize("Europe/Berlin"),
            "clock": [time(12, 30), None],
            "category": pd.Categorical(["x", None]),
            "numbers": pd.Categorical([3, 4]),
            "Int64": pd.array([1, None], "Int64"),
            "boolean": pd.array([True, None], "boolean"),
            "bool": [True, False],
            "text": ["01", None],
            "nothing": [None, None],
            "list": [[1, 2], [3]],
        }
    )
    table = read(parquet(frame), "t.bin")
    assert table.typed and table.notes[0].startswith("'list' is left out")
    kinds = {name: dtype.kind for name, dtype in table.frame.dtypes.items()}
    assert "".join(kinds.values()) == "fMMOOifObOf"
    assert table.frame.iloc[1].isna().sum() == 9
    first = table.frame.iloc[0]
    assert first["decimal"] == 1.5 and first["day"] == pd.Timestamp("2021-03-04")
    assert first["zone"] == pd.Timestamp("2021-03-04 11:00") and first["clock"].startswith("12:30")
    assert (first["category"], first["text"], first["boolean"]) == ("x", "01", "True")


def test_index_of_parquet_is_a_column_if_it_has_a_name(read):
    frame = pd.DataFrame({"a": [1, 2]}, index=[7, 3])
    assert list(read(parquet(frame)).frame.columns) == ["a"]
    assert set(read(parquet(frame.rename_axis("id"))).frame.columns) == {"a", "id"}


def test_parquet_that_is_damaged_or_empty(read):
    whole = parquet(pd.DataFrame({"a": np.arange(9)}))
    fails(read, whole[:-9], "is not a Parquet file")
    fails(read, whole[:40] + whole[60:], "is not a Parquet file")
    fails(read, parquet(pd.DataFrame({"a": []})), "no rows")
    fails(read, parquet(pd.DataFrame(index=[1, 2])), "no (rows|columns)")
    fails(read, "a,b\n1,2\n", r"is not a Parquet file \(it is text\)", name="t.parquet")
    fails(read, "a,b\n1,2\n", "not a zip archive", name="t.npz")


# -- whatever a file holds -----------------------------------------------------------------------

VALID = [
    b'a,b,y\n1,2.5,"x, y"\n3,,"z\nz"\n',
    "größe;b\r\n1,5;é\r\n".encode("utf-16"),
    parquet(pd.DataFrame({"a": [1, 2], "b": ["x", None]})),
]


def test_any_bytes_end_as_a_table_or_one_line(read):
    starts = st.sampled_from(
        [b"", b"\x1f\x8b", b"PK\x03\x04", b"PAR1\x15", b"BZh91AY&SY", b"(\xb5/"]
    )

    @FUZZ
    @given(starts, st.binary(max_size=200))
    def check(start, content):
        table_or_line(read, start + content)

    check()


@FUZZ
@given(st.sampled_from(VALID), st.data())
def test_mutated_files_end_as_a_table_or_one_line(read, content, data):
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        new = data.draw(
            st.sampled_from([b"", b'"', b",", b";", b"\n", b"\r", b"\0", b"\xff", b" "])
        )
        content[at : at + data.draw(st.integers(0, 3))] = new
    table_or_line(read, bytes(content))


@FUZZ
@given(st.text('a1,;\t|"\n\r \ufeff={[<', max_size=60), st.sampled_from([None, ",", r"\s+", ";+"]))
def test_any_text_ends_as_a_table_or_one_line(read, text, sep):
    table_or_line(read, text.encode(), sep=sep)


def table_or_line(read, content, **options):
    table, error = attempt(read, content, **options)
    assert "\n" not in error
    if table:
        names = list(table.frame.columns)
        assert len(table.frame) and len(set(names)) == len(names) > 0
        assert all(isinstance(name, str) and name == name.strip() for name in names)
        assert table.typed or not table.frame.isna().any(axis=None)
