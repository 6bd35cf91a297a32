"""Seeds of random streams: one integer for every (experiment, seed, purpose).

Purposes that should not vary over the runs, such as the split of "same split, new initialisation",
are derived from seed 0.
"""

import hashlib

__all__ = ["PURPOSES", "derive"]

PURPOSES = (
    "split",
    "labels",
    "initialisation",
    "means",
    "batches",
    "dropout",
    "augmentation",
    "dequantisation",
    "noise",
)


def derive(experiment: str, seed: int, purpose: str) -> int:
    """Derive an integer in [0, 2**32), as numpy, scikit-learn and torch take it.

    It is the same on every machine.

    Arguments:
        experiment: Name of the experiment, e.g. ``"ag_news/200/flowgmm"``.
        seed: Number of the repetition, 0 or more.
        purpose: One of `PURPOSES`.

    Raises:
        ValueError: If the purpose is unknown or the seed negative.

    Examples:
        >>> derive("ag_news/200/flowgmm", 0, "split")
        2425112617
    """
    if purpose not in PURPOSES:
        raise ValueError(f"unknown purpose {purpose!r}; expected one of {', '.join(PURPOSES)}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    digest = hashlib.sha256(f"{experiment}\n{seed}\n{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
