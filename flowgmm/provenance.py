"""What a result came from: the package's sources, versions, device, commit."""

import ast
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["code_hash", "environment", "git_state", "modules_used"]

PACKAGE = Path(__file__).parent
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "safetensors", "flowgmm")


@functools.cache
def code_hash(script: Path, *modules: str) -> str:
    """Hexadecimal SHA-256 of a script and of all modules of this package that it uses.

    Comments and layout do not count; docstrings do. A rule passes the hash as a param, since
    Snakemake sees neither the script that a rule's `shell:` calls nor what the script imports.

    Arguments:
        script: File that a rule runs; its name counts, not its folder.
        modules: Names, such as ``"flowgmm.runs"``, of modules that it finds by name.

    Files are read once in a process, as thousands of jobs share them.
    """
    tree, imported = _parse(script)
    digest = hashlib.sha256(f"{script.name}\n{tree}\n".encode())
    for name in modules_used(*imported, *modules):
        digest.update(f"{name}\n{_parsed(name)[0]}\n".encode())
    return digest.hexdigest()


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
            waiting += _parsed(name)[1]
    return sorted(found)


def _parsed(module: str) -> tuple[str, tuple[str, ...]]:
    path = _path(module)
    if path is None:
        raise ValueError(f"{module} is not a module of {PACKAGE.name}")
    return _parse(path)


@functools.cache
def _parse(path: Path) -> tuple[str, tuple[str, ...]]:
    """Syntax tree of a file as text, and the modules of this package that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    # A package's `__init__` of lazy names imports for the type checker only; skip those blocks.
    guarded = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    imported: set[str] = set()
    for node in ast.walk(tree):
        if node in guarded:
            continue
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    mine = (name for name in imported if name.split(".")[0] == PACKAGE.name and _path(name))
    return ast.dump(tree), tuple(sorted(mine))


def _path(module: str) -> Path | None:
    """Source file of a module of this package; None if there is none."""
    base = PACKAGE.parent.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def environment() -> dict[str, Any]:
    """Python, libraries, platform and number of cores, as far as they may move a number."""
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
    """Commit of the sources and whether tracked files differ from it; None outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"commit": git("rev-parse", "HEAD"), "dirty": dirty}
    except (OSError, subprocess.CalledProcessError):
        return None
