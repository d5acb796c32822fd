"""Keys that a run has seen, and where. SQLite keeps them, in a temporary file once its cache is full."""

import json
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge_embed_runtime.storage.database import translated


class Place(NamedTuple):
    """file: its number in the run; line: None for a document that is a whole file."""

    file: int
    line: int | None


class Seen:
    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir())  # for messages
        self._db = sqlite3.connect("", isolation_level=None)  # a file without a name
        self._db.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, file INTEGER, line INTEGER) WITHOUT ROWID")
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

    def close(self) -> None:
        self._db.close()
