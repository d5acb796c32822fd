"""The file INDEX.reembed next to an index that collects its passages under another bundle until all are there.

meta  which vectors are to be replaced by which
doc   documents that are done: the crc32 of their rows in the index, the ids of their passages, crc32 over these
vec   their passages, rows as they are in an index, under ids of this file
"""

import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import IndexDamagedError, IndexFormatError, StorageError
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.storage.database import check_companions, connect_writer, log_files, translated
from edge_embed_runtime.storage.rows import PASSAGES, checked_passages, passage_row
from edge_embed_runtime.storage.schema import TABLES, tables_of
from edge_embed_runtime.vectors.int8 import Int8Codes, Vectors

APPLICATION_ID = 0x45645265  # "EdRe"
SCHEMA = 1
DDL = (
    "CREATE TABLE meta (source TEXT NOT NULL, target TEXT NOT NULL) STRICT",
    "CREATE TABLE doc (id INTEGER PRIMARY KEY, source INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,"
    " crc INTEGER NOT NULL) STRICT",
    "CREATE TABLE vec (id INTEGER PRIMARY KEY, doc INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,"
    " code BLOB NOT NULL, crc INTEGER NOT NULL) STRICT",
)

Row = tuple[Any, ...]
# What names the vectors that are replaced, and those that replace them.
Identity = tuple[str, str]


def staging_path(index: Path) -> Path:
    return index.with_name(index.name + ".reembed")


def create_staging(index: Path, identity: Identity) -> None:
    """Make an empty one, where there is none."""
    path = staging_path(index)
    try:
        check_companions(path)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise StorageError(f"{path} could not be created: {error.strerror}", path=path, cause=error) from error
    try:
        with _errors(path), closing(connect_writer(path)) as db:
            db.execute("BEGIN")
            for statement in DDL:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA}")
            db.execute("INSERT INTO meta VALUES (?, ?)", identity)
            db.execute("COMMIT")
    except BaseException:
        remove_staging(index)
        raise


def remove_staging(index: Path) -> bool:
    """Gives whether there was one."""
    path = staging_path(index)
    there = os.path.lexists(path)
    try:
        for file in (path, *log_files(path)):  # in this order: a log alone is known to be nothing
            file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} could not be removed: {error.strerror}", path=path) from error
    return there


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        try:
            with translated(path):
                raise
        except IndexDamagedError:
            raise IndexDamagedError(f"{path} is damaged ({error}): run it again, which begins again") from error
        except StorageError:
            raise StorageError(
                f"{path}: {error}; what was embedded before is kept for the next run", path=path
            ) from error


class Staging:
    """The file of an index, open. Raises IndexFormatError or IndexDamagedError where it is not whole.

    identity: the one that it was created with
    dim:      of the new vectors
    """

    def __init__(self, index: Path, dim: int) -> None:
        self.path = staging_path(index)
        self._dim = dim
        if self.path.is_symlink():
            raise IndexFormatError(f"{self.path} is a symbolic link", path=self.path)
        check_companions(self.path)
        with translated(self.path):
            self._db = connect_writer(self.path)
            try:
                self._db.execute("PRAGMA wal_autocheckpoint = 1")  # the log stays as small as a commit
                self.identity = self._check()
            except BaseException:
                self._db.close()
                raise

    def _check(self) -> Identity:
        """Refuse tables that are not ours, and pages that are not whole."""
        header = tuple(self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if header != (APPLICATION_ID, SCHEMA) or self._db.execute(TABLES).fetchall() != tables_of(DDL):
            raise IndexFormatError(f"{self.path} was not made by this release", path=self.path)
        rows: list[Identity] = self._db.execute("SELECT source, target FROM meta").fetchall()
        if self._db.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)] or len(rows) != 1:
            raise IndexDamagedError(f"{self.path} is damaged", path=self.path)
        return rows[0]

    def close(self) -> None:
        with _errors(self.path):
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; durable once the block has ended."""
        with _errors(self.path):
            try:
                if self._db.in_transaction:  # an interrupt ended another
                    self._db.execute("ROLLBACK")
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def add(self, documents: Sequence[tuple[int, int, list[Span]]], codes: Int8Codes, scales: Vectors) -> None:
        """Keep documents, each (id, crc32 of its row, spans of its passages), and codes and scales of all passages."""
        blobs = (scale.tobytes() + code.tobytes() for scale, code in zip(scales.astype("<f4"), codes, strict=True))
        with self.transaction():
            (last,) = self._db.execute("SELECT ifnull(max(id), 0) FROM vec").fetchone()
            for doc, source, spans in documents:
                rows = [passage_row(last + i, doc, span, next(blobs)) for i, span in enumerate(spans, start=1)]
                self._db.executemany("INSERT INTO vec VALUES (?, ?, ?, ?, ?, ?)", rows)
                row = (doc, source, last + 1, len(rows))
                self._db.execute("INSERT INTO doc VALUES (?, ?, ?, ?, ?)", (*row, _crc(*row)))
                last += len(rows)

    def has(self, doc: int) -> bool:
        with _errors(self.path):
            return self._db.execute("SELECT 1 FROM doc WHERE id = ?", (doc,)).fetchone() is not None

    def passages(self, doc: int, source: int) -> list[Row]:
        """Passages of a document, rows of `vec`; none where they are not there, of another text, or not whole."""
        with _errors(self.path):
            row = self._db.execute("SELECT id, source, first, count, crc FROM doc WHERE id = ?", (doc,)).fetchone()
            if row is None or row[1] != source or _crc(*row[:4]) != row[4]:
                return []
            _, _, first, count, _ = row
            query = f"{PASSAGES} WHERE id >= ? AND id < ? ORDER BY id"
            rows = self._db.execute(query, (first, first + count)).fetchall()
        whole = len(rows) == count and not checked_passages(rows, self._dim).damaged
        return rows if whole else []

    def drop(self, doc: int) -> None:
        """Forget a document. Its passages stay behind, and nothing leads to them. The caller holds the transaction."""
        self._db.execute("DELETE FROM doc WHERE id = ?", (doc,))

    def count(self) -> int:
        """Passages; a few of them may be of documents that were changed or deleted since."""
        with _errors(self.path):
            (count,) = self._db.execute("SELECT count(*) FROM vec").fetchone()
        return int(count)


def _crc(doc: int, source: int, first: int, count: int) -> int:
    return zlib.crc32(f"{doc},{source},{first},{count}".encode())
