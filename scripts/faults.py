"""Write the fault table, docs/faults.md, from what the fault suite recorded.

Each line of the log is one case, as `tests/faults.py` writes it; of equal cases the last counts.
"""

import argparse
import json
import re
from pathlib import Path

from flowgmm.experiments.job_script import run_script
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import write_text

HEAD = """# Faults

Cases of the fault suite. One survives if no number in a table is wrong, nothing finished is lost,
and the message names the remedy. `make faults` makes the table anew, with all tries.
{fuzzed:,} of the tries are files with random changes, of which none ended in a traceback.

| case | tries | survived | lost at most | message |
| --- | --- | --- | --- | --- |
"""


# Of a longer message the beginning and the end, which has the remedy.
LONGEST, BEGINNING, END = 300, 150, 120


def cell(value: object) -> str:
    """A value on one line, without what differs from machine to machine: folders, ports.

    Hashes and long messages are cut.
    """
    text = re.sub(r"\S*/pytest-of-[^/]+/pytest-[^/]+/(popen-[^/]+/)?[^/]+/", "", str(value))
    text = re.sub(r"127\.0\.0\.1('?, port=|:)\d+", "server", text)
    text = re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"\1…", text)
    text = " ".join(text.replace("|", "/").split())
    if len(text) <= LONGEST:
        return text
    return f"{text[:BEGINNING].rpartition(' ')[0]} … {text[-END:].partition(' ')[2]}"


def main(options: argparse.Namespace) -> None:
    log = Path(options.log)
    if not log.is_file():
        raise UserError(f"{log} not found; `make faults` makes it")
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    found = {line["case"]: line for line in lines}
    cases = [found[case] for case in sorted(found)]
    rows = [" | ".join(map(cell, case.values())) for case in cases]
    fuzzed = sum(case["tries"] for case in cases if case["case"].startswith("random "))
    write_text(options.output, HEAD.format(fuzzed=fuzzed) + "".join(f"| {row} |\n" for row in rows))
    for case in cases:
        if case["survived"] != case["tries"]:
            raise UserError(f"{case['case']}: {case['survived']} of {case['tries']} survived")


if __name__ == "__main__":
    run_script(main, "log", "output")
