"""The table of words where it is damaged: errors that say so, a check that no damage can crash, and an empty one.

FTS5 believes its pages. A damaged size makes it ask for more memory than there is, a damaged place can end the process
(integrity-check in SQLite 3.40 does). All that is in the table can be made of the texts again.
"""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_embed_runtime.errors import IndexDamagedError

# The tables in which FTS5 keeps `fts`.
SHADOWS = ("fts_data", "fts_idx", "fts_docsize", "fts_config")
# Primary result codes that say something of the disk, of other processes or of a memory budget, not of what is stored.
NO_DAMAGE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_TOOBIG,
)
# What reading damaged pages raises, besides sqlite3's own.
RAISED = (MemoryError, TypeError, OverflowError, UnicodeDecodeError)
ADVICE = "the other searches work, all documents can be read, and `repair` makes the words again from their texts"
# Runs in a process of its own; says what is wrong.
CHECK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
try:
    db.execute("INSERT INTO fts (fts) VALUES ('integrity-check')")
    print("whole")
except (sqlite3.Error, MemoryError) as error:
    print(error or "out of memory")
"""
# How it ends then: by one of these signals, and on Windows with a status from this one on.
CRASHES = ("SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS")
WINDOWS_CRASH = 0xC0000000


@contextmanager
def reading_words(path: Path) -> Iterator[None]:
    """What FTS5 says or does about damaged pages, as IndexDamagedError."""
    try:
        yield
    except sqlite3.Error as error:
        if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in NO_DAMAGE:
            raise
        raise IndexDamagedError(f"{path}: the table of words is damaged ({error}); {ADVICE}") from error
    except MemoryError as error:
        raise IndexDamagedError(
            f"{path}: SQLite asked for more memory than there is. Where memory is not short, the table of words is "
            f"damaged: verify tells; {ADVICE}"
        ) from error
    except (TypeError, OverflowError, UnicodeDecodeError) as error:
        raise IndexDamagedError(f"{path}: the table of words is damaged; {ADVICE}") from error


def check_pages(database: Path) -> str | None:
    """What FTS5 finds wrong with the table `fts` of a file, None where nothing; in a process of its own, which may
    crash. Where none can be started, or something else ends it, it is this one."""
    import signal
    import subprocess

    if not sys.executable or getattr(sys, "frozen", False):  # a program that is not Python itself
        return _check_here(database)
    try:
        done = subprocess.run(  # noqa: S603 - Python itself
            [sys.executable, "-I", "-S", "-c", CHECK, str(database)], capture_output=True, text=True, check=False
        )
    except OSError:
        return _check_here(database)
    said = done.stdout.strip()
    if said:
        return None if said == "whole" else said
    crashed = -done.returncode in [getattr(signal, name, None) for name in CRASHES] or done.returncode >= WINDOWS_CRASH
    return "SQLite crashes in its check" if crashed else _check_here(database)


def _check_here(database: Path) -> str | None:
    db = sqlite3.connect(database, isolation_level=None)
    try:
        db.execute("INSERT INTO fts (fts) VALUES ('integrity-check')")
    except (sqlite3.Error, MemoryError) as error:
        return str(error) or "out of memory"
    finally:
        db.close()
    return None


def empty_table(db: sqlite3.Connection, statement: str) -> None:
    """Make the table of words an empty one, however damaged it is; connect again before it is used.

    statement: the one that made it. The caller holds the transaction
    """
    fresh = sqlite3.connect(":memory:")
    try:
        fresh.execute(statement)
        for table in SHADOWS:
            rows = fresh.execute(f"SELECT * FROM {table}")
            marks = ", ".join("?" * len(rows.description))
            db.execute(f"DELETE FROM {table}")
            db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows.fetchall())
    finally:
        fresh.close()
