"""The table of words where it is damaged: a check that no damage can crash, and an empty one.

FTS5 believes its pages. A damaged size makes it ask for more memory than there is, a damaged place can end the process
(integrity-check in SQLite 3.40 does). All that is in the table can be made of the texts again.
"""

import sqlite3
import sys
from pathlib import Path

# The tables in which FTS5 keeps `fts`.
SHADOWS = ("fts_data", "fts_idx", "fts_docsize", "fts_config")
# What reading damaged pages raises, besides sqlite3's own.
RAISED = (MemoryError, TypeError, OverflowError, UnicodeDecodeError)
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
