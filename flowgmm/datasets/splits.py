"""Splits: labelled, unlabelled and validation points of the training part, and test rows."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from flowgmm.utils.errors import UserError

__all__ = ["draw_split", "split_by_class"]

Stratify = Literal["none", "proportional", "balanced", "authors"]
Validation = Literal["drawn", "last"]
Count = int | Sequence[int] | Literal["all"]


def draw_split(
    y_train: np.ndarray,
    *,
    n_labels: Count | None = None,
    indices: Sequence[int] | None = None,
    n_val: int = 0,
    val: Validation = "drawn",
    n_unlabelled: int | None = None,
    stratify: Stratify = "none",
    split_seed: int,
    labels_seed: int,
    exclude_val_from_unlabelled: bool = False,
) -> dict[str, np.ndarray]:
    """Draw a split of the training part: first validation points, then labelled ones.

    The authors' split of images goes the other way: their labelled points come first.

    Arguments:
        y_train: Classes 0..K-1, shape (N,); points of unknown class (-1) can only be unlabelled.
        n_labels: Number of labelled points: in all, or one number a class; ``all``: every point of
            known class that is not a validation point.
        indices: The labelled points themselves, instead of `n_labels`.
        n_val: Number of validation points.
        val: ``drawn`` from the training part, or its ``last`` rows.
        n_unlabelled: Number of unlabelled points, which include the labelled and validation
            points; None: the whole training part.
        stratify: ``none``; ``proportional``: labelled and validation points by class, as frequent
            as in the training part; ``balanced``: the same number of labelled points in each class,
            validation points proportional; ``authors``: the same numbers, but the points that the
            authors' code takes when `labels_seed` is its seed.
        split_seed: Seed of the validation and the unlabelled points.
        labels_seed: Seed of the labelled points.
        exclude_val_from_unlabelled: Whether the validation points' inputs stay unseen.

    Returns:
        Sorted int64 indices ``labelled``, ``unlabelled`` and ``val``.

    Raises:
        UserError: If there are too few points, or a class has no labelled point.

    Source: spec 2.2, of images 2.4. D16: the unlabelled points include the labelled and the
    validation inputs.
    """
    _check_choice("stratify", stratify, Stratify)
    _check_choice("val", val, Validation)
    y = np.asarray(y_train)
    n_classes = int(y.max(initial=-1)) + 1
    if (n_labels is None) == (indices is None):
        raise UserError("a label set needs either `n_labels` or `indices`; give one of them")
    known = np.flatnonzero(y >= 0)
    by_class = stratify != "none"
    held = _last(n_val, y) if val == "last" else np.empty(0, np.int64)
    labelled = None
    if indices is not None:
        labelled = _check_indices(indices, y, held)
    elif stratify == "authors" and n_labels != "all":
        order = np.setdiff1d(known, held)
        np.random.RandomState(labels_seed).shuffle(order)
        labelled = _take(order, _per_class(n_labels, n_classes), y)
    if val == "drawn":
        pool = known if labelled is None else np.setdiff1d(known, labelled)
        held = _draw(pool, n_val, y, by_class, split_seed, "n_val")
    if labelled is None:
        rest = np.setdiff1d(known, held)
        labelled = _draw_labelled(rest, n_labels, n_classes, y, stratify, labels_seed)
    if missing := sorted(set(range(n_classes)) - set(y[labelled].tolist())):
        raise UserError(
            f"no labelled point of class {', '.join(map(str, missing))} among {len(labelled)}; "
            "set stratify to proportional or balanced, or raise n_labels"
        )
    unseen = held if exclude_val_from_unlabelled else held[:0]
    required = np.setdiff1d(np.union1d(labelled, held), unseen)
    pool = np.setdiff1d(np.arange(len(y)), unseen)
    unlabelled = _fill_up(required, pool, n_unlabelled, split_seed)
    return {
        name: np.sort(index).astype(np.int64)
        for name, index in (("labelled", labelled), ("unlabelled", unlabelled), ("val", held))
    }


def _draw(
    pool: np.ndarray, count: int, y: np.ndarray, by_class: bool, seed: int, name: str
) -> np.ndarray:
    """Draw `count` points of `pool`, as scikit-learn's train_test_split draws its test part."""
    from sklearn.model_selection import train_test_split

    if count < 0 or count > len(pool):
        raise UserError(
            f"{name} is {count}, but {len(pool)} points are left to draw from; lower it"
        )
    if count in (0, len(pool)):
        return pool[:count]
    try:
        drawn: np.ndarray = train_test_split(
            pool, test_size=count, random_state=seed, stratify=y[pool] if by_class else None
        )[1]
    except ValueError as error:
        raise UserError(
            f"{name} is {count}: {str(error).rstrip('.')}; change {name} or set stratify to none"
        ) from error
    return drawn


def _draw_labelled(
    pool: np.ndarray, n_labels: Count | None, n_classes: int, y: np.ndarray, by: str, seed: int
) -> np.ndarray:
    """Draw the labelled points among those that are not for validation."""
    if n_labels == "all":
        return pool
    if isinstance(n_labels, int) and by != "balanced":
        _check_count(n_labels, n_classes)
        return _draw(pool, n_labels, y, by != "none", seed, "n_labels")
    rng = np.random.RandomState(seed)
    order = np.concatenate([rng.permutation(pool[y[pool] == k]) for k in range(n_classes)])
    return _take(order, _per_class(n_labels, n_classes), y)


def _take(order: np.ndarray, counts: Sequence[int], y: np.ndarray) -> np.ndarray:
    """Take the first `counts[k]` points of each class k in the given order."""
    chosen = []
    for k, count in enumerate(counts):
        members = order[y[order] == k]
        if count > len(members):
            raise UserError(
                f"{count} labelled points of class {k} asked for, but only {len(members)} "
                "found; lower n_labels or n_val"
            )
        chosen.append(members[:count])
    return np.concatenate(chosen)


def _last(n_val: int, y: np.ndarray) -> np.ndarray:
    """The last `n_val` rows, as validation points."""
    if n_val > len(y):
        raise UserError(f"n_val is {n_val}, but the training part has {len(y)} rows; lower it")
    rows = np.arange(len(y) - n_val, len(y))
    if unknown := int((y[rows] < 0).sum()):
        raise UserError(
            f"{unknown} of the last {n_val} rows have no known class to validate with; set val to "
            "drawn"
        )
    return rows


def _per_class(n_labels: Count | None, n_classes: int) -> list[int]:
    assert n_labels is not None and not isinstance(n_labels, str)
    if isinstance(n_labels, int):
        _check_count(n_labels, n_classes)
        if n_labels % n_classes:
            raise UserError(
                f"n_labels is {n_labels}, which {n_classes} classes cannot share equally; make it "
                "a multiple, or set stratify to proportional"
            )
        return [n_labels // n_classes] * n_classes
    if len(n_labels) != n_classes:
        raise UserError(
            f"n_labels has {len(n_labels)} numbers, but there are {n_classes} classes; "
            "give one number a class"
        )
    return list(n_labels)


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise UserError(f"{name} is {value!r}; set it to one of {', '.join(get_args(choices))}")


def _check_count(n_labels: int, n_classes: int) -> None:
    if n_labels < n_classes:
        raise UserError(
            f"n_labels is {n_labels}, fewer than the {n_classes} classes; "
            f"raise it to at least {n_classes}"
        )


def _check_indices(indices: Sequence[int], y: np.ndarray, held: np.ndarray) -> np.ndarray:
    fixed = np.asarray(indices, np.int64)
    if len(set(fixed.tolist())) != len(fixed):
        raise UserError("`indices` of a label set holds a point twice; name each once")
    for index in fixed.tolist():
        if not 0 <= index < len(y):
            raise UserError(f"labelled index {index} is not in 0..{len(y) - 1}; correct `indices`")
        if y[index] < 0:
            raise UserError(f"labelled index {index} has no known class; take it out of `indices`")
        if index in held:
            raise UserError(
                f"labelled index {index} is among the last {len(held)} rows, which are for "
                "validation; take it out of `indices`, or set val to drawn"
            )
    return fixed


def _fill_up(required: np.ndarray, pool: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """Extend `required` with random others of `pool` to `count` points."""
    if count is None:
        return pool
    if not len(required) <= count <= len(pool):
        raise UserError(
            f"n_unlabelled is {count}; it must be between {len(required)}, the labelled and "
            f"validation points, and {len(pool)}, the training part"
        )
    others = np.random.RandomState(seed).permutation(np.setdiff1d(pool, required))
    return np.concatenate([required, others[: count - len(required)]])


def split_by_class(
    rows: np.ndarray, y: np.ndarray, test_fraction: float, seed: int, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows at random into training and test part, each class in proportion.

    Arguments:
        rows: Shape (n,).
        y: Their classes, shape (n,).
        test_fraction: Share of the test rows.
        seed: Seed of the draw.
        where: File, for messages.

    Returns:
        Rows of the training part and of the test part.

    Raises:
        UserError: If there are too few rows for both parts.
    """
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(rows, test_size=test_fraction, stratify=y, random_state=seed)
    except ValueError as error:
        raise UserError(
            f"{where}: {len(rows)} rows cannot be split by class ({error}); did the file change?"
        ) from error
    return train, test
