"""Registry of analyses, by the name that the config gives them."""

import inspect
from collections.abc import Callable, Sequence

from flowgmm.analyses.boundary import boundary
from flowgmm.analyses.calibration import calibration
from flowgmm.analyses.em import em
from flowgmm.analyses.features import features
from flowgmm.analyses.imbalance import imbalance
from flowgmm.analyses.interpolation import interpolation
from flowgmm.analyses.means import means
from flowgmm.analyses.ood import ood
from flowgmm.analyses.ordering import ordering
from flowgmm.analyses.results import Findings
from flowgmm.analyses.samples import samples
from flowgmm.analyses.student_t import student_t
from flowgmm.utils.errors import UserError

__all__ = ["FUNCTIONS", "check_arguments"]

FUNCTIONS: dict[str, Callable[..., Findings]] = {
    function.__name__: function
    for function in (
        boundary,
        calibration,
        em,
        features,
        imbalance,
        interpolation,
        means,
        ood,
        ordering,
        samples,
        student_t,
    )
}


def check_arguments(function: str, names: Sequence[str]) -> None:
    """Check that an analysis takes the named models, data and options, and needs no others.

    Raises:
        UserError: If the analysis is unknown, takes other arguments or needs more.
    """
    if function not in FUNCTIONS:
        raise UserError(f"function {function!r} is not known; choose one of {', '.join(FUNCTIONS)}")
    try:
        inspect.signature(FUNCTIONS[function]).bind(**dict.fromkeys(names))
    except TypeError as error:
        takes = ", ".join(inspect.signature(FUNCTIONS[function]).parameters)
        raise UserError(f"{function}: {error}; it takes {takes}") from error
