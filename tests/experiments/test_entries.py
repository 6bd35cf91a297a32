"""Entries of the config files: the classes have the keys of the schemas, no more and no fewer."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from flowgmm.experiments.entries import (
    Analysis,
    AnalysisRun,
    Claim,
    ClaimPart,
    Column,
    Dataset,
    Figure,
    Method,
    MethodSettings,
    Panel,
    PaperClaim,
    Printed,
    Recipe,
    Row,
    RunSettings,
    Settings,
    Table,
    Vary,
    as_written,
    make_entry,
)
from flowgmm.experiments.project import FILES, read_schema
from flowgmm.experiments.validation import check
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]
# Place of each object with keys of its own in the schemas.
CLASSES: dict[str, type] = {
    "config": Settings,
    "datasets.$defs.dataset": Dataset,
    "methods.additionalProperties": Method,
    "tables.$defs.row": Row,
    "tables.$defs.claim": Claim,
    "tables.$defs.column": Column,
    "tables.$defs.table": Table,
    "figures.$defs.figure": Figure,
    "figures.$defs.figure.properties.panels.items": Panel,
    "analyses.$defs.analysis": Analysis,
    "analyses.$defs.analysis.properties.runs.additionalProperties": AnalysisRun,
    "claims.$defs.claim": PaperClaim,
    "claims.$defs.part": ClaimPart,
    "paper_results.$defs.number": Printed,
    "recipe": Recipe,
    "recipe.$defs.settings": RunSettings,
    "recipe.$defs.settings.properties.vary": Vary,
    "recipe.$defs.method": MethodSettings,
}
# `flowgmm.experiments.entries` says why they are mappings.
MAPPINGS = {
    "datasets.$defs.rows",
    "datasets.$defs.file",
    "datasets.$defs.address",
    "datasets.$defs.dataset.properties.authors",
    "datasets.$defs.stand_in",
    "datasets.$defs.text_embedding",
    "datasets.$defs.image_embedding",
    "datasets.$defs.label_set",
    "paper_results",
}
# Objects of one level of a recipe, of which the entries are merged: no key is required there.
MERGED = (RunSettings, Vary, MethodSettings)


def objects(schema: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Objects of a schema that accept no other keys than those they name."""
    if isinstance(schema, Mapping):
        if schema.get("additionalProperties") is False:
            yield place, schema
        for key, inner in schema.items():
            yield from objects(inner, f"{place}.{key}")


SCHEMAS = {
    place: schema
    for name in ("config", "recipe", *FILES)
    for place, schema in objects(read_schema(ROOT, name), name)
}


def test_every_object_of_the_schemas_is_an_entry_or_said_to_be_a_mapping() -> None:
    assert set(SCHEMAS) == set(CLASSES) | MAPPINGS


@pytest.mark.parametrize("place", CLASSES)
def test_a_class_has_the_keys_of_its_schema(place: str) -> None:
    schema, items = SCHEMAS[place], fields(CLASSES[place])
    assert {item.name for item in items} == set(schema["properties"])
    required = set(schema.get("required", []))
    ways = [set(way["required"]) for way in schema.get("oneOf", [])]
    required |= set.intersection(*ways) if ways else set()
    needed = {i.name for i in items if i.default is MISSING and i.default_factory is MISSING}
    assert needed == required or CLASSES[place] in MERGED


def test_entries_inside_an_entry_are_made_too() -> None:
    column = {"dataset": "moons", "labels": "10", "title": "Moons", "notes": ["a"]}
    content = {
        "title": "T",
        "aggregate": "mean",
        "spread": "std",
        "evaluate": "test",
        "columns": [column, column | {"paper": None}],
        "rows": ["knn", {"method": "flowgmm", "title": "FlowGMM"}],
    }
    table = make_entry(Table, content)
    assert table.columns[0] == Column(dataset="moons", labels="10", title="Moons", notes=["a"])
    assert table.columns[1].paper is None != table.columns[0].paper
    assert table.rows == ["knn", Row(method="flowgmm", title="FlowGMM")]
    assert table.quoted == []
    with pytest.raises(FrozenInstanceError):
        table.title = "other"  # type: ignore[misc]
    with pytest.raises(TypeError, match="read-only"):
        table.rows.append("mlp")  # type: ignore[attr-defined]


def test_an_entry_is_written_as_it_was_read() -> None:
    panel = {"dataset": "moons", "labels": "10", "method": "flowgmm", "title": "(a)"}
    panel |= {"x_limits": [-1, 1], "z_limits": [-1.5, 1]}
    figure = {"title": "F", "function": "transport", "panels": [panel]}
    assert as_written(make_entry(Figure, figure)) == figure
    sets = {"all": {"n_labels": "all", "n_unlabelled": None}}
    data = {"title": "D", "kind": "table", "licence": "free", "loader": "table", "labels": sets}
    assert as_written(make_entry(Dataset, data)) == data


# Keywords that only bear on a value of one type, and that any other value passes unseen.
TYPED = {"properties", "additionalProperties", "patternProperties", "items", "propertyNames"}


def untyped(schema: Any, place: str) -> Iterator[str]:
    """Schemas that describe what is inside a value without saying of which type it is."""
    if isinstance(schema, list):
        for i, inner in enumerate(schema):
            yield from untyped(inner, f"{place}.{i}")
    if isinstance(schema, Mapping):
        if set(schema) & TYPED and "type" not in schema:
            yield place
        for key, inner in schema.items():
            # Of a value whose type the schema around them states.
            if key in ("if", "then", "else", "oneOf"):
                continue
            names = key in ("properties", "patternProperties", "$defs")
            for name, schema_of in inner.items() if names else [("", inner)]:
                yield from untyped(schema_of, f"{place}.{key}.{name}".rstrip("."))


@pytest.mark.parametrize("name", ["config", "recipe", *FILES])
def test_a_schema_states_the_type_of_all_that_it_looks_into(name: str) -> None:
    assert list(untyped(read_schema(ROOT, name), name)) == []


@pytest.mark.parametrize("value", [None, [], [{}], 3, "knn", True])
@pytest.mark.parametrize(
    "path",
    [
        ("table_1", "results"),
        ("table_1", "results", "yahoo"),
        ("table_3", "results", "mnist", "flowgmm"),
        ("table_6", "results"),
        ("table_6", "results", "ag_news"),
        ("table_6", "results", "ag_news", "flowgmm"),
        ("table_7", "results", "moons", "flowgmm", "nll"),
        ("other_numbers", "em_mnist_1000", "accuracy", "reported_by"),
        ("meta",),
    ],
)
def test_numbers_of_the_paper_that_are_none_are_named(path: tuple[str, ...], value: object) -> None:
    printed = read_yaml(ROOT / "config" / "paper_results.yaml")
    inner = printed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UserError, match="/".join(path[:1])):
        check(printed, read_schema(ROOT, "paper_results"), "config/paper_results.yaml")


@pytest.mark.parametrize("value", ["0.5", [0.5], True, {}])
@pytest.mark.parametrize("key", ["value", "spread"])
def test_digits_outside_the_tables_are_numbers(key: str, value: object) -> None:
    printed = read_yaml(ROOT / "config" / "paper_results.yaml")
    printed["other_numbers"]["em_mnist_1000"]["accuracy"][key] = value
    with pytest.raises(UserError, match=rf"other_numbers.em_mnist_1000.accuracy.{key}: "):
        check(printed, read_schema(ROOT, "paper_results"), "config/paper_results.yaml")


@pytest.mark.parametrize("chosen", [{}, {"lr": 0.1, "alpha": 1.0}, {"lr": "0.1"}, {"lr": None}])
def test_a_chosen_hyper_parameter_is_one_number(chosen: dict[str, object]) -> None:
    printed = read_yaml(ROOT / "config" / "paper_results.yaml")
    check(printed, read_schema(ROOT, "paper_results"), "config/paper_results.yaml")
    printed["table_6"]["results"]["ag_news"]["flowgmm"] = chosen
    with pytest.raises(UserError, match="table_6"):
        check(printed, read_schema(ROOT, "paper_results"), "config/paper_results.yaml")
