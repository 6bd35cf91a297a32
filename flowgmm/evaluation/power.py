"""Number of further seeds that would probably decide what is undecided, by simulation.

The runs so far stand for all: draws of more come from the normal distribution with their mean and
standard deviation, and the rule itself judges them. An answer is about as good as these two, which
few runs give badly: 4 runs know their standard deviation within a factor of 2.
"""

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["MOST_SEEDS", "seeds_needed"]

POWER, N_TRIALS = 0.8, 60
# More than a hundred seeds is no plan; the runs are then too close to the bound.
MOST_SEEDS = 100


def seeds_needed(values: Sequence[float], decides: Callable[[list[float]], bool]) -> int | None:
    """Find the least number of further seeds that decide in 80 % of the simulated cases.

    Arguments:
        values: Number of each run so far.
        decides: Tells whether the numbers of some runs are decisive.

    Returns:
        None if more than `MOST_SEEDS` seeds in all were needed, or a single run shows no scatter.
    """
    n = len(values)
    if n < 2:
        return None
    mean, std = float(np.mean(values)), float(np.std(values, ddof=1))

    def is_enough(total: int) -> bool:
        rng = np.random.default_rng(total)
        draws = rng.normal(mean, std, size=(N_TRIALS, total)).tolist()
        return sum(map(decides, draws)) >= POWER * N_TRIALS

    low, high = n, MOST_SEEDS
    if high <= low or not is_enough(high):
        return None
    # Decided more often with more runs: the least number that is enough, by bisection.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high - n
