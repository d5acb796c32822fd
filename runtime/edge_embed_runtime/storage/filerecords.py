"""What is known of the files that documents come from: enough to tell that one is as it was when it was read.

A record stands for this: all documents of its file, read in this way, are in the index. The trigger next to the table
(schema.py) takes it away with the first document of the file that is deleted, replaced or moved.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.root import ORIGIN

if TYPE_CHECKING:
    from edge_embed_runtime.storage.store import Store

TABLE = "file"
COLUMNS = "key, size, mtime, ctime, hash, reading, documents, mount"


class FileRecord(NamedTuple):
    """A file that was read.

    key:          of the file, see storage/root.py
    size:         in bytes
    mtime, ctime: nanoseconds; 0 where the file had just been written, so that later changes might not show in them
    hash:         of its content
    reading:      of the options and the release that made its documents
    documents:    how many these are; 0 for a file without text
    mount:        the folder at or under the one that was added on which another disk was mounted, as a key; "" for none
    """

    key: str
    size: int
    mtime: int
    ctime: int
    hash: bytes
    reading: bytes
    documents: int
    mount: str


def read_records(store: "Store", keys: Iterable[str]) -> dict[str, FileRecord]:
    """Records by key; unknown keys are left out."""
    found = _select(store, "key IN (SELECT value FROM json_each(?))", json.dumps(list(keys)))
    return {record.key: record for record in found}


def records_with_hash(store: "Store", hash_: bytes, limit: int) -> list[FileRecord]:
    """The first records of files with this content, in order of their keys."""
    return _select(store, "hash = ? ORDER BY key LIMIT ?", hash_, limit)


def write_records(store: "Store", records: Sequence[FileRecord]) -> None:
    """Write records, in place of those with the same keys. The caller holds the transaction."""
    store.make_optional(TABLE)
    store.connection.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?)", records)


def drop_doubtful(store: "Store", doubted: Callable[[str], bool]) -> None:
    """Delete the records of files that are doubted, and those that do not say how many documents of their file there
    are: such files are read again. The caller holds the transaction."""
    if not store.has_optional(TABLE):
        return
    db = store.connection
    db.execute(f"CREATE TEMP TABLE counted AS SELECT {ORIGIN} AS file, count(*) AS documents FROM doc GROUP BY 1")
    db.execute("CREATE INDEX temp.counted_file ON counted (file)")
    there = "SELECT documents FROM temp.counted WHERE counted.file = main.file.key"
    db.execute(f"DELETE FROM main.file WHERE documents <> ifnull(({there}), 0)")
    db.execute("DROP TABLE temp.counted")
    wrong = [key for (key,) in db.execute("SELECT key FROM main.file") if doubted(key)]
    db.executemany("DELETE FROM main.file WHERE key = ?", [(key,) for key in wrong])


def _select(store: "Store", condition: str, *values: object) -> list[FileRecord]:
    with translated(store.path):
        if not store.has_optional(TABLE):
            return []
        rows = store.connection.execute(f"SELECT {COLUMNS} FROM file WHERE {condition}", values)
        return [FileRecord(*row) for row in rows]
