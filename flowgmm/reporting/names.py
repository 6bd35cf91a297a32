"""Names of tables, figures and analyses as a reader sees them."""

import re

__all__ = ["title_of", "titled"]

_NUMBERED = re.compile(r"(table|figure)_(\d+)_(\w+)")
_NAMED = re.compile(r"\b(table|figure)_\w+")


def title_of(name: str) -> str:
    """Title of a table, figure or analysis.

    >>> title_of("table_1"), title_of("table_7_scnf"), title_of("ood_mnist")
    ('Table 1', 'Table 7 (scnf)', 'Ood mnist')
    """
    text = _spaced(name)
    return text[:1].upper() + text[1:]


def titled(text: str) -> str:
    """Text with names of tables and figures as words.

    >>> titled("see table_7_scnf and figure_2")
    'see table 7 (scnf) and figure 2'
    """
    return _NAMED.sub(lambda found: _spaced(found[0]), text)


def _spaced(name: str) -> str:
    return _NUMBERED.sub(r"\1 \2 (\3)", name).replace("_", " ")
