"""Specs of analyses: printed numbers that theirs are compared with."""

from collections.abc import Mapping
from typing import Any

from flowgmm.utils.errors import UserError

__all__ = ["printed_numbers"]

# "About 75 %" is read as printed to the nearest 5: twice this is the margin.
APPROXIMATE = 2.5


def printed_numbers(
    printed: Mapping[str, str], paper_results: Mapping[str, Any], where: str
) -> dict[str, dict[str, Any]]:
    """Look up the printed numbers that belong to an analysis's own.

    Arguments:
        printed: Path in paper_results.yaml by number, its parts joined by /; a list's entries
            belong to ``{number}_0``, ``{number}_1``, ...
        paper_results: Content of that file.
        where: Entry of the analysis in the config, for messages.

    Returns:
        ``value``, ``spread`` and ``path`` by number.

    Raises:
        UserError: If a path leads nowhere.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, path in printed.items():
        entry: Any = paper_results
        for part in path.split("/"):
            if not isinstance(entry, Mapping) or part not in entry:
                raise UserError(
                    f"{where}.printed.{name}: config/paper_results.yaml has no {path!r}; "
                    f"{part!r} was not found, correct the path"
                )
            entry = entry[part]
        entries = {name: entry}
        if isinstance(entry, list):
            entries = {f"{name}_{i}": {"value": value} for i, value in enumerate(entry)}
        for key, number in entries.items():
            if not isinstance(number, Mapping) or not isinstance(number.get("value"), (int, float)):
                raise UserError(
                    f"{where}.printed.{name}: {path!r} of config/paper_results.yaml is no number; "
                    "name an entry with a `value`, or a list of numbers"
                )
            spread = number.get("spread") or (APPROXIMATE if number.get("approximate") else None)
            found[key] = {"value": number["value"], "spread": spread, "path": path}
    return found
