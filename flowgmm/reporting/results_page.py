"""Pages of published results: the summary in the README, and docs/results/README.md."""

import re
from pathlib import Path

from flowgmm.evaluation.verdicts import WORDS
from flowgmm.reporting.names import title_of
from flowgmm.reporting.results import load_results
from flowgmm.reporting.style import verdict_mark

__all__ = ["results_page", "summary_table"]

INTRODUCTION = """\
All published tables and figures, each number beside the printed one. They are copies of what the
workflow made (`make docs`); `flowgmm.load_results(recipe)` gives the numbers as a data frame."""
# A verdict or decision in a table: begins a cell or a line of it, in the summary after its count.
MARKED = "|".join((*WORDS, "holds", "does not hold", "undecided"))
VERDICT = re.compile(rf"(?:(?<=\| )|(?<=<br>))(\d+ )?({MARKED})(?= \||<br>| ·| to the| \()")
# In the order of the summary.
VERDICTS = ("reproduced", "higher", "lower", "inconclusive", "failed", "not comparable", "not run")


def _recipes(folder: Path) -> list[str]:
    """Names of the published recipes."""
    return sorted({path.parents[1].name for path in folder.glob("*/tables/*.csv")})


def summary_table(folder: Path, link: str) -> str:
    """Count the verdicts of each published table.

    Arguments:
        folder: Folder of published results, `docs/results`.
        link: Address of the page with the full tables.

    Returns:
        A markdown table with one row per table and one column per recipe. Cells that the paper does
        not print have no verdict and are not counted.
    """
    recipes = _recipes(folder)
    found: dict[str, dict[str, str]] = {}
    for recipe in recipes:
        for table, cells in load_results(recipe, folder).groupby("table"):
            found.setdefault(str(table), {})[recipe] = _counts(list(cells["verdict"]))
    lines = [
        "| | " + " | ".join(f"[{recipe}]({link}#{recipe})" for recipe in recipes) + " |",
        "| --- | " + " | ".join("---" for _ in recipes) + " |",
    ]
    for table in sorted(found, key=lambda name: (not name.startswith("table"), name)):
        shown = " | ".join(found[table].get(recipe, "") for recipe in recipes)
        lines.append(f"| {title_of(table)} | {shown} |")
    return "\n".join(lines) + "\n"


def _counts(verdicts: list[str]) -> str:
    """Numbers of cells by verdict, as text."""
    if unknown := sorted(set(verdicts) - {*VERDICTS, ""}):
        raise ValueError(f"expected verdicts {', '.join(VERDICTS)}, got {', '.join(unknown)}")
    counts = [f"{n} {word}" for word in VERDICTS if (n := verdicts.count(word))]
    if not {*verdicts} - {"not run", ""}:
        counts.insert(0, "nothing printed")
    return "<br>".join(counts)


def results_page(folder: Path) -> str:
    """Write out all published tables and figures, recipe by recipe, as one markdown page."""
    parts = [f"# Results\n\n{INTRODUCTION}\n\n{summary_table(folder, '')}"]
    for recipe in _recipes(folder):
        parts.append(f'<a id="{recipe}"></a>\n\n## Recipe `{recipe}`\n')
        parts += [
            p.read_text(encoding="utf-8") for p in sorted(folder.glob(f"{recipe}/tables/*.md"))
        ]
        for path in sorted(folder.glob(f"{recipe}/figures/*.png")):
            place = path.relative_to(folder).as_posix()
            parts.append(f"![{path.stem}, recipe {recipe}]({place})\n")
    return VERDICT.sub(lambda found: verdict_mark(found[2], found[0]), "\n".join(parts))
