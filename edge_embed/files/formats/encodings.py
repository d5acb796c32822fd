"""Bytes as text, in the encoding that was given, that a byte order mark or UTF-8 says, or that is found out."""

import codecs
from collections.abc import Callable
from typing import BinaryIO

from edge_embed.files.formats.content import Request, UnreadableError
from edge_embed.files.formats.detect import Unclear, detect
from edge_embed.files.lines import decode, undecodable

CHUNK = 2**20
# Of the lines of a table that are not ASCII, bytes that are looked at.
SAMPLE = 2**20
NUL = "holds NUL, as UTF-16 and files that are no text do; --encoding utf-16-le reads that"


def text_of(raw: bytes, request: Request, declared: str | None = None) -> str:
    """declared: the encoding that the file itself names, where it fits."""
    try:
        text = decode(raw, request.encoding)
    except UnicodeDecodeError as error:
        if request.encoding is not None:
            raise UnreadableError(undecodable(error), raw[: error.start].count(b"\n") + 1) from None
        text = _guessed(raw, request, error, declared)
    if "\x00" in text:
        raise UnreadableError(NUL)
    return text


def _guessed(raw: bytes, request: Request, error: UnicodeDecodeError, declared: str | None) -> str:
    if declared is not None:
        try:
            return raw.decode(declared)
        except (UnicodeDecodeError, LookupError):
            pass
    found = detect(raw)
    if isinstance(found, Unclear):
        raise UnreadableError(undecodable(error, found.hint), raw[: error.start].count(b"\n") + 1)
    request.note(f"read as {found}")
    return raw.decode(found)


def of_lines(file: BinaryIO, note: Callable[[str], None]) -> str | None:
    """The encoding of a file of lines that is not UTF-8, if it is clear; its lines say what is wrong otherwise."""
    if _is_utf8(file):
        return None
    sample, size = [], 0
    file.seek(0)
    while size < SAMPLE and (line := file.readline(CHUNK)):
        if not line.isascii():
            sample.append(line)
            size += len(line)
    found = detect(b"".join(sample))
    if isinstance(found, Unclear):
        return None
    note(f"read as {found}")
    return found


def _is_utf8(file: BinaryIO) -> bool:
    """Whether it is, or has the mark of UTF-16."""
    file.seek(0)
    chunk = file.read(CHUNK)
    if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk:
            decoder.decode(chunk)
            chunk = file.read(CHUNK)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
