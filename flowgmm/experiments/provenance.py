"""Provenance of a result: code, versions of libraries, platform and commit."""

import ast
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["code_hash", "environment", "git_state", "modules_used"]

PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "safetensors", "flowgmm")


@functools.cache
def code_hash(script: Path, *modules: str) -> str:
    """Hash the behaviour of a script and of all modules of this package that it uses.

    Comments, layout, docstrings, and the module that a definition stands in do not count: neither
    wording nor a move makes a result stale. A rule passes the hash as a param, since Snakemake sees
    neither the script that a rule's `shell:` calls nor what the script imports.

    Arguments:
        script: File that a rule runs.
        modules: Names of modules that it imports by name.

    Returns:
        Hexadecimal SHA-256. Each file is read once in a process, as thousands of jobs share them.
    """
    source = _parse(script)
    parts = [source, *(_parsed(name) for name in modules_used(*source.modules, *modules))]
    pieces = [piece for part in parts for piece in (*part.statements, *_bindings(part))]
    return hashlib.sha256("\n".join(sorted(pieces)).encode()).hexdigest()


def modules_used(*modules: str) -> list[str]:
    """Sorted names of the given modules and of those they import from this package, at any depth.

    Imports inside functions count.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _parsed(name).modules
    return sorted(found)


@dataclass(frozen=True)
class _Source:
    """Behaviour of a file.

    Attributes:
        statements: Syntax trees of its top-level statements as text, without docstrings and without
            imports from this package.
        definitions: The statement that defines each top-level name.
        imports: Module and name of each name that is imported from this package.
    """

    statements: tuple[str, ...]
    definitions: dict[str, str]
    imports: tuple[tuple[str, str], ...]

    @property
    def modules(self) -> list[str]:
        """Modules of this package that the file imports."""
        names = ((f"{module}.{name}", module) for module, name in self.imports)
        return [inner if _path(inner) else module for inner, module in names]


class _Behaviour(ast.NodeTransformer):
    """Reduce a syntax tree to its behaviour, and collect its imports from this package."""

    def __init__(self) -> None:
        self.imports: list[tuple[str, str]] = []

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[ast.get_docstring(node, clean=False) is not None :]
        return super().generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        parts = [alias.name.rpartition(".") for alias in node.names]
        self.imports += [(m, name) for m, _, name in parts if m.split(".")[0] == PACKAGE.name]
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if (node.module or "").split(".")[0] != PACKAGE.name:
            return node
        self.imports += [(str(node.module), alias.name) for alias in node.names]
        # The bound name is behaviour; the module that it comes from is not.
        names = [ast.alias(alias.name, alias.asname) for alias in node.names]
        return ast.ImportFrom(PACKAGE.name, names, 0)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        # A package's `__init__` of lazy names imports for the type checker only.
        if ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return [self.visit(statement) for statement in node.orelse]
        return self.generic_visit(node)


def _bindings(source: _Source) -> list[str]:
    """One line per imported name, with the statement that defines it."""
    return [f"{name} = {_definition(module, name)}" for module, name in source.imports]


def _definition(module: str, name: str) -> str:
    """Statement that defines a module's name, wherever the module has it from; empty: a module."""
    if _path(f"{module}.{name}"):
        return ""
    source = _parsed(module)
    if name in source.definitions:
        return source.definitions[name]
    origin = {imported: where for where, imported in source.imports}
    return _definition(origin[name], name) if name in origin else ""


def _parsed(module: str) -> _Source:
    path = _path(module)
    if path is None:
        raise ValueError(f"{module} is not a module of {PACKAGE.name}")
    return _parse(path)


@functools.cache
def _parse(path: Path) -> _Source:
    behaviour = _Behaviour()
    tree = behaviour.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    statements: list[str] = []
    definitions: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
            continue
        names = _defined(node)
        if names == ["__all__"]:
            continue
        text = ast.dump(node)
        statements.append(text)
        definitions |= dict.fromkeys(names, text)
    return _Source(tuple(statements), definitions, tuple(behaviour.imports))


def _defined(node: ast.stmt) -> list[str]:
    """Names that a top-level statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)]


@functools.cache
def _path(module: str) -> Path | None:
    """Source file of a module of this package; None if there is none."""
    base = PACKAGE.parent.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def environment() -> dict[str, Any]:
    """Python, libraries, platform and number of cores, on which numbers may depend."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional library that is not installed had no part in the result
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def git_state() -> dict[str, Any] | None:
    """Commit of the sources and whether tracked files differ from it.

    Returns:
        None where no repository tracks the sources, such as inside somebody else's.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"commit": git("rev-parse", "HEAD"), "dirty": dirty}
    except (OSError, subprocess.CalledProcessError):
        return None
