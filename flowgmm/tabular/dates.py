"""Spelling of the dates in a column, and dates as days since 1970."""

import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DateFormat", "check_format", "days_since_1970", "detect_dates", "write_days"]

# Days in the usual orders, with and without a time; pandas guesses others from an example.
DAYS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y"),
    *("%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%B %d, %Y"),
    "%b %d, %Y",
)
TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S")
# Cells that candidates are taken from.
N_EXAMPLES = 5
# 1 January 1000 and 31 December 9999, in days since 1970.
FIRST_DAY, LAST_DAY = -354285, 2932896
ISO = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True)
class DateFormat:
    """Spelling of dates, as `datetime.strptime` has it.

    Attributes:
        format: The one that is taken.
        other: One that reads as many cells, with day and month in the other order; empty: none.
        n_read: Cells that it reads.
    """

    format: str
    other: str
    n_read: int


def check_format(date_format: str) -> None:
    """Verify that a date can be written and read in a format, with its year at least.

    Raises:
        UserError: If not.
    """
    import pandas as pd

    text = datetime.datetime(2021, 11, 23).strftime(date_format)
    try:
        valid = pd.to_datetime(text, format=date_format).year == 2021
    except (ValueError, re.error):
        valid = False
    if not valid:
        raise UserError(
            f"--date-format: expected a format such as %d/%m/%Y, got {date_format!r}; correct it"
        )


def detect_dates(
    cells: "pd.Series", counts: np.ndarray, *, given: str | None, day_first: bool
) -> DateFormat | None:
    """Find the format that reads the most cells as dates; None if no cell looks like one.

    Arguments:
        cells: M different cells, none of them empty.
        counts: Number of each, shape (M,).
        given: Format to prefer.
        day_first: Whether the day is taken to stand first where both orders fit.
    """
    # Names of months, years and times of the day alone are not dates.
    examples = [c for c in cells.head(N_EXAMPLES) if len(c) >= 6 and len(re.findall(r"\d", c)) > 2]
    if not examples:
        return None
    found = _candidates(examples, given, day_first)
    read = {f: int(counts[~np.isnan(days_since_1970(cells, f))].sum()) for f in found}
    if not read or not max(read.values()):
        return None
    most = max(read.values())
    best = [f for f, n in read.items() if n == most]
    if best[0] == given:
        return DateFormat(best[0], "", most)
    swapped = best[0].translate(str.maketrans("dm", "md"))
    return DateFormat(best[0], swapped if swapped in best else "", most)


def _candidates(examples: list[str], given: str | None, day_first: bool) -> list[str]:
    """Formats that read an example, the preferred ones first."""
    from pandas.tseries.api import guess_datetime_format

    known = [day + time for day in DAYS for time in TIMES]
    if day_first:  # stable: others keep their places
        known.sort(key=lambda f: f.startswith("%m"))
    found = [given] if given else []
    for example in examples:
        found += [f for f in known if _reads(f, example)]
        if not found:
            found += [f for f in [guess_datetime_format(example, dayfirst=day_first)] if f]
    return list(dict.fromkeys(found))


def _reads(date_format: str, text: str) -> bool:
    try:
        datetime.datetime.strptime(text, date_format)
    except ValueError:
        return False
    return True


def days_since_1970(series: "pd.Series", date_format: str) -> np.ndarray:
    """Convert dates to days since 1970, float64, shape (N,); NaN where a cell is not a date.

    Arguments:
        series: Text, or dates.
        date_format: Format of the text; empty: ISO 8601.
    """
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(series):
        form = date_format or "ISO8601"
        series = pd.Series(pd.to_datetime(series, format=form, errors="coerce", utc=True))
    dates = pd.to_datetime(series, utc=True).dt.tz_localize(None)
    # Nanoseconds, pandas' own unit, end in 2262.
    seconds = dates.to_numpy("datetime64[us]") - np.datetime64(0, "us")
    return seconds / np.timedelta64(1, "D")


def write_days(days: np.ndarray, date_format: str) -> list[str]:
    """Spell days since 1970 as dates; NaN becomes an empty cell.

    Arguments:
        days: Shape (N,).
        date_format: As of `days_since_1970`.
    """
    import pandas as pd

    # Features are float32: seconds are rounding error. Years have four digits.
    minutes = np.round(np.clip(days, FIRST_DAY, LAST_DAY) * 1440)
    known = ~np.isnan(minutes)
    dates = np.full(len(days), np.datetime64("NaT", "s"))
    dates[known] = (minutes[known] * 60).astype("datetime64[s]")
    return pd.Series(dates).dt.strftime(date_format or ISO).fillna("").tolist()
