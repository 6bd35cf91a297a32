"""Splits: the right numbers from the right pools, the same for the same seeds, or one error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm.datasets.splits import draw_split
from flowgmm.utils.errors import UserError

SEEDS = {"split_seed": 1, "labels_seed": 2}
Y = np.tile([0, 1, 2, 2], 50)


@settings(max_examples=60, deadline=None)
@given(
    n_labels=st.integers(2, 12).map(lambda n: 3 * n),
    n_val=st.integers(9, 60),
    n_unlabelled=st.none() | st.integers(100, 140),  # 200 points less 60 of validation
    stratify=st.sampled_from(["proportional", "balanced"]),
    exclude=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_properties(n_labels, n_val, n_unlabelled, stratify, exclude, seed):
    y = Y.copy()
    y[::17] = -1
    split = draw_split(
        y,
        n_labels=n_labels,
        n_val=n_val,
        n_unlabelled=n_unlabelled,
        stratify=stratify,
        split_seed=seed,
        labels_seed=seed ^ 1,
        exclude_val_from_unlabelled=exclude,
    )
    labelled, unlabelled, val = (set(split[k].tolist()) for k in ("labelled", "unlabelled", "val"))
    assert (len(labelled), len(val)) == (n_labels, n_val)
    assert not labelled & val
    assert (y[sorted(labelled | val)] >= 0).all()
    assert labelled <= unlabelled
    assert not val & unlabelled if exclude else val <= unlabelled
    whole = len(y) - (n_val if exclude else 0)
    assert len(unlabelled) == (whole if n_unlabelled is None else n_unlabelled)
    for index in split.values():
        assert index.dtype == np.int64 and (np.diff(index) > 0).all()
    counts = np.bincount(y[sorted(labelled)], minlength=3)
    if stratify == "balanced":
        assert counts.tolist() == [n_labels // 3] * 3
    else:
        assert np.abs(counts - n_labels * np.array([1, 1, 2]) / 4).max() < 2


def test_validation_is_drawn_first_as_scikit_learn_draws_it():
    from sklearn.model_selection import train_test_split

    split = draw_split(Y, n_labels=12, n_val=40, **SEEDS)
    rest, val = train_test_split(np.arange(len(Y)), test_size=40, random_state=1)
    assert set(split["val"]) == set(val)
    labelled = train_test_split(np.sort(rest), test_size=12, random_state=2)[1]
    assert set(split["labelled"]) == set(labelled)


def test_seeds_vary_one_thing_each():
    base = draw_split(Y, n_labels=12, n_val=40, n_unlabelled=120, **SEEDS)
    same = draw_split(Y, n_labels=12, n_val=40, n_unlabelled=120, **SEEDS)
    other = draw_split(Y, n_labels=12, n_val=40, n_unlabelled=120, split_seed=1, labels_seed=3)
    assert all(np.array_equal(base[name], same[name]) for name in base)
    assert np.array_equal(base["val"], other["val"])
    assert not np.array_equal(base["labelled"], other["labelled"])


def test_fixed_indices_and_counts_per_class():
    split = draw_split(Y, indices=[6, 0, 1], n_val=30, **SEEDS)
    assert split["labelled"].tolist() == [0, 1, 6]
    assert not set(split["val"]) & {0, 1, 6}
    split = draw_split(Y, n_labels=[3, 1, 2], **SEEDS)
    assert np.bincount(Y[split["labelled"]]).tolist() == [3, 1, 2]
    assert np.array_equal(split["unlabelled"], np.arange(len(Y)))


def test_all_points_labelled():
    assert len(draw_split(Y, n_labels=len(Y), **SEEDS)["labelled"]) == len(Y)
    y = Y.copy()
    y[::17] = -1
    for stratify in ("none", "balanced", "authors"):  # what is left to choose is for validation
        split = draw_split(y, n_labels="all", n_val=40, stratify=stratify, **SEEDS)
        assert len(split["val"]) == 40
        assert np.array_equal(np.union1d(split["labelled"], split["val"]), np.flatnonzero(y >= 0))
        assert not set(split["labelled"]) & set(split["val"])


def test_the_last_rows_validate():
    options = {"n_val": 30, "val": "last", "exclude_val_from_unlabelled": True, **SEEDS}
    for n_labels in ("all", 12):
        for stratify in ("balanced", "authors"):
            split = draw_split(Y, n_labels=n_labels, stratify=stratify, **options)
            assert split["val"].tolist() == list(range(170, 200))
            assert split["unlabelled"].tolist() == list(range(170))
            assert len(split["labelled"]) == (170 if n_labels == "all" else 12)
            assert split["labelled"].max() < 170


def authors_split(y, n_labels, seed):
    """The authors' script, line by line (spec 2.4)."""
    np.random.seed(seed)
    n_classes = y.max() + 1
    idx = np.arange(len(y))
    np.random.shuffle(idx)
    mask = np.zeros(len(y), bool)
    for k in range(n_classes):
        mask[np.where(y[idx] == k)[0][: n_labels // n_classes]] = True
    return idx[mask]


@pytest.mark.parametrize("seed", [10, 11])
def test_labelled_points_of_the_authors(seed):
    y = np.random.RandomState(0).randint(3, size=500)
    seeds = {"labels_seed": seed, "split_seed": 1}
    split = draw_split(y, n_labels=30, n_val=100, stratify="authors", **seeds)
    assert set(split["labelled"]) == set(authors_split(y, 30, seed))
    assert len(split["val"]) == 100 and not set(split["val"]) & set(split["labelled"])
    # Validation points do not move them, and come from a seed of their own.
    other = draw_split(y, n_labels=30, stratify="authors", labels_seed=seed, split_seed=2)
    assert np.array_equal(other["labelled"], split["labelled"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_labels": 2}, "n_labels is 2, fewer than the 3 classes; raise it"),
        ({"n_labels": 2, "stratify": "balanced"}, "fewer than the 3 classes"),
        ({"n_labels": 10, "stratify": "balanced"}, "10, which 3 classes cannot share equally"),
        ({"n_labels": 500}, "n_labels is 500, but 200 points are left"),
        ({"n_labels": [60, 1, 1]}, "60 labelled points of class 0 asked for, but only 50"),
        ({"n_labels": [1, 1]}, "n_labels has 2 numbers, but there are 3 classes"),
        ({"n_labels": [2, 0, 2]}, "no labelled point of class 1"),
        ({"n_labels": 5, "n_val": 201}, "n_val is 201, but 200 points"),
        ({"n_labels": 5, "n_val": 2, "stratify": "proportional"}, "n_val is 2: "),
        ({"n_labels": 9, "n_val": 40, "n_unlabelled": 48}, "must be between 49"),
        ({"n_labels": 9, "n_unlabelled": 201}, "and 200, the training part"),
        ({"n_labels": 10, "stratify": "authors"}, "10, which 3 classes cannot share equally"),
        ({"n_labels": "all", "n_val": 200}, "no labelled point of class 0, 1, 2 among 0"),
        ({"n_labels": 3, "n_val": 201, "val": "last"}, "the training part has 200 rows; lower it"),
        ({"indices": [0, 1, 199], "n_val": 2, "val": "last"}, "199 is among the last 2 rows"),
        ({"n_labels": 3, "val": "first"}, "val is 'first'; set it to one of drawn, last"),
        ({"n_labels": 3, "stratify": "class"}, "stratify is 'class'; set it to one of none, "),
        ({"indices": [0, 1]}, "no labelled point of class 2"),
        ({"indices": [0, 1, 2, 200]}, "labelled index 200 is not in 0..199"),
        ({"indices": [0, 1, 2, 2]}, "holds a point twice"),
        ({}, "either `n_labels` or `indices`"),
        ({"n_labels": 3, "indices": [0, 1, 2]}, "either `n_labels` or `indices`"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        draw_split(Y, **changes, **SEEDS)
    assert "\n" not in str(caught.value)


def test_a_class_without_labelled_point_is_not_redrawn():
    y = np.repeat([0, 1], [990, 10])
    with pytest.raises(UserError, match="class 1 among 4; set stratify"):
        draw_split(y, n_labels=4, **SEEDS)


def test_point_of_unknown_class_cannot_validate():
    with pytest.raises(UserError, match="1 of the last 2 rows have no known class"):
        draw_split(np.array([0, 1, 0, -1]), n_labels="all", n_val=2, val="last", **SEEDS)


def test_point_of_unknown_class_cannot_be_labelled():
    with pytest.raises(UserError, match="index 3 has no known class"):
        draw_split(np.array([0, 1, 0, -1]), indices=[0, 1, 3], **SEEDS)
