"""Style of docstrings and headings: an imperative or the noun that a reader searches for first."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = re.compile(r"(What|How|Which|Where|Whose|Why|Whether|Of|All that|Take what)\b")


def offending_docstrings(source: str) -> list[str]:
    """Names of the modules, classes and functions in `source` whose docstring is forbidden."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [
        getattr(node, "name", "module")
        for node in nodes
        if FORBIDDEN.match(ast.get_docstring(node) or "")
    ]


@pytest.mark.parametrize("folder", ["flowgmm", "scripts", "tests", "benchmarks"])
def test_docstrings_begin_with_an_imperative_or_a_noun(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name in offending_docstrings(path.read_text(encoding="utf-8"))
    ]
    assert not found, "docstrings that begin with a question word:\n" + "\n".join(found)


def test_headings_begin_with_an_imperative_or_a_noun() -> None:
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "config").glob("*.md")]
    assert len(paths) > 10
    found = [
        f"{path.relative_to(ROOT)}: {heading}"
        for path in sorted(paths)
        for heading in re.findall(r"^#+ (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if FORBIDDEN.match(heading)
    ]
    assert not found, "headings that begin with a question word:\n" + "\n".join(found)


def test_offending_docstrings_are_named() -> None:
    source = '"""What."""\nclass A:\n    """Of x."""\n    def f(self):\n        """Offer x."""\n'
    assert offending_docstrings(source) == ["module", "A"]
