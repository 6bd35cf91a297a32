"""The READMEs: the example runs, blocks are filled from results, lists are true and whole."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.yaml_io import read_yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, on_images = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code.replace("random_state=0).fit", "n_steps=100, random_state=0).fit"), names)
    assert names["model"].n_iter_ == 100
    assert names["X_new"].shape == (100, 2)
    assert (names["model"].predict(names["X"]) == names["truth"]).mean() > 0.75
    assert (tmp_path / "model.safetensors").exists()
    images, y = load_digits(return_X_y=True)
    images = np.repeat(images[:200].reshape(-1, 1, 8, 8) / 16, 2, axis=3)
    names |= {"images": images, "y": y[:200], "other_images": images, "their_classes": y[:200]}
    exec(on_images.replace("n_steps=2000", "n_steps=2"), names)
    assert names["model"].n_iter_ == 2
    assert names["model"].temperature_ != 1


def test_every_figure_is_among_the_targets() -> None:
    (section,) = [part for part in README.split("\n## ") if part.startswith("Targets")]
    numbered = {f"figure_{i}" for i in range(1, 7)}
    named = set(re.findall(r"`(figure_\w+)`", section))
    assert set(load_checked(ROOT).figures) == named | numbered


def test_blocks_name_recipes_and_targets() -> None:
    blocks = re.findall(r"<!-- (\w+)/(\w+) -->\n", README)
    assert len(blocks) == README.count("<!-- / -->") > 0
    config = load_checked(ROOT)
    for recipe, name in blocks:
        assert (ROOT / "config" / "recipes" / f"{recipe}.yaml").exists()
        assert name in {"analyses", *config.tables, *config.figures}


def test_make_docs_fills_blocks_again_and_again(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    block = "<!-- {} -->\n{}<!-- / -->\n"
    blocks = [("a/table_1", "old\n"), ("a/figure_1", ""), ("b/table_1", "kept\n")]
    readme.write_text("start\n" + "".join(block.format(*pair) for pair in blocks) + "end\n")
    for name, content in (("tables/table_1.md", "| new \\1 |\n"), ("figures/figure_1.png", "PNG")):
        path = tmp_path / "docs" / "results" / "a" / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
    texts = []
    for _ in range(2):
        command = [sys.executable, str(ROOT / "scripts" / "readme.py")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        texts.append(readme.read_text())
    assert texts[0] == texts[1]
    assert texts[0].startswith("start\n<!-- a/table_1 -->\n\n| new \\1 |\n\n<!-- / -->\n")
    assert "![figure_1, recipe a](docs/results/a/figures/figure_1.png)" in texts[0]
    assert texts[0].endswith("<!-- b/table_1 -->\nkept\n<!-- / -->\nend\n")
    assert "b/table_1: left as it was" in done.stdout


def keys(schema: Any) -> Iterator[str]:
    """Names of all keys that a schema allows, at any depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from keys(part)


@pytest.mark.parametrize(
    "name", ["config", "recipe", "datasets", "methods", "tables", "figures", "analyses"]
)
def test_every_key_is_explained(name: str) -> None:
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    (section,) = [part for part in text.split("\n## ") if part.startswith(name)]
    wanted = set(keys(read_yaml(ROOT / "workflow" / "schemas" / f"{name}.schema.yaml")))
    assert len(wanted) > 4
    assert not [key for key in wanted if not re.search(rf"\b{key}\b", section)]
