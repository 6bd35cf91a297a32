"""Notes on columns as sentences for a screen."""

import math

import pytest

from flowgmm.tabular.notes import KINDS, Note, grouped, n_lines

PRICES = [Note("spelling", f"price {i}", f"'{i},50 €'") for i in range(9)]
CODES = [Note("left out", f"code {i}", "all different") for i in range(200)]
RARE = [Note("rare", "colour", "7 of 10")]


def test_columns_of_one_text_stand_together():
    notes = [
        Note("missing", "b", "3 '?'"),
        Note("left out", "a", "constant"),
        Note("missing", "c", "1 empty"),
        Note("missing", "d", "3 '?'"),
    ]
    assert grouped(notes) == [
        f"{KINDS['left out']}: a (constant).",
        f"{KINDS['missing']}: b, d (3 '?'), c (1 empty).",
    ]
    assert grouped(notes, kinds={"left out": "Dropped"}) == ["Dropped: a (constant)."]


@pytest.mark.parametrize("lines", [3, 4, 6, 9, math.inf])
def test_sentences_fit_on_the_screen(lines):
    said = grouped([*PRICES, *CODES, *RARE], lines=lines)
    assert len(said) == 3 and sum(map(n_lines, said)) <= lines
    assert ("code 199" in said[0]) == (lines == math.inf)
    assert said[2].endswith("colour (7 of 10).")


def test_names_are_kept_longer_than_what_is_noted():
    (whole,) = grouped(PRICES, lines=4)
    (one_line,) = grouped(PRICES[:3], lines=1)
    (short,) = grouped(PRICES, lines=2)
    assert "price 8 ('8,50 €')" in whole
    assert one_line.endswith(": price 0 ('0,50 €'), price 1 ('1,50 €'), price 2.")
    assert "price 0 ('0,50 €')" in short and short.endswith("price 8.")
    (least,) = grouped(PRICES, lines=0)
    assert least.endswith(" more.") and n_lines(least) == 1
