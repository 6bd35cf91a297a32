"""Record of the fault suite, for the table in docs/faults.md."""

import json
import os
from pathlib import Path

# `make faults` asks for all tries; otherwise the suite makes a few.
ALL = os.environ.get("FLOWGMM_FAULTS") == "all"


def tries(few: int, many: int = 20) -> int:
    """Number of tries of a case."""
    return many if ALL else few


def record(case: str, tries: int, survived: int, lost: str, said: str) -> None:
    """Append a line to the file named by `FLOWGMM_FAULT_LOG`, if set.

    Arguments:
        case: The fault, as the table shows it.
        tries: Number of tries.
        survived: Tries after which no number was wrong and nothing finished was lost.
        lost: Work that had to be done again, at most.
        said: The message, or the behaviour without one.
    """
    if path := os.environ.get("FLOWGMM_FAULT_LOG"):
        line = {"case": case, "tries": tries, "survived": survived, "lost": lost, "said": said}
        with Path(path).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
