"""The fault table: what each case did, and what survived."""

import json
import os

ALL = os.environ.get("FLOWGMM_FAULTS") == "all"


def record(case: str, tries: int, survived: int, lost: str, said: str) -> None:
    """Append a case to the file named by FLOWGMM_FAULT_LOG, if that is set.

    Arguments:
        case: What was done to what.
        tries: How often.
        survived: After how many of them nothing finished was lost and no number was wrong.
        lost: What had to be done again.
        said: What the user is told.
    """
    if path := os.environ.get("FLOWGMM_FAULT_LOG"):
        entry = {"case": case, "tries": tries, "survived": survived, "lost": lost, "said": said}
        with open(path, "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
