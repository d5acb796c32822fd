"""The table `media`: the pictures and sounds of documents. It is made with the first document that has one, so that an
index without any is what earlier releases read.

The vector of a picture or sound is a row of `vec` that lies nowhere in the document's text: rows.MEDIA_STARTS. Where a
model makes several vectors of one, each is such a row, and the nearest counts, as of several passages.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from edge_embed_runtime.storage.media import MEDIA_KINDS, SHA256_BYTES, Media, MediaKind
from edge_embed_runtime.storage.rows import MEDIA_STARTS, PASSAGES, is_whole

COLUMNS = "doc, kind, source, sha256, time, vectors, thumbcrc, crc"
ROWS = f"SELECT {COLUMNS} FROM media"
Row = tuple[Any, ...]


class KnownMedia(NamedTuple):
    """What an index has of a picture or sound: its vectors as `rows.packed` gives them, none where one is damaged; and
    its thumbnail."""

    codes: Sequence[bytes]
    thumbnail: bytes | None


class MediaTable:
    """The table of one connection. The caller holds the transaction, where it needs one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def insert(self, doc: int, media: Media, vectors: int, thumbnail: bytes | None) -> int:
        """Store what is known of a document's picture or sound, which has so many vectors; gives the checksum of the
        row."""
        row = _row(doc, media, vectors, _thumbnail_crc(thumbnail))
        marks = ", ".join("?" * (len(row) + 1))
        self._db.execute(f"INSERT INTO media ({COLUMNS}, thumbnail) VALUES ({marks})", (*row, thumbnail))
        return int(row[-1])

    def update(self, doc: int, media: Media) -> tuple[Any, int]:
        """Another source or time for the same picture or sound; gives the checksums before and after."""
        old = self._db.execute(f"{ROWS} WHERE doc = ?", (doc,)).fetchone()
        row = _row(doc, media, *old[5:7])
        self._db.execute("UPDATE media SET source = ?, time = ?, crc = ? WHERE doc = ?", (row[2], row[4], row[7], doc))
        return old[7], int(row[7])

    def of(self, docs: Iterable[int]) -> dict[int, Media | None]:
        """By the ids of documents, those without any left out; None where the row is damaged."""
        query = f"{ROWS} WHERE doc IN (SELECT value FROM json_each(?))"
        return {row[0]: _read(row) for row in self._db.execute(query, (json.dumps(list(docs)),))}

    def all(self) -> Iterator[tuple[Any, Media | None, int, bool]]:
        """(document id, what is known or None, how many vectors it has, whether its thumbnail is whole), of all
        documents that have any."""
        for *row, thumbnail in self._db.execute(f"SELECT {COLUMNS}, thumbnail FROM media NOT INDEXED ORDER BY doc"):
            yield row[0], _read(tuple(row)), row[5], _thumbnail_crc(thumbnail) == row[6]

    def thumbnail(self, doc: int) -> tuple[bytes | None, bool]:
        """The thumbnail of a document, None without one, and whether it is whole."""
        row = self._db.execute(f"SELECT {COLUMNS}, thumbnail FROM media WHERE doc = ?", (doc,)).fetchone()
        if row is None:
            return None, True
        return row[8], _read(row[:8]) is not None and _thumbnail_crc(row[8]) == row[6]

    def crc(self, doc: int) -> int | None:
        """The checksum of a document's row, 0 without one; None where it is damaged."""
        row = self._db.execute("SELECT crc FROM media WHERE doc = ?", (doc,)).fetchone()
        return 0 if row is None else row[0] if isinstance(row[0], int) else None

    def counts(self) -> dict[MediaKind, int]:
        """Documents by the kind of what they have."""
        found = dict(self._db.execute("SELECT kind, count(*) FROM media GROUP BY kind").fetchall())
        return {kind: found[kind] for kind in MEDIA_KINDS if kind in found}

    def known(self, media: Media) -> KnownMedia | None:
        """The vectors and thumbnail of a picture or sound with the same content, where they are whole; None where the
        index has none."""
        query = f"SELECT {COLUMNS}, thumbnail FROM media WHERE sha256 = ? AND kind = ?"
        found = None
        for *row, thumbnail in self._db.execute(query, (bytes.fromhex(media.sha256), media.kind)):
            if _read(tuple(row)) is None:
                continue
            small = thumbnail if _thumbnail_crc(thumbnail) == row[6] else None
            query = f"{PASSAGES} WHERE doc = ? AND start = ? ORDER BY id"
            vectors = self._db.execute(query, (row[0], MEDIA_STARTS[media.kind])).fetchall()
            if len(vectors) == row[5] and all(map(is_whole, vectors)):
                return KnownMedia([vector[4] for vector in vectors], small)
            found = KnownMedia((), small)
        return found

    def rows_of(self, doc: int) -> list[tuple[int, int]]:
        """(id, start) of the rows of `vec` of a document that are of no text."""
        return self._db.execute("SELECT id, start FROM vec WHERE doc = ? AND start < 0", (doc,)).fetchall()

    def docs_with_rows(self) -> set[int]:
        """Documents that have rows of `vec` that are of no text."""
        return {doc for (doc,) in self._db.execute("SELECT doc FROM vec NOT INDEXED WHERE start < 0")}

    def drop_thumbnail(self, doc: int, media: Media) -> tuple[Any, int]:
        """Delete a thumbnail; gives the checksums of the row before and after."""
        vectors, before = self._db.execute("SELECT vectors, crc FROM media WHERE doc = ?", (doc,)).fetchone()
        row = _row(doc, media, vectors, _thumbnail_crc(None))
        self._db.execute("UPDATE media SET thumbnail = NULL, thumbcrc = ?, crc = ? WHERE doc = ?", (*row[6:], doc))
        return before, int(row[-1])

    def set_vectors(self, doc: int, media: Media, vectors: int) -> tuple[Any, int]:
        """It has so many vectors from now on; gives the checksums of the row before and after."""
        small, before = self._db.execute("SELECT thumbcrc, crc FROM media WHERE doc = ?", (doc,)).fetchone()
        row = _row(doc, media, vectors, small)
        self._db.execute("UPDATE media SET vectors = ?, crc = ? WHERE doc = ?", (vectors, row[-1], doc))
        return before, int(row[-1])

    def hashes(self, among: Iterable[bytes]) -> set[bytes]:
        """Those of some hashes that pictures or sounds of the index have."""
        query = "SELECT DISTINCT sha256 FROM media WHERE sha256 = ?"
        return {hash_ for one in among for (hash_,) in self._db.execute(query, (one,))}

    def delete(self, docs: Iterable[int]) -> None:
        """Delete rows, and those of documents that are not there."""
        query = "DELETE FROM media WHERE doc NOT IN (SELECT id FROM doc) OR doc IN (SELECT value FROM json_each(?))"
        self._db.execute(query, (json.dumps(list(docs)),))


def _row(doc: int, media: Media, vectors: int, thumbnail_crc: int) -> tuple[Any, ...]:
    row = (doc, media.kind, media.source, bytes.fromhex(media.sha256), media.time, vectors, thumbnail_crc)
    return (*row, _crc(*row))


def _read(row: Row) -> Media | None:
    """None where the row is not whole."""
    doc, kind, source, sha256, time, vectors, thumbnail_crc, crc = row
    texts = isinstance(source, str) and (time is None or isinstance(time, str))
    if not texts or kind not in MEDIA_KINDS or not isinstance(sha256, bytes) or len(sha256) != SHA256_BYTES:
        return None
    whole = _crc(doc, kind, source, sha256, time, vectors, thumbnail_crc) == crc
    return Media(kind, source, sha256.hex(), time) if whole else None


def _crc(doc: Any, kind: str, source: str, sha256: bytes, time: str | None, *numbers: Any) -> int:
    said = "\x00".join((str(doc), kind, source, sha256.hex(), "-" if time is None else time, *map(str, numbers)))
    return zlib.crc32(said.encode("utf-8", "surrogateescape"))


def _thumbnail_crc(thumbnail: Any) -> int:
    """-1 without one; -2 for what is none."""
    if thumbnail is None:
        return -1
    return zlib.crc32(thumbnail) if isinstance(thumbnail, bytes) else -2
