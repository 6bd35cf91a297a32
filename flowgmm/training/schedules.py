"""Schedules: factors on learning rates and losses as functions of the step."""

import math
from collections.abc import Callable

__all__ = ["SCHEDULES", "cool_down", "gauss_ramp", "learning_rate_factor", "ramp"]

# Shares of the steps over which the Pi-model on images warms up and cools down: 80 and 50 epochs
# of 300 (Laine and Aila, 2017).
WARM_UP, COOL_DOWN = 80 / 300, 50 / 300
# Share of the steps over which `warm_late` warms up.
SHORT_WARM_UP = 0.02


def _steps(step: int, n_steps: int) -> float:
    return 1.0 if step < 0.5 * n_steps else 0.1 if step < 0.8 * n_steps else 0.01


def _cosine(step: int, n_steps: int) -> float:
    return max(0.5 * (1 + math.cos(math.pi * step / n_steps)), 1e-3)


def _late(step: int, n_steps: int) -> float:
    return min(1.0, max(0.01, 1 - 0.99 * (step / n_steps - 0.5) / 0.4))


def _ramps(step: int, n_steps: int) -> float:
    return gauss_ramp(step, n_steps, WARM_UP) * cool_down("ramps", step, n_steps)


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, n_steps: 1.0,
    "cosine": _cosine,
    # The authors' schedule moves after the optimizer (D48).
    "cosine_lagged": lambda step, n_steps: _cosine(max(step - 1, 0), n_steps),
    "steps": _steps,
    "late": _late,
    "warm_late": lambda step, n_steps: (
        _late(step, n_steps) * min(1.0, (step + 1) / (SHORT_WARM_UP * n_steps))
    ),
    "linear": lambda step, n_steps: 1 - step / n_steps,
    "flat_linear": lambda step, n_steps: min(1.0, 3 * (1 - step / n_steps)),
    "staircase": lambda step, n_steps: 0.75 ** (5 * step // n_steps),
    "ramps": _ramps,
}


def learning_rate_factor(schedule: str, step: int, n_steps: int) -> float:
    """Factor on the learning rate at a step.

    Arguments:
        schedule: `constant`; `cosine`: max((1 + cos(pi step / n_steps)) / 2, 1e-3); `steps`:
            divided by 10 after 50 % and again after 80 % of the steps; `late`: constant until
            50 %, then linear to 1 % at 90 %; `warm_late`: the same after a linear rise over the
            first 2 %; `cosine_lagged`: cosine of the step before, since
            the authors' schedule moves after the optimizer (D48): the first rate comes twice;
            `linear`: to 0; `flat_linear`: constant for two thirds, then linear to 0; `staircase`:
            times 0.75 after each fifth; `ramps`: exp(-5 (1 - k)^2), k from 0 to 1 over the first
            80/300 of the steps, times `cool_down`.
        step: Number of the step, from 0 on.
        n_steps: Number of all steps.

    Returns:
        The factor, from 0 to 1.

    Examples:
        >>> [learning_rate_factor("steps", step, 10) for step in (0, 5, 9)]
        [1.0, 0.1, 0.01]
        >>> [learning_rate_factor("flat_linear", step, 16) for step in (0, 8, 14)]
        [1.0, 1.0, 0.375]

    Raises:
        ValueError: If the schedule is unknown.

    Source: spec 1.7; `ramps`: Laine and Aila (2017); `flat_linear`: Dai et al. (2017).
    """
    if schedule not in SCHEDULES:
        raise ValueError(
            f"unknown schedule {schedule!r}; expected one of {', '.join(sorted(SCHEDULES))}"
        )
    return SCHEDULES[schedule](step, n_steps)


def cool_down(schedule: str, step: int, n_steps: int) -> float:
    """Factor that falls from 1 over the last steps of `ramps`; 1 in every other schedule.

    It is exp(-12.5 k^2), k from 0 to 1 over the last 50/300 of the steps. The first moment's decay
    may fall with it (`flowgmm.training.optim.Group`).
    """
    if schedule != "ramps":
        return 1.0
    return math.exp(-12.5 * max(0.0, 1 - (1 - step / n_steps) / COOL_DOWN) ** 2)


def gauss_ramp(step: int, n_steps: int, share: float) -> float:
    """Factor exp(-5 (1 - k)^2), k from 0 to 1 over the first `share` of the steps; then 1.

    Examples:
        >>> [round(gauss_ramp(step, 8, 0.5), 3) for step in (0, 2, 4, 8)]
        [0.007, 0.287, 1.0, 1.0]
    """
    missing = max(0.0, 1 - step / (share * n_steps)) if share > 0 else 0.0
    return math.exp(-5 * missing**2)


def ramp(step: int, n_steps: int, share: float, every: int = 1) -> float:
    """Factor that grows linearly from 0 to 1 over the first `share` of the steps; 1 if share is 0.

    Keyed to the absolute step, so that a resumed run continues it (spec, trap 14).

    Arguments:
        step: Number of the step, from 0 on.
        n_steps: Number of all steps.
        share: Length of the ramp.
        every: Steps for which the factor stays as it is. With more than one it is (i + 1) / R in
            the i-th of them, and R, the length in such spans, is a whole number (D47).

    Examples:
        >>> [ramp(step, 8, 0.5, every=2) for step in range(5)]
        [0.5, 0.5, 1.0, 1.0, 1.0]
    """
    length = share * n_steps / every
    if every > 1:
        length = round(length)
    return min(1.0, (step // every + 1) / length) if length > 0 else 1.0
