"""Pages: examples run, results are those that are published, lists are true and whole."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_moons

from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.specs.claims import claims_spec
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.reporting.claims_page import claims_page
from flowgmm.reporting.results_page import results_page, summary_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def examples(page: str) -> list[str]:
    """Python code of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_readme_fits_on_a_few_screens() -> None:
    assert README.count("\n") <= 160


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = examples("README.md")
    (on_images,) = examples("docs/images.md")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert names["model"].preset_ == "tables"
    assert names["X_new"].shape == (100, 2)
    assert (names["model"].predict(names["X"]) == names["truth"]).mean() > 0.75
    assert (tmp_path / "model.safetensors").exists()
    images, y = load_digits(return_X_y=True)
    images = np.repeat(images[:200].reshape(-1, 1, 8, 8) / 16, 2, axis=3)
    names |= {"images": images, "y": y[:200], "other_images": images, "their_classes": y[:200]}
    exec(on_images.replace("n_steps=2000", "n_steps=2"), names)
    assert names["model"].n_iter_ == 2
    assert names["model"].temperature_ != 1


def test_the_page_of_estimators_runs() -> None:
    first, second = examples("docs/estimators.md")
    names: dict = {}
    exec(second, names)
    X, y = make_moons(60, random_state=0)
    fitted = names["search"].set_params(estimator__training__n_steps=5, cv=2).fit(X, y)
    assert fitted.best_params_["training__lr"] in (3e-4, 1e-3)
    assert "FlowGMMClassifier" in first


def test_every_figure_is_among_the_targets() -> None:
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    (section,) = [part for part in page.split("\n## ") if part.startswith("Targets")]
    numbered = {f"figure_{i}" for i in range(1, 7)}
    named = set(re.findall(r"`(figure_\w+)`", section))
    assert set(load_checked(ROOT).figures) == named | numbered


def test_pages_of_results_are_those_of_the_published_results() -> None:
    folder = ROOT / "docs" / "results"
    assert summary_table(folder, "docs/results/README.md") in README
    assert results_page(folder) == (folder / "README.md").read_text(encoding="utf-8")


def test_published_tables_and_figures_are_shown_and_counted(tmp_path: Path) -> None:
    tables, figures = tmp_path / "a" / "tables", tmp_path / "a" / "figures"
    tables.mkdir(parents=True)
    figures.mkdir()
    words = ["reproduced", "lower", "reproduced", ""]
    rows = "".join(f"a,table_1,d,1,m,accuracy,{word}\n" for word in words)
    (tables / "table_1.csv").write_text(
        f"recipe,table,dataset,labels,method,metric,verdict\n{rows}"
    )
    (tables / "table_1.md").write_text("| a table |\n| 1.2<br>lower · paper 2 | lower case |\n")
    (figures / "figure_1.png").write_bytes(b"PNG")
    summary = summary_table(tmp_path, "page.md")
    assert "| Table 1 | 2 reproduced<br>1 lower |" in summary
    page = results_page(tmp_path)
    assert "| a table |" in page
    # Verdicts are marked for the style sheet, and nothing else.
    marked = re.findall('<span class="verdict ([a-z-]+)">([^<]*)</span>', page)
    assert marked == [("reproduced", "2 reproduced"), ("lower", "1 lower"), ("lower", "lower")]
    assert "![figure_1, recipe a](a/figures/figure_1.png)" in page
    (tables / "table_1.csv").write_text(
        "recipe,table,dataset,labels,method,verdict\na,table_1,d,1,m,unheard\n"
    )
    with pytest.raises(ValueError, match="got unheard"):
        summary_table(tmp_path, "")


def test_cited_discrepancies_and_traps_are_specified() -> None:
    page = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
    anchors = set(re.findall(r'<a id="([^"]+)">', page))
    cited: set[str] = set()
    for folder in ("flowgmm", "config", "workflow", "docs", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".smk", ".md"):
                text = path.read_text(encoding="utf-8")
                cited |= {f"d{n}" for n in re.findall(r"\bD([1-9][0-9]?)\b", text)}
                cited |= {f"trap-{n}" for n in re.findall(r"\b[Tt]rap ([0-9]+)", text)}
    assert len(cited) > 30
    assert not cited - anchors


def keys(schema: Any) -> Iterator[str]:
    """Names of all keys that a schema allows, at any depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from keys(part)


@pytest.mark.parametrize(
    "name", ["config", "recipe", "datasets", "methods", "tables", "figures", "analyses", "claims"]
)
def test_every_key_is_explained(name: str) -> None:
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    (section,) = [part for part in text.split("\n## ") if part.startswith(name)]
    wanted = set(keys(read_yaml(ROOT / "workflow" / "schemas" / f"{name}.schema.yaml")))
    assert len(wanted) > 4
    assert not [key for key in wanted if not re.search(rf"\b{key}\b", section)]


def test_the_page_of_claims_is_that_of_the_config() -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert page == claims_page(claims_spec(load_checked(ROOT)), ROOT / "docs" / "results")
