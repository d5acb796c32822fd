"""A new index file, which appears whole or not at all."""

import os
import re
import sqlite3
import stat
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path

from edge_embed_runtime.errors import IndexFileError, IndexReadOnlyError, StorageError
from edge_embed_runtime.storage.database import APPLICATION_ID, log_files, translated
from edge_embed_runtime.storage.mainfile import CONTENT, NEW, ROW, Content
from edge_embed_runtime.storage.schema import COUNTERS, SCHEMA, Facts, ddl
from edge_embed_runtime.system.writing import sync_folder

MIN_SQLITE = (3, 38, 0)  # STRICT tables (3.37) and JSON built in (3.38)
# What is left of making an index is deleted at this age, where a folder has no more entries than can be looked at fast.
LEFTOVER_SECONDS = 3600.0
MAX_ENTRIES = 4096


def create_index(path: Path, facts: Facts) -> None:
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
        for orphan in log_files(path):  # the log of an index that was removed would be replayed into this one
            orphan.unlink(missing_ok=True)
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path} could not be created: {error.strerror}", path=path, cause=error) from error
    finally:
        for leftover in (temporary, *log_files(temporary)):
            with suppress(OSError):  # the first error says why it failed
                leftover.unlink(missing_ok=True)


def _make_file(temporary: Path, path: Path) -> None:
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise IndexReadOnlyError(f"{path} cannot be created: {error.strerror}", path=path) from error


def remove_leftovers(path: Path) -> None:
    """Delete what `create_index` leaves of an index where its process is killed. The caller is the only writer."""
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
