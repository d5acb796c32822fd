"""The index file: one SQLite database that is the truth, checked on open and row by row. Its tables: schema.py."""

import json
import os
import re
import sqlite3
import stat
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle.bundle import sync_folder
from edge_embed_runtime.checks import SHOWN_CHARACTERS, shown
from edge_embed_runtime.errors import (
    IndexDamagedError,
    IndexFileError,
    IndexFormatError,
    IndexReadOnlyError,
    StorageError,
)
from edge_embed_runtime.passages.split import Span
from edge_embed_runtime.storage.bitblocks import BLOCK, Blocks
from edge_embed_runtime.storage.database import (
    APPLICATION_ID,
    RESTORE,
    Glance,
    beside,
    check_header,
    connect_immutable,
    connect_reader,
    connect_writer,
    is_immutable,
    translated,
    wal_bytes,
)
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.filters import EVERY, METADATA, Condition
from edge_embed_runtime.storage.mainfile import (
    CONTENT,
    NEW,
    ROW,
    Content,
    Place,
    Position,
    checkpoint,
    identity,
    is_marked,
    mark,
    problem_with_log,
    seal,
    unmark,
)
from edge_embed_runtime.storage.pieces import Row, encoded
from edge_embed_runtime.storage.schema import COUNTERS, SCHEMA, Facts, ddl
from edge_embed_runtime.storage.textquery import folded, normal
from edge_embed_runtime.storage.wordstable import reading_words
from edge_embed_runtime.vectors.int8 import Ids, Int8Codes, Vectors, Words, binarize, dequantize
from edge_embed_runtime.vectors.rotation import Frame

if TYPE_CHECKING:
    from edge_embed_runtime.storage.sidetables import Attached

MIN_SQLITE = (3, 38, 0)  # STRICT tables (3.37) and JSON built in (3.38)

# Passages that are read at once when all are: 3 MB at 384 dimensions.
LOAD_BLOCK = 8192
# Passages, and characters of them, whose rows are made before they are written.
INSERTED, INSERTED_CHARACTERS = 1024, 2**20
# Documents of fewer characters, metadata included, are read and compared whole: that is faster.
LONG = 2**18
# Ids that a query is asked for at a time.
ASKED = 2048
# What SQLite takes at most where nothing else is said.
MAX_VALUE = 10**9
# Ids beyond this are damage, not growth.
MAX_ID = 2**62
# Seconds that a commit, and closing, wait for searches of others before commits stay in the log for a while.
SETTLE_SECONDS = 0.05
CLOSE_SECONDS = 0.5
# Bytes of the log that are kept for the next commits.
LOG_LIMIT = 2**22
# What is left of making an index is deleted at this age, where a folder has no more entries than can be looked at fast.
LEFTOVER_SECONDS = 3600.0
MAX_ENTRIES = 4096
_WITHOUT_LOG = (
    "put back what belongs together. A log of another file can be removed; `edge-embed repair` takes a file as it is "
    "whose log is missing"
)

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

    A long document may come in several entries that follow each other: all have the same record.

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


def remove_leftovers(path: Path) -> None:
    """Delete what `Store.create` leaves of an index where its process is killed. The caller is the only writer."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}(-journal|-wal|-shm)?")
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in islice(entries, MAX_ENTRIES):
            with suppress(OSError):
                if pattern.fullmatch(entry.name) and _is_leftover(Path(entry.path)):
                    Path(entry.path).unlink()


def _is_leftover(path: Path) -> bool:
    """Whether it is a database or its journal, of this user, and old. Raises OSError."""
    status = path.lstat()
    mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    if not (stat.S_ISREG(status.st_mode) and mine and time.time() - status.st_mtime > LEFTOVER_SECONDS):
        return False
    with path.open("rb") as file:
        head = file.read(16)
    return "-" in path.name[-8:] or head in (b"", b"SQLite format 3\0")


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
    if len(text) + len(metadata) < LONG:
        return zlib.crc32("\x00".join((str(id_), key, text, metadata)).encode("utf-8", "surrogateescape"))
    crc = zlib.crc32("\x00".join((str(id_), key, "")).encode("utf-8", "surrogateescape"))
    for piece in encoded(text):
        crc = zlib.crc32(piece, crc)
    crc = zlib.crc32(b"\x00", crc)
    for piece in encoded(metadata):
        crc = zlib.crc32(piece, crc)
    return crc


def _slices(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries of about INSERTED passages at a time, or of so many characters."""
    part: list[Entry] = []
    passages = characters = 0
    for entry in entries:
        part.append(entry)
        passages += len(entry.spans)
        characters += sum(stop - start for start, stop in entry.spans)
        if passages >= INSERTED or characters >= INSERTED_CHARACTERS:
            yield part
            part, passages, characters = [], 0, 0
    if part:
        yield part


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

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool,
        secure_delete: bool = False,
        alone: bool = False,
        problems: list[str] | None = None,
    ) -> None:
        """
        secure_delete: what is deleted is overwritten at once, in the file, in the table of words and in the log
        alone:         to read the main file past a log, while nobody writes
        problems:      takes what is wrong between the file and its log, which is raised as IndexDamagedError otherwise
        """
        self.path = path
        self.read_only = read_only
        self.secure_delete = secure_delete
        self._content: Content | None = None  # of the transaction that is open
        self.pending = False  # whether the main file lacks commits that the log has
        self._late = False  # whether it lacked some when a call ended
        self._sealed = False  # whether it says so since it has them, see mainfile.seal
        # whether a call was ended in the middle of something, see `recover`
        self.interrupted = False
        self._facts: Facts | None = None
        check_header(path)
        self.place = Place(path)
        problem = None if alone else problem_with_log(path)
        if problem is not None:
            if problems is None:
                raise IndexDamagedError(f"{problem}; {_WITHOUT_LOG}")
            problems.append(problem)
        self._alone = alone or problem is not None
        try:
            with translated(path):
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._connect()
        self._facts = self._check_schema()
        self._setup()
        if not self.read_only:
            self._begin_writing()

    def _connect(self) -> None:
        self._glance: Glance | None = None
        if not self.read_only:
            self._db = connect_writer(self.path)
        elif self._alone:
            self._db = connect_immutable(self.path)
        else:
            seen = Glance(self.path)
            self._db = connect_reader(self.path)
            self._glance = seen if is_immutable(self._db) else None

    def _begin_writing(self) -> None:
        """Bring what a writer before this one left in the log into the main file."""
        self._log = identity(beside(self.path)[0])
        self._db.execute("PRAGMA wal_autocheckpoint = 0")  # `settle` does it
        self._db.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
        if self.secure_delete:
            self._db.execute("PRAGMA secure_delete = ON")
        if wal_bytes(self.path) > 0 or is_marked(self.path):
            self.pending = self._late = not checkpoint(self._db, 0.0, empty=self.secure_delete)
        (mark if self.pending else unmark)(self.path)

    def refresh(self) -> bool:
        """Before reading: see what others wrote, where SQLite's log was not there to tell; gives whether they did."""
        if self._glance is None or not self.changed:
            return False
        with translated(self.path):
            self._db.close()
            self._open()
        return True

    @property
    def changed(self) -> bool:
        """Whether the file was written while it was read as one that nobody writes."""
        return self._glance is not None and Glance(self.path) != self._glance

    def check_place(self) -> None:
        """Raises IndexFileError where the file was moved, replaced or deleted since it was opened."""
        self.place.check()

    def settle(self, seconds: float = 0.0) -> None:
        """Copy into the main file the commits that it lacks, as far as readers let go of the old ones.

        seconds: to wait for these at the most. A failing disk is no error here: the commits are safe in the log.
        """
        if not self.pending:
            return
        with suppress(sqlite3.Error, OSError):
            if self._db.in_transaction:
                return
            here = self.place.same
            if here:
                mark(self.path)
            self.pending = not checkpoint(self._db, seconds, empty=self.secure_delete)
            if here and not self.pending:
                position = Position.from_text(self.note(ROW)) if self._late else None
                if position is None:
                    unmark(self.path)
                else:
                    seal(self.path, position)
            self._sealed, self._late = self._late and not self.pending, self.pending

    @staticmethod
    def create(path: Path, facts: Facts) -> None:
        """Make an empty index with its `meta`; the file appears whole or not at all."""
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise IndexFileError(f"this Python's SQLite is {sqlite3.sqlite_version}; edge_embed needs 3.38 or later")
        temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
        try:
            with translated(path, writing=True):
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
                    position = NEW.following(all_copied=True).to_text()
                    rows = {**dict.fromkeys(COUNTERS, "0"), **facts.rows(), ROW: position}
                    rows[CONTENT] = Content(0).to_text()
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
                from edge_embed_runtime.storage import sidetables as attached

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
        """For maintenance/repair.py, which looks after the tables themselves."""
        return self._db

    def abandon(self) -> None:
        """Close what a forked child inherited, without touching the file. Of an Index, the writer before the reader:
        SQLite ends with a checkpoint where it sees no other connection that may write."""
        self._db.close()
        self.place.leave()

    def close(self) -> None:
        """May be called again. Raises IndexFileError where the last commits are in the log alone, and the file is no
        longer beside it."""
        self.settle(CLOSE_SECONDS)
        if hasattr(self, "_db"):
            with translated(self.path):
                self._db.close()
        self.place.leave()
        if self.read_only or self.place.same:
            return
        if self.pending:
            self.place.check(f"its last commits are in {beside(self.path)[0]}, not in the file")
        if identity(beside(self.path)[0]) == self._log:  # SQLite leaves a log behind whose file was moved away
            for file in beside(self.path):
                with suppress(OSError):
                    file.unlink(missing_ok=True)

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

    def content(self) -> Content | None:
        """What the last commit says of the documents; None where it does not, being of an older release."""
        content = Content.from_text(self.note(CONTENT))
        generation = self.note("generation")
        return content if content is not None and str(content.generation) == generation else None

    def count_document(self, number: int, crc: Any) -> None:
        """In a transaction: one document more or less; with a checksum that is damaged, the count is lost."""
        if self._content is not None:
            self._content = self._content.changed(number, number * crc) if isinstance(crc, int) else None

    def recount(self) -> None:
        """In a transaction: count all documents."""
        count, total = self._db.execute("SELECT count(*), ifnull(sum(crc), 0) FROM doc NOT INDEXED").fetchone()
        generation = self.note("generation") or ""
        if isinstance(total, int) and re.fullmatch("[0-9]{1,18}", generation):
            self._content = Content(int(generation) - 1, count, total)

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
        """All or nothing; durable, and in the main file, once the block has ended."""
        with translated(self.path, writing=True):
            self.recover()
            self.place.check()
            if self._sealed:
                unmark(self.path)
                self._sealed = False
            db, facts = self._db, self._facts
            waited = self.pending  # in vain, for a reader that is still there
            try:
                self._begin("BEGIN IMMEDIATE")
                self._content = self.content()
                names = COUNTERS if deletes else COUNTERS[:1]
                db.executemany("UPDATE meta SET value = value + 1 WHERE key = ?", [(name,) for name in names])
                position = Position.from_text(self.note(ROW)) or NEW
                self.set_note(ROW, position.following(all_copied=not waited).to_text())
                yield
                if deletes and self.secure_delete:  # words of what is gone stay in FTS5's table until it is merged
                    db.execute("INSERT INTO fts (fts) VALUES ('optimize')")
                if self._content is not None:
                    content = replace(self._content, generation=self._content.generation + 1)
                    self.set_note(CONTENT, content.to_text())
                self.place.check()
                self.pending = True
                db.execute("COMMIT")
            except BaseException as error:
                if db is self._db and db.in_transaction:
                    self.pending = waited
                self._end(db, error)
                if self._facts is not facts:  # the others were taken back
                    self._facts = facts
                    self._setup()
                raise
            self._end(db)
        self.settle(0.0 if waited else SETTLE_SECONDS)
        self.place.check("what this call stored is in the file that was there before")

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

    def write(self, entries: Iterable[Entry], delete: Iterable[str] = ()) -> Removed:
        """Delete documents by key, then store new ones, in one transaction. Gives what was deleted.

        entries: may be made while they are asked for, so that those of many passages need not be there all at a time
        """
        keys = list(delete)
        with self.transaction(deletes=bool(keys)):
            removed = np.array([id_ for key in keys for id_ in self._delete(key)], np.int64)
            self.blocks.remove(removed)
            last: Record | None = None
            for part in _slices(entries):
                self._insert(part, last)
                last = part[-1].record
            _, deletions = self.counters()
        return Removed(removed, deletions)

    def _insert(self, entries: Sequence[Entry], begun: Record | None) -> None:
        """begun: the document stored last, of which there may be more passages."""
        doc, last = self.last_ids()
        first = last + 1
        passages: list[Any] = []
        words: list[tuple[int, Record, Span]] = []
        # ids are part of what the checksums cover, so they are fixed before the rows are written
        for record, spans, codes, scales in map(_parts, entries):
            if record is not begun:
                doc += 1
                crc = _doc_crc(doc, record.key, record.text, record.metadata)
                row = (doc, record.key, record.text, record.metadata, crc)
                self._db.execute("INSERT INTO doc VALUES (?, ?, ?, ?, ?)", row)
                self.count_document(1, crc)
                begun = record
            for span, code, scale in zip(spans, codes, scales, strict=True):
                last += 1
                passages.append(passage_row(last, doc, span, scale + code))
                words.append((last, record, span))
        self._db.executemany("INSERT INTO vec VALUES (?, ?, ?, ?, ?, ?)", passages)
        said = ((id_, self.normal(record.text[start:stop])) for id_, record, (start, stop) in words)
        with reading_words(self.path):
            self._db.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", said)
        for name, table in self.attached.items():
            table.insert(first, [row for entry in entries for row in entry.attached[name]])
        all_codes = np.concatenate([entry.codes for entry in entries])
        all_scales = np.concatenate([entry.scales for entry in entries])
        self.blocks.add(np.arange(first, last + 1), self.binary(all_codes, all_scales))

    def normal(self, text: str) -> str:
        """A text as it goes into the table of words."""
        return normal(text, self.facts.normal)

    def passage_words(self, document: StoredDocument, passages: Iterable[Any]) -> Iterator[tuple[int, str]]:
        """(id, text as in the table of words) of those rows of `vec` that are whole: whose words are known."""
        return ((row[0], self.normal(document.text[row[2] : row[3]])) for row in passages if is_whole(row))

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
        known = () if whole is None else self.passage_words(whole, passages)
        with reading_words(self.path):
            self._db.executemany("INSERT INTO fts (fts, rowid, text) VALUES ('delete', ?, ?)", known)
        self._db.execute("DELETE FROM vec WHERE doc = ?", (doc,))
        self._db.execute("DELETE FROM doc WHERE id = ?", (doc,))
        self.count_document(-1, None if whole is None else row[4])
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
        with translated(self.path):
            row = self._find(record)
            if row is None:
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

    def _find(self, record: Record) -> tuple[int] | None:
        """The id of a whole document with this key, text and metadata."""
        if len(record.text) + len(record.metadata) < LONG:
            query = f"{DOCUMENTS} WHERE key = ? AND text = ? AND metadata = ?"
            found = self._db.execute(query, (record.key, record.text, record.metadata)).fetchone()
            return None if found is None or checked(found) is None else found[:1]
        found = self._db.execute("SELECT id, key, crc FROM doc WHERE key = ?", (record.key,)).fetchone()
        if found is None or found[1] != record.key:
            return None
        try:
            with closing(Row(self._db, *found)) as row:
                return found[:1] if row.holds(record.text, record.metadata) else None
        except sqlite3.OperationalError:  # no text
            return None

    def heads(self, ids: Iterable[int], where: Condition = EVERY) -> dict[int, tuple[int, str, int]]:
        """(id, key, crc) of documents by id that fit a condition, to read in pieces."""
        query = f"SELECT id, key, crc FROM doc WHERE id IN (SELECT value FROM json_each(?)) AND {where[0]}"
        rows = self._db.execute(query, (json.dumps(list(ids)), *where[1])).fetchall()
        return {id_: (id_, key, crc) for id_, key, crc in rows if isinstance(key, str)}

    def row(self, head: tuple[int, str, int]) -> Row:
        """A document to read in pieces. Raises sqlite3.OperationalError where it holds no text."""
        return Row(self._db, *head)

    def limit_values(self, size: int) -> None:
        """Let SQLite read and write no text longer than so many bytes: MemoryBudgetError is raised for one that is."""
        block = 2 * BLOCK * self.dim // 8  # of binary codes, which have to be read
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(max(size, block), MAX_VALUE))

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

    def keys(self, prefix: str, after: str, count: int) -> list[str]:
        """The first keys that begin so and come behind another one, in order of their code points."""
        query = "SELECT key FROM doc WHERE key >= ? AND key > ? ORDER BY key LIMIT ?"
        with translated(self.path):
            rows = self._db.execute(query, (prefix, after, count)).fetchall()
        return [key for (key,) in rows if key.startswith(prefix)]

    def all_passages(self) -> Iterator[StoredPassages]:
        """Every passage, many at a time, in ascending order of ids, so that memory stays bounded."""
        rows = self._db.execute(f"{PASSAGES} ORDER BY id")
        while block := rows.fetchmany(LOAD_BLOCK):
            yield checked_passages(block, self.dim)

    def passages(self, ids: Ids) -> StoredPassages:
        """Passages by id; ascending ids."""
        query = f"{PASSAGES} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        found = StoredPassages(
            np.empty(len(ids), np.int64),
            np.empty(len(ids), np.int64),
            np.empty((len(ids), self.dim), np.int8),
            np.empty(len(ids), np.float32),
            [],
        )
        stop = 0
        for i in range(0, len(ids), ASKED):
            rows = self._db.execute(query, (json.dumps(ids[i : i + ASKED].tolist()),)).fetchall()
            part = checked_passages(rows, self.dim)
            start, stop = stop, stop + len(part.ids)
            for name in ("ids", "docs", "codes", "scales"):
                getattr(found, name)[start:stop] = getattr(part, name)
            found.damaged.extend(part.damaged)
        return StoredPassages(
            found.ids[:stop], found.docs[:stop], found.codes[:stop], found.scales[:stop], found.damaged
        )

    def frequencies(self, phrases: Iterable[str]) -> tuple[list[tuple[int, str]], int]:
        """FTS5 phrases that some passage holds, with the number of these, and the number of all passages."""
        query = "SELECT count(*) FROM fts WHERE fts MATCH ?"
        with reading_words(self.path):
            counted = [(self._db.execute(query, (phrase,)).fetchone()[0], phrase) for phrase in phrases]
            (passages,) = self._db.execute("SELECT count(*) FROM fts_docsize").fetchone()
        return [entry for entry in counted if entry[0]], passages

    def match(self, expression: str, where: Condition | None, count: int) -> Iterator[tuple[int, int, float]]:
        """The first `count` passages that fit an FTS5 expression, (passage id, document id, BM25), best first."""
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
            for row in self._db.execute(query, values):
                if not isinstance(row[2], float) or row[2] < 0:  # of lengths that no passage has
                    raise TypeError("a score is no number, or negative")
                yield row

    def holding(self, words: Sequence[str], where: Condition | None, count: int) -> Iterator[tuple[int, int, float]]:
        """`match` for words that are too short for a table of trigrams: every text is read. The score adds n / (n + 1)
        for each word that a passage holds n times."""
        return iter(nsmallest(count, self._holding(words, where or EVERY), key=lambda row: (-row[2], row[0])))

    def _holding(self, words: Sequence[str], where: Condition) -> Iterator[tuple[int, int, float]]:
        wanted = [folded(word) for word in words]
        for doc, text in self._db.execute(f"SELECT id, text FROM doc WHERE {where[0]}", where[1]):
            if not isinstance(text, str) or not any(map(folded(text).__contains__, wanted)):
                continue
            for id_, start, stop in self._db.execute("SELECT id, start, stop FROM vec WHERE doc = ?", (doc,)):
                part = folded(text[start:stop])
                score = sum(n / (n + 1) for n in map(part.count, wanted))
                if score:
                    yield id_, doc, score

    def allowed(self, where: Condition) -> Ids:
        """Ids of the passages whose documents fit a condition."""
        query = f"SELECT vec.id FROM doc JOIN vec ON vec.doc = doc.id WHERE {where[0]}"
        rows = self._db.execute(query, where[1])
        parts = [np.empty(0, np.int64)]
        while part := rows.fetchmany(LOAD_BLOCK):
            parts.append(np.fromiter(chain.from_iterable(part), np.int64, len(part)))
        return np.concatenate(parts)

    def count_allowed(self, where: Condition) -> int:
        """Passages whose documents fit a condition."""
        query = f"SELECT count(*) FROM doc JOIN vec ON vec.doc = doc.id WHERE {where[0]}"
        return int(self._db.execute(query, where[1]).fetchone()[0])

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


def whole_document(row: tuple[int, str, str, str, int]) -> bool:
    """Whether the checksum of a row of `doc` fits."""
    id_, key, text, metadata, crc = row
    return all(isinstance(value, str) for value in (key, text, metadata)) and _doc_crc(id_, key, text, metadata) == crc


def checked(row: tuple[int, str, str, str, int]) -> StoredDocument | None:
    """A row of `doc` as a document, or None when its checksum does not fit."""
    id_, key, text, metadata, _ = row
    return StoredDocument(id_, key, text, json.loads(metadata)) if whole_document(row) else None
