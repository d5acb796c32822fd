"""The index file: one SQLite database that is the truth, checked on open and row by row. Its tables: schema.py."""

import json
import os
import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.blocks import BLOCK, Blocks
from edge_embed_runtime.bundle import sync_folder
from edge_embed_runtime.checks import SHOWN_CHARACTERS, shown
from edge_embed_runtime.codes import Ids, Int8Codes, Vectors, Words, binarize, dequantize
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
from edge_embed_runtime.frame import Frame
from edge_embed_runtime.passages import Span
from edge_embed_runtime.schema import COUNTERS, SCHEMA, Facts, ddl
from edge_embed_runtime.textquery import folded, normal
from edge_embed_runtime.wordstable import reading_words

if TYPE_CHECKING:
    from edge_embed_runtime.attached import Attached

MIN_SQLITE = (3, 38, 0)  # STRICT tables (3.37) and JSON built in (3.38)

# Passages that are read at once when all are: 3 MB at 384 dimensions.
LOAD_BLOCK = 8192
# Ids beyond this are damage, not growth.
MAX_ID = 2**62

TABLES = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
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
class Removed:
    """Ids of passages that a commit deleted, and the counter `deletions` after it."""

    passages: Ids
    deletions: int


@dataclass(frozen=True)
class Entry:
    """A document to store with its passages: spans, and their codes [n, dim] and scales [n].

    attached: what else is stored of them, a row for each, by the name of the table
    """

    record: Record
    spans: Sequence[Span]
    codes: Int8Codes
    scales: Vectors
    attached: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


def _make_file(temporary: Path, path: Path) -> None:
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise IndexReadOnlyError(f"{path} cannot be created: {error.strerror}") from error


def _is_ours(found: list[tuple[Any, ...]], facts: Facts | None) -> bool:
    """Whether tables are what the facts say; where these are damaged, what they decide is not looked at."""
    db = sqlite3.connect(":memory:")
    try:
        for statement in ddl(facts or Facts("", "", "")):
            db.execute(statement)
        expected = db.execute(TABLES).fetchall()
    finally:
        db.close()

    def fixed(tables: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [row for row in tables if facts is not None or not str(row[1]).startswith(("fts", "doc_field_", "vec_"))]

    return fixed(found) == fixed(expected)


def _doc_crc(id_: int, key: str, text: str, metadata: str) -> int:
    return zlib.crc32("\x00".join((str(id_), key, text, metadata)).encode("utf-8", "surrogateescape"))


def _parts(entry: Entry) -> tuple[Record, Sequence[Span], list[bytes], list[bytes]]:
    """A record, the spans of its passages, and their codes and scales in bytes."""
    return (
        entry.record,
        entry.spans,
        [code.tobytes() for code in entry.codes],
        [scale.tobytes() for scale in entry.scales.astype("<f4")],
    )


def _vec_crc(id_: int, doc: int, start: int, stop: int, code: bytes) -> int:
    return zlib.crc32(code, zlib.crc32(f"{id_},{doc},{start},{stop}".encode()))


class Store:
    """One open index file. Not safe for use by two threads at once: Index holds the lock."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        # whether a call was ended in the middle of something, see `recover`
        self.interrupted = False
        self._facts: Facts | None = None
        check_header(path)
        try:
            with translated(path):
                self._open()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def create(path: Path, facts: Facts) -> None:
        """Make an empty index with its `meta`; the file appears whole or not at all."""
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise IndexFileError(f"this Python's SQLite is {sqlite3.sqlite_version}; edge_embed needs 3.38 or later")
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with translated(path):
                _make_file(temporary, path)
                db = sqlite3.connect(temporary, isolation_level=None)
                try:
                    # No write-ahead log yet: what is copied from it when it is closed can fail without a word.
                    db.execute("PRAGMA synchronous = FULL")
                    db.execute("BEGIN")
                    for statement in ddl(facts):
                        db.execute(statement)
                    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {SCHEMA}")
                    rows = {**dict.fromkeys(COUNTERS, "0"), **facts.rows()}
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
                with suppress(OSError):  # what is to be told is why it failed
                    leftover.unlink(missing_ok=True)

    def _setup(self) -> None:
        if self._facts is not None:
            try:
                self.dim = int(self._facts.dim)
                self.frame = Frame.from_json(self._facts.frame, self.dim)
            except ValueError as error:
                raise IndexDamagedError(f"{self.path} is damaged ({error}); {RESTORE}") from error
            self.blocks = Blocks(self._db, self.dim, self.derive_block)
            self.attached: dict[str, Attached] = {}
            if self._facts.attached:
                from edge_embed_runtime import attached

                self.attached = {
                    name: attached.Attached(self._db, name, model[2]) for name, model in self._facts.attached.items()
                }
            self._crc = self._facts.crc

    @property
    def facts(self) -> Facts:
        """Raises IndexDamagedError where they are not whole; nothing but `verify` can be done then."""
        if self._facts is None:
            raise IndexDamagedError(f"{self.path} is damaged (its facts do not fit their checksum); {RESTORE}")
        return self._facts

    @property
    def connection(self) -> sqlite3.Connection:
        """For maintenance.py, which looks after the tables themselves."""
        return self._db

    def close(self) -> None:
        """May be called again."""
        if hasattr(self, "_db"):
            with translated(self.path):
                self._db.close()

    def _check_schema(self) -> Facts | None:
        """Refuse tables that are not ours before anything is read from them. Gives the facts, None where damaged."""
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA:
            raise IndexFormatError(f"{self.path} has schema version {version}; this release reads {SCHEMA}")
        found = self._db.execute(TABLES).fetchall()
        facts = None
        if ("table", "meta", "meta", ddl(Facts("", "", ""))[0]) in found:
            facts = self._read_facts()
        if not _is_ours(found, facts):
            raise IndexFormatError(f"{self.path} is not an edge_embed index: its tables are not ours")
        pages, size = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if pages * size > self.path.stat().st_size + wal_bytes(self.path):
            raise IndexDamagedError(
                f"{self.path} is cut off: {self.path.stat().st_size} bytes, expected {pages * size}; {RESTORE}"
            )
        return facts

    def _read_facts(self) -> Facts | None:
        return Facts.from_rows(dict(self._db.execute("SELECT key, value FROM meta").fetchall()))

    def counters(self) -> tuple[int, int]:
        """(generation, deletions). Reads the facts again where another process changed them.

        Raises IndexDamagedError when either are not whole.
        """
        with translated(self.path):
            rows = dict(self._db.execute(f"SELECT key, value FROM meta WHERE key IN {(*COUNTERS, 'crc')}").fetchall())
            values = [rows.get(name) for name in COUNTERS]
            if not all(isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) for value in values):
                raise IndexDamagedError(f"{self.path} is damaged (its counters are no numbers)")
            if rows.get("crc") != self._crc:
                self._facts = self._read_facts()
                self._setup()
        return int(values[0] or 0), int(values[1] or 0)

    def note(self, key: str) -> str | None:
        """A row of `meta` that is no fact; who writes it gives it a checksum."""
        with translated(self.path):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row is not None and isinstance(row[0], str) else None

    def set_note(self, key: str, value: str | None) -> None:
        """Write a row of `meta` that is no fact, or delete it. The caller holds the transaction."""
        if value is None:
            self._db.execute("DELETE FROM meta WHERE key = ?", (key,))
        else:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside comes from one committed state."""
        with translated(self.path):
            self.recover()
            db = self._db
            try:
                self._begin("BEGIN")
                yield
            except BaseException as error:
                self._end(db, error)
                raise
            self._end(db)

    @contextmanager
    def transaction(self, *, deletes: bool) -> Iterator[None]:
        """All or nothing; durable once the block has ended."""
        with translated(self.path):
            self.recover()
            db, facts = self._db, self._facts
            try:
                self._begin("BEGIN IMMEDIATE")
                names = COUNTERS if deletes else COUNTERS[:1]
                db.executemany("UPDATE meta SET value = value + 1 WHERE key = ?", [(name,) for name in names])
                yield
                db.execute("COMMIT")
            except BaseException as error:
                self._end(db, error)
                if self._facts is not facts:  # the others were taken back
                    self._facts = facts
                    self._setup()
                raise
            self._end(db)

    def _begin(self, statement: str) -> None:
        self.interrupted = True  # until `_end` says otherwise
        self._db.execute(statement)

    def _end(self, db: sqlite3.Connection, error: BaseException | None = None) -> None:
        """Take back what was not committed. After an interrupt the next call recovers all the same."""
        if db is not self._db:
            return
        if db.in_transaction:
            db.execute("ROLLBACK")
        self.interrupted = isinstance(error, MemoryError) or not isinstance(error, Exception | None)

    def recover(self) -> None:
        """Begin with a new connection where an interrupt left the old one in the middle of something: a transaction, or
        a query that something still holds. The caller is in no block of this object."""
        if self.interrupted:
            with translated(self.path):
                self._db.close()
                self._open()
            self.interrupted = False

    def _open(self) -> None:
        self._db: sqlite3.Connection = connect_reader(self.path) if self.read_only else connect_writer(self.path)
        self._facts = self._check_schema()
        self._setup()

    def write(self, entries: Sequence[Entry], delete: Iterable[str] = ()) -> Removed:
        """Delete documents by key, then store new ones, in one transaction. Gives what was deleted."""
        keys = list(delete)
        with self.transaction(deletes=bool(keys)):
            removed = np.array([id_ for key in keys for id_ in self._delete(key)], np.int64)
            self.blocks.remove(removed)
            if entries:
                self._insert(entries)
            _, deletions = self.counters()
        return Removed(removed, deletions)

    def _insert(self, entries: Sequence[Entry]) -> None:
        doc, last = self.last_ids()
        first = last + 1
        documents: list[Any] = []
        passages: list[Any] = []
        words: list[Any] = []
        # ids are part of what the checksums cover, so they are fixed before the rows are written
        for record, spans, codes, scales in map(_parts, entries):
            doc += 1
            crc = _doc_crc(doc, record.key, record.text, record.metadata)
            documents.append((doc, record.key, record.text, record.metadata, crc))
            for (start, stop), code, scale in zip(spans, codes, scales, strict=True):
                last += 1
                passages.append(passage_row(last, doc, (start, stop), scale + code))
                words.append((last, self.normal(record.text[start:stop])))
        self._db.executemany("INSERT INTO doc VALUES (?, ?, ?, ?, ?)", documents)
        self._db.executemany("INSERT INTO vec VALUES (?, ?, ?, ?, ?, ?)", passages)
        with reading_words(self.path):
            self._db.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", words)
        for name, table in self.attached.items():
            table.insert(first, [row for entry in entries for row in entry.attached[name]])
        all_codes = np.concatenate([entry.codes for entry in entries])
        all_scales = np.concatenate([entry.scales for entry in entries])
        self.blocks.add(np.arange(first, last + 1), self.binary(all_codes, all_scales))

    def normal(self, text: str) -> str:
        """A text as it goes into the table of words."""
        return normal(text, self.facts.normal)

    def passage_words(self, document: StoredDocument, passages: Sequence[Any]) -> list[tuple[int, str]]:
        """(id, text as in the table of words) of those rows of `vec` that are whole: whose words are known."""
        return [(row[0], self.normal(document.text[row[2] : row[3]])) for row in passages if is_whole(row)]

    def set_facts(self, facts: Facts) -> None:
        """Write other facts, and go by them. The caller holds the transaction."""
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(facts.rows().items()))
        self.counters()

    def last_ids(self) -> tuple[int, int]:
        """The largest ids so far: of a document, and of a passage, those that are deleted included."""
        (doc,) = self._db.execute("SELECT ifnull(max(id), 0) FROM doc").fetchone()
        sequence = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'vec'"
        (last,) = self._db.execute(f"SELECT max(({sequence}), (SELECT ifnull(max(id), 0) FROM vec))").fetchone()
        if not (isinstance(last, int) and isinstance(doc, int) and max(last, doc) < MAX_ID):
            raise IndexDamagedError(f"{self.path} is damaged (its row ids have no successor)")
        return doc, last

    def binary(self, codes: Int8Codes, scales: Vectors) -> Words:
        """Binary codes [n, words] of int8 codes [n, dim]: the only way in which they are made."""
        return binarize(self.frame.place(dequantize(codes, scales)))

    def derive_block(self, block: int) -> tuple[Ids, Words]:
        """What belongs in a block of binary codes: ids and words of its passages that are whole."""
        query = f"{PASSAGES} WHERE id >= ? AND id < ? ORDER BY id"
        rows = self._db.execute(query, (block * BLOCK, (block + 1) * BLOCK)).fetchall()
        found = checked_passages(rows, self.dim)
        return found.ids, self.binary(found.codes, found.scales)

    def _delete(self, key: str) -> list[int]:
        query = f"{DOCUMENTS} WHERE key = ?"
        row = self._db.execute(query, (key,)).fetchone()
        if row is None:
            return []
        if row[1] != key:  # a damaged look-up table led to another document, which must not pay for it
            raise IndexDamagedError(f"{self.path} is damaged (the key {shown(key)} leads to another document)")
        doc, whole = row[0], checked(row)
        query = f"{PASSAGES} WHERE doc = ?"
        passages = self._db.execute(query, (doc,)).fetchall()
        # the words of a damaged passage are not known; their entries lead nowhere from now on
        known = [] if whole is None else self.passage_words(whole, passages)
        with reading_words(self.path):
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
            raise IndexDamagedError(f"{self.path}: the document {shown(key)} is damaged (its checksum does not fit)")
        return document

    def holds(self, record: Record, code: Int8Codes | None = None, scale: Any = None) -> bool:
        """Whether a document is stored with this text and metadata, every row of it whole; where one is given, with
        this code [dim] and scale."""
        query = f"{DOCUMENTS} WHERE key = ? AND text = ? AND metadata = ?"
        with translated(self.path):
            row = self._db.execute(query, (record.key, record.text, record.metadata)).fetchone()
            if row is None or checked(row) is None:
                return False
            query = f"{PASSAGES} WHERE doc = ?"
            passages = self._db.execute(query, row[:1]).fetchall()
            wanted = None if code is None else np.float32(scale).astype("<f4").tobytes() + code.tobytes()
            ids = [row[0] for row in passages]
            return (
                bool(passages)
                and all(is_whole(row) and wanted in (None, row[4]) for row in passages)
                and all(len(table.rows(ids)) == len(ids) for table in self.attached.values())
            )

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
            found = self._db.execute(query, (json.dumps(list(keys)),)).fetchall()
        return {key for (key,) in found}

    def all_passages(self) -> Iterator[StoredPassages]:
        """Every passage, many at a time, in ascending order of ids, so that memory stays bounded."""
        rows = self._db.execute(f"{PASSAGES} ORDER BY id")
        while block := rows.fetchmany(LOAD_BLOCK):
            yield checked_passages(block, self.dim)

    def passages(self, ids: Ids) -> StoredPassages:
        """Passages by id; ascending ids."""
        query = f"{PASSAGES} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return checked_passages(self._db.execute(query, (json.dumps(ids.tolist()),)).fetchall(), self.dim)

    def frequencies(self, phrases: Iterable[str]) -> tuple[list[tuple[int, str]], int]:
        """FTS5 phrases that some passage holds, with the number of these, and the number of all passages."""
        query = "SELECT count(*) FROM fts WHERE fts MATCH ?"
        with reading_words(self.path):
            counted = [(self._db.execute(query, (phrase,)).fetchone()[0], phrase) for phrase in phrases]
            (passages,) = self._db.execute("SELECT count(*) FROM fts_docsize").fetchone()
        return [entry for entry in counted if entry[0]], passages

    def match(self, expression: str, where: Condition | None, count: int) -> tuple[list[tuple[int, int, float]], bool]:
        """The first `count` passages that fit an FTS5 expression, (passage id, document id, BM25), best first, and
        whether there are more."""
        if where is None:
            query = """
                SELECT best.id, vec.doc, -best.score FROM
                (SELECT rowid AS id, bm25(fts) AS score FROM fts WHERE fts MATCH ? ORDER BY score, id LIMIT ?) AS best
                LEFT JOIN vec ON vec.id = best.id ORDER BY best.score, best.id
            """
            values: tuple[Any, ...] = (expression, count)
        else:
            query = f"""
                SELECT vec.id, vec.doc, -bm25(fts) AS score FROM fts JOIN vec ON vec.id = fts.rowid
                JOIN doc ON doc.id = vec.doc WHERE fts MATCH ? AND {where[0]} ORDER BY score DESC, vec.id LIMIT ?
            """
            values = (expression, *where[1], count)
        with reading_words(self.path):
            rows = self._db.execute(query, values).fetchall()
            if not all(isinstance(row[2], float) and row[2] >= 0 for row in rows):
                raise TypeError("a score is no number, or negative")  # of lengths that no passage has
        # words of a passage that was deleted while it was damaged lead nowhere
        return [row for row in rows if isinstance(row[0], int) and isinstance(row[1], int)], len(rows) == count

    def holding(
        self, words: Sequence[str], where: Condition | None, count: int
    ) -> tuple[list[tuple[int, int, float]], bool]:
        """`match` for words that are too short for a table of trigrams: every text is read. The score adds n / (n + 1)
        for each word that a passage holds n times."""
        condition, parameters = where or EVERY
        wanted = [folded(word) for word in words]
        found: list[tuple[int, int, float]] = []
        for doc, text in self._db.execute(f"SELECT id, text FROM doc WHERE {condition}", parameters):
            if not isinstance(text, str) or not any(map(folded(text).__contains__, wanted)):
                continue
            for id_, start, stop in self._db.execute(
                "SELECT id, start, stop FROM vec WHERE doc = ?", (doc,)
            ).fetchall():
                part = folded(text[start:stop])
                score = sum(n / (n + 1) for n in map(part.count, wanted))
                if score:
                    found.append((id_, doc, score))
        found.sort(key=lambda row: (-row[2], row[0]))
        return found[:count], len(found) > count

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

    def fields(self, limit: int = 1000) -> list[str]:
        """Names of metadata fields, the first that are met, and of each what a message shows."""
        name = f"substr(field.key, 1, {SHOWN_CHARACTERS + 1})"
        query = f"SELECT DISTINCT {name} FROM doc, json_each({METADATA}) AS field LIMIT ?"
        return [str(name) for (name,) in self._db.execute(query, (limit,))]


def checked_passages(rows: list[tuple[int, int, int, int, bytes, int]], dim: int) -> StoredPassages:
    """Rows of `vec` sorted into those whose checksum fits and those whose does not."""
    good: list[tuple[int, int]] = []
    blobs: list[bytes] = []
    damaged = []
    for id_, doc, start, stop, blob, crc in rows:
        # `is_whole` in line: a call for each of hundreds of rows is felt in a search
        head = f"{id_},{doc},{start},{stop}".encode()
        if isinstance(blob, bytes) and len(blob) == dim + 4 and zlib.crc32(blob, zlib.crc32(head)) == crc:
            good.append((id_, doc))
            blobs.append(blob)
        else:
            damaged.append(id_)
    raw = np.frombuffer(b"".join(blobs), np.int8).reshape(len(blobs), dim + 4)
    scales: NDArray[np.float32] = np.ascontiguousarray(raw[:, :4]).view("<f4")[:, 0].astype(np.float32)
    numbers = np.array(good, np.int64).reshape(-1, 2)
    return StoredPassages(numbers[:, 0], numbers[:, 1], raw[:, 4:], scales, damaged)


def passage_row(id_: int, doc: int, span: Span, code: bytes) -> tuple[int, int, int, int, bytes, int]:
    """A row of `vec`, with its checksum; code: float32 scale and int8 code."""
    return id_, doc, *span, code, _vec_crc(id_, doc, *span, code)


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
