"""A copy of an index that may be in use: SQLite's online backup, whole and durable, or not there at all."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_embed_runtime.checks import check_path
from edge_embed_runtime.errors import IndexDamagedError, InputError, StorageError
from edge_embed_runtime.maintenance.workspace import LOG_BYTES, pragmas, require_space
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.database import locate, log_files, translated
from edge_embed_runtime.storage.mainfile import NEW, ROW
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.files import check_no_link
from edge_embed_runtime.system.lock import WriterLock
from edge_embed_runtime.system.writing import sync_folder

# Pages that are copied before an interruption is noticed.
STEP = 1024


@dataclass(frozen=True)
class Backup:
    """A copy of an index: where it is, its bytes, and the commits that it has (`generation`); -1 where the index is too
    damaged to say."""

    path: Path
    bytes: int
    generation: int


def backup_index(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    compact: bool = False,
    overwrite: bool = False,
    show_progress: bool = False,
) -> Backup:
    """`Index.backup` of a file, without its embedder. What is damaged in the index is damaged in the copy."""
    source = locate(path, must_exist=True)
    target = _check_target(source, out, overwrite=overwrite)
    with closing(Store(source, read_only=True)) as store, _made(target, overwrite=overwrite) as temporary:
        with store.snapshot():
            generation = _generation(store)
            pages, size = pragmas(store.connection, "page_count", "page_size")
            require_space(target.parent, pages * size * (2 if compact else 1) + LOG_BYTES, f"{target}: the copy")
            _copy(store, temporary, show_progress)
        _finish(temporary, compact=compact)
        _check_copy(temporary, generation)
        size = temporary.stat().st_size
    return Backup(target, size, generation)


def _check_target(source: Path, out: str | os.PathLike[str], *, overwrite: bool) -> Path:
    target = check_path(out, "the backup")
    if Path(out).is_symlink():
        raise InputError(f"{out} is a symbolic link; give the backup a name of its own")
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist")
    if target.exists():
        if target.samefile(source):
            raise InputError(f"{target} is the index itself")
        if not target.is_file():
            raise InputError(f"{target} is there already, and no file; give the backup another name")
        if not overwrite:
            raise InputError(
                f"{target} is there already; give the backup another name, or let it overwrite (--force)",
                code="output_exists",
            )
    return target


@contextmanager
def _made(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A file to write to, which takes the place of the target when the block ends well."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    lock = None
    if overwrite and target.with_name(target.name + ".lock").exists():
        lock = WriterLock(target)  # an index that is there may be open for writing
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), 0o600))
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        for log in log_files(target):  # of a file that was there before: it would be read into the copy
            check_no_link(log)
            log.unlink(missing_ok=True)
        if target.exists() and not overwrite:  # since it was looked for
            raise InputError(f"{target} is there already; give the backup another name", code="output_exists")
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise StorageError(
            f"{target} could not be written: {error.strerror}; the index was not touched", cause=error
        ) from error
    finally:
        for leftover in (temporary, *log_files(temporary)):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
        if lock is not None:
            lock.release()


def _generation(store: Store) -> int:
    try:
        return store.counters()[0]
    except IndexDamagedError:
        return -1


def _copy(store: Store, temporary: Path, show_progress: bool) -> None:
    """Every page of one committed state. The caller holds the snapshot, so that no commit begins the copy again."""
    with translated(temporary), closing(sqlite3.connect(temporary)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # it is synced as a whole
        (pages,) = pragmas(store.connection, "page_count")
        done = 0
        with progress_bar(pages, show_progress, "copying") as advance:

            def step(_: int, remaining: int, total: int) -> None:
                nonlocal done
                advance(total - remaining - done)
                done = total - remaining

            store.connection.backup(copy, pages=STEP, progress=step)


def _finish(temporary: Path, *, compact: bool) -> None:
    """Make the copy an index of its own, to which no log of the first belongs."""
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(temporary, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = MEMORY")
        db.execute("PRAGMA synchronous = OFF")
        position = NEW.following(all_copied=True).to_text()
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (ROW, position))
    if not compact:
        return
    small = temporary.with_name(temporary.name + "2")
    try:
        with translated(temporary), closing(sqlite3.connect(temporary, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")
            db.execute("INSERT INTO fts (fts) VALUES ('optimize')")  # words of deleted passages go
            db.execute("VACUUM INTO ?", (str(small),))
        small.chmod(0o600)
        small.replace(temporary)
    finally:
        small.unlink(missing_ok=True)


def _check_copy(temporary: Path, generation: int) -> None:
    """Open the copy as an index. Raises what opening raises, or StorageError."""
    with closing(Store(temporary, read_only=True, alone=True)) as copy:
        if _generation(copy) != generation:
            raise StorageError(f"{temporary} does not hold what was written to it")
