"""Labels: text as the file spells it; only the empty cell, and what the user names, is none."""

import numpy as np
import pandas as pd
import pytest

from flowgmm.tabular.labels import read_labels
from flowgmm.utils.errors import UserError


def read(labels, **options):
    codes, names, notes = read_labels(pd.DataFrame({"y": labels}), "y", "t", **options)
    return [names[k] if k >= 0 else "" for k in codes], names, notes


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["01", "1", "2"], ["01", "1", "2"]),
        (["1E2", "100", "7"], ["7", "100", "1E2"]),
        (["TRUE", "FALSE"], ["FALSE", "TRUE"]),
        (["Mild", "None", "Severe"], ["Mild", "None", "Severe"]),
        (["NA", "EU", "n/a"], ["EU", "NA", "n/a"]),
        (["1.5", "1.50"], ["1.5", "1.50"]),
        (["1.0", "2"], ["1.0", "2"]),
        (["10", "9"], ["9", "10"]),
        # As pandas writes integers beside empty cells.
        (["1.0", "0.0"], ["0", "1"]),
        ([2.0, 10.0], ["2", "10"]),
        ([True, False], ["False", "True"]),
        (["nan", "inf", "1"], ["1", "inf", "nan"]),
    ],
)
def test_labels_are_spelt_as_in_the_file(labels, names):
    labels = [*labels, None] * 3 if isinstance(labels[0], float) else [*labels, ""] * 3
    given, found, _ = read(labels)
    assert found == names and given.count("") == 3
    assert len(set(given)) == len(names) + 1


@pytest.mark.parametrize("mark", ["-1", "?", "unlabelled", "NA"])
def test_a_mark_in_most_rows_is_asked_about(mark):
    labels = [mark] * 10 + ["a", "b"] * 3
    with pytest.raises(UserError, match=r"in 10 of 16 labelled rows; .*--unlabelled"):
        read(labels)
    given, names, _ = read(labels, unlabelled=mark)
    assert names == ["a", "b"] and given[:10] == [""] * 10
    _, names, notes = read(labels, unlabelled="")
    assert mark in names and not notes
    _, names, notes = read([mark] * 3 + ["a", "b"] * 3)
    assert mark in names and f"{mark!r} in 3 rows is a class" in notes[0]
    with pytest.raises(UserError, match="no row has 'other'"):
        read(labels, unlabelled="other")


def test_minus_one_as_a_float_and_as_one_of_two_classes():
    given, names, _ = read(["-1.0"] * 8 + ["0.0", "1.0"] * 2, unlabelled="-1")
    assert names == ["0", "1"] and given[:8] == [""] * 8
    assert read(["-1"] * 8 + ["1"] * 4)[1] == ["-1", "1"]
    with pytest.raises(UserError, match="'-1' in 8 of 12"):
        read([-1] * 8 + [0, 1] * 2)


def test_classes_of_another_table():
    given, _, _ = read(["9", "", "10"], classes=["9", "10"])
    assert given == ["9", "", "10"]
    with pytest.raises(UserError, match="unknown class '8' in column 'y'; expected one of 9, 10"):
        read(["8"], classes=["9", "10"])
    given, _, _ = read(["?", "9"], classes=["9", "10"], unlabelled="?")
    assert given == ["", "9"]


def test_codes_number_the_classes():
    codes, names, _ = read_labels(pd.DataFrame({"y": [10, None, 9, 10, 9]}), "y", "t")
    assert names == ["9", "10"] and codes.tolist() == [1, -1, 0, 1, 0] and codes.dtype == np.int64
