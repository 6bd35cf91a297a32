"""What the fault suite did and what survived, for the table in docs/faults.md."""

import json
import os
from pathlib import Path

# `make faults` asks for all tries; without it the suite makes a few, so that it stays short.
ALL = os.environ.get("FLOWGMM_FAULTS") == "all"


def tries(few: int, many: int = 20) -> int:
    """How often a case is tried."""
    return many if ALL else few


def record(case: str, tries: int, survived: int, lost: str, said: str) -> None:
    """Append a line to the file that `FLOWGMM_FAULT_LOG` names, if it does.

    Arguments:
        case: What was done, as the table shows it.
        tries: How often.
        survived: Tries after which no number was wrong and nothing finished was lost.
        lost: What had to be done again, at most.
        said: The message, or what happens without one.
    """
    if path := os.environ.get("FLOWGMM_FAULT_LOG"):
        line = {"case": case, "tries": tries, "survived": survived, "lost": lost, "said": said}
        with Path(path).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
