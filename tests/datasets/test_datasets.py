"""Datasets: every loader on files of the true format, and the contract."""

import gzip
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from flowgmm.datasets.download import absent, download_file
from flowgmm.datasets.features import drop_constant_columns, prepare_data
from flowgmm.datasets.loaders.text import normalise
from flowgmm.datasets.registry import LOADERS, dataset_spec, load
from flowgmm.datasets.splits import draw_split
from flowgmm.datasets.types import Arrays, Images, Texts
from flowgmm.datasets.validation import check_arrays
from flowgmm.experiments.checks import load_checked as load_config
from flowgmm.experiments.entries import as_written
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]
MIRROR = ROOT.parent / "shared" / "data"
DATASETS = {name: as_written(entry) for name, entry in load_config(ROOT).datasets.items()}
TABLES = {name: entry for name, entry in DATASETS.items() if entry["kind"] != "image"}
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/datasets.schema.yaml").read_text())


# Small files of the true formats


def write_hepmass(raw, n_train=2000, n_test=1000, train_columns=28):
    """Label and 27 features, six of them with a repeated smallest value; one surplus in test."""
    rng = np.random.default_rng(0)
    header = "# label," + ",".join(f"f{i}" for i in range(27))
    for name, n, width in (("train", n_train, train_columns), ("test", n_test, 29)):
        table = rng.standard_normal((n, width))
        table[:, 0] = np.arange(n) % 2
        table[:, 1:7] = np.maximum(table[:, 1:7], 0)
        lines = [header, *(",".join(f"{value:.18e}" for value in row) for row in table)]
        with gzip.open(raw / f"1000_{name}.csv.gz", "wt") as handle:
            handle.write("\n".join(lines) + "\n")


def write_miniboone(raw, n_signal=300, n_background=700):
    """Counts, signal, background; outlying rows; seven features with a repeated minimum."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((n_signal + n_background, 50))
    table[:, 3:10] = np.maximum(table[:, 3:10], 0)
    table[n_signal + 5] = table[4] = -999.0
    rows = "\n".join("   " + "  ".join(f"{value:.5E}" for value in row) for row in table)
    (raw / "MiniBooNE_PID.txt").write_text(f"  {n_signal} {n_background}\n{rows}\n")


def write_text(raw, name, n_classes, fields, n):
    rows = []
    for i in range(n):
        texts = ",".join(f'"Text ""{i}"" field {j}<br />with, marks"' for j in range(fields))
        rows.append(f'"{i % n_classes + 1}",{texts}')
    (raw / name).parent.mkdir(parents=True, exist_ok=True)
    (raw / name).write_text("\n".join(rows) + "\n")


def write_yahoo(raw, n_train=60_000, n_test=10_010):
    write_text(raw, "yahoo_answers_csv/train.csv", 10, 3, n_train)
    write_text(raw, "yahoo_answers_csv/test.csv", 10, 3, n_test)
    with tarfile.open(raw / "yahoo_answers_csv.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(raw / "yahoo_answers_csv", "yahoo_answers_csv")


def write_ag_news(raw):
    write_text(raw, "train.csv", 4, 2, 120_000)
    write_text(raw, "test.csv", 4, 2, 7600)


def write_magic(raw):
    rng = np.random.default_rng(0)
    rows = [",".join(f"{v:.4f}" for v in rng.normal(size=10)) for _ in range(19_020)]
    lines = [f"{row},{'g' if i < 12_332 else 'h'}" for i, row in enumerate(rows)]
    (raw / "magic04.data").write_text("\n".join(lines) + "\n")


def write_points(file, n_classes, n_known):
    def write(raw):
        X = np.random.default_rng(0).normal(size=(1000, 2))
        y = np.where(np.arange(1000) < n_known, np.arange(1000) % n_classes, -1).astype(float)
        np.savez(raw / file, data=X, labels=y)

    return write


SMALL = {
    "eight_gaussians": (write_points("8gauss.npz", 3, 40), {}, {}),
    "pinwheel": (write_points("pinwheel.npz", 5, 40), {}, {}),
    "ag_news": (write_ag_news, {}, {}),
    "yahoo": (write_yahoo, {}, {}),
    "magic": (write_magic, {}, {}),
    "hepmass": (
        write_hepmass,
        {"train_rows": 200, "file_rows": [2000, 1000]},
        {"train": 200, "test": 40},
    ),
    "miniboone": (write_miniboone, {}, {"train": 540, "test": 60}),
    "miniboone_clean": (write_miniboone, {}, {"train": 538, "test": 60}),
}


def spec_and_files(name, raw):
    """A dataset's spec and raw files: the mirror's, or small ones of the true format."""
    entry = DATASETS[name]
    if "files" not in entry:
        return dataset_spec(name, entry, None)
    if MIRROR.is_dir() and absent(entry, MIRROR, offline=True) is None:
        spec = dataset_spec(name, entry, MIRROR)
        for file, source in spec["files"].items():
            download_file(source, raw / file, MIRROR)
        return spec
    if name not in SMALL:
        pytest.skip("the mirror ../shared/data not found; small files: test_cifar.py")
    write, options, rows = SMALL[name]
    write(raw)
    spec = dataset_spec(name, entry, None)
    spec["options"] = spec["options"] | options
    spec["rows"] = spec.get("rows", {}) | rows
    return spec


# The contract


def test_entries_meet_the_schema():
    jsonschema.Draft202012Validator(SCHEMA).validate(DATASETS)
    assert set(SCHEMA["$defs"]["dataset"]["properties"]["loader"]["enum"]) == set(LOADERS)


@pytest.mark.parametrize("change", [{"kinds": "2d"}, {"kind": "3d"}, {"labels": {"a-b": {}}}])
def test_schema_refuses(change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"moons": DATASETS["moons"] | change}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"mo-ons": DATASETS["moons"]}, SCHEMA)


# Texts and images come in full size: slow.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.system)
        if entry["kind"] in ("text", "transfer")
        else name
        for name, entry in TABLES.items()
    ],
)
def test_contract(name, tmp_path):
    spec = spec_and_files(name, tmp_path)
    if spec["kind"] == "text":
        data = load(spec, tmp_path)
        assert isinstance(data, Texts)
        assert {"train": len(data.train), "test": len(data.test)} == spec["rows"]
        assert all(normalise(text) for text in data.train + data.test)
        y_train, y_test, classes = data.y_train, data.y_test, data.classes
    elif spec["kind"] == "transfer":
        data = load(spec, tmp_path)
        assert isinstance(data, Images)
        assert {"train": len(data.train), "test": len(data.test)} == spec["rows"]
        assert data.train.dtype == data.test.dtype == np.uint8 and data.train.ndim == 4
        y_train, y_test, classes = data.y_train, data.y_test, data.classes
    else:
        arrays, meta = prepare_data(spec, tmp_path)
        assert arrays["X_train"].dtype == arrays["X_test"].dtype == np.float32
        y_train, y_test, classes = arrays["y_train"], arrays["y_test"], meta["classes"]
        assert set(meta["sources"]) == set(spec["files"])
        assert meta["spec"] == spec and meta["dataset"] == name
        again = prepare_data(spec, tmp_path)[0]
        assert all(np.array_equal(arrays[key], again[key]) for key in arrays)
    assert y_train.dtype == y_test.dtype == np.int64
    assert set(y_train) - {-1} == set(y_test) == set(range(len(classes)))
    for label_set in DATASETS[name]["labels"].values():
        n_val = min(label_set.get("n_val", 0), len(y_train) // 4)
        split = draw_split(y_train, **label_set | {"n_val": n_val}, split_seed=0, labels_seed=0)
        assert set(y_train[split["labelled"]]) == set(range(len(classes)))


@pytest.mark.parametrize(
    "name", [name for name in TABLES if "n_features" in TABLES[name].get("surrogate", {})]
)
def test_surrogate(name, tmp_path):
    spec = dataset_spec(name, DATASETS[name], None, surrogate=True)
    arrays, meta = prepare_data(spec, tmp_path)
    assert len(arrays["X_train"]) == 5000 and len(arrays["X_test"]) == 2000
    assert np.abs(arrays["X_train"]).max() < 1
    assert meta["not_comparable"] == [
        f"surrogate data, generated in place of {DATASETS[name]['title']}"
    ]
    assert len(meta["classes"]) == spec["options"]["n_classes"]


def test_surrogate_has_the_bayes_accuracy_it_says(tmp_path):
    """With one cluster a class a straight boundary is nearly the best one."""
    from sklearn.linear_model import LogisticRegression

    from flowgmm.datasets.loaders.surrogate import load_surrogate

    data = load_surrogate(tmp_path, n_features=2, n_classes=2, n_clusters=1, n_test=20_000)
    model = LogisticRegression(C=1e6).fit(data.X_train, data.y_train)
    assert abs(model.score(data.X_test, data.y_test) - 0.85) < 0.015


def test_unknown_names(tmp_path):
    spec = dataset_spec("moons", DATASETS["moons"], None)
    with pytest.raises(UserError, match="'moons': unknown loader 'moon'; expected one of moons"):
        load(spec | {"loader": "moon"}, tmp_path)
    with pytest.raises(UserError, match=r"unexpected keyword argument 'noize'.*takes the options"):
        load(spec | {"options": {"noize": 1}}, tmp_path)
    with pytest.raises(UserError, match="'moons': `surrogate` missing"):
        dataset_spec("moons", DATASETS["moons"], None, surrogate=True)


def arrays_of(X, y=None, classes=("a", "b"), columns=()):
    y = np.arange(len(X)) % 2 if y is None else np.asarray(y)
    return Arrays(X, y, X, np.maximum(y, 0), list(classes), columns=list(columns))


GOOD = np.random.default_rng(0).standard_normal((20, 3))


def spoiled(value):
    X = GOOD.copy()
    X[:, 1] = value
    return X


@pytest.mark.parametrize(
    ("data", "expected", "message"),
    [
        (arrays_of(spoiled(np.nan)), {}, "train part: column 1: NaN or infinite values; clean"),
        (arrays_of(spoiled(np.inf), columns="abc"), {}, "train part: column b: NaN or infinite"),
        (arrays_of(spoiled(2)), {}, "column 1: one value only; set `drop_constant: true`"),
        (arrays_of(GOOD), {"columns": 4}, "expected 4 feature columns, got 3"),
        (arrays_of(GOOD), {"rows": {"test": 21}}, "expected 21 rows in the test part, got 20"),
        (arrays_of(GOOD, classes=["a"]), {}, "expected at least 2 classes, got 1 .a."),
        (arrays_of(GOOD, classes="abc"), {}, "no training point of class c"),
        (arrays_of(GOOD, [0, 1, 2, 5] * 5), {}, "label 2, 5 outside the classes 0..1"),
        (arrays_of(GOOD, [0, 1, -2, -1] * 5), {}, "label -2 outside the classes 0..1"),
        (arrays_of(GOOD[:0]), {}, "at least one row"),
    ],
)
def test_contract_is_broken(data, expected, message):
    with pytest.raises(UserError, match=message) as caught:
        check_arrays(data, "d", **expected)
    assert str(caught.value).startswith("dataset 'd'") and "\n" not in str(caught.value)


def test_rounding_noise_counts_as_constant_only_beside_features_of_the_same_scale():
    data = arrays_of(GOOD * [1, 1e-9, 1])
    check_arrays(data, "d")
    noisy = replace(data, same_scale=True)
    with pytest.raises(UserError, match="column 1: one value only"):
        check_arrays(noisy, "d")
    dropped = drop_constant_columns(noisy)
    assert np.array_equal(dropped.X_train, GOOD[:, [0, 2]]) and dropped.X_test.shape == (20, 2)
    check_arrays(dropped, "d")


def test_unknown_labels_may_be_in_training_only():
    check_arrays(arrays_of(GOOD, [0, 1, -1, -1] * 5), "d")


# UCI


def test_hepmass_as_the_authors_prepared_it(tmp_path):
    write_hepmass(tmp_path)
    spec = dataset_spec("hepmass", DATASETS["hepmass"], None)
    spec["options"] = spec["options"] | {"train_rows": None, "file_rows": [2000, 1000]}
    data = load(spec, tmp_path)
    assert data.X_train.shape == (400, 21) and data.X_test.shape == (40, 21)
    np.testing.assert_allclose(data.X_train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(data.X_train.std(axis=0, ddof=1), 1, atol=1e-6)
    assert np.abs(data.X_test.mean(axis=0)).max() > 1e-3
    assert data.columns == [f"f{i}" for i in range(6, 27)]
    assert data.notes == ["6 of 27 features dropped, whose smallest value repeats"]


def test_miniboone_as_the_authors_prepared_it(tmp_path):
    write_miniboone(tmp_path)
    data = load(dataset_spec("miniboone", DATASETS["miniboone"], None), tmp_path)
    X = np.concatenate([data.X_train, data.X_test])
    assert X.shape == (600, 50) and np.concatenate([data.y_train, data.y_test]).sum() == 300
    assert data.y_test.sum() == 30
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(X.std(axis=0), 1, atol=1e-9)
    assert (X[:, 0] < -10).sum() == 2
    clean = load(dataset_spec("miniboone_clean", DATASETS["miniboone_clean"], None), tmp_path)
    assert clean.X_train.shape == (538, 43) and clean.X_train.min() > -10
    np.testing.assert_allclose(clean.X_train.std(axis=0), 1, atol=1e-9)
    assert np.abs(clean.X_test.mean(axis=0)).max() > 1e-3


def all_masses(raw):
    """Put the file of all masses in place of the test file."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((1000, 29))
    table[:, 0] = np.arange(1000) % 2
    table[:, 28] = rng.choice([500, 750, 1000, 1250, 1500], 1000)
    lines = ["# label,f0,mass", *(",".join(f"{value:.18e}" for value in row) for row in table)]
    (raw / "1000_test.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        (
            "hepmass",
            lambda raw: write_hepmass(raw, train_columns=27),
            "expected 28 columns.*got 27",
        ),
        (
            "hepmass",
            lambda raw: write_hepmass(raw, train_columns=29),  # all_train.csv
            "expected 28 columns.*got 29",
        ),
        ("hepmass", lambda raw: write_hepmass(raw, n_train=1999), "expected 2000 rows, got 1999"),
        ("hepmass", lambda raw: write_hepmass(raw, n_test=2000), "expected 1000 rows, got 2000"),
        ("hepmass", all_masses, "last column is the mass, as in all_test.csv"),
        ("hepmass", lambda raw: truncate(raw / "1000_test.csv.gz"), "cut off or damaged"),
        (
            "hepmass",
            lambda raw: (raw / "1000_test.csv.gz").write_text("a,b\n1,text\n"),
            "is not a table .could not convert string to float: 'text'",
        ),
        (
            "hepmass",
            lambda raw: (raw / "1000_test.csv.gz").unlink(),
            "1000_test.csv.gz not found",
        ),
        ("miniboone", lambda raw: truncate(raw / "MiniBooNE_PID.txt"), "expected 1000 rows of 50"),
        ("miniboone", lambda raw: (raw / "MiniBooNE_PID.txt").write_text("a,b\n1,2"), "first line"),
        (
            "miniboone",
            lambda raw: (raw / "MiniBooNE_PID.txt").write_bytes(b"\xff\xfe"),
            "first line",
        ),
    ],
)
def test_wrong_uci_files(tmp_path, name, spoil, message):
    SMALL[name][0](tmp_path)
    spoil(tmp_path)
    spec = dataset_spec(name, DATASETS[name], None)
    spec["options"] = spec["options"] | SMALL[name][1]
    with pytest.raises(UserError, match=message) as caught:
        load(spec, tmp_path)
    assert "\n" not in str(caught.value)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# Text


def test_normaliser():
    got = normalise("""He said: "It's 5.5 (or so)!<br />Really?"; yes, A""")
    assert got == "he said it ' s 5 . 5 ( or so ) ! really ? yes , a"


def text_spec(**options):
    entry = {"title": "t", "kind": "text", "loader": "text", "options": {"fields": 2} | options}
    return dataset_spec("t", entry, None)


@pytest.mark.parametrize("zipped", [False, True])
def test_text_format(tmp_path, zipped):
    rows = b'"10","Title","Body ""quoted"" \\ text"\n"1","","No title"\n"2","A","multi\nline"\n'
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes(gzip.compress(rows) if zipped else rows)
    data = load(text_spec(classes=[str(k) for k in range(10)]), tmp_path)
    assert data.train == ['Title , Body "quoted" \\ text', "No title", "A , multi\nline"]
    assert data.y_train.tolist() == [9, 0, 1]


def test_empty_text_is_named_by_its_row_in_the_file(tmp_path):
    """Counted from 1, whatever the draw; a row that is not drawn may be empty."""
    rows = ['"1","a"'] * 9 + ['"2",";"']
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("\n".join(rows))
    options = {"classes": ["a", "b"], "fields": 1, "test_rows": 9}
    with pytest.raises(UserError, match=r"train.csv row 10: the text is empty; take the row out"):
        load(text_spec(**options, train_rows=10), tmp_path)
    kept = load(text_spec(**options, train_rows=1), tmp_path)
    assert kept.train == ["a"]


def test_yahoo_rows_are_drawn_and_the_first_tested(tmp_path):
    write_yahoo(tmp_path, n_train=500, n_test=50)
    spec = dataset_spec("yahoo", DATASETS["yahoo"], None)
    spec["options"] = spec["options"] | {"train_rows": 300, "test_rows": 20}
    data = load(spec, tmp_path)
    assert len(data.train) == len(set(data.train)) == 300 and len(data.test) == 20
    assert data.test[9].startswith('Text "9" field 0') and data.y_test[9] == 9
    assert data.notes == ["300 of 500 training rows"]
    spec["options"]["train_rows"] = 501
    with pytest.raises(UserError, match="train_rows is 501, but it has 500 rows"):
        load(spec, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"1","a"\n', "train.csv row 1: expected 3 columns, got 2"),
        (b'"1","a","b"\n"3","a","b"\n', "row 2: label '3' is not one of 1..2"),
        (b'"x","a","b"\n', "label 'x' is not one of 1..2"),
        (b'"1","caf\xe9","b"\n', "is not utf-8 .byte 0xe9.; set the option `encoding`"),
        (b'"1","a' + b"x" * 200_000 + b'","b"\n', "is no CSV file .*look for an unclosed quote"),
        (gzip.compress(bytes(range(97, 123)) * 99, mtime=0)[:-12], "cut off or damaged"),
    ],
)
def test_wrong_text_files(tmp_path, content, message):
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(text_spec(classes=["a", "b"]), tmp_path)


def test_text_in_another_encoding(tmp_path):
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes(b'"1","caf\xe9","b"\n"2","a","b"\n')
    assert load(text_spec(classes=["a", "b"], encoding="latin-1"), tmp_path).train[0] == "café , b"


def test_text_goes_through_the_encoder(tmp_path):
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes(b'"1","a","b"\n')
    with pytest.raises(
        UserError, match="'t' needs an encoder; make its features with the rule embed_data"
    ):
        prepare_data(text_spec(classes=["a", "b"]), tmp_path)


def write_text_table(raw, rows=None):
    rows = rows or [f"{'ab'[k % 2]},Text number {k}" for k in range(10)]
    (raw / "t.csv").write_text("\n".join(["kind,text", *rows]) + "\n")


def text_table_spec(**options):
    options = {"file": "t.csv", "label": "kind", "text": "text"} | options
    entry = {"title": "t", "kind": "text", "loader": "text_table", "options": options}
    return dataset_spec("t", entry, None)


def test_table_of_texts_is_split_by_class(tmp_path):
    write_text_table(tmp_path)
    data = load(text_table_spec(test_fraction=0.4), tmp_path)
    assert data.classes == ["a", "b"]
    assert sorted(data.y_train) == [0, 0, 0, 1, 1, 1] and sorted(data.y_test) == [0, 0, 1, 1]
    assert len({*data.train, *data.test}) == 10
    assert all(int(t[-1]) % 2 == k for t, k in zip(data.train, data.y_train, strict=True))
    assert load(text_table_spec(test_fraction=0.4), tmp_path).train == data.train
    assert load(text_table_spec(test_fraction=0.4, seed=1), tmp_path).train != data.train


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (None, {"text": "body"}, "t.csv: column body not found; it has kind, text"),
        (None, {"classes": ["a"]}, "label b in column 'kind' is not one of a"),
        (["a,x", "b,", "a,y", "b,z"], {}, "t.csv row 3: the text is empty"),
        (["a,x", "b,y", "a,z"], {}, "3 rows cannot be split by class"),
        (None, {"file": "u.csv"}, "u.csv not found"),
    ],
)
def test_wrong_tables_of_texts(tmp_path, rows, options, message):
    write_text_table(tmp_path, rows)
    with pytest.raises(UserError, match=message):
        load(text_table_spec(**options), tmp_path)


# Any table


def table_spec(**options):
    entry = {"title": "t", "kind": "tabular", "loader": "table"}
    return dataset_spec("t", entry | {"options": {"file": "t.csv", "label": "y"} | options}, None)


def write_table(raw, n=40, unlabelled=0, suffix="csv"):
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(3, 2, n), "id": [f"r{i}" for i in range(n)]})
    frame["b"] = rng.integers(0, 9, n)
    frame["y"] = np.arange(n) % 3
    if unlabelled:
        frame["y"] = frame["y"].where(np.arange(n) >= unlabelled)
    path = raw / f"t.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table(tmp_path, suffix):
    write_table(tmp_path, unlabelled=10, suffix=suffix)
    arrays, meta = prepare_data(table_spec(file=f"t.{suffix}", drop=["id"]), tmp_path)
    assert meta["classes"] == ["0", "1", "2"]
    assert arrays["X_train"].shape == (34, 2) and arrays["X_test"].shape == (6, 2)
    assert (arrays["y_train"] == -1).sum() == 10
    assert meta["notes"] == ["10 rows without a label"]
    np.testing.assert_allclose(arrays["X_train"].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(arrays["X_train"].std(axis=0), 1, atol=1e-6)


def test_table_options(tmp_path):
    (tmp_path / "t.csv").write_bytes("1;x\n2;é\n3;x\n4;é\n5;x\n6;é\n".encode("latin-1"))
    options = {"sep": ";", "header": ["a", "y"], "encoding": "latin-1", "standardise": False}
    arrays, meta = prepare_data(table_spec(**options, test_fraction=0.5), tmp_path)
    assert meta["classes"] == ["x", "é"]
    assert sorted(np.concatenate([arrays["X_train"], arrays["X_test"]]).ravel()) == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_categories_of_a_table_become_columns(tmp_path):
    (tmp_path / "t.csv").write_text("a,c,y\n1,x,0\n2,z,1\n3,x,0\n4,z,1\n5,,0\n6,x,1\n")
    options = {"one_hot": ["c"], "standardise": False, "test_fraction": 0.5}
    data = load(table_spec(**options), tmp_path)
    assert data.columns == ["a", "c=x", "c=z"]
    rows = np.concatenate([data.X_train, data.X_test])
    expected = [[1, 1, 0], [2, 0, 1], [3, 1, 0], [4, 0, 1], [5, 0, 0], [6, 1, 0]]
    assert rows[rows[:, 0].argsort()].tolist() == expected


def test_table_separated_by_spaces(tmp_path):
    (tmp_path / "t.csv").write_text("".join(f"{k}  0.5{k} {k % 2}\n" for k in range(9)))
    arrays, _ = prepare_data(table_spec(sep=r"\s+", header=["a", "b", "y"]), tmp_path)
    assert arrays["X_train"].shape == (7, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "column id is not numeric; name it in the option `drop`, or in `one_hot`"),
        ({"one_hot": ["city"]}, "t.csv: column city not found; it has a, id, b, y"),
        ({"label": "z"}, "t.csv: column z not found; it has a, id, b, y"),
        ({"drop": ["id"], "classes": ["0", "1"]}, "label 2 in column 'y' is not one of 0, 1"),
        ({"header": ["a", "y"]}, "expected 2 columns, got 4"),
        ({"label": "id"}, "class 'r0' has 1 rows, but each part needs one"),
        ({"file": "u.csv"}, "u.csv not found"),
        ({"encoding": "utf-9"}, "unknown encoding .utf-9."),
    ],
)
def test_wrong_tables(tmp_path, options, message):
    write_table(tmp_path)
    with pytest.raises(UserError, match=f"dataset 't': .*{message}") as caught:
        prepare_data(table_spec(**options), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,y\n1,0\n2,1\n3,0,7\n", "is not a table"),
        (b"", "is not a table"),
        (b"a,y\n1,caf\xe9\n", "is not utf-8"),
        (b"a,y\n1,0\n,1\n3,0\n4,1\n", "column a: NaN or infinite values"),
        (b"a,y\n1,0\n2,0\n3,0\n4,0\n", "expected at least 2 classes, got 1 .0."),
        (b"a,c,y\n1,5,0\n2,5,1\n3,5,0\n4,5,1\n", "column c: one value only"),
    ],
)
def test_wrong_table_content(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare_data(table_spec(test_fraction=0.5), tmp_path)


def test_columns_with_nan_are_not_taken_for_constant(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,c,y\n1,5,0\n2,,1\n3,5,0\n4,,1\n")
    with pytest.raises(UserError, match="column c: NaN or infinite values"):
        prepare_data(table_spec(test_fraction=0.5) | {"drop_constant": True}, tmp_path)


def test_constant_columns_are_dropped_on_request(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,c,y\n1,5,0\n2,5,1\n3,5,0\n4,5,1\n")
    arrays, meta = prepare_data(table_spec(test_fraction=0.5) | {"drop_constant": True}, tmp_path)
    assert arrays["X_train"].shape[1] == arrays["X_test"].shape[1] == 1
    assert meta["notes"] == ["1 constant columns dropped: c"]


def test_importing_the_registry_imports_nothing_heavy():
    code = (
        "import sys, flowgmm.datasets, flowgmm.datasets.splits, flowgmm.datasets.download;"
        "heavy = ('torch', 'pandas', 'sklearn', 'pandera', 'requests');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Ready-made arrays


def arrays_spec(**options):
    entry = {"title": "t", "kind": "table", "loader": "arrays"}
    return dataset_spec("t", entry | {"options": {"file": "t.npz"} | options}, None)


def ready_made():
    rng = np.random.default_rng(0)
    y = {"y_train": np.array([0, 1, 0, -1]), "y_test": np.array([1, 0])}
    return {"X_train": rng.normal(size=(4, 2)), "X_test": rng.normal(size=(2, 2))} | y


def test_ready_made_arrays(tmp_path):
    np.savez(tmp_path / "t.npz", **ready_made())
    arrays, meta = prepare_data(arrays_spec(classes=["a", "b"]), tmp_path)
    assert meta["classes"] == ["a", "b"]
    for name, array in ready_made().items():
        np.testing.assert_allclose(arrays[name], array, rtol=1e-6)
    assert prepare_data(arrays_spec(), tmp_path)[1]["classes"] == ["0", "1"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"X_train": np.array([[1, "a"]], object)}, "cannot be read .*Object arrays"),
        ({"X_train": np.zeros(4)}, r"X_train is float64 of shape \(4,\); it must be a matrix"),
        ({"y_test": np.array([0.5, 1])}, "y_test is float64 .* whole numbers, one a row"),
        ({"y_train": np.array([0, 1, 0])}, "train part has shape .* with 3 labels"),
        ({"y_test": np.array([1, 7])}, "label 7 outside the classes"),
    ],
)
def test_arrays_that_do_not_meet_the_contract(tmp_path, changes, expected):
    np.savez(tmp_path / "t.npz", **(ready_made() | changes))
    with pytest.raises(UserError, match=expected):
        prepare_data(arrays_spec(), tmp_path)


def test_no_arrays(tmp_path):
    with pytest.raises(UserError, match="not found; run the rule"):
        prepare_data(arrays_spec(), tmp_path)
    (tmp_path / "t.npz").write_text("a,b\n")
    with pytest.raises(UserError, match=r"is no \.npz file"):
        prepare_data(arrays_spec(), tmp_path)
    np.savez(tmp_path / "t.npz", X=np.zeros(3))
    with pytest.raises(
        UserError, match="arrays X_train, y_train, X_test, y_test not found; it has X"
    ):
        prepare_data(arrays_spec(), tmp_path)
