"""Rows of `doc` read in pieces: a passage of a long text, and whether the row is whole, in little memory.

SQLite's incremental BLOB I/O reads any part of a value; its own functions would read all of it first.
"""

import sqlite3
import zlib
from collections.abc import Iterator

import numpy as np

from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.storage.rows import PIECE, crc_before_text, document_crc, encoded

# Bytes of objects that a character of JSON can become: {"a":{},"b":{}} and [[],[]] take most. Where one character is
# beyond the basic plane, Python keeps four bytes for each, of the JSON and then of what it says.
JSON_BRACE, JSON_BRACKET, JSON_COMMA = 240, 96, 110
JSON_ASCII, JSON_WIDE = 3, 9


class Row:
    """A row of `doc`, open. Raises sqlite3.Error where its values are none that can be read in pieces."""

    def __init__(self, db: sqlite3.Connection, id_: int, key: str, crc: int) -> None:
        self.id, self.key, self._crc = id_, key, crc
        self._text = db.blobopen("doc", "text", id_, readonly=True)
        try:
            self._metadata = db.blobopen("doc", "metadata", id_, readonly=True)
        except BaseException:
            self._text.close()
            raise

    def close(self) -> None:
        self._text.close()
        self._metadata.close()

    @property
    def text_bytes(self) -> int:
        return len(self._text)

    @property
    def metadata_bytes(self) -> int:
        return len(self._metadata)

    def read(self, span: Span) -> tuple[str, bytes] | None:
        """The text from one character to another, and the metadata as JSON; None where the checksum does not fit."""
        start, stop = span
        crc = crc_before_text(self.id, self.key)
        kept: list[bytes] = []
        first = characters = 0  # where what is kept begins, and where the piece does
        for piece in _pieces(self._text):
            crc = zlib.crc32(piece, crc)
            before, characters = characters, characters + _begun(piece)
            if before <= stop and characters > start:  # the last character may end in a piece that begins behind it
                first = first if kept else before
                kept.append(piece)
        metadata = self._metadata.read()
        if zlib.crc32(metadata, zlib.crc32(b"\x00", crc)) != self._crc:
            return None
        # a character may begin in one piece and end in the next, where it does not count
        raw = b"".join(kept)
        del kept
        tail = next((i for i in range(min(4, len(raw))) if raw[i] & 0xC0 != 0x80), 0)
        return raw[tail:].decode("utf-8", "ignore")[start - first : stop - first], metadata

    def holds(self, text: str, metadata: str) -> bool:
        """Whether it is whole, with this text and metadata."""
        for blob, wanted in ((self._text, text), (self._metadata, metadata)):
            if any(blob.read(len(piece)) != piece for piece in encoded(wanted)) or blob.read(1):
                return False
        return document_crc(self.id, self.key, text, metadata) == self._crc


def _pieces(blob: sqlite3.Blob) -> Iterator[bytes]:
    while piece := blob.read(PIECE):
        yield piece


def _begun(piece: bytes) -> int:
    """Characters that begin in a piece of UTF-8."""
    if piece.isascii():
        return len(piece)
    return int(np.count_nonzero((np.frombuffer(piece, np.uint8) & 0xC0) != 0x80))


def parsed_bytes(metadata: bytes) -> int:
    """The most that metadata can take once its JSON is read, besides the JSON."""
    counts = (metadata.count(b"{"), metadata.count(b"["), metadata.count(b","))
    of_each = zip(counts, (JSON_BRACE, JSON_BRACKET, JSON_COMMA), strict=True)
    each = JSON_ASCII if metadata.isascii() else JSON_WIDE
    return each * len(metadata) + sum(count * size for count, size in of_each)
