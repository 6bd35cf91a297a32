"""Snakemake in a process of its own that tells its events as JSON lines among its output.

The events of Snakemake's log are its interface for plugins; its text is not one.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["MARK", "command", "parse"]

# Begins a line that is an event; no other line does.
MARK = "\x1e"
FIELDS = {
    "job_info": ("jobid", "rule_name", "wildcards", "output"),
    "job_finished": ("job_id",),
    "job_error": ("jobid", "rule_name", "log", "shellcmd"),
    "group_error": ("job_error_info",),
}


def command(arguments: Sequence[str]) -> list[str]:
    """Command line that runs Snakemake with these arguments and tells its events."""
    return [sys.executable, "-m", "flowgmm.apps.run.events", *arguments]


def parse(line: str) -> dict[str, Any] | None:
    """Content of an event: its fields and ``event``, its name; None of any other line."""
    if not line.startswith(MARK):
        return None
    content: dict[str, Any] = json.loads(line[len(MARK) :])
    return content


def _plain(value: Any) -> Any:
    """Value as JSON has it."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "items"):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set) or hasattr(value, "_names"):
        return [_plain(inner) for inner in value]
    return str(value)


def _tell(record: Any) -> bool:
    """Write an event to standard output; a filter of Snakemake's logger, which lets all pass."""
    name = str(getattr(record, "event", None))
    if name in FIELDS:
        found = {field: _plain(getattr(record, field, None)) for field in FIELDS[name]}
        print(f"{MARK}{json.dumps(found | {'event': name})}", flush=True)
    return True


def main(arguments: Sequence[str]) -> int:
    """Run Snakemake; 0 if it succeeds."""
    from snakemake.cli import args_to_api, parse_args
    from snakemake.logging import logger

    logger.addFilter(_tell)
    parser, options = parse_args(list(arguments))
    return 0 if args_to_api(options, parser) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
