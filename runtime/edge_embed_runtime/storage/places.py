"""The table `place`: where pages, chapters and headings begin in documents.

It is made with the first document that has places, so that an index without any is what earlier releases read.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from edge_embed_runtime.storage.documents import Place

# What a place takes in Python, besides the characters of its label.
PLACE_BYTES = 200
ROWS = "SELECT doc, start, number, label, crc FROM place"
Row = tuple[Any, Any, Any, Any, Any]


class Places:
    """The table of one connection. The caller holds the transaction, where it needs one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def insert(self, doc: int, places: Sequence[Place]) -> int:
        """Store the places of a document; gives the sum of their checksums."""
        rows = [
            (doc, start, number, label, _crc(doc, start, number, label)) for number, (start, label) in enumerate(places)
        ]
        self._db.executemany("INSERT INTO place VALUES (?, ?, ?, ?, ?)", rows)
        return sum(row[4] for row in rows)

    def of(self, docs: Iterable[int]) -> dict[int, tuple[Place, ...] | None]:
        """The places of documents by id, those without any left out; None where they are damaged."""
        query = f"{ROWS} WHERE doc IN (SELECT value FROM json_each(?)) ORDER BY doc, start, number"
        return dict(_read(self._db.execute(query, (json.dumps(list(docs)),))))

    def bytes_of(self, docs: Iterable[int]) -> int:
        """The most that the places of documents take once they are read."""
        query = f"SELECT ifnull(sum({PLACE_BYTES} + 4 * length(label)), 0) FROM place"
        query += " WHERE doc IN (SELECT value FROM json_each(?))"
        return int(self._db.execute(query, (json.dumps(list(docs)),)).fetchone()[0])

    def all(self) -> Iterator[tuple[Any, tuple[Place, ...] | None]]:
        """(document id, its places or None), of all documents that have any."""
        return _read(self._db.execute(f"{ROWS} ORDER BY doc, start, number"))

    def of_passage(self, doc: int, text: str, start: int) -> tuple[str | None, bool]:
        """The label of the last place that starts at or before the first character of a passage that is not blank, and
        whether its row is whole."""
        first = start if text.isspace() else start + len(text) - len(text.lstrip())
        query = f"{ROWS} WHERE doc = ? AND start <= ? ORDER BY start DESC, number DESC LIMIT 1"
        row = self._db.execute(query, (doc, first)).fetchone()
        return (None, True) if row is None else (row[3], _is_whole(row))

    def sum(self, doc: int | None = None) -> int | None:
        """Sum of the checksums, of a document or of all; None where one is damaged."""
        query = "SELECT ifnull(sum(crc), 0) FROM place"
        found = self._db.execute(query) if doc is None else self._db.execute(f"{query} WHERE doc = ?", (doc,))
        (total,) = found.fetchone()
        return total if isinstance(total, int) else None

    def rebuild(self, without: Iterable[int]) -> None:
        """Insert all rows again, past an order that may be damaged, but not those of some documents, nor of those that
        are not there."""
        self._db.execute("CREATE TEMP TABLE kept AS SELECT * FROM main.place")
        self._db.execute("DELETE FROM main.place")
        chosen = "doc IN (SELECT id FROM doc) AND doc NOT IN (SELECT value FROM json_each(?))"
        insert = f"INSERT OR IGNORE INTO main.place SELECT * FROM temp.kept WHERE {chosen}"
        self._db.execute(insert, (json.dumps(list(without)),))
        self._db.execute("DROP TABLE temp.kept")


def _read(rows: Iterable[Row]) -> Iterator[tuple[Any, tuple[Place, ...] | None]]:
    for doc, group in groupby(rows, itemgetter(0)):
        found = list(group)
        whole = all(_is_whole(row) and row[2] == number for number, row in enumerate(found))
        yield doc, tuple((row[1], row[3]) for row in found) if whole else None


def _is_whole(row: Row) -> bool:
    doc, start, number, label, crc = row
    return isinstance(label, str) and _crc(doc, start, number, label) == crc


def _crc(doc: int, start: int, number: int, label: str) -> int:
    return zlib.crc32(f"{doc},{start},{number},{label}".encode("utf-8", "surrogateescape"))
