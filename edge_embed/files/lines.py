"""Bytes of files as text: encodings, and lines of bounded length."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import InputError

# Larger files of text, and larger rows, are problems to report; they are not read on.
MAX_FILE = 2**30
MAX_ROW = 2**26
CHUNK = 2**20
BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Line(NamedTuple):
    """A line with its newline. number: from 1; error: why it, or a part of it, could not be read."""

    number: int
    text: str
    error: str | None = None


def check_encoding(name: str | None) -> str | None:
    """The name of an encoding of text that Python knows, or None for none. Raises InputError."""
    if name is None:
        return None
    try:
        "x".encode(name)  # base64 is an encoding too, but not of text
        return codecs.lookup(name).name
    except (LookupError, UnicodeError, ValueError):
        raise InputError(
            f"{name!r:.60} is no encoding that is known; try utf-8, cp1252 or utf-16",
            option="encoding",
            value=shown(name),
        ) from None


def decode(raw: bytes, encoding: str | None) -> str:
    """All of a text, without a byte order mark. Raises UnicodeDecodeError."""
    codec, mark = _codec(raw[:4], encoding)
    return raw[mark:].decode(codec) if mark else raw.decode(codec)


def undecodable(error: UnicodeDecodeError, hint: str = "say how it is encoded, such as --encoding cp1252") -> str:
    """UnicodeDecodeError -> "not UTF-8 text (invalid start byte); ..."."""
    name = "UTF-8" if error.encoding in ("utf-8", "utf-8-sig") else error.encoding
    return f"not {name} text ({error.reason}); {hint}, or convert it"


def lines(file: BinaryIO, encoding: str | None, limit: int) -> Iterator[Line]:
    """Lines of a file from its beginning, each of at most `limit` bytes; only a newline ends a line."""
    file.seek(0)
    codec, mark = _codec(file.read(4), encoding)
    file.seek(mark)
    by_bytes = "\n".encode(codec) == b"\n"
    return _lines_of_bytes(file, codec, limit) if by_bytes else _lines_of_text(file, codec, limit)


def _codec(start: bytes, encoding: str | None) -> tuple[str, int]:
    """The encoding, and the length of the byte order mark, which tells the encodings of Unicode apart."""
    if encoding is None or encoding.startswith("utf"):
        for mark, name in BOMS:
            if start.startswith(mark):
                return name, len(mark)
    return encoding or "utf-8", 0


def _lines_of_bytes(file: BinaryIO, codec: str, limit: int) -> Iterator[Line]:
    number = 0
    while raw := file.readline(limit + 1):
        number += 1
        if len(raw) > limit:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(CHUNK)
            yield Line(number, "", _too_long(limit))
            continue
        try:
            yield Line(number, raw.decode(codec))
        except UnicodeDecodeError as error:
            yield Line(number, raw.decode(codec, "replace"), undecodable(error))


def _lines_of_text(file: BinaryIO, codec: str, limit: int) -> Iterator[Line]:
    """For encodings in which a newline has more than one byte, as UTF-16. Reading ends at what cannot be decoded."""
    decoder = codecs.getincrementaldecoder(codec)()
    number, parts, size, error = 1, [""], 0, None
    while error is None and (raw := file.read(CHUNK)):
        try:
            first, *others = decoder.decode(raw).split("\n")
        except UnicodeDecodeError as found:
            error, first, others = undecodable(found), "", []
        for part in others:
            size += len(first)
            yield Line(number, "".join([*parts, first, "\n"])) if size <= limit else Line(number, "", _too_long(limit))
            number, parts, size, first = number + 1, [], 0, part
        size += len(first)
        parts = [*parts, first] if size <= limit else []
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as found:
        error = error or undecodable(found)
    if size or error:
        yield Line(number, "".join(parts), error or (_too_long(limit) if size > limit else None))


def _too_long(limit: int) -> str:
    return f"the line is longer than {limit:,} bytes"
