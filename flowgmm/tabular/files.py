"""Kinds of files, recognised by their content: archives, arrays, spreadsheets and text."""

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from flowgmm.utils.errors import UserError

__all__ = ["Content", "opened"]

# Bytes that decide about the kind, and layers such as `table.csv.gz.zip` that are taken off.
HEAD = 4096
MAX_LAYERS = 4

CONTROL = rb"(?=.*[\0-\x08\x0e-\x1f])"  # text has none; it may begin with the letters of a magic
# Kind and the bytes that such a file begins with.
SIGNATURES: dict[str, bytes] = {
    "gzip": rb"\x1f\x8b",
    "bz2": rb"BZh[1-9](1AY&SY|\x17rE8P\x90)",
    "xz": rb"\xfd7zXZ\0",
    "zstd": rb"\x28\xb5\x2f\xfd",
    "zip": rb"PK(\x03\x04|\x05\x06|\x07\x08)",
    "parquet": rb"PAR1" + CONTROL,
    "xls": rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
}
# Files that are not read: signature, name and remedy.
AS_CSV = "save the table as CSV"
FROM_PYTHON = "save the table with DataFrame.to_parquet or DataFrame.to_csv"
UNPACK = "unpack it and give the table in it"
FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (rb"%PDF-", "a PDF document", AS_CSV),
    (rb"\{\\rtf", "a text document (RTF)", AS_CSV),
    (rb"\x80[\x02-\x05]" + CONTROL, "a pickle, which may run any code", FROM_PYTHON),
    (rb"\x93NUMPY", "a single NumPy array", "save it with np.savez(path, X=X, y=y)"),
    (rb"ARROW1\0|\xff{4}.{3}\0|FEA1" + CONTROL, "an Arrow or Feather file", FROM_PYTHON),
    (rb"ORC" + CONTROL, "an ORC file", FROM_PYTHON),
    (rb"Obj\x01", "an Avro file", FROM_PYTHON),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", FROM_PYTHON),
    (rb"SQLite format 3\0", "an SQLite database", "export one of its tables as CSV"),
    (rb"MATLAB [57]\.\d" + CONTROL, "a MATLAB file", "save the table with writetable"),
    (rb"RD[AX]\d\n|[XAB]\n\0\0\0", "an R data file", "save the table with write.csv"),
    (rb"\$FL[23]@\(#\)", "an SPSS file", AS_CSV),
    (rb"<stata_dta>", "a Stata file", AS_CSV),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF.{4}WEBP", "an image", AS_CSV),
    (rb"BM.{4}\0{4}", "an image", AS_CSV),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (rb"\x1f[\x9d\xa0]", "a file compressed with compress (.Z)", UNPACK),
    (rb"\x04\x22\x4d\x18", "a file compressed with lz4", UNPACK),
    (rb".{257}ustar", "a tar archive", UNPACK),
    (rb"\x7fELF|MZ" + CONTROL, "a program", "check the path"),
)


@dataclass(frozen=True)
class Content:
    """Content of a file without its compression.

    Arguments:
        kind: ``text``, ``parquet``, ``npz``, ``xlsx``, ``ods`` or ``xls``.
        stream: The bytes, at their beginning.
    """

    kind: str
    stream: BinaryIO


@contextmanager
def opened(path: Path) -> Iterator[Content]:
    """Open a file, and take gzip, bz2, xz, zstd and zip off, whatever its name ends with.

    Raises:
        UserError: If the file is missing, not readable, damaged, an archive of several files, or
            of a format that holds no table.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give a file in it")
        if not path.is_file():
            raise UserError(f"{path} is not a file; check the path")
        with path.open("rb") as handle:
            yield _unpacked(handle, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path} cannot be read ({reason}); check the path") from error


def _unpacked(stream: BinaryIO, path: Path) -> Content:
    for _ in range(MAX_LAYERS):
        kind = _kind(stream, path)
        if kind == "zip":
            content = _open_zip(stream, path)
        elif kind in DECOMPRESS:
            with _damage_as_user_error(path, kind):
                content = io.BytesIO(DECOMPRESS[kind](stream))
        else:
            return Content(kind, stream)
        if isinstance(content, Content):
            return content
        stream = content
    raise UserError(f"{path} is compressed more than {MAX_LAYERS - 1} times; {UNPACK}")


def _kind(stream: BinaryIO, path: Path) -> str:
    head = stream.read(HEAD)
    stream.seek(0)
    for kind, signature in SIGNATURES.items():
        if re.match(signature, head, re.DOTALL):
            return kind
    for signature, name, remedy in FOREIGN:
        if re.match(signature, head, re.DOTALL):
            raise UserError(f"{path} is {name}; {remedy}")
    return "text"


def _unpack_zstd(stream: BinaryIO) -> bytes:
    import pyarrow as pa

    with pa.CompressedInputStream(stream, "zstd") as content:
        return content.read()


DECOMPRESS: dict[str, Callable[[BinaryIO], bytes]] = {
    "gzip": lambda stream: gzip.decompress(stream.read()),
    "bz2": lambda stream: bz2.decompress(stream.read()),
    "xz": lambda stream: lzma.decompress(stream.read()),
    "zstd": _unpack_zstd,
}


@contextmanager
def _damage_as_user_error(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    # What gzip, bz2, lzma, zipfile and Arrow raise for bytes that they cannot unpack.
    except (
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
    ) as error:
        raise UserError(
            f"{path} is cut off or damaged ({kind}: {error}); fetch it again"
        ) from error


def _open_zip(stream: BinaryIO, path: Path) -> Content | BinaryIO:
    """Tell arrays and spreadsheets, which are zip archives, from an archive of one file."""
    with _damage_as_user_error(path, "zip"), zipfile.ZipFile(stream) as archive:
        members = [member for member in archive.infolist() if _is_content(member)]
        names = [member.filename for member in members]
        if spreadsheet := _spreadsheet(archive, names):
            kind = spreadsheet
        elif any(name.endswith(".npy") for name in names):
            kind = "npz"
        elif len(members) != 1:
            some = f": {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
            raise UserError(
                f"{path} is a zip archive of {len(names)} files{some}; expected one, {UNPACK}"
            )
        elif members[0].flag_bits & 1:
            raise UserError(f"{path} is a zip archive with a password; {UNPACK}")
        else:
            return io.BytesIO(archive.read(members[0]))
    stream.seek(0)
    return Content(kind, stream)


def _is_content(member: zipfile.ZipInfo) -> bool:
    """Tell a member from folders and from what file managers leave behind."""
    parts = member.filename.split("/")
    return not (member.is_dir() or "__MACOSX" in parts or parts[-1].startswith("."))


def _spreadsheet(archive: zipfile.ZipFile, names: list[str]) -> str | None:
    if "xl/workbook.xml" in names or "xl/workbook.bin" in names:
        return "xlsx"
    if "mimetype" in names and b"opendocument.spreadsheet" in archive.read("mimetype"):
        return "ods"
    return None


def reason_of(error: Any) -> str:
    """Message of a library's error in one line of moderate length."""
    return " ".join(str(error).split())[:200] or type(error).__name__
