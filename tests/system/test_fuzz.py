"""Config and data files with random damage: accepted or refused in one line, never a traceback."""

import copy
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from faults import ALL, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowgmm.datasets.features import prepare_data
from flowgmm.embed.embed_data import embed_data
from flowgmm.evaluation import verdicts
from flowgmm.experiments import project as module
from flowgmm.experiments.checks import load_checked
from flowgmm.experiments.entries import make_printed
from flowgmm.experiments.project import FILES, read_schema
from flowgmm.experiments.specs.analyses import printed_numbers
from flowgmm.experiments.specs.data import download_paths
from flowgmm.experiments.specs.tables import describe_table
from flowgmm.experiments.validation import check
from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.reporting.tables.aggregate import make_table
from flowgmm.reporting.tables.csv_writer import csv_text
from flowgmm.reporting.tables.latex_writer import latex_text
from flowgmm.reporting.tables.markdown_writer import markdown_text
from flowgmm.tabular.reading import read_table
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_tensors, write_json, write_tensors

ROOT = Path(__file__).parents[2]
fuzz = settings(suppress_health_check=list(HealthCheck), database=None)


def times(few: int) -> settings:
    """Settings of hypothesis: a few examples in the suite, thousands in `make faults`."""
    return settings(fuzz, max_examples=20 * few if ALL else few)


def attempt(call: Callable[[], Any]) -> str:
    """Message of a refused call; empty if it is accepted."""
    said = ""
    try:
        call()
    except UserError as error:
        said = str(error) or "nothing"
    assert len(said.splitlines()) < 2
    return said


# Config

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "..", "a b", "a\n", "$(id)", "'", "all", "moons", "mnist/1000", "1e400"]),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=6) | SCALARS, inner, max_size=3),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def files() -> dict[str, Any]:
    """Every config file by its path, read once."""
    names = ["config/config.yaml", *(f"config/{name}.yaml" for name in FILES)]
    names += [str(path.relative_to(ROOT)) for path in (ROOT / "config" / "recipes").iterdir()]
    return {name: read_yaml(ROOT / name) for name in names}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values inside a value, itself included."""
    keys = (
        value.keys()
        if isinstance(value, dict)
        else range(len(value) if isinstance(value, list) else 0)
    )
    return [path, *(place for key in keys for place in places(value[key], (*path, key)))]


def mutated(value: Any, data: st.DataObject) -> Any:
    """Copy a value with one part dropped, renamed, replaced, nested or moved."""
    value = copy.deepcopy(value)
    path = data.draw(st.sampled_from(places(value)))
    if not path:
        return data.draw(VALUES)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    old = parent[path[-1]]
    how = data.draw(st.sampled_from(["drop", "rename", "replace", "nest", "twin"]))
    if how == "replace":
        parent[path[-1]] = data.draw(VALUES)
    elif how == "nest":
        parent[path[-1]] = data.draw(st.sampled_from([[old], {"a": old}, [old, old]]))
    elif how == "twin":
        parent[path[-1]] = copy.deepcopy(
            data.draw(
                st.sampled_from(list(parent.values()) if isinstance(parent, dict) else parent)
            )
        )
    else:
        del parent[path[-1]]
        if how == "rename" and isinstance(parent, dict):
            parent[data.draw(SCALARS)] = old
    return value


@pytest.mark.parametrize("recipe", ["small_tuned", "smoke"])
def test_config(recipe: str, files: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    schemas: dict[Path, Any] = {}
    used = {
        "config/config.yaml",
        *(f"config/{name}.yaml" for name in FILES),
        f"config/recipes/{recipe}.yaml",
        "config/recipes/official.yaml",
        "config/recipes/small.yaml",
    }
    current: dict[str, Any] = {}

    def from_memory(path: Path) -> Any:
        name = path.relative_to(ROOT).as_posix()
        if name == "config/datasets.yaml":  # into which files and vectors are laid
            return copy.deepcopy(current.get(name, files[name]))
        if name in files:
            return current.get(name, files[name])
        if path not in schemas:
            schemas[path] = read_yaml(path)
        return schemas[path]

    def check_changed(value: Any, schema: Any, where: str) -> None:
        """As `check`, of the file that was changed: most of the time would go into the others."""
        if where in current:
            check(value, schema, where)

    monkeypatch.setattr(module, "read_yaml", from_memory)
    monkeypatch.setattr(module, "check", check_changed)
    said = []

    @times(120)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(used)))
        current.clear()
        changed = mutated(files[name], data)
        options = files["config/config.yaml"] | {"recipe": recipe}
        current[name] = changed
        if name == "config/config.yaml":
            options = changed
            if isinstance(changed, dict) and data.draw(st.booleans()):
                options = {**changed, "recipe": recipe}
        said.append(attempt(lambda: download_paths(load_checked(ROOT, options))))

    run()
    record(
        f"random changes of config files, recipe {recipe}",
        len(said),
        len(said),
        "nothing",
        f"{sum(map(bool, said))} refused, e.g. {max(said[:50], key=len)}",
    )


def test_printed_numbers(files: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed numbers of the paper that are accepted are written into tables, and judged."""
    name = "config/paper_results.yaml"
    project = load_checked(ROOT, files["config/config.yaml"] | {"recipe": "smoke"})
    schema = read_schema(ROOT, "paper_results")
    said = []

    def use(changed: Any) -> None:
        check(changed, schema, name)
        paper = make_printed(changed)
        for table, entry in project.tables.items():
            spec = describe_table(table, entry, paper, project.methods, recipe="smoke")
            made = make_table(spec, [])
            assert markdown_text(made) and csv_text(made) and latex_text(made)
            for cell in (cell for row in spec["cells"] for cell in row if cell["printed"]):
                judge(cell["printed"]["value"], cell["printed"]["spread"])
        for analysis, entry in project.analyses.items():
            for found in printed_numbers(entry.printed, paper, analysis).values():
                judge(found["value"], found["spread"])

    def judge(value: float, spread: float | None) -> None:
        counts = {"n_runs": 2, "n_failed": 0, "n_points": 100, "aggregate": "mean"}
        printed = {"unit": "percent", "printed": value, "printed_spread": spread}
        assert verdicts.judge([0.5, 0.6], **counts, **printed).word

    @times(30)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        changed = mutated(files[name], data)
        said.append(attempt(lambda: use(changed)))

    run()
    refused = [text for text in said if text]
    record(
        "random changes of the paper's numbers, written into tables",
        len(said),
        len(said),
        "nothing",
        f"{len(refused)} refused, e.g. {max(refused[:50], key=len)}",
    )


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    texts = st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
        VALUES.map(lambda value: yaml.safe_dump(value).encode()),
        st.text("[]{}:-&*!|>'\"%@`#, \n\t?ab1.", max_size=60).map(str.encode),
    )

    @times(300)
    @given(texts)
    def run(content: bytes) -> None:
        path.write_bytes(content)
        attempt(lambda: read_yaml(path))

    run()


# Data


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def saved(write: Callable[..., Any], *arguments: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    write(buffer, *arguments, **options)
    return buffer.getvalue()


def png(seed: int) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (28, 28), np.uint8)
    return saved(lambda f: Image.fromarray(pixels).save(f, "PNG"))


def parquet(rows: int) -> bytes:
    import pandas as pd

    frame = pd.DataFrame(
        {"a": np.arange(rows) / 3, "b": np.arange(rows) % 7, "y": list("xz") * (rows // 2)}
    )
    return saved(lambda f: frame.to_parquet(f, index=False))


def sets() -> dict[str, tuple[dict[str, Any], dict[str, bytes]]]:
    """Spec and raw files of one small set for each loader that reads files."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 28, 28)), np.arange(20) % 10
    four = {
        f"{p}-{k}-ubyte.gz": gz(idx(a))
        for p in ("train", "t10k")
        for k, a in (("images-idx3", images), ("labels-idx1", labels))
    }
    house = {
        "X": rng.integers(0, 256, (32, 32, 3, 12)).astype(np.uint8),
        "y": np.arange(1, 13)[:, None] % 10 + 1,
    }
    mat = saved(savemat, house)
    csv = b"a,b,y\n" + b"".join(b"%d,%d.5,%d\n" % (k, k % 5, k % 2) for k in range(20))
    texts = b"".join(b'"%d","a text %d","more"\n' % (k % 2 + 1, k) for k in range(8))
    letters = {f"notMNIST_small/{c}/{k}.png": png(k) for c in "ABCDEFGHIJ" for k in range(3)}
    hep = b"label," + b",".join(b"f%d" % k for k in range(27)) + b"\n"
    hep += b"".join(
        b",".join([b"%d.0" % (i % 2), *(b"%.3f" % v for v in rng.normal(size=27))]) + b"\n"
        for i in range(60)
    )
    # The official test file has a column more than its header says.
    hep_test = b"\n".join(
        line + b",0.0" * (i > 0) for i, line in enumerate(hep.strip().split(b"\n"))
    )
    boone = b" 20 20\n" + b"".join(
        b" ".join(b"%.4f" % v for v in rng.normal(size=50)) + b"\n" for _ in range(40)
    )
    arrays = {
        "X_train": rng.normal(size=(6, 2)),
        "y_train": np.arange(6) % 2,
        "X_test": rng.normal(size=(4, 2)),
        "y_test": np.arange(4) % 2,
    }
    table = {"file": "t.csv", "label": "y"}
    image, plain = {"kind": "image"}, {"kind": "table"}
    text = {"classes": ["x", "y"], "fields": 2}
    cifar = {f"cifar-10-batches-bin/{n}.bin": b"x" for n in ("data_batch_1", "test_batch")}
    return {
        "idx": (image | {"loader": "idx"}, four),
        "svhn": (image | {"loader": "svhn"}, {f"{p}_32x32.mat": mat for p in ("train", "test")}),
        "notmnist": (
            image | {"loader": "notmnist", "options": {"test_fraction": 0.34}},
            {"notMNIST_small.tar.gz": tar(letters)},
        ),
        "cifar10": (image | {"loader": "cifar10"}, {"cifar-10-binary.tar.gz": tar(cifar)}),
        "cifar10 pictures": (
            image | {"loader": "cifar10"},
            {
                "labels.json": json.dumps({"data_batch_1": [1]}).encode(),
                "data_batch_1.webp": png(0),
            },
        ),
        "table": (plain | {"loader": "table", "options": table}, {"t.csv": csv}),
        "gzipped table": (plain | {"loader": "table", "options": table}, {"t.csv": gz(csv)}),
        "table with header": (
            plain
            | {
                "loader": "table",
                "options": table | {"header": ["a", "b", "y"], "classes": ["0", "1"]},
            },
            {"t.csv": csv.partition(b"\n")[2]},
        ),
        "parquet": (
            plain | {"loader": "table", "options": table | {"file": "t.parquet"}},
            {"t.parquet": parquet(20)},
        ),
        "arrays": (
            plain | {"loader": "arrays", "options": {"file": "t.npz"}},
            {"t.npz": saved(np.savez, **arrays)},
        ),
        "hepmass": (
            plain
            | {
                "loader": "hepmass",
                "options": {"train_rows": None, "train_fraction": 0.8, "test_fraction": 0.5},
            },
            {"1000_train.csv.gz": gz(hep), "1000_test.csv.gz": hep_test},
        ),
        "miniboone": (plain | {"loader": "miniboone"}, {"MiniBooNE_PID.txt": boone}),
        "text": (
            {"kind": "text", "loader": "text", "options": text},
            {"train.csv": texts, "test.csv": gz(texts)},
        ),
        "text archive": (
            {"kind": "text", "loader": "text", "options": text | {"archive": "t.tgz"}},
            {"t.tgz": tar({"train.csv": texts, "test.csv": texts})},
        ),
    }


SETS = sets()


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """Truncate bytes, flip, replace, repeat, delete or randomise them; inside gzip, too."""
    if content[:2] == b"\x1f\x8b" and data.draw(st.booleans()):
        return gz(damaged(gzip.decompress(content), data))
    how = data.draw(st.sampled_from(["cut", "bits", "bytes", "piece", "random", "text"]))
    place = data.draw(st.integers(0, max(0, len(content) - 1)))
    if how == "cut":
        return content[:place]
    if how == "random":
        return data.draw(st.binary(max_size=100))
    if how == "bits":
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(1, 8))):
            changed[data.draw(st.integers(0, max(0, len(content) - 1)))] ^= 1 << data.draw(
                st.integers(0, 7)
            )
        return bytes(changed)
    if how == "piece":
        end = data.draw(st.integers(place, len(content)))
        return (
            content[:place]
            + content[place:end] * data.draw(st.sampled_from([0, 2]))
            + content[end:]
        )
    inserted = data.draw(
        st.binary(max_size=9)
        if how == "bytes"
        else st.sampled_from(
            [b'"', b",", b"\n", b"nan", b"-1", b"1e999", b"\x00", b"\xff", b"9" * 30]
        )
    )
    return content[:place] + inserted + content[place + data.draw(st.integers(0, 9)) :]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SETS)
def test_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, raw = SETS[name]
    spec = {"dataset": "t"} | spec
    monkeypatch.setattr(
        "flowgmm.embed.embed_data.embed_texts",
        lambda texts, *_, **__: np.random.default_rng(0).normal(size=(len(texts), 3)),
    )
    monkeypatch.setattr("flowgmm.embed.embed_data.encoder_folder", lambda *_: tmp_path)
    monkeypatch.setattr("flowgmm.embed.text.deviation", lambda *_: None)

    def read() -> None:
        if spec["kind"] == "text":
            embed_data(spec | {"encoder": "none"}, tmp_path, tmp_path)
        else:
            prepare_data(spec, tmp_path)

    for file, content in raw.items():
        (tmp_path / file).write_bytes(content)
    if not name.startswith("cifar10"):  # whose members are checked against the official hashes
        read()
    said = []

    @times(40)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        for file, content in raw.items():
            (tmp_path / file).write_bytes(content)
        file = data.draw(st.sampled_from(sorted(raw)))
        (tmp_path / file).write_bytes(damaged(raw[file], data))
        said.append(attempt(read))

    run()
    refused = [text for text in said if text]
    record(
        f"random damage to data: {name}",
        len(said),
        len(said),
        "that file",
        f"{len(refused)} refused, e.g. {refused[0]}",
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.npz"])
def test_own_tables(name: str, tmp_path: Path) -> None:
    """Input files of `flowgmm fit`."""
    content = {"t.csv": SETS["table"][1]["t.csv"], "t.parquet": SETS["parquet"][1]["t.parquet"]}
    rng = np.random.default_rng(0)
    whole = content.get(name) or saved(np.savez, X=rng.normal(size=(6, 2)), y=np.arange(6) % 2)

    @times(40)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        (tmp_path / name).write_bytes(damaged(whole, data))
        attempt(lambda: read_table(tmp_path / name))

    run()


def test_own_files(tmp_path: Path) -> None:
    """Files that jobs write: any change is refused."""
    write_tensors(tmp_path / "tensors", {"x": np.arange(40.0), "y": np.arange(3)}, {"a": ["é", 1]})
    write_json(tmp_path / "json", {"a": [1.5, None, "é"], "b": {"c": True}})
    readers = {"tensors": read_tensors, "json": read_json}
    whole = {name: (tmp_path / name).read_bytes() for name in readers}
    values = {"json": read_json(tmp_path / "json")}

    @times(200)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(readers)))
        content = damaged(whole[name], data)
        (tmp_path / name).write_bytes(content)
        refused = attempt(lambda: readers[name](tmp_path / name))
        # White space alone may differ in JSON.
        same = content == whole[name] or (
            name == "json" and not refused and read_json(tmp_path / name) == values["json"]
        )
        assert refused or same

    run()
