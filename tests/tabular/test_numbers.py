"""Spelling of numbers: recognised, read and written back."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm.tabular.numbers import CONVENTIONS, LARGEST, NumberFormat, detect_spelling


def spelling_of(*cells):
    return detect_spelling(pa.array(cells), np.ones(len(cells), int))


@pytest.mark.parametrize(
    ("cells", "decimal", "numbers"),
    [
        (["1", "2.50", "-.3", "+4", "5e2"], ".", [1, 2.5, -0.3, 4, 500]),
        (["1,5", "0,75", "-12,0"], ".", [1.5, 0.75, -12]),
        (["12.345,6", "7", "-1.000,25"], ".", [12345.6, 7, -1000.25]),
        (["1,234,567.5", "80"], ",", [1234567.5, 80]),
        (["1 234 567,5", "-80,1"], ".", [1234567.5, -80.1]),
        (["1\u202f234", "56\u00a0789"], ".", [1234, 56789]),
        (["1'234.50", "2\u2019500"], ".", [1234.5, 2500]),
        (["\u22123.5", "2"], ".", [-3.5, 2]),
        (["45 %", "7.5%", "100 %"], ".", [45, 7.5, 100]),
        (["12,5 %", "3,25 %"], ".", [12.5, 3.25]),
        (["$1,200.50", "-$3.00", "$-7.25"], ".", [1200.5, -3, -7.25]),
        (["€ 4,50", "12,00", "€ 1.300,10"], ".", [4.5, 12, 1300.1]),
        (["9.000 EUR", "80 EUR", "9,5 EUR"], ".", [9000, 80, 9.5]),
        (["₹1,23,456", "₹50"], ".", [123456, 50]),
        # Both would fit: the rest of the table decides.
        (["1,234", "2,500"], ".", [1234, 2500]),
        (["1,234", "2,500"], ",", [1.234, 2.5]),
        (["1.234", "2.500"], ".", [1.234, 2.5]),
        (["1.234", "2.500"], ",", [1234, 2500]),
        # Zeros do not begin a group of thousands.
        (["0,400", "0,125"], ".", [0.4, 0.125]),
    ],
)
def test_numbers_are_read_as_the_world_writes_them(cells, decimal, numbers):
    found = spelling_of(*cells)
    assert found.n_read == len(cells)
    assert found.choose(decimal).parse(pa.array(cells)) == pytest.approx(numbers)


@pytest.mark.parametrize(
    "cell",
    [
        "",
        " ",
        "a",
        "1.2.3",
        "12,34,5",
        "1-2",
        "0x10",
        "1_000",
        "nan",
        "inf",
        "1e999",
        "%",
        "-",
        "1 2 3",
    ],
)
def test_no_convention_reads_a_text_as_a_number(cell):
    for decimal, thousands in CONVENTIONS:
        assert np.isnan(NumberFormat(decimal, thousands).parse(pa.array([cell])))[0]


@pytest.mark.parametrize("cell", ["1,234", "1 234", "5 %", "$5", "1'000"])
def test_a_plain_column_reads_only_what_it_was_described_as(cell):
    values = NumberFormat().parse(pa.array([cell, "7"]))
    assert np.isnan(values[0]) and values[1] == 7


def test_numbers_beyond_float32_are_none():
    values = NumberFormat().parse(pa.array(["1e38", "3.5e38", "-1e300", str(LARGEST)]))
    assert np.isnan(values).tolist() == [False, True, True, False]


@given(
    st.sampled_from(CONVENTIONS),
    st.sampled_from([("", False), ("%", False), ("€", True), ("EUR", False), ("$", True)]),
    st.booleans(),
    st.integers(0, 4),
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8),
)
def test_written_numbers_are_read_as_they_were(convention, unit, spaced, decimals, values):
    form = NumberFormat(*convention, *unit, spaced, decimals=decimals)
    rounded = np.array([float(f"{value:.{decimals}f}") for value in values])
    cells = form.write(rounded)
    assert np.array_equal(form.parse(pa.array(cells)), rounded)
    found = spelling_of(*cells)
    assert found.n_read == len(cells)
    read = found.choose(form.decimal)
    again = read.parse(pa.array(cells))
    if len(set(found.formats)) == 1 or not form.thousands:
        assert np.array_equal(again, rounded)


@pytest.mark.parametrize(
    ("cells", "written"),
    [
        (["1.50", "2.25"], ["1.00", "3.33"]),
        (["1", "250"], ["1", "3"]),
        (["1,5", "2,25"], ["1,00", "3,33"]),
        (["1.5e3", "2"], ["1", "3.33333"]),
        (["12.50 €", "3.00 €"], ["1.00 €", "3.33 €"]),
        (["5%", "7.5%"], ["1.0%", "3.3%"]),
    ],
)
def test_as_many_digits_are_written_as_the_column_had(cells, written):
    array = pa.array(cells)
    form = spelling_of(*cells).choose(".")
    form = form.with_digits(array, form.parse(array))
    assert form.write(np.array([1, 10 / 3])) == written
    assert form.write(np.array([np.nan])) == [""]
