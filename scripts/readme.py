"""Bring the README's tables and pictures up to date with docs/results.

A block lies between `<!-- {recipe}/{name} -->` and `<!-- / -->`; name is a table or figure.
"""

import argparse
import re
from pathlib import Path

from flowgmm.experiments.job_script import run_script
from flowgmm.utils.io import write_text

BLOCK = re.compile(r"(<!-- (\w+)/(\w+) -->\n).*?(<!-- / -->)", re.DOTALL)
README = Path("README.md")


def fill(block: re.Match[str]) -> str:
    """A block with its present content; as it was where the result is not there."""
    start, recipe, name, end = block.groups()
    folder = Path("docs", "results", recipe)
    table, figure = folder / "tables" / f"{name}.md", folder / "figures" / f"{name}.png"
    if table.exists():
        content = table.read_text(encoding="utf-8")
    elif figure.exists():
        content = f"![{name}, recipe {recipe}]({figure})\n"
    else:
        print(f"{recipe}/{name}: left as it was; there is no {table} or {figure}")
        return block[0]
    print(f"{recipe}/{name}: up to date")
    return f"{start}\n{content}\n{end}"


def main(_: argparse.Namespace) -> None:
    write_text(README, BLOCK.sub(fill, README.read_text(encoding="utf-8")))


if __name__ == "__main__":
    run_script(main)
