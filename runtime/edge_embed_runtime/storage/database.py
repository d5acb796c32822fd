"""Opening SQLite files safely: what is ours, what it may do, and its errors as ours."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote

from edge_embed_runtime.checks import check_path
from edge_embed_runtime.errors import (
    IndexDamagedError,
    IndexFileError,
    IndexFormatError,
    IndexLockedError,
    IndexReadOnlyError,
    InputError,
    MemoryBudgetError,
    StorageError,
)
from edge_embed_runtime.system.files import check_no_link

APPLICATION_ID = 0x45644562  # "EdEb", bytes 68 to 71 of the file
# File systems take names of 255 bytes; SQLite's log and the lock next to the index add theirs.
MAX_NAME_BYTES = 200
# Of SQLite's own in each reader; the system caches the file. More, such as SQLite's 2,000, makes no search faster.
READER_CACHE_KIB = 512
# What SQLite says where it cannot make the index of the log, which all who have the file open share.
UNSHARED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
# SQLite would replay a log that was left next to the damaged file into the copy.
RESTORE = "restore it from a copy, after removing the files next to it that end in -wal and -shm"


def locate(path: object, *, must_exist: bool) -> Path:
    """The path of an index, before anything is opened. Raises IndexFileError or InputError where none can be."""
    checked = check_path(path, "the index")
    try:
        if checked.is_dir():
            raise IndexFileError(f"{checked} is a folder; an index is a file", path=checked)
        if not checked.parent.is_dir():
            raise IndexFileError(f"{checked}: the folder {checked.parent} does not exist", path=checked)
        if len(os.fsencode(checked.name)) > MAX_NAME_BYTES:
            raise InputError(f"the name of the index has more than {MAX_NAME_BYTES} bytes: {checked.name[:40]!r}...")
        if must_exist and not checked.exists():
            raise IndexFileError(f"{checked} does not exist", path=checked, code="index_missing")
    except OSError as error:
        raise IndexFileError(f"{checked} cannot be opened: {error.strerror}", path=checked) from error
    return checked


@contextmanager
def translated(path: Path, *, writing: bool = False) -> Iterator[None]:
    """SQLite's errors as ours. writing: whether they mean that something was not stored."""
    lost = "; nothing of this call was stored" if writing else ""
    try:
        yield
    except (UnicodeDecodeError, OverflowError) as error:  # names in the schema, numbers out of range
        raise IndexDamagedError(f"{path} is damaged; {RESTORE}", path=path) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        primary = code & 0xFF if code is not None else None
        if primary == sqlite3.SQLITE_FULL:
            raise StorageError(f"{path}: the disk is full{lost}", path=path, code="disk_full") from error
        if primary == sqlite3.SQLITE_IOERR:
            raise StorageError(f"{path}: the disk failed ({error}){lost}", path=path) from error
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise IndexDamagedError(
                f"{path} is damaged, or the disk failed to read it ({error}); {RESTORE}", path=path
            ) from error
        if primary == sqlite3.SQLITE_READONLY:
            raise IndexReadOnlyError(f"{path} cannot be written ({error})", path=path) from error
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise IndexLockedError(f"{path} is busy ({error}); try again", path=path, code="index_busy") from error
        if primary == sqlite3.SQLITE_TOOBIG:
            raise MemoryBudgetError(
                f"{path}: max_rss_mb cannot be kept: a document's text or metadata takes more than is left for it. "
                "Give more",
                path=path,
            ) from error
        raise IndexFileError(f"{path}: {error}", path=path) from error


def log_files(path: Path) -> tuple[Path, Path]:
    """SQLite's write-ahead log of a database, and the index of the log."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def check_companions(path: Path) -> None:
    """Refuse links where SQLite may make files next to a database. Raises IndexFileError."""
    for file in (*log_files(path), path.with_name(path.name + "-journal")):
        check_no_link(file)


def wal_bytes(path: Path) -> int:
    try:
        return log_files(path)[0].stat().st_size
    except OSError:
        return 0


def bytes_on_disk(path: Path) -> int:
    """Of an index with its log. Raises IndexFileError where it is no longer there."""
    try:
        return path.stat().st_size + wal_bytes(path)
    except OSError as error:
        raise IndexFileError(f"{path} is no longer there: {error.strerror}", path=path, code="index_missing") from error


def check_header(path: Path) -> None:
    """Refuse what is not an index before anything of it is used: empty, foreign, or cut off."""
    try:
        if not path.is_file():
            raise IndexFormatError(f"{path} is not a file", path=path)
        if path.stat().st_size == 0:
            raise IndexFormatError(f"{path} is empty, not an edge_embed index; remove it to make a new one", path=path)
    except OSError as error:
        raise IndexFileError(f"{path} cannot be opened: {error.strerror}", path=path) from error
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise IndexFileError(f"{path} cannot be opened: {os.strerror(errno.EACCES)}", path=path)
    check_companions(path)
    # Through SQLite: on POSIX, closing a file of our own would end all locks that SQLite has on it in this process.
    ours = False
    try:
        with closing(sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1", uri=True)) as db:
            ours = db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN:
            raise IndexFileError(f"{path} cannot be opened: {error}", path=path) from error
        # shorter than its first page says: what is missing may be in the log, which the real opening reads
        ours = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT
    if not ours:
        raise IndexFormatError(f"{path} is not an edge_embed index; give another path", path=path)


@cache
def _trusted_schema() -> str:
    """OFF, but where SQLite takes its own JSON functions for unsafe in indexes, such as those on declared fields (3.40
    does, 3.51 does not). Nothing that a schema names is run before it was compared with ours."""
    db = sqlite3.connect(":memory:")
    try:
        for statement in (
            "CREATE TABLE t (x)",
            "PRAGMA trusted_schema = OFF",
            "CREATE INDEX i ON t (json_extract(x, '$.a'))",
        ):
            db.execute(statement)
    except sqlite3.OperationalError:
        return "ON"
    finally:
        db.close()
    return "OFF"


@contextmanager
def _closed_on_error(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A new connection, set up; closed when the block fails."""
    try:
        # damaged text must reach the checksum, which then does not fit, instead of ending the query
        db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        for pragma in (
            f"trusted_schema = {_trusted_schema()}",
            "cell_size_check = ON",
            "mmap_size = 0",
            "foreign_keys = ON",
        ):
            db.execute(f"PRAGMA {pragma}")
        yield db
    except BaseException:
        db.close()
        raise


def connect_writer(path: Path) -> sqlite3.Connection:
    with _closed_on_error(sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)) as db:
        (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise IndexFileError(
                f"{path}: this file system does not allow a write-ahead log (journal mode {mode})", path=path
            )
        db.execute("PRAGMA synchronous = FULL")
        # Where opening for writing fails, SQLite opens for reading without a word; a write that is taken back tells.
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("ROLLBACK")
        return db


def connect_immutable(path: Path) -> sqlite3.Connection:
    """A connection to the main file alone, without locks and past its log: right while nobody writes."""
    return _connect_to_read(path, "mode=ro&immutable=1")


def _connect_to_read(path: Path, options: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path))}?{options}"
    opened = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)
    with _closed_on_error(opened) as db:
        db.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection that shares the log with a writer. Raises IndexReadOnlyError where it cannot be shared.

    Where the log is empty, and this user cannot make what SQLite keeps next to it (a folder or storage that is
    read-only, a full disk), it is an immutable one, of which `Glance` says whether it is still right.
    """
    try:
        return _connect_to_read(path, "mode=ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in UNSHARED:
            raise
        if not path.exists():
            raise IndexFileError(f"{path} does not exist", path=path, code="index_missing") from error
        if not wal_bytes(path):
            return connect_immutable(path)
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        raise IndexReadOnlyError(
            f"{path} cannot be opened: commits lie in its log, and a reader shares that with the writer, for which the "
            f"folder {path.parent} must be writable for this user",
            path=path,
        ) from error


def is_immutable(db: sqlite3.Connection) -> bool:
    """Whether `connect_reader` made a connection that sees no log: SQLite's own word for it."""
    return bool(db.execute("PRAGMA journal_mode").fetchone() != ("wal",))


class Glance:
    """What a main file and its log look like from outside: equal where nobody has written."""

    def __init__(self, path: Path) -> None:
        self._seen = (self._status(path), self._status(log_files(path)[0]) if wal_bytes(path) else None)

    @staticmethod
    def _status(file: Path) -> tuple[int, ...] | None:
        try:
            status = file.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Glance) and self._seen == other._seen

    __hash__ = None  # type: ignore[assignment]
