"""Keys and files that a run has seen. SQLite keeps them, in a temporary file once its cache is full."""

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.filerecords import FileRecord


class Place(NamedTuple):
    """file: its number in the run; line: None for a document that is a whole file."""

    file: int
    line: int | None


class FileState(IntEnum):
    """PARTLY: something of it could not be read or stored; WHOLE: all of it was; SAME: it is as it was, not read."""

    PARTLY = 0
    WHOLE = 1
    SAME = 2


class Seen:
    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir())  # for messages
        self._db = sqlite3.connect("", isolation_level=None)  # a file without a name
        self._db.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, file INTEGER, line INTEGER) WITHOUT ROWID")
        self._db.execute("CREATE TABLE file (key TEXT PRIMARY KEY, state INTEGER) WITHOUT ROWID")
        self._db.execute("CREATE TABLE record (key, size, mtime, ctime, hash, reading, documents, mount)")
        self._db.execute("BEGIN")

    def add(self, key: str, place: Place) -> Place | None:
        """Where the key was seen before; None the first time."""
        with translated(self._folder):
            if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (key, *place)).rowcount:
                return None
            return Place(*self._db.execute("SELECT file, line FROM seen WHERE key = ?", (key,)).fetchone())

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that were not seen."""
        query = "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT key FROM seen)"
        with translated(self._folder):
            return [key for (key,) in self._db.execute(query, (json.dumps(keys),))]

    def set_state(self, file: str, state: FileState) -> None:
        with translated(self._folder):
            self._db.execute("INSERT OR REPLACE INTO file VALUES (?, ?)", (file, state))

    def forget(self, file: str) -> None:
        """As if the file had not been seen."""
        with translated(self._folder):
            self._db.execute("DELETE FROM file WHERE key = ?", (file,))

    def states(self, files: Iterable[str]) -> dict[str, FileState]:
        """Of those of the files that were seen."""
        query = "SELECT key, state FROM file WHERE key IN (SELECT value FROM json_each(?))"
        with translated(self._folder):
            rows = self._db.execute(query, (json.dumps(list(files)),))
            return {key: FileState(state) for key, state in rows}

    def keep(self, record: FileRecord) -> None:
        """A record to write down when the run is over."""
        with translated(self._folder):
            self._db.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", record)

    def kept(self, count: int) -> Iterator[list[FileRecord]]:
        """Those records whose files were read whole or are as they were, some at a time."""
        good = (FileState.WHOLE, FileState.SAME)
        query = "SELECT record.* FROM record JOIN file USING (key) WHERE state IN (?, ?) ORDER BY record.rowid"
        with translated(self._folder):
            rows = self._db.execute(query, good)
            while block := rows.fetchmany(count):
                yield [FileRecord(*row) for row in block]

    def close(self) -> None:
        self._db.close()
