"""Sentinels: numbers that repeat far from all others, as -9999 for a missing value does."""

import itertools

import numpy as np

__all__ = ["find_sentinels"]

# Most sentinels at either end, and the gap to the other values in widths of their range.
MOST, GAP = 3, 3.0
# Different values that are needed to call anything far from them, and repetitions of a sentinel.
MIN_OTHERS, MIN_REPEATS = 5, 2


def find_sentinels(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Find numbers at the ends that repeat, with a gap of thrice the range of all others.

    Arguments:
        values: M different numbers in ascending order, shape (M,).
        counts: Number of each, shape (M,).

    Returns:
        Sentinels, ascending, shape (S,).
    """
    most = min(MOST, len(values) - MIN_OTHERS)
    splits = itertools.product(range(most + 1), repeat=2) if most > 0 else []
    for below, above in sorted(splits, key=sum):
        rest = values[below : len(values) - above]
        ends = np.r_[counts[:below], counts[len(counts) - above :]]
        if not len(ends) or len(rest) < MIN_OTHERS or ends.min() < MIN_REPEATS:
            continue
        gap = GAP * (rest[-1] - rest[0])
        low = not below or rest[0] - values[below - 1] > gap
        high = not above or values[len(values) - above] - rest[-1] > gap
        if low and high:
            return np.r_[values[:below], values[len(values) - above :]]
    return values[:0]
