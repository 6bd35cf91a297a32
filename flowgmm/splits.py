"""Which points are labelled, which are for validation, and which are unlabelled."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from flowgmm.errors import UserError

__all__ = ["draw_split"]

Stratify = Literal["none", "proportional", "balanced"]


def draw_split(
    y_train: np.ndarray,
    *,
    n_labels: int | Sequence[int] | None = None,
    indices: Sequence[int] | None = None,
    n_val: int = 0,
    n_unlabelled: int | None = None,
    stratify: Stratify = "none",
    split_seed: int,
    labels_seed: int,
    exclude_val_from_unlabelled: bool = False,
) -> dict[str, np.ndarray]:
    """Draw a split of the training part: first validation points, then labelled ones.

    Arguments:
        y_train: Classes 0..K-1, shape (N,); points of unknown class (-1) can only be unlabelled.
        n_labels: Number of labelled points: in all, or one number a class.
        indices: The labelled points themselves, instead of `n_labels`.
        n_val: Number of validation points.
        n_unlabelled: Number of unlabelled points, which include the labelled and validation
            points; None: the whole training part.
        stratify: ``none``; ``proportional``: labelled and validation points by class, as frequent
            as in the training part; ``balanced``: the same number of labelled points in each class,
            validation points proportional.
        split_seed: Seed of the validation and the unlabelled points.
        labels_seed: Seed of the labelled points.
        exclude_val_from_unlabelled: Whether the validation points' inputs stay unseen.

    Returns:
        Sorted int64 indices ``labelled``, ``unlabelled`` and ``val``.

    Raises:
        UserError: If there are too few points, or a class has no labelled point.

    Source: spec 2.2. D16: the unlabelled points include the labelled and the validation inputs.
    """
    y = np.asarray(y_train)
    n_classes = int(y.max(initial=-1)) + 1
    if (n_labels is None) == (indices is None):
        raise UserError("a label set needs either `n_labels` or `indices`; give one of them")
    known = np.flatnonzero(y >= 0)
    fixed = _check_indices(indices, y) if indices is not None else np.empty(0, np.int64)
    by_class = stratify != "none"
    val = _draw(np.setdiff1d(known, fixed), n_val, y, by_class, split_seed, "n_val")
    rest = np.setdiff1d(known, val)
    if n_labels is None:
        labelled = fixed
    elif isinstance(n_labels, int) and stratify != "balanced":
        _check_count(n_labels, n_classes)
        labelled = _draw(rest, n_labels, y, by_class, labels_seed, "n_labels")
    else:
        labelled = _draw_per_class(rest, _per_class(n_labels, n_classes), y, labels_seed)
    if missing := sorted(set(range(n_classes)) - set(y[labelled].tolist())):
        raise UserError(
            f"no labelled point of class {', '.join(map(str, missing))} among {len(labelled)}; "
            "set stratify to proportional or balanced, or raise n_labels"
        )
    unseen = val if exclude_val_from_unlabelled else val[:0]
    required = np.setdiff1d(np.union1d(labelled, val), unseen)
    pool = np.setdiff1d(np.arange(len(y)), unseen)
    unlabelled = _fill_up(required, pool, n_unlabelled, split_seed)
    return {
        name: np.sort(index).astype(np.int64)
        for name, index in (("labelled", labelled), ("unlabelled", unlabelled), ("val", val))
    }


def _draw(
    pool: np.ndarray, count: int, y: np.ndarray, by_class: bool, seed: int, name: str
) -> np.ndarray:
    """`count` points of `pool`, as scikit-learn's train_test_split draws its test part."""
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


def _draw_per_class(
    pool: np.ndarray, counts: Sequence[int], y: np.ndarray, seed: int
) -> np.ndarray:
    rng = np.random.RandomState(seed)
    chosen = []
    for k, count in enumerate(counts):
        members = pool[y[pool] == k]
        if count > len(members):
            raise UserError(
                f"{count} labelled points of class {k} asked for, but only {len(members)} are "
                "there; lower n_labels or n_val"
            )
        chosen.append(rng.permutation(members)[:count])
    return np.concatenate(chosen)


def _per_class(n_labels: int | Sequence[int], n_classes: int) -> list[int]:
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


def _check_count(n_labels: int, n_classes: int) -> None:
    if n_labels < n_classes:
        raise UserError(
            f"n_labels is {n_labels}, fewer than the {n_classes} classes; "
            f"raise it to at least {n_classes}"
        )


def _check_indices(indices: Sequence[int], y: np.ndarray) -> np.ndarray:
    fixed = np.asarray(indices, np.int64)
    if len(set(fixed.tolist())) != len(fixed):
        raise UserError("`indices` of a label set holds a point twice; name each once")
    for index in fixed.tolist():
        if not 0 <= index < len(y):
            raise UserError(f"labelled index {index} is not in 0..{len(y) - 1}; correct `indices`")
        if y[index] < 0:
            raise UserError(f"labelled index {index} has no known class; take it out of `indices`")
    return fixed


def _fill_up(required: np.ndarray, pool: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """`required` and as many others of `pool` as make `count`."""
    if count is None:
        return pool
    if not len(required) <= count <= len(pool):
        raise UserError(
            f"n_unlabelled is {count}; it must be between {len(required)}, the labelled and "
            f"validation points, and {len(pool)}, the training part"
        )
    others = np.random.RandomState(seed).permutation(np.setdiff1d(pool, required))
    return np.concatenate([required, others[: count - len(required)]])
