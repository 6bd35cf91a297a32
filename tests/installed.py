"""Wheel and source distribution, and environments that have what they need and nothing else."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from workspace import ROOT

SOURCES = ("flowgmm", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


def build(folder: Path, kind: str, source: Path | None = None) -> Path:
    """Build a distribution as pip does, from a copy of the sources.

    Arguments:
        folder: Where it goes.
        kind: wheel or sdist.
        source: Unpacked sources; None: this repository's.
    """
    tree = folder / "tree"
    if source is None:
        tree.mkdir(parents=True)
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
    code = "import sys, setuptools.build_meta as b; getattr(b, 'build_' + sys.argv[1])(sys.argv[2])"
    command = [sys.executable, "-c", code, kind, str(folder.resolve())]
    subprocess.run(command, cwd=source or tree, check=True, capture_output=True)
    (made,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def needed(wheel: Path, *extras: str) -> set[str]:
    """Names of the distributions that pip would install beside the wheel with these extras."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    own = re.findall(r"^Requires-Dist: (.*)", metadata, re.MULTILINE)
    found: set[tuple[str, str]] = set()
    waiting = [("flowgmm", extra) for extra in ("", *extras)]
    while waiting:
        name, extra = item = waiting.pop()
        if item in found:
            continue
        found.add(item)
        lines = own if name == "flowgmm" else importlib.metadata.requires(name) or ()
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                for more in ("", *requirement.extras):
                    waiting.append((canonicalize_name(requirement.name), more))
    return {name for name, _ in found} - {"flowgmm"}


class Environment:
    """Virtual environment with the wheel and what it needs, linked from the one of the tests."""

    def __init__(self, folder: Path, wheel: Path, *extras: str) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        for name in needed(wheel, *extras):
            distribution = importlib.metadata.distribution(name)
            for top in {file.parts[0] for file in distribution.files or ()} - {"..", "bin"}:
                target = Path(str(distribution.locate_file(top)))
                if target.exists() and not (site / top).exists():
                    (site / top).symlink_to(target)
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
        options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
        subprocess.run([*pip, *options, str(wheel)], check=True)

    def run(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in a folder, without the repository in sight."""
        hidden = ("PYTHONPATH", "PYTHONHOME")
        variables = {key: value for key, value in os.environ.items() if key not in hidden}
        program, *arguments = command
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=folder,
            env=variables | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=300,
        )
