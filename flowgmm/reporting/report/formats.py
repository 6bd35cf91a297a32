"""Numbers and words as the page writes them."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowgmm.reporting.names import titled
from flowgmm.reporting.style import verdict_mark

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["FILTERS", "hours_text", "number", "verdict"]

BACKTICKS = re.compile("`([^`]*)`")

DECIMALS = {"percent": 1, "points": 1, "nats": 2, "ece": 3, "share": 4, "ratio": 2, "count": 0}
SUFFIXES = {"percent": "%", "count": "", "ratio": "", "share": "", "ece": "", "none": ""}


def number(value: float | None, unit: str, sign: bool = False) -> str:
    """Write a number with the decimals of its unit; of an unknown unit, with 4 digits.

    >>> number(93.86, "percent"), number(0.25, "percent", sign=True), number(139.5, "bits")
    ('93.9', '+0.2', '139.5')
    """
    if value is None:
        return ""
    plus = "+" if sign else ""
    return f"{value:{plus}.{DECIMALS[unit]}f}" if unit in DECIMALS else f"{value:{plus}.4g}"


def _unit(unit: str) -> str:
    return SUFFIXES.get(unit, unit)


def hours_text(hours: float) -> str:
    """Write hours; few as minutes, many as days or years.

    >>> hours_text(0.09), hours_text(31.04), hours_text(480), hours_text(63134)
    ('5 minutes', '31.0 hours', '20 days', '7.2 years')
    >>> hours_text(0.001)
    'under a minute'
    """
    if hours < 1:
        minutes = round(60 * hours)
        return f"{minutes} minute{'s' * (minutes > 1)}" if minutes else "under a minute"
    if hours < 100:
        return f"{hours:.1f} hours"
    days = hours / 24
    return f"{days:.0f} days" if days < 365 else f"{days / 365.25:.1f} years"


def _sentence(text: str) -> str:
    """Make a sentence of a clause.

    >>> _sentence("table_1 has not been made")
    'Table 1 has not been made.'
    """
    text = titled(text)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") or not text else ".")


def _code(text: str) -> "Markup":
    """Set what stands between backticks as code."""
    from markupsafe import Markup, escape

    return Markup(BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704


def verdict(word: str) -> "Markup":
    """Mark a verdict or decision; nothing of none."""
    from markupsafe import Markup, escape

    return Markup(verdict_mark(escape(word)) if word else "")  # noqa: S704


def _suffix(path: str) -> str:
    return path.rpartition(".")[2]


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "unit": _unit,
    "hours": hours_text,
    "sentence": _sentence,
    "suffix": _suffix,
    "code": _code,
}
