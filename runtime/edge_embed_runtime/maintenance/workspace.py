"""What maintenance needs around the file of an index: that nobody else writes to it, and room on its disk."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edge_embed_runtime.errors import StorageError
from edge_embed_runtime.storage.database import check_header, locate
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.lock import WriterLock

# Where SQLite makes temporary files, first that is there (sqlite.org/tempfiles.html); Windows has its own way.
TEMPORARY = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - SQLite's places, only asked for their free space
# What SQLite needs next to a file at the least: the index of its log, and page-sized odds and ends.
LOG_BYTES = 65_536


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The path of an index that nobody else writes to. Raises IndexLockedError."""
    index = locate(path, must_exist=True)
    check_header(index)  # before a lock file is put next to what is no index
    lock = None
    try:
        lock = WriterLock(index)
        yield index
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Store]:
    """An index, open for writing without an embedder. Raises IndexLockedError."""
    with locked(path) as index, closing(Store(index, read_only=False)) as store:
        yield store


def pragmas(db: sqlite3.Connection, *names: str) -> list[int]:
    """Numbers that SQLite tells of a database, such as "page_count"."""
    return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]


def word_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the table of words."""
    return int(db.execute("SELECT ifnull(sum(length(block)), 0) FROM fts_data").fetchone()[0])


def require_space(folder: Path, wanted: int, what: str) -> None:
    """Raise StorageError where a disk has less free space than `what` needs."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise StorageError(
            f"{what} needs up to {wanted:,} bytes of free space in {folder}, "
            f"there are {free:,}; the index is unchanged",
            path=folder,
            needed_bytes=wanted,
            free_bytes=free,
        )


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for temporary files. Not one of `tempfile`, which an interrupt can leave locked for ever."""
    folder = temporary_folder() / f"edge_embed.{os.urandom(8).hex()}"
    folder.mkdir(0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def temporary_folder() -> Path:
    """The folder in which SQLite makes temporary files."""
    given = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), *TEMPORARY)
    for name in given if os.name != "nt" else ():
        if name and Path(name).is_dir() and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    import tempfile

    return Path(tempfile.gettempdir())
