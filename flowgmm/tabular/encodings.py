"""Text from bytes: the encoding, given or by its mark, and line ends."""

import codecs
import io
import re

from flowgmm.utils.errors import UserError

__all__ = ["decode"]

# Marks at the beginning of a file and their codecs. UTF-32 is first: its mark begins as UTF-16's.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SAMPLE = 4096


def decode(data: bytes, where: object, encoding: str | None = None) -> tuple[str, str]:
    r"""Decode a text file.

    Arguments:
        data: Its bytes.
        where: Name of the file in messages.
        encoding: Name of its encoding; None: what its mark says, else UTF-8.

    Returns:
        The text without its mark, lines ending with ``\n``, and the name of the encoding.

    Raises:
        UserError: If the encoding is unknown or not that of the mark, or the bytes are no text in
            it.
    """
    name = encoding or "utf-8"
    try:
        codec = codecs.lookup(name).name
        io.TextIOWrapper(io.BytesIO(), encoding=codec)  # refuses codecs that give no text
    except (LookupError, ValueError):
        raise UserError(
            f"{where}: unknown encoding {name!r}; expected a name as utf-8, utf-16 or latin-1"
        ) from None
    marked = next((codec for mark, codec in MARKS if data.startswith(mark)), None)
    if marked:
        family = re.sub("-[lb]e$", "", marked)
        if encoding and codec.removesuffix("-sig") not in (marked, family):
            raise UserError(
                f"{where} begins with the mark of {marked}, so it is not {encoding}; leave out "
                "--encoding"
            )
        codec, name = marked, encoding or family
    try:
        text = data.decode(codec).removeprefix("\ufeff")
        if not codec.startswith(("utf-8", "utf-16", "utf-32")):
            text.encode()  # Escapes may name half of a character.
    except UnicodeDecodeError as error:
        raise UserError(_undecodable(data, error.start, where, codec, name)) from error
    except (UnicodeError, ValueError) as error:  # codecs of Python with messages of their own
        raise UserError(f"{where} is not {name} ({error}); give another --encoding") from error
    if "\0" in text:
        raise UserError(_with_nul(text, data, where, name))
    return _with_plain_line_ends(text), name


def _with_plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _undecodable(data: bytes, start: int, where: object, codec: str, name: str) -> str:
    before = _with_plain_line_ends(data[:start].decode(codec, errors="ignore"))
    byte = f"byte {data[start]:#04x} in line {1 + before.count(chr(10))}"
    if codec.startswith(("utf-16", "utf-32")):
        return f"{where} is not {name} ({byte}); it is cut off or of another --encoding"
    return f"{where} is not {name} ({byte}); give --encoding {_suggest(data)}"


def _with_nul(text: str, data: bytes, where: object, name: str) -> str:
    if wide := _wide(data):
        return f"{where} is not {name} (every other byte is NUL); give --encoding {wide}"
    line = 1 + _with_plain_line_ends(text[: text.index("\0")]).count("\n")
    return f"{where}: line {line} holds a NUL, which no text has; check the file"


def _suggest(data: bytes) -> str:
    """Name an encoding in which the bytes are text."""
    if wide := _wide(data):
        return wide
    likely = ["utf-8", "cp1252"] if re.search(rb"[\x80-\x9f]", data) else ["utf-8"]
    for name in likely:
        try:
            data.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"


def _wide(data: bytes) -> str | None:
    """Name UTF-16 where every other byte is NUL, as in text of Latin letters without a mark."""
    even, odd = data[:SAMPLE:2], data[1:SAMPLE:2]
    if odd and odd.count(0) > 0.7 * len(odd) and even.count(0) < 0.3 * len(even):
        return "utf-16-le"
    if odd and even.count(0) > 0.7 * len(even) and odd.count(0) < 0.3 * len(odd):
        return "utf-16-be"
    return None
