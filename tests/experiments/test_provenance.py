"""The hash of behaviour: what makes a result stale, and what does not."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flowgmm.experiments import provenance
from flowgmm.experiments.provenance import code_hash, git_state, modules_used

MODEL = '''
"""A model."""
from flowgmm.maths import double as twice

__all__ = ["predict"]
OFFSET = 1


def predict(x):
    """Predict."""
    from flowgmm.maths import square

    return twice(square(x)) + OFFSET
'''
MATHS = """
def double(x):
    return 2 * x


def square(x):
    return x * x
"""
FILES = {"flowgmm/model.py": MODEL, "flowgmm/maths.py": MATHS, "flowgmm/__init__.py": ""}
SCRIPT = "from flowgmm.model import predict\n\nprint(predict(3))\n"

Hash = Callable[..., str]


@pytest.fixture
def hash_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hash:
    """Hash of a script above a package of these files."""

    def compute(script: str = SCRIPT, **changed: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        files = FILES | {f"flowgmm/{name}.py": text for name, text in changed.items()}
        for name, text in {"run.py": script, **files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(provenance, "PACKAGE", folder / "flowgmm")
        for cached in (provenance._parse, provenance._path, provenance.code_hash):
            cached.cache_clear()
        return code_hash(folder / "run.py")

    yield compute
    monkeypatch.undo()
    for cached in (provenance._parse, provenance._path, provenance.code_hash):
        cached.cache_clear()


@pytest.mark.parametrize(
    "changed",
    [
        {"script": '"""Reworded."""\n' + SCRIPT.replace("\n\n", "\n\n# Why.\n")},
        {"model": MODEL.replace("A model.", "The model.").replace('"""Predict."""', "# None.")},
        {"model": MODEL.replace('["predict"]', '["predict", "OFFSET"]')},
        # One function in a module of its own; another module, another folder, in another order.
        {
            "model": MODEL.replace("flowgmm.maths import square", "flowgmm.powers import square"),
            "maths": MATHS[: MATHS.index("def square")],
            "powers": MATHS[MATHS.index("def square") :],
        },
        {"model": MODEL.replace("flowgmm.maths", "flowgmm.deep.sums"), "deep/sums": MATHS},
    ],
)
def test_wording_and_moves_leave_the_hash(hash_of: Hash, changed: dict[str, str]) -> None:
    assert hash_of(**changed) == hash_of()


@pytest.mark.parametrize(
    "changed",
    [
        {"script": SCRIPT.replace("3", "4")},
        {"model": MODEL.replace("OFFSET = 1", "OFFSET = 2")},
        {"model": MODEL.replace("import square", "import double as square")},
        {"maths": MATHS.replace("2 * x", "3 * x")},
        {"maths": MATHS.replace("x * x", "x**3")},
    ],
)
def test_behaviour_changes_the_hash(hash_of: Hash, changed: dict[str, str]) -> None:
    assert hash_of(**changed) != hash_of()


def test_a_name_of_another_origin_changes_the_hash(hash_of: Hash) -> None:
    """Both modules are used either way; only where the name comes from differs."""
    other = MATHS.replace("2 * x", "3 * x")
    both = SCRIPT + "import flowgmm.maths\nimport flowgmm.other\n"
    moved = MODEL.replace("flowgmm.maths import double", "flowgmm.other import double")
    assert hash_of(both, model=MODEL, other=other) != hash_of(both, model=moved, other=other)


def test_modules_named_as_text_are_covered(hash_of: Hash) -> None:
    assert hash_of("x = 1\n") != hash_of()
    script = provenance.PACKAGE.parent / "run.py"
    assert code_hash(script, "flowgmm.maths") == code_hash(script)
    with pytest.raises(ValueError, match=r"flowgmm\.missing is not a module"):
        code_hash(script, "flowgmm.missing")


def test_imports_inside_functions_count() -> None:
    used = modules_used("flowgmm.experiments.train_job")
    assert {"flowgmm.evaluation.metrics", "flowgmm.experiments.tuning", "flowgmm.utils.io"} <= set(
        used
    )
    assert "flowgmm.reporting.figures" not in used


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Function that puts the package into a folder of a repository of something else."""
    (tmp_path / "thesis.tex").write_text("text")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "thesis.tex")
    git(tmp_path, "commit", "--quiet", "--message", "thesis")

    def make(folder: str) -> Path:
        place = tmp_path / folder / "flowgmm"
        shutil.copytree(provenance.PACKAGE / "experiments", place / "experiments")
        (place / "__init__.py").touch()
        monkeypatch.setattr(provenance, "PACKAGE", place)
        return place

    return make


@pytest.mark.parametrize("folder", ["flowgmm-main", "code/flowgmm", "venv/lib/site-packages"])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_commit_of_something_else_is_not_recorded(
    package: Callable[[str], Path], tmp_path: Path, folder: str, ignored: bool
) -> None:
    package(folder)
    if ignored:
        (tmp_path / ".gitignore").write_text(f"{folder}\n")
    assert git_state() is None


@pytest.mark.parametrize("folder", [".", "third_party/flowgmm"])
def test_a_commit_that_has_the_sources_is_recorded(
    package: Callable[[str], Path], tmp_path: Path, folder: str
) -> None:
    place = package(folder)
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "sources")
    state = {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    assert git_state() == state
    (place / "__init__.py").write_text("X = 1")
    assert git_state() == state | {"dirty": True}


def test_a_repository_of_its_own_inside_another(
    package: Callable[[str], Path], tmp_path: Path
) -> None:
    root = package("flowgmm-main").parent
    git(root, "init", "--quiet")
    assert git_state() is None  # nothing is committed
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "sources")
    assert git_state() == {"commit": git(root, "rev-parse", "HEAD"), "dirty": False}
    assert git(root, "rev-parse", "HEAD") != git(tmp_path, "rev-parse", "HEAD")
