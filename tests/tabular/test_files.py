"""Kinds of files and encodings: what can be read is read, the rest is named."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import sqlite3
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, orc

from flowgmm.tabular.reading import read_table
from flowgmm.utils.errors import UserError

TEXT = "größe,b,y\n0.5,-1,é\n1.5,2,ü\n"
ROWS = [["0.5", "-1", "é"], ["1.5", "2", "ü"]]
UTF8 = TEXT.encode()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def rows_of(path, **options):
    return read_table(path, **options).frame.to_numpy().tolist()


def fails(path, message, **options):
    with pytest.raises(UserError, match=message) as caught:
        read_table(path, **options)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


# -- archives ------------------------------------------------------------------------------------

PACKED = {
    "gzip": gzip.compress(UTF8),
    "bz2": bz2.compress(UTF8),
    "xz": lzma.compress(UTF8),
    "zstd": pa.compress(UTF8, codec="zstd", asbytes=True),
    "zip": zipped(**{"t.csv": UTF8}),
    "zip of a Mac": zipped(**{"d/": b"", "d/t.csv": UTF8, "__MACOSX/d/._t.csv": b"\0", ".x": b"1"}),
    "gzip in zip": zipped(**{"t.csv.gz": gzip.compress(UTF8)}),
    "members of gzip": gzip.compress(UTF8[:9]) + gzip.compress(UTF8[9:]),
}


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "data"])
@pytest.mark.parametrize("packed", PACKED)
def test_archives_are_read_whatever_their_name(packed, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(PACKED[packed])
    assert rows_of(path) == ROWS


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("cut", [0.4, 0.9])
def test_archives_that_are_cut_off(packed, cut, tmp_path):
    path = tmp_path / "t.csv"
    content = PACKED[packed]
    path.write_bytes(content[: int(cut * len(content))])
    fails(path, "is cut off or damaged .*; fetch it again")


def test_archives_with_changed_bytes(tmp_path):
    path = tmp_path / "t.zip"
    for packed in ("gzip", "bz2", "xz", "zip"):
        content = bytearray(PACKED[packed])
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(UserError, match="is cut off or damaged"):
            read_table(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.csv": UTF8, "b.csv": UTF8}, r"zip archive of 2 files: a\.csv, b\.csv; expected one"),
        (
            {f"{k}.csv": UTF8 for k in range(7)},
            r"of 7 files: 0\.csv, .*4\.csv, \.\.\.; expected one",
        ),
        ({"d/": b""}, "zip archive of 0 files; expected one"),
        ({"t.pdf": b"%PDF-1.7 \n"}, "is a PDF document"),
    ],
)
def test_archives_of_anything_else(members, message, tmp_path):
    path = tmp_path / "t.zip"
    path.write_bytes(zipped(**members))
    fails(path, message)


def test_archives_within_archives_end(tmp_path):
    content = UTF8
    for _ in range(9):
        content = gzip.compress(content)
    path = tmp_path / "t.gz"
    path.write_bytes(content)
    fails(path, "compressed more than 3 times; unpack it")


# -- formats -------------------------------------------------------------------------------------


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def tar(file):
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("t.csv"), io.BytesIO())


ARROW = pa.table({"a": [1, 2]})
FOREIGN = {
    "a pickle": pickle.dumps({"a": 1}),
    "a PDF document": b"%PDF-1.4\n%\xe2\xe3\n",
    "HTML or XML": b"\n<!DOCTYPE html>\n<table><tr><td>1,2</td></tr></table>",
    "XML": b'<?xml version="1.0"?>\n<rows/>',
    "JSON": b'[\n  {"a": 1, "b": 2},\n  {"a": 3, "b": 4}\n]',
    "is JSON": b'{"a": [1, 2],\n "b": [3, 4]}',
    "JSON; save": b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n',
    "an Arrow or Feather": written(lambda file: feather.write_feather(ARROW, file)),
    "Feather file": written(lambda file: pa.ipc.new_stream(file, ARROW.schema).close()),
    "an ORC file": written(lambda file: orc.write_table(ARROW, file)),
    "a single NumPy array": written(lambda file: np.save(file, np.eye(2))),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(9),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(9),
    "image; save": b"\xff\xd8\xff\xe0" + bytes(9),
    "a tar archive": written(tar),
    "tar archive; unpack": gzip.compress(written(tar)),
    "a 7z archive": b"7z\xbc\xaf\x27\x1c" + bytes(9),
    r"a spreadsheet \(xls\)": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    r"a spreadsheet \(xlsx\)": zipped(**{"[Content_Types].xml": "<a/>", "xl/workbook.xml": "<b/>"}),
    r"a spreadsheet \(ods\)": zipped(
        mimetype="application/vnd.oasis.opendocument.spreadsheet", content="<c/>"
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_named(name, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(FOREIGN[name])
    fails(path, name)


def test_a_database_is_named(tmp_path):
    with sqlite3.connect(tmp_path / "t.csv") as database:
        database.execute("create table t (a)")
    fails(tmp_path / "t.csv", "an SQLite database; export")


@pytest.mark.parametrize(
    "header", ["BMI,PAR1", "PAR1,b", "<DATE>,<OPEN>", "[a],[b]", "PK,FK", "BZh9,b", "{a},b", "MZ,b"]
)
def test_names_that_begin_as_other_formats_do(header, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n1,2\n")
    table = read_table(path)
    assert ",".join(table.frame.columns) == header and table.frame.shape == (1, 2)


def test_formats_are_known_by_their_content(tmp_path):
    frame = pd.DataFrame({"x0": [0.5, 1.5], "y": ["a", "b"]})
    path = tmp_path / "t.csv"
    frame.to_parquet(path)
    assert read_table(path).typed
    np.savez(tmp_path / "t.npz", X=[[0.5], [1.5]], y=["a", "b"])
    path.write_bytes((tmp_path / "t.npz").read_bytes())
    pd.testing.assert_frame_equal(read_table(path).frame, frame)
    path = tmp_path / "t.xlsx"
    path.write_bytes(UTF8)
    assert rows_of(path) == ROWS


def test_a_spreadsheet_is_read_with_the_package_for_it(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    cells = pd.DataFrame({"a": ["01", "NA", None], "b": [1, None, 2.5]})
    cells.to_excel(path, index=False)
    assert rows_of(path) == [["01", "1"], ["NA", ""], ["", "2.5"]]


# -- encodings -----------------------------------------------------------------------------------

MARKED = ["utf-8-sig", "utf-16", "utf-32"]


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_tell_the_encoding(encoding, end, tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(TEXT.replace("\n", end).encode(encoding))
    name = encoding.removesuffix("-sig")
    table = read_table(path)
    assert table.frame.to_numpy().tolist() == ROWS and "größe" in table.frame
    assert table.encoding == name
    assert table.notes == ([] if name == "utf-8" else [f"The text is in {name}."])
    assert rows_of(path, encoding=name) == ROWS == rows_of(path, encoding=encoding)
    fails(path, f"begins with the mark of {name}.*, so it is not latin-1", encoding="latin-1")


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-be"])
def test_byte_order_as_given(encoding, mark, tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes((mark + TEXT).encode(encoding))
    assert rows_of(path, encoding=encoding) == ROWS
    if mark:
        assert rows_of(path) == ROWS
    elif "16" in encoding:
        fails(path, f"give --encoding {encoding}$")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf_8", "UTF8", "mac-roman"])
def test_encoding_given(encoding, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.encode(encoding))
    table = read_table(path, encoding=encoding)
    assert table.frame.to_numpy().tolist() == ROWS
    assert bool(table.notes) == ("8" not in encoding)


@pytest.mark.parametrize(
    ("content", "given", "message"),
    [
        (b"a,b\n1,2\n3,caf\xe9\n", None, r"not utf-8 \(byte 0xe9 in line 3\); .* latin-1$"),
        (b"a,b\r\n1,\x93x\x94\r\n", None, r"not utf-8 \(byte 0x93 in line 2\); .* cp1252$"),
        (b"a,b\n1,\x81\xff\n", None, r"\(byte 0x81 in line 2\); .* latin-1$"),
        ("a,b\n1,é\n".encode(), "ascii", r"not ascii \(byte 0xc3 in line 2\); .* utf-8$"),
        (b"a,b\n\xd6,\0\n", "latin-1", "line 2 holds a NUL"),
        (b"a,b\r\r1,\0\r", None, "line 3 holds a NUL"),
        ("a,b\n1,2\n".encode("utf-16")[:-1], None, r"not utf-16 \(byte .* it is cut off"),
        (b"a,b\n1,2\n", "utf-99", "unknown encoding 'utf-99'"),
        (b"a,b\n1,2\n", "hex", "unknown encoding 'hex'"),
        (b"a,b\n1,2\n", "a\0b", "unknown encoding"),
        (b"a,b\n1,\\ud800\n", "unicode_escape", "is not unicode_escape"),
        (b"a,b\n1,2\n", "undefined", "undefined"),
    ],
)
def test_bytes_that_are_no_text(content, given, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    fails(path, message, encoding=given)


# -- paths ---------------------------------------------------------------------------------------


def test_paths_that_are_no_file(tmp_path):
    fails(tmp_path, "is a folder; give a file in it")
    fails(tmp_path / "absent.csv", "is not a file; check the path")
    fails(tmp_path / ("x" * 300), "cannot be read .*; check the path")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    fails(loop, "is not a file|cannot be read")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(UTF8)
    path.chmod(0)
    fails(path, "cannot be read .Permission denied")
