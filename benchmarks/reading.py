"""Reading a CSV as text against pandas, which guesses the types: time and peak memory.

Both read the same file in turn, each in a process of its own, libraries imported before: 16
columns of numbers, three categories and a label with empty cells. In `quoted` every cell is in
quotes, in `breaks` every hundredth row has a line break.

    OMP_NUM_THREADS=1 python benchmarks/reading.py
    OMP_NUM_THREADS=1 python benchmarks/reading.py plain --rows 1000000 --repeats 3
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import chosen, machine, make_parser, quartiles, resident, write_results

KINDS = ("plain", "quoted", "breaks", "quoted_breaks")
SIDES = ("text", "pandas")


def write_table(path: Path, kind: str, n_rows: int) -> None:
    """Write a table of 20 columns."""
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n_rows, 16)).round(4)).add_prefix("x")
    for name in ("a", "b", "c"):
        frame[name] = rng.choice(["red", "green", "light blue"], n_rows)
    if "breaks" in kind:
        frame.loc[::100, "c"] = "two\nlines"
    frame["y"] = rng.choice(["p", "q", ""], n_rows)
    frame.to_csv(
        path, index=False, quoting=csv.QUOTE_ALL if "quoted" in kind else csv.QUOTE_MINIMAL
    )


def read(path: Path, side: str) -> dict[str, float]:
    """Measure one reading: wall and CPU seconds, and MiB beyond the libraries'."""
    import pandas as pd

    from flowgmm.tabular.reading import read_table

    small = path.with_suffix(".small")
    readers = {"text": read_table, "pandas": lambda file: pd.read_csv(file, low_memory=False)}
    readers[side](small)  # imports what is imported at the first call
    libraries = resident("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    readers[side](path)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu_seconds": cpu, "beyond_mib": resident("VmHWM") - libraries}


def compare(path: Path, kind: str, repeats: int) -> dict[str, Any]:
    """Read a file by each side in turn; ratios are of neighbouring readings."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side in SIDES:
            command = [sys.executable, __file__, kind, "--inside", str(path), "--side", side]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[side].append(json.loads(done.stdout))
    ours, theirs = found["text"], found["pandas"]
    summary: dict[str, Any] = {"mib": path.stat().st_size / 2**20}
    for name in ours[0]:
        summary |= {f"{side}_{name}": quartiles([r[name] for r in found[side]]) for side in SIDES}
        ratios = [a[name] / b[name] for a, b in zip(ours, theirs, strict=True)]
        summary[f"ratio_of_{name}"] = quartiles(ratios)
    return summary


def main() -> None:
    """Compare the sides on each kind of file asked for; print a line a number."""
    parser = make_parser(__doc__, "kinds")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(read(Path(args.inside), args.side)))
        return
    results: dict[str, Any] = {"machine": machine(1), "rows": args.rows}
    with tempfile.TemporaryDirectory() as folder:
        for kind in chosen(parser, args.kinds, KINDS):
            path = Path(folder) / f"{kind}.csv"
            write_table(path.with_suffix(".small"), kind, 9)
            write_table(path, kind, args.rows)
            results[kind] = compare(path, kind, args.repeats)
            for name, value in results[kind].items():
                print(kind, name, value, flush=True)
    write_results(args.json, results)


if __name__ == "__main__":
    main()
