"""The index file: one SQLite database that is the truth, checked on open and row by row.

meta  facts about the index: schema version, bundle, dim, generation (counts commits), deletions (counts deletes)
doc   documents: key, text, metadata as JSON, crc32 over all of them
vec   passages: where they lie in their document, float32 scale + int8 code, crc32 over all of them
fts   FTS5 over the passages' texts, without a copy of them (contentless)
"""

import json
import os
import re
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle import sync_folder
from edge_embed_runtime.codes import Ids, Int8Codes, Vectors
from edge_embed_runtime.database import (
    APPLICATION_ID,
    RESTORE,
    beside,
    check_header,
    connect_reader,
    connect_writer,
    translated,
    wal_bytes,
)
from edge_embed_runtime.documents import Record
from edge_embed_runtime.errors import (
    IndexDamagedError,
    IndexFileError,
    IndexFormatError,
    IndexReadOnlyError,
    StorageError,
)
from edge_embed_runtime.filters import EVERY, METADATA, Condition
from edge_embed_runtime.passages import Span

SCHEMA = 1
MIN_SQLITE = (3, 38, 0)  # STRICT tables (3.37) and JSON built in (3.38)

# Passages that are read at once when all are: 3 MB at 384 dimensions.
LOAD_BLOCK = 8192
# What never changes in `meta`, besides its checksum.
FACTS = ("fingerprint", "bundle", "dim")
COUNTERS = ("generation", "deletions")
# Ids beyond this are damage, not growth.
MAX_ID = 2**62
# AUTOINCREMENT: a deleted passage's id is never used again, so readers recognise what is new by its id.
DDL = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE doc (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, text TEXT NOT NULL,"
    " metadata TEXT NOT NULL, crc INTEGER NOT NULL) STRICT",
    "CREATE TABLE vec (id INTEGER PRIMARY KEY AUTOINCREMENT, doc INTEGER NOT NULL REFERENCES doc (id),"
    " start INTEGER NOT NULL, stop INTEGER NOT NULL, code BLOB NOT NULL, crc INTEGER NOT NULL) STRICT",
    "CREATE INDEX vec_doc ON vec (doc)",
    "CREATE VIRTUAL TABLE fts USING fts5(text, content='', tokenize='porter unicode61 remove_diacritics 2')",
)

# Whole rows, in the order in which their checksums are made.
DOCUMENTS = "SELECT id, key, text, metadata, crc FROM doc"
PASSAGES = "SELECT id, doc, start, stop, code, crc FROM vec"


@dataclass(frozen=True)
class StoredDocument:
    """A row of `doc` whose crc32 fits."""

    id: int
    key: str
    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class StoredPassages:
    """Rows of `vec` whose crc32 fits, and the ids of those whose does not."""

    ids: Ids
    docs: Ids
    codes: Int8Codes
    scales: Vectors
    damaged: list[int]


@dataclass(frozen=True)
class Entry:
    """A document to store with its passages: spans, and their codes [n, dim] and scales [n]."""

    record: Record
    spans: Sequence[Span]
    codes: Int8Codes
    scales: Vectors


def _doc_crc(id_: int, key: str, text: str, metadata: str) -> int:
    return zlib.crc32("\x00".join((str(id_), key, text, metadata)).encode("utf-8", "surrogateescape"))


def _facts_crc(facts: dict[str, str]) -> str:
    return str(zlib.crc32("\x00".join(facts[name] for name in FACTS).encode("utf-8", "surrogateescape")))


def _vec_crc(id_: int, doc: int, start: int, stop: int, code: bytes) -> int:
    return zlib.crc32(code, zlib.crc32(f"{id_},{doc},{start},{stop}".encode()))


class Store:
    """One open index file. Not safe for use by two threads at once: Index holds the lock."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        check_header(path)
        with translated(path):
            self._db = connect_reader(path) if read_only else connect_writer(path)
            try:
                self._check_schema()
            except BaseException:
                self._db.close()
                raise

    @staticmethod
    def create(path: Path, facts: dict[str, str]) -> None:
        """Make an empty index with its `meta`; the file appears whole or not at all."""
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise IndexFileError(f"this Python's SQLite is {sqlite3.sqlite_version}; edge_embed needs 3.38 or later")
        try:
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        except OSError as error:
            raise IndexReadOnlyError(f"{path} cannot be created: {error.strerror}") from error
        temporary = Path(name)
        try:
            with translated(path):
                os.close(descriptor)
                db = sqlite3.connect(temporary, isolation_level=None)
                try:
                    # No write-ahead log yet: what is copied from it when it is closed can fail without a word.
                    db.execute("PRAGMA synchronous = FULL")
                    db.execute("BEGIN")
                    for statement in DDL:
                        db.execute(statement)
                    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {SCHEMA}")
                    rows = {**dict.fromkeys(COUNTERS, "0"), **facts, "crc": _facts_crc(facts)}
                    db.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())
                    db.execute("COMMIT")
                finally:
                    db.close()
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            for orphan in beside(path):  # the log of an index that was removed would be replayed into this one
                orphan.unlink(missing_ok=True)
            temporary.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            raise StorageError(f"{path} could not be created: {error.strerror}") from error
        finally:
            for leftover in (temporary, *beside(temporary)):
                leftover.unlink(missing_ok=True)

    @property
    def connection(self) -> sqlite3.Connection:
        """For maintenance.py, which looks after the tables themselves."""
        return self._db

    def close(self) -> None:
        with translated(self.path):
            self._db.close()

    def _check_schema(self) -> None:
        reference = sqlite3.connect(":memory:")
        try:
            for statement in DDL:
                reference.execute(statement)
            query = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
            expected = reference.execute(query).fetchall()
        finally:
            reference.close()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA:
            raise IndexFormatError(f"{self.path} has schema version {version}; this release reads {SCHEMA}")
        if self._db.execute(query).fetchall() != expected:
            raise IndexFormatError(f"{self.path} is not an edge_embed index: its tables are not ours")
        pages, size = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if pages * size > self.path.stat().st_size + wal_bytes(self.path):
            raise IndexDamagedError(
                f"{self.path} is cut off: {self.path.stat().st_size} bytes, expected {pages * size}; {RESTORE}"
            )

    def meta(self) -> dict[str, str]:
        """The facts about the index. Raises IndexDamagedError when they are not whole."""
        with translated(self.path):
            meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        # the types are checked too: SQLite enforces them when it writes, not when it reads
        typed = all(isinstance(meta.get(name), str) for name in (*FACTS, *COUNTERS))
        counted = typed and all(re.fullmatch("[0-9]{1,18}", meta[name]) for name in COUNTERS)
        if not counted or meta.get("crc") != _facts_crc(meta):
            raise IndexDamagedError(f"{self.path} is damaged (its facts do not fit their checksum)")
        return meta

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside comes from one committed state."""
        with translated(self.path):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def transaction(self, *, deletes: bool) -> Iterator[None]:
        """All or nothing; durable once the block has ended."""
        with translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                names = COUNTERS if deletes else COUNTERS[:1]
                self._db.executemany("UPDATE meta SET value = value + 1 WHERE key = ?", [(name,) for name in names])
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def write(self, entries: Sequence[Entry], delete: Iterable[str] = ()) -> Ids:
        """Delete documents by key, then store new ones, in one transaction. Gives the ids of deleted passages."""
        removed: list[int] = []
        keys = list(delete)
        with self.transaction(deletes=bool(keys)):
            for key in keys:
                removed += self._delete(key)
            for entry in entries:
                self._insert(entry)
        return np.array(removed, np.int64)

    def _insert(self, entry: Entry) -> None:
        record, db = entry.record, self._db
        # the id is part of what the checksum covers, so it is fixed before the row is written
        (doc,) = db.execute("SELECT ifnull(max(id), 0) + 1 FROM doc").fetchone()
        crc = _doc_crc(doc, record.key, record.text, record.metadata)
        db.execute("INSERT INTO doc VALUES (?, ?, ?, ?, ?)", (doc, record.key, record.text, record.metadata, crc))
        sequence = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'vec'"
        (last,) = db.execute(f"SELECT max(({sequence}), (SELECT ifnull(max(id), 0) FROM vec))").fetchone()
        if not (isinstance(last, int) and isinstance(doc, int) and max(last, doc) < MAX_ID):
            raise IndexDamagedError(f"{self.path} is damaged (its row ids have no successor)")
        ids = list(range(last + 1, last + 1 + len(entry.spans)))
        for id_, (start, stop), code, scale in zip(ids, entry.spans, entry.codes, entry.scales, strict=True):
            blob = np.float32(scale).astype("<f4").tobytes() + code.tobytes()
            crc = _vec_crc(id_, doc, start, stop, blob)
            db.execute("INSERT INTO vec VALUES (?, ?, ?, ?, ?, ?)", (id_, doc, start, stop, blob, crc))
            db.execute("INSERT INTO fts (rowid, text) VALUES (?, ?)", (id_, record.text[start:stop]))

    def _delete(self, key: str) -> list[int]:
        query = f"{DOCUMENTS} WHERE key = ?"
        row = self._db.execute(query, (key,)).fetchone()
        if row is None:
            return []
        if row[1] != key:  # a damaged look-up table led to another document, which must not pay for it
            raise IndexDamagedError(f"{self.path} is damaged (the key {key!r} leads to another document)")
        doc, whole = row[0], checked(row)
        query = f"{PASSAGES} WHERE doc = ?"
        passages = self._db.execute(query, (doc,)).fetchall()
        # the words of a damaged passage are not known; their entries lead nowhere from now on
        known = [] if whole is None else [(row[0], whole.text[row[2] : row[3]]) for row in passages if is_whole(row)]
        self._db.executemany("INSERT INTO fts (fts, rowid, text) VALUES ('delete', ?, ?)", known)
        self._db.execute("DELETE FROM vec WHERE doc = ?", (doc,))
        self._db.execute("DELETE FROM doc WHERE id = ?", (doc,))
        return [row[0] for row in passages]

    def counts(self) -> tuple[int, int]:
        """(documents, passages)."""
        with translated(self.path):
            (counts,) = self._db.execute("SELECT (SELECT count(*) FROM doc), (SELECT count(*) FROM vec)")
            return counts[0], counts[1]

    def document(self, key: str) -> StoredDocument | None:
        """One document by key. Raises IndexDamagedError when its checksum does not fit."""
        with translated(self.path):
            row = self._db.execute(f"{DOCUMENTS} WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        document = checked(row)
        if document is None or document.key != key:
            raise IndexDamagedError(f"{self.path}: the document {key!r} is damaged (its checksum does not fit)")
        return document

    def holds(self, record: Record) -> bool:
        """Whether a document is stored with this text and metadata, every row of it whole."""
        query = f"{DOCUMENTS} WHERE key = ? AND text = ? AND metadata = ?"
        with translated(self.path):
            row = self._db.execute(query, (record.key, record.text, record.metadata)).fetchone()
            if row is None or checked(row) is None:
                return False
            query = f"{PASSAGES} WHERE doc = ?"
            passages = self._db.execute(query, row[:1]).fetchall()
            return bool(passages) and all(map(is_whole, passages))

    def documents(self, ids: Iterable[int], where: Condition = EVERY) -> dict[int, StoredDocument]:
        """Documents by id that fit a condition; damaged ones are left out."""
        chosen = f"id IN (SELECT value FROM json_each(?)) AND {where[0]}"
        query = f"{DOCUMENTS} WHERE {chosen}"
        rows = self._db.execute(query, (json.dumps(list(ids)), *where[1])).fetchall()
        return {document.id: document for row in rows if (document := checked(row)) is not None}

    def existing(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are in the index."""
        query = "SELECT key FROM doc WHERE key IN (SELECT value FROM json_each(?))"
        with translated(self.path):
            return {key for (key,) in self._db.execute(query, (json.dumps(list(keys)),))}

    def all_passages(self, dim: int, after: int) -> Iterator[StoredPassages]:
        """Every passage with an id larger than `after`, in blocks of ascending ids, so that memory stays bounded."""
        query = f"{PASSAGES} WHERE id > ? ORDER BY id"
        rows = self._db.execute(query, (after,))
        while block := rows.fetchmany(LOAD_BLOCK):
            yield _checked_passages(block, dim)

    def passages(self, dim: int, ids: Ids) -> StoredPassages:
        """Passages by id; ascending ids."""
        query = f"{PASSAGES} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return _checked_passages(self._db.execute(query, (json.dumps(ids.tolist()),)).fetchall(), dim)

    def match(self, expression: str, count: int, where: Condition | None) -> list[tuple[int, int, float]]:
        """Passages that hold a word of an FTS5 expression: (passage id, document id, BM25), best first."""
        condition, parameters = where or ("1", [])
        query = f"""
            SELECT vec.id, vec.doc, -bm25(fts) FROM fts JOIN vec ON vec.id = fts.rowid JOIN doc ON doc.id = vec.doc
            WHERE fts MATCH ? AND {condition} ORDER BY bm25(fts), vec.id LIMIT ?
        """
        return self._db.execute(query, (expression, *parameters, count)).fetchall()

    def allowed(self, where: Condition) -> Ids:
        """Ids of the passages whose documents fit a condition."""
        query = f"SELECT vec.id FROM doc JOIN vec ON vec.doc = doc.id WHERE {where[0]}"
        return np.array([id_ for (id_,) in self._db.execute(query, where[1])], np.int64)

    def spans(self, ids: Iterable[int]) -> dict[int, Span]:
        """Where passages lie in their documents; damaged ones are left out."""
        query = f"{PASSAGES} WHERE id IN (SELECT value FROM json_each(?))"
        rows = self._db.execute(query, (json.dumps(list(ids)),)).fetchall()
        return {row[0]: (row[2], row[3]) for row in rows if is_whole(row)}

    def any_document(self, where: Condition = EVERY) -> bool:
        """Whether any document fits a condition."""
        query = f"SELECT 1 FROM doc WHERE {where[0]} LIMIT 1"
        return self._db.execute(query, where[1]).fetchone() is not None

    def fields(self, limit: int = 20) -> list[str]:
        """Names of metadata fields, for a message."""
        query = f"SELECT DISTINCT field.key FROM doc, json_each({METADATA}) AS field LIMIT ?"
        return [str(name) for (name,) in self._db.execute(query, (limit,))]


def _checked_passages(rows: list[tuple[int, int, int, int, bytes, int]], dim: int) -> StoredPassages:
    """Rows of `vec` sorted into those whose checksum fits and those whose does not."""
    good: list[tuple[int, int]] = []
    blobs: list[bytes] = []
    damaged = []
    for row in rows:
        id_, doc, _, _, blob, _ = row
        if is_whole(row) and len(blob) == dim + 4:
            good.append((id_, doc))
            blobs.append(blob)
        else:
            damaged.append(id_)
    raw = np.frombuffer(b"".join(blobs), np.int8).reshape(len(blobs), dim + 4)
    scales: NDArray[np.float32] = np.ascontiguousarray(raw[:, :4]).view("<f4")[:, 0].astype(np.float32)
    numbers = np.array(good, np.int64).reshape(-1, 2)
    return StoredPassages(numbers[:, 0], numbers[:, 1], raw[:, 4:], scales, damaged)


def is_whole(row: tuple[int, int, int, int, bytes, int]) -> bool:
    """Whether the checksum of a row of `vec` fits."""
    id_, doc, start, stop, code, crc = row
    return isinstance(code, bytes) and _vec_crc(id_, doc, start, stop, code) == crc


def checked(row: tuple[int, str, str, str, int]) -> StoredDocument | None:
    """A row of `doc` as a document, or None when its checksum does not fit."""
    id_, key, text, metadata, crc = row
    if not all(isinstance(value, str) for value in (key, text, metadata)) or _doc_crc(id_, key, text, metadata) != crc:
        return None
    return StoredDocument(id_, key, text, json.loads(metadata))
