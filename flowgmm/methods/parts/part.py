"""Base of the parts of an estimator, and the ranges of their parameters."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

__all__ = [
    "COUNT",
    "NOT_NEGATIVE",
    "OPTIONAL_COUNT",
    "POSITIVE",
    "SHARE",
    "SHARE_BELOW_1",
    "WHOLE",
    "Part",
]

COUNT = [Interval(Integral, 1, None, closed="left")]
OPTIONAL_COUNT = [*COUNT, None]
WHOLE = [Interval(Integral, 0, None, closed="left")]
POSITIVE = [Interval(Real, 0, None, closed="neither")]
NOT_NEGATIVE = [Interval(Real, 0, None, closed="left")]
SHARE = [Interval(Real, 0, 1, closed="both")]
SHARE_BELOW_1 = [Interval(Real, 0, 1, closed="left")]


class Part(BaseEstimator):
    """Base of the parts."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]

    def checked(self) -> Self:
        """The part itself, once the range of each parameter is checked.

        Raises:
            ValueError: If one is out of range.
        """
        self._validate_params()
        return self

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]
