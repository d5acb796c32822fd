"""One open index file: followed, checked and recovered, with all or nothing of what is written to it."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import IndexDamagedError
from edge_embed_runtime.storage import database, mainfile
from edge_embed_runtime.storage.database import RESTORE, Glance, translated
from edge_embed_runtime.storage.mainfile import CONTENT, NEW, ROW, Content, OpenFile, Position
from edge_embed_runtime.storage.schema import COUNTERS, OPTIONAL, Facts, check_schema, read_facts
from edge_embed_runtime.vectors.rotation import Frame

# Seconds that a commit, and closing, wait for searches of others before commits stay in the log for a while.
SETTLE_SECONDS = 0.05
CLOSE_SECONDS = 0.5
# Bytes of the log that are kept for the next commits.
LOG_LIMIT = 2**22
_WITHOUT_LOG = (
    "put back what belongs together. A log of another file can be removed; `edge-embed repair` takes a file as it is "
    "whose log is missing"
)


class IndexFile:
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
        self.log: tuple[int, int] | None = None  # a writer's: which file it is
        database.check_header(path)
        self.open_file = OpenFile(path)
        problem = None if alone else mainfile.problem_with_log(path)
        if problem is not None:
            if problems is None:
                raise IndexDamagedError(f"{problem}; {_WITHOUT_LOG}", code="index_incomplete", path=path)
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
        self._use(check_schema(self._db, self.path))
        if not self.read_only:
            self._begin_writing()

    def _connect(self) -> None:
        self._glance: Glance | None = None
        if not self.read_only:
            self._db = database.connect_writer(self.path)
        elif self._alone:
            self._db = database.connect_immutable(self.path)
        else:
            seen = Glance(self.path)
            self._db = database.connect_reader(self.path)
            self._glance = seen if database.is_immutable(self._db) else None

    def _begin_writing(self) -> None:
        """Bring what a writer before this one left in the log into the main file."""
        self.log = mainfile.identity(database.log_files(self.path)[0])
        self._db.execute("PRAGMA wal_autocheckpoint = 0")  # `settle` does it
        self._db.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
        if self.secure_delete:
            self._db.execute("PRAGMA secure_delete = ON")
        if database.wal_bytes(self.path) > 0 or mainfile.is_marked(self.path):
            self.pending = self._late = not mainfile.checkpoint(self._db, 0.0, empty=self.secure_delete)
        (mainfile.mark if self.pending else mainfile.unmark)(self.path)

    def refresh(self) -> bool:
        """Before reading without a log: connect again where others have written. Returns whether they have."""
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

    def settle(self, seconds: float = 0.0) -> None:
        """Copy into the main file the commits that it lacks, as far as readers no longer need the old ones.

        seconds: to wait for these at the most. A failing disk is no error here: the commits are safe in the log.
        """
        if not self.pending:
            return
        with suppress(sqlite3.Error, OSError):
            if self._db.in_transaction:
                return
            here = self.open_file.same
            if here:
                mainfile.mark(self.path)
            self.pending = not mainfile.checkpoint(self._db, seconds, empty=self.secure_delete)
            if here and not self.pending:
                position = Position.from_text(self.note(ROW)) if self._late else None
                if position is None:
                    mainfile.unmark(self.path)
                else:
                    mainfile.seal(self.path, position)
            self._sealed, self._late = self._late and not self.pending, self.pending

    def _use(self, facts: Facts | None) -> None:
        """Take facts, None where they are damaged: those of a new connection, or others that were written since."""
        self._facts = facts
        if facts is not None:
            self._crc = facts.crc

    @property
    def facts(self) -> Facts:
        """Raises IndexDamagedError where they are not whole; nothing but `verify` can be done then."""
        if self._facts is None:
            raise IndexDamagedError(
                f"{self.path} is damaged (its facts do not fit their checksum); {RESTORE}", path=self.path
            )
        return self._facts

    @property
    def dim(self) -> int:
        return self.facts.dim

    @property
    def frame(self) -> Frame:
        return self.facts.frame

    @property
    def connection(self) -> sqlite3.Connection:
        """For maintenance/repair.py, which looks after the tables themselves."""
        return self._db

    def abandon(self) -> None:
        """Close what a forked child inherited, without touching the file. Of an Index, the writer before the reader:
        SQLite ends with a checkpoint where it sees no other connection that may write."""
        self._db.close()
        self.open_file.leave()

    def close(self) -> None:
        """May be called again. Raises IndexFileError where the last commits are in the log alone, and the file is no
        longer next to it."""
        self.settle(CLOSE_SECONDS)
        if hasattr(self, "_db"):
            with translated(self.path):
                self._db.close()
        self.open_file.leave()
        if self.read_only or self.open_file.same:
            return
        if self.pending:
            self.open_file.check(f"its last commits are in {database.log_files(self.path)[0]}, not in the file")
        mainfile.remove_log(self.path, self.log)

    def counters(self) -> tuple[int, int]:
        """(generation, deletions). Reads the facts again where another process changed them.

        Raises IndexDamagedError when either are not whole.
        """
        with translated(self.path):
            rows = dict(self._db.execute(f"SELECT key, value FROM meta WHERE key IN {(*COUNTERS, 'crc')}").fetchall())
            values = [rows.get(name) for name in COUNTERS]
            if not all(isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) for value in values):
                raise IndexDamagedError(f"{self.path} is damaged (its counters are no numbers)", path=self.path)
            if rows.get("crc") != self._crc:
                self._use(read_facts(self._db, self.path))
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

    def set_facts(self, facts: Facts) -> None:
        """Write other facts, and use them. The caller holds the transaction."""
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(facts.rows().items()))
        self.counters()

    def has_optional(self, name: str) -> bool:
        """Whether there is a table of `OPTIONAL`."""
        with translated(self.path):
            query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
            return self._db.execute(query, (name,)).fetchone() is not None

    def make_optional(self, name: str) -> None:
        """Make a table of `OPTIONAL` where it is missing. The caller holds the transaction."""
        if not self.has_optional(name):
            for statement in OPTIONAL[name]:
                self._db.execute(statement)

    def content(self) -> Content | None:
        """What the last commit says of the documents; None where it does not, being of an older release."""
        content = Content.from_text(self.note(CONTENT))
        generation = self.note("generation")
        return content if content is not None and str(content.generation) == generation else None

    def count_document(self, number: int, crc: Any) -> None:
        """In a transaction: one document more or less; with a checksum that is damaged, the count is lost."""
        if self._content is not None:
            self._content = self._content.changed(number, number * crc) if isinstance(crc, int) else None

    def count_more(self, before: Any, after: int) -> None:
        """In a transaction: the checksum of another row of a document has changed."""
        if self._content is not None:
            self._content = self._content.changed(0, after - before) if isinstance(before, int) else None

    def counted(self) -> tuple[int, Any]:
        """Documents, and the sum of their checksums and those of their places, pictures and sounds."""
        count, total = self._db.execute("SELECT count(*), ifnull(sum(crc), 0) FROM doc NOT INDEXED").fetchone()
        for name in filter(self.has_optional, ("place", "media")):
            (more,) = self._db.execute(f"SELECT ifnull(sum(crc), 0) FROM {name}").fetchone()
            total = total + more if isinstance(total, int) and isinstance(more, int) else None
        return count, total

    def recount(self) -> None:
        """In a transaction: count all documents."""
        count, total = self.counted()
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
            self.open_file.check()
            if self._sealed:
                mainfile.unmark(self.path)
                self._sealed = False
            db, facts = self._db, self._facts
            waited = self.pending  # a reader still needs old commits
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
                self.open_file.check()
                self.pending = True
                db.execute("COMMIT")
            except BaseException as error:
                if db is self._db and db.in_transaction:
                    self.pending = waited
                self._end(db, error)
                if self._facts is not facts:  # those of this transaction are not stored
                    self._use(facts)
                raise
            self._end(db)
        self.settle(0.0 if waited else SETTLE_SECONDS)
        self.open_file.check("what this call stored is in the file that was there before")

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
