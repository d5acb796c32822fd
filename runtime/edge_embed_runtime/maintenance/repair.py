"""Looking after an index: verify what is stored, repair what its texts allow, give free space back."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge_embed_runtime.errors import IndexDamagedError, IndexLockedError, StorageError
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.bitblocks import BLOCK
from edge_embed_runtime.storage.damagedwords import RAISED, SHADOWS, check_pages, empty_table
from edge_embed_runtime.storage.database import RESTORE, bytes_on_disk, check_header, locate, translated
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.mainfile import accept_loss, checkpoint
from edge_embed_runtime.storage.root import read_root
from edge_embed_runtime.storage.rows import DOCUMENTS, PASSAGES, StoredDocument, checked, is_whole
from edge_embed_runtime.storage.schema import UNKNOWN, ddl
from edge_embed_runtime.storage.sidetables import Attached
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.storage.words import NO_DAMAGE, reading_words
from edge_embed_runtime.system.lock import WriterLock

# Documents, and about how many characters, that `repair` embeds and replaces in one transaction.
REPAIR_BATCH = 256
REPAIR_CHARACTERS = 1_000_000
# Where SQLite makes temporary files, first that is there (sqlite.org/tempfiles.html); Windows has its own way.
TEMPORARY = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - SQLite's places, only asked for their free space

# What SQLite keeps beside an index at the least: the index of its log, and page-sized odds and ends.
LOG_BYTES = 65_536

Row = tuple[Any, ...]
# Stores records after deleting documents by key, in one transaction; shows progress or not.
Write = Callable[[list[Record], list[str], bool], None]


class Damage(NamedTuple):
    """A document and what is wrong with it. The key is as it is stored, which may be what is damaged."""

    key: str
    what: str


@dataclass(frozen=True)
class Report:
    """What `verify` found: documents and passages read, damaged documents, and what is wrong with the file itself."""

    documents: int
    passages: int
    damaged: list[Damage]
    problems: list[str]

    @property
    def whole(self) -> bool:
        return not self.damaged and not self.problems


@dataclass(frozen=True)
class Repair:
    """What `repair` did.

    restored: keys of documents that were embedded again from their texts
    lost:     documents that cannot be restored; they are still stored, but no search returns them
    dropped:  those of them that were deleted, with drop=True
    rebuilt:  which of "tables" (SQLite's look-up tables), "codes" (binary codes) and "words" (full-text search) were
              made anew
    problems: what is wrong with the file even now
    """

    restored: list[str]
    lost: list[Damage]
    dropped: list[Damage]
    rebuilt: list[str]
    problems: list[str]

    @property
    def whole(self) -> bool:
        return not self.lost and not self.problems


@dataclass(frozen=True)
class Compaction:
    """Bytes on disk before and after, the log included.

    pending: a reader still uses the old state; the file shrinks when the next writer closes the index after it
    """

    before: int
    after: int
    pending: bool


@dataclass
class _Findings:
    """Damage by what can be done about it; documents and passages by their ids."""

    documents: int = 0
    passages: int = 0
    broken: dict[int, Damage] = field(default_factory=dict)  # text whole, passages not: can be embedded again
    lost: dict[int, Damage] = field(default_factory=dict)
    strays: list[int] = field(default_factory=list)  # passages of no document
    facts: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)  # of binary codes
    words: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)  # documents that are not those of the last commit
    unreadable: list[str] = field(default_factory=list)
    orphans: list[tuple[str, str]] = field(default_factory=list)  # rows beside no passage: (table, what is wrong)

    def problems(self) -> list[str]:
        strays = [f"{len(self.strays)} passages belong to no document"] if self.strays else []
        codes = [f"{len(self.blocks)} blocks of binary codes are damaged or not up to date"] if self.blocks else []
        beside = [what for _, what in self.orphans]
        return [*self.facts, *self.content, *self.unreadable, *self.tables, *strays, *beside, *codes, *self.words]


def verify_index(path: str | os.PathLike[str], *, show_progress: bool = False) -> Report:
    """Read every row of an index and say what is wrong; no embedder is needed, and a writer may go on beside.

    Raises IndexFileError when the file is missing, IndexFormatError or IndexDamagedError when it cannot be opened as
    an index at all.
    """
    problems: list[str] = []
    store = Store(locate(path, must_exist=True), read_only=True, problems=problems)
    try:
        found = _scan(store, show_progress)
        if store.changed:
            raise IndexLockedError(
                f"{store.path} was written while it was read; try again", path=store.path, code="index_busy"
            )
    finally:
        store.close()
    damaged = [damage for _, damage in sorted({**found.broken, **found.lost}.items())]
    return Report(found.documents, found.passages, damaged, problems + found.problems())


def accept_lost_log(path: str | os.PathLike[str]) -> bool:
    """Take an index whose log is missing as it is, without the commits that were in the log; gives whether it was one.

    Raises IndexLockedError when another has it open for writing.
    """
    path = locate(path, must_exist=True)
    check_header(path)
    lock = WriterLock(path)
    try:
        return accept_loss(path)
    finally:
        lock.release()


def compact_index(path: str | os.PathLike[str]) -> Compaction:
    """`Index.compact` of a file, without its embedder. Raises IndexLockedError when another has it open for writing."""
    path = locate(path, must_exist=True)
    check_header(path)  # before a lock file is put beside what is no index
    lock = store = None
    try:
        lock = WriterLock(path)
        store = Store(path, read_only=False)
        return compact(store)
    finally:
        if store is not None:
            store.close()
        if lock is not None:
            lock.release()


@contextmanager
def _noted(problems: list[str], what: str) -> Iterator[None]:
    """SQLite's complaints about what it reads, as a problem; any other error, such as a failing disk, is raised."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        problems.append(f"{what}: {error}")


def _scan(store: Store, show_progress: bool) -> _Findings:
    """Everything that is wrong in one committed state.

    What it has to remember goes into a temporary file; where there is no room for one, into memory.
    """
    try:
        with _own_folder() as folder:
            return _scan_with(store, folder, show_progress)
    except (OSError, StorageError):
        return _scan_with(store, None, show_progress)


def _scan_with(store: Store, folder: Path | None, show_progress: bool) -> _Findings:
    """folder: for temporary files; None: there is no room for them."""
    found = _Findings()
    with store.snapshot():
        facts = None
        try:
            facts = store.facts
            store.counters()
            read_root(store)
        except IndexDamagedError as error:
            found.facts.append(str(error))
        db, words = store.connection, _Words(folder, ddl(facts or UNKNOWN)[-1])
        try:
            with _noted(found.unreadable, "rows cannot be read"):
                _scan_rows(store, None if facts is None else store.dim, found, words, show_progress)
            with _noted(found.unreadable, "rows beside passages cannot be read"):
                if not found.unreadable and facts is not None:
                    for table in store.attached.values():
                        _scan_attached(db, table, found)
                if not (found.unreadable or found.lost or found.strays or facts is None):
                    _check_content(store, found)
            with _noted(found.tables, "SQLite's check"):
                found.tables += [f"SQLite's check: {row[0]}" for row in _integrity(db)]
            if not found.unreadable and facts is not None:
                found.words += words.compare(db)
            with _noted(found.unreadable, "binary codes cannot be read"):
                if not found.unreadable and facts is not None:
                    found.blocks += [block for block in all_blocks(db) if not store.blocks.fits(block)]
        finally:
            words.close()
    return found


def _check_content(store: Store, found: _Findings) -> None:
    """Whether the documents are those that the last commit left."""
    said = store.content()
    (total,) = store.connection.execute("SELECT ifnull(sum(crc), 0) FROM doc NOT INDEXED").fetchone()
    if said is not None and (said.documents, said.sum) != (found.documents, total):
        found.content.append(
            f"{found.documents} documents are not those of the last commit, which left {said.documents}: a copy made "
            "while others wrote, or damage"
        )


def all_blocks(db: sqlite3.Connection) -> list[int]:
    """Numbers of the blocks of binary codes that are there or should be."""
    query = f"SELECT block FROM bits NOT INDEXED UNION SELECT id / {BLOCK} FROM vec NOT INDEXED"
    return [block for (block,) in db.execute(query)]


def _integrity(db: sqlite3.Connection) -> list[Row]:
    return [row for row in db.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]


def _scan_rows(store: Store, dim: int | None, found: _Findings, words: "_Words", show_progress: bool) -> None:
    db, seen = store.connection, set[Any]()
    (expected,) = db.execute("SELECT count(*) FROM vec").fetchone()
    with progress_bar(expected, show_progress, "verifying") as advance:
        for doc, row, passages in _grouped(db):
            found.passages += len(passages)
            seen.add(doc)
            document = None if row is None else checked(row)
            if row is None:
                found.strays += [passage[0] for passage in passages]
            elif document is None:
                found.lost[doc] = Damage(_shown(row), "its checksum does not fit")
            else:
                what = _passage_damage(document, passages, dim)
                if what is not None:
                    found.broken[doc] = Damage(document.key, what)
                if dim is not None:  # the facts are whole, and say how
                    words.expect(store.words.of_passages(document, passages))
            words.known.update(passage[0] for passage in passages)
            advance(len(passages))
    for (doc,) in db.execute("SELECT id FROM doc NOT INDEXED ORDER BY id"):
        found.documents += 1
        if doc not in seen:
            row = _document(db, doc)
            if row is not None and checked(row) is not None:
                found.broken[doc] = Damage(row[1], "it has no passages")
            else:
                found.lost[doc] = Damage(_shown(row or (doc, None)), "its checksum does not fit")
    (documents,) = db.execute("SELECT count(*) FROM doc").fetchone()
    for name, read, counted in (("documents", found.documents, documents), ("passages", found.passages, expected)):
        if read != counted:
            found.tables.append(f"{read} {name} were read, SQLite counts {counted}")


def _scan_attached(db: sqlite3.Connection, table: Attached, found: _Findings) -> None:
    """Documents whose passages have no row in a table beside them, or a damaged one."""
    whole: set[int] = set()
    damaged: set[int] = set()
    for ids, _, bad in table.load(after=-1):
        whole.update(ids)
        damaged.update(bad)
    missing: dict[Any, int] = {}
    for id_, doc in db.execute("SELECT id, doc FROM vec NOT INDEXED"):
        if id_ not in whole:
            missing[doc] = missing.get(doc, 0) + 1
        whole.discard(id_)
        damaged.discard(id_)
    for doc, count in missing.items():
        row = _document(db, doc)
        if row is not None and doc not in found.lost:
            found.broken.setdefault(doc, Damage(_shown(row), f"{count} of its {table.title} are missing or damaged"))
    if whole or damaged:
        found.orphans.append((table.name, f"{len(whole) + len(damaged)} {table.title} belong to no passage"))


def _document(db: sqlite3.Connection, doc: Any) -> Row | None:
    query = f"{DOCUMENTS} NOT INDEXED WHERE id = ?"
    row: Row | None = db.execute(query, (doc,)).fetchone() if isinstance(doc, int) else None
    return row


def _grouped(db: sqlite3.Connection) -> Iterator[tuple[Any, Row | None, list[Row]]]:
    """(document id, its row or None, its passages), in the order of passages, past the look-up tables.

    Passages of a document have consecutive ids; where damage leads one elsewhere, a document comes in several groups.
    """
    query = f"{PASSAGES} NOT INDEXED ORDER BY id"
    for doc, passages in groupby(db.execute(query), key=itemgetter(1)):
        yield doc, _document(db, doc), list(passages)


def _shown(row: Row) -> str:
    """The key of a row that is not to be trusted, as text that can be printed."""
    return row[1].encode("utf-8", "replace").decode() if isinstance(row[1], str) else f"(row {row[0]})"


def _passage_damage(document: StoredDocument, passages: list[Row], dim: int | None) -> str | None:
    """What is wrong with a document's passages, or None."""
    text = document.text
    bad = sum(
        not is_whole(row)
        or not (0 <= row[2] < row[3] <= len(text) or (text == "" and row[2] == row[3] == 0))
        or (dim is not None and len(row[4]) != dim + 4)
        for row in passages
    )
    if bad:
        return f"{bad} of its {len(passages)} passages are damaged"
    first, last = passages[0], passages[-1]
    hole = last[0] - first[0] != len(passages) - 1
    # Before, between and after a document's passages there is only what a tokenizer leaves out.
    if hole or any(map(str.isalnum, text[: first[2]])) or any(map(str.isalnum, text[last[3] :])):
        return "passages of it are missing"
    return None


class _Words:
    """Whether the table of words says what the texts say, found out in a temporary database.

    FTS5 can check itself only where it may write, and a contentless table knows nothing of the texts.
    """

    def __init__(self, folder: Path | None, statement: str) -> None:
        self._path = None if folder is None else folder / "words.db"
        self.known: set[int] = set()
        self._db = self._open()
        for name in ("fts", "expected"):
            self._db.execute(statement.replace("TABLE fts ", f"TABLE {name} "))
        self._db.execute("BEGIN")

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path or ":memory:", isolation_level=None)
        db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        return db

    def close(self) -> None:
        self._db.close()

    def expect(self, words: Iterable[tuple[int, str]]) -> None:
        """The words of a document's passages, as `Store.passage_words` gives them, should be there."""
        self._db.executemany("INSERT INTO expected (rowid, text) VALUES (?, ?)", words)

    def compare(self, source: sqlite3.Connection) -> list[str]:
        """What is wrong with the table of words of an index whose passages were all given to `expect`."""
        try:
            return self._compare(source)
        except (sqlite3.Error, *RAISED) as error:
            if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in NO_DAMAGE:
                raise
            return [f"the table of words cannot be read: {error or 'out of memory'}"]

    def _compare(self, source: sqlite3.Connection) -> list[str]:
        for table in SHADOWS:
            self._db.execute(f"DELETE FROM {table}")
            rows = source.execute(f"SELECT * FROM {table}")
            marks = ", ".join("?" * len(rows.description))
            self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        self._db.execute("COMMIT")
        if self._path is None:  # no room on the disk for a file that another process could check
            self._again()
            self._db.execute("INSERT INTO fts (fts) VALUES ('integrity-check')")
        else:
            self._db.close()
            if problem := check_pages(self._path):
                return [f"the table of words cannot be read: {problem}"]
            self._db = self._open()
        stored, expected = self._sums("fts"), self._sums("expected")
        differing = sum(stored.get(passage) != words for passage, words in expected.items())
        orphans = len(stored.keys() - self.known)
        # only where no row is damaged: what is in the table for those that are is not known
        averages = stored.keys() == expected.keys() and self._averages("fts") != self._averages("expected")
        return [
            *([f"the words of {differing} passages are not those of their texts"] if differing else []),
            *([f"the table of words has {orphans} passages that are not there"] if orphans else []),
            *(["the table of words has wrong lengths of passages"] if averages else []),
            *(["the table of words does not lead to all of its words"] if self._unreached() else []),
        ]

    def _again(self) -> None:
        """Open it again: FTS5 keeps in memory what it wrote itself."""
        before = self._db
        if self._path is not None:
            before.close()
        self._db = self._open()
        if self._path is None:
            before.backup(self._db)
            before.close()

    def _sums(self, table: str) -> dict[int, int]:
        """Passage id -> checksum over its length, its words and their places."""
        sums = {id_: hash(lengths) for id_, lengths in self._db.execute(f"SELECT id, sz FROM {table}_docsize")}
        self._db.execute(f"CREATE VIRTUAL TABLE vocab_{table} USING fts5vocab({table}, instance)")
        for passage, term, place in self._db.execute(f"SELECT doc, term, offset FROM vocab_{table}"):
            sums[passage] = sums.get(passage, 0) ^ hash((term, place))
        return sums

    def _averages(self, table: str) -> bytes:
        """What BM25 takes the mean length from: the record 1 of FTS5, empty or zeros without passages."""
        row = self._db.execute(f"SELECT block FROM {table}_data WHERE id = 1").fetchone()
        return row[0].rstrip(b"\0") if row is not None and isinstance(row[0], bytes) else b""

    def _unreached(self) -> bool:
        """Whether a word that a walk over the table meets is not found when it is looked up."""
        self._db.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(fts, row)")
        query = "SELECT 1 FROM terms AS a LEFT JOIN terms AS b ON b.term = a.term WHERE b.doc IS NOT a.doc LIMIT 1"
        return self._db.execute(query).fetchone() is not None


def repair(
    store: Store, write: Write | None, *, drop: bool, backup: str | os.PathLike[str] | None, show_progress: bool
) -> Repair:
    """See `Index.repair`."""
    if backup is not None:
        from edge_embed_runtime.maintenance.backup import backup_index

        backup_index(store.path, backup)
    found, rebuilt = _scan(store, show_progress), []
    _check_readable(store, found)
    if found.tables:
        _reindex(store)
        rebuilt.append("tables")
        found = _scan(store, show_progress)
    if write is None:
        found.lost.update(found.broken)
        found.broken.clear()
    if found.blocks:
        with store.transaction(deletes=True):
            for block in found.blocks:
                store.blocks.replace(block)
        rebuilt.append("codes")
    if found.orphans:
        with store.transaction(deletes=True):
            for name, _ in found.orphans:
                store.connection.execute(f"DELETE FROM vec_{name} WHERE id NOT IN (SELECT id FROM vec)")
        rebuilt.append("rows beside passages")
    rebuilt += _recount(store, found)
    dropped = found.lost if drop else {}
    if found.broken or found.strays or found.words or dropped:
        # Before anything else is written: what is deleted from the table of words has to be in it as it should be.
        _empty_words(store, found)
        rebuild_words(store, list(dropped), found.strays, store.facts.normal)
        rebuilt.append("words")
    if write is not None:
        for records in _batches(store, list(found.broken)):
            write(records, [record.key for record in records], show_progress)
    restored = [damage.key for damage in found.broken.values()]
    if rebuilt:
        found = _scan(store, show_progress)
    if found.tables and rebuilt:  # lost or doubly used pages, which only a new copy of everything cures
        _vacuum(store)
        found = _scan(store, show_progress)
    left = {**found.broken, **found.lost}
    return Repair(restored, list(left.values()), list(dropped.values()), rebuilt, found.problems())


def _check_readable(store: Store, found: _Findings) -> None:
    if found.unreadable:
        raise IndexDamagedError(f"{store.path} cannot be repaired ({found.unreadable[0]}); {RESTORE}", path=store.path)


def _reindex(store: Store) -> None:
    with store.transaction(deletes=True):
        try:
            for table in ("doc", "vec"):
                store.connection.execute(f"REINDEX {table}")
        except sqlite3.IntegrityError as error:
            raise IndexDamagedError(
                f"{store.path} is damaged (two documents have the same key); {RESTORE}", path=store.path
            ) from error


def _empty_words(store: Store, found: _Findings) -> None:
    """Where the table of words is damaged: so that FTS5 reads nothing of that when it is made again."""
    if not found.words:
        return
    with store.transaction(deletes=True):
        empty_table(store.connection, ddl(store.facts)[-1])
    store.interrupted = True  # FTS5 has read it
    store.recover()


def _recount(store: Store, found: _Findings) -> list[str]:
    """Take the documents that are there for those of the last commit; gives what was made again."""
    if not found.content:
        return []
    with store.transaction(deletes=True):
        store.recount()
    return ["count of documents"]


def rebuild_words(store: Store, lost: list[int], strays: list[int], form: str) -> None:
    """Make the table of words again from whole rows, without the documents and passages that are to go.

    form: one of inputs.words.FORMS
    """
    db = store.connection
    with store.transaction(deletes=True):
        marks = ",".join("?" * len(lost))
        gone = [*strays, *(id_ for (id_,) in db.execute(f"SELECT id FROM vec WHERE doc IN ({marks})", lost))]
        db.executemany("DELETE FROM vec WHERE id = ?", [(id_,) for id_ in strays])
        db.executemany("DELETE FROM vec WHERE doc = ?", [(id_,) for id_ in lost])
        db.executemany("DELETE FROM doc WHERE id = ?", [(id_,) for id_ in lost])
        store.blocks.remove(np.array(gone, np.int64))
        store.recount()
        db.execute("INSERT INTO fts (fts) VALUES ('delete-all')")
        if form != store.facts.normal:
            store.set_facts(replace(store.facts, normal=form))
        for _, row, passages in _grouped(db):
            document = None if row is None else checked(row)
            if document is not None:
                texts = store.words.of_passages(document, passages)
                db.executemany("INSERT INTO fts (rowid, text) VALUES (?, ?)", texts)


def _batches(store: Store, ids: list[int]) -> Iterator[list[Record]]:
    """Documents by id, as they are stored, in batches that fit into memory."""
    batch: list[Record] = []
    for id_ in ids:
        with translated(store.path):
            row = _document(store.connection, id_)
        if row is not None:
            batch.append(Record(*row[1:4]))
        if len(batch) == REPAIR_BATCH or sum(len(record.text) for record in batch) >= REPAIR_CHARACTERS:
            yield batch
            batch = []
    if batch:
        yield batch


def compact(store: Store) -> Compaction:
    """See `Index.compact`."""
    before = bytes_on_disk(store.path)
    try:
        with translated(store.path, writing=True):
            _check_space(store)
            # Words of deleted passages stay in the table, marked as deleted, until its parts are merged.
            with reading_words(store.path):
                store.connection.execute("INSERT INTO fts (fts) VALUES ('optimize')")
        pending = _vacuum(store)
    except IndexDamagedError as error:
        why = error.__cause__ or error
        raise IndexDamagedError(
            f"{store.path} is damaged ({why}): repair it, then compact it", path=store.path
        ) from error
    return Compaction(before, bytes_on_disk(store.path), pending)


def _vacuum(store: Store) -> bool:
    """Copy everything that is in use to the start of the file; gives whether a reader keeps the rest from going."""
    with translated(store.path, writing=True):
        store.check_place()
        store.connection.execute("VACUUM")
    with store.transaction(deletes=False):
        pass  # so that a copy without the log tells that the log has something that it lacks
    if not store.pending:
        with translated(store.path):
            checkpoint(store.connection, 0.0, empty=True)
    return store.pending


def _check_space(store: Store) -> None:
    """VACUUM writes what is in use twice: to a temporary file, and to the log beside the index."""
    pages, free, size = (
        store.connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    (words,) = store.connection.execute("SELECT ifnull(sum(length(block)), 0) FROM fts_data").fetchone()
    used = (pages - free) * size
    folder, temporary = store.path.parent, _temporary_folder()
    # merged words may come to lie behind the old ones; a page in the log has a header, and the log an index
    needed = {folder: int(1.01 * (used + words)) + LOG_BYTES}
    if temporary.stat().st_dev == folder.stat().st_dev:
        needed[folder] += used
    else:
        needed[temporary] = used
    for folder, wanted in needed.items():
        left = shutil.disk_usage(folder).free
        if left < wanted:
            raise StorageError(
                f"{store.path}: compacting needs up to {wanted:,} bytes of free space in {folder}, there are {left:,}; "
                "nothing was changed",
                path=store.path,
                needed_bytes=wanted,
                free_bytes=left,
            )


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder for temporary files. Not one of `tempfile`, which an interrupt can leave locked for ever."""
    folder = _temporary_folder() / f"edge_embed.{os.urandom(8).hex()}"
    folder.mkdir(0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder() -> Path:
    given = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), *TEMPORARY)
    for name in given if os.name != "nt" else ():
        if name and Path(name).is_dir() and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    import tempfile

    return Path(tempfile.gettempdir())
