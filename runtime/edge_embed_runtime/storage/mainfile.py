"""The main file and its log: that the one file is the index, and what tells when it is not.

Commits go to SQLite's log (INDEX-wal) first, and are copied into the main file before the writing call returns. While
the main file lacks some, because a reader still needs the old pages, it is one byte longer than whole pages (a mark):
SQLite takes the number of pages from the header and cuts the byte off when all are copied. So a copy of the one file
made at that time says that it is not whole. A file that lacked commits for longer than a call is longer by 2 to 511
bytes afterwards, until the next commit (a seal): the number says which commits it has, which an older copy has not.

Each commit also writes a row of `meta` that says on which state of the main file its log lies (`Position`), so that a
log next to another file is noticed.
"""

import os
import re
import sqlite3
import struct
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_embed_runtime.errors import IndexFileError
from edge_embed_runtime.storage.database import connect_immutable, connect_reader, log_files, wal_bytes
from edge_embed_runtime.storage.notes import DECIMAL

# The rows of `meta` that hold a Position and a Content.
ROW, CONTENT = "log", "content"
# Pages are 512 bytes or a larger power of two.
LEAST_PAGE = 512
# Of the log: its head, and the head of a frame (sqlite.org/fileformat2.html#walformat).
LOG_HEAD, FRAME_HEAD = 32, 24
LOG_BYTE_ORDERS = {b"\x37\x7f\x06\x82": "<", b"\x37\x7f\x06\x83": ">"}  # of its checksums, by its first bytes
# Seconds between looks at a file that a writer changes at the moment, and how often.
LOOK, LOOKS = 0.01, 100


@dataclass(frozen=True)
class Position:
    """Where a commit stands: the number of it in its epoch, and the state of the main file below that epoch's log.

    An epoch begins when the main file has all commits. state: "epoch.number", base: the state that its log continues.
    """

    epoch: str
    number: int
    base: str

    @property
    def state(self) -> str:
        return f"{self.epoch}.{self.number}"

    def following(self, *, all_copied: bool) -> "Position":
        """Of the next commit. all_copied: whether the main file has all so far."""
        if all_copied or self == NEW:
            return Position(os.urandom(8).hex(), 1, self.state)
        return Position(self.epoch, self.number + 1, self.base)

    def lies_on(self, main: "Position") -> bool:
        """Whether a log with this as its last commit belongs to a main file in another position."""
        return self.base == main.state or (self.epoch == main.epoch and self.number >= main.number)

    def to_text(self) -> str:
        return DECIMAL.write(f"{self.epoch} {self.number} {self.base}")

    @staticmethod
    def from_text(text: object) -> "Position | None":
        """None where it is not one."""
        pattern = r"([0-9a-f]{16}) ([0-9]{1,18}) (-|[0-9a-f]{16}\.[0-9]{1,18})"
        found = re.fullmatch(pattern, DECIMAL.read(text) or "")
        return Position(found[1], int(found[2]), found[3]) if found else None


@dataclass(frozen=True)
class Content:
    """How many documents a commit left, and the sum of their checksums: what tells a copy that was made page by page
    while others wrote, where every page is whole but not of one time.

    generation: the commit that says it; older releases leave it as it is, so that it is known to be out of date
    """

    generation: int
    documents: int = 0
    sum: int = 0

    def changed(self, documents: int, crc: int) -> "Content":
        return Content(self.generation, self.documents + documents, self.sum + crc)

    def to_text(self) -> str:
        return DECIMAL.write(f"{self.generation} {self.documents} {self.sum}")

    @staticmethod
    def from_text(text: object) -> "Content | None":
        """None where it is not one."""
        found = re.fullmatch("([0-9]{1,18}) ([0-9]{1,18}) (-?[0-9]{1,38})", DECIMAL.read(text) or "")
        return Content(*map(int, found.groups())) if found else None


# Below the first log of a file that says nothing of its position: one of an older release.
NEW = Position("0" * 16, 0, "-")


class _State(NamedTuple):
    """What a file says of itself: the row of its position where it has one, and its generation."""

    row: str | None
    generation: int

    @property
    def position(self) -> Position | None:
        return Position.from_text(self.row)


def is_marked(path: Path) -> bool:
    """Whether the main file lacks commits that its log has."""
    return _odd(path) == 1


def mark(path: Path) -> None:
    """Say so. truncate(2) opens nothing: on POSIX, closing a descriptor would end SQLite's locks in this process."""
    _extend(path, 1)


def seal(path: Path, position: Position) -> None:
    """Say which commits are in the main file, after it lacked some for longer than a call: a copy that began before
    they came and ends after that has older pages under this seal."""
    _extend(path, _seal_of(position))


def unmark(path: Path) -> None:
    """Take back a mark or seal: before a commit, since SQLite takes an odd end for a page, and where SQLite did not."""
    if _odd(path):
        _extend(path, 0)


def _odd(path: Path) -> int:
    """Bytes of the main file behind whole pages: 1 is the mark, more are a seal."""
    return path.stat().st_size % LEAST_PAGE


def _extend(path: Path, more: int) -> None:
    size = path.stat().st_size
    if size % LEAST_PAGE != more:
        os.truncate(path, size - size % LEAST_PAGE + more)


def _seal_of(position: Position) -> int:
    return 2 + zlib.crc32(position.state.encode()) % (LEAST_PAGE - 2)


def accept_loss(path: Path) -> bool:
    """Take a file that lacks commits, and whose log is missing, as it is. Returns whether it was one. The caller is the
    only writer."""
    if not _odd(path) or _has_frames(path):
        return False
    unmark(path)
    return True


def _has_frames(path: Path) -> bool:
    """Whether there is a log with anything in it that SQLite would read."""
    try:
        with log_files(path)[0].open("rb") as file:
            head = file.read(LOG_HEAD + FRAME_HEAD)
    except FileNotFoundError:
        return False
    if len(head) < LOG_HEAD + FRAME_HEAD or head[:4] not in LOG_BYTE_ORDERS:
        return False
    first = second = 0
    numbers = struct.unpack(f"{LOG_BYTE_ORDERS[head[:4]]}6I", head[:24])
    for i in range(0, 6, 2):
        first = (first + numbers[i] + second) % 2**32
        second = (second + numbers[i + 1] + first) % 2**32
    salts, of_frame = head[16:24], head[LOG_HEAD + 8 : LOG_HEAD + 16]
    return struct.unpack(">2I", head[24:32]) == (first, second) and salts == of_frame


def problem_with_log(path: Path) -> str | None:
    """What is wrong between a main file and its log, as a sentence without its end; None for nothing.

    A writer may be at work: what it changes while this looks is looked at again.
    """
    try:
        if not wal_bytes(path) and not _odd(path):
            return None
        for _ in range(LOOKS):
            problem = _look(path)
            if problem is None:
                return None
            time.sleep(LOOK)
    except OSError as error:
        raise IndexFileError(f"{path} cannot be opened: {error.strerror}", path=path) from error
    return problem


def _look(path: Path) -> str | None:
    """What seems to be wrong at one moment; where a writer works, it may not be at the next."""
    log = log_files(path)[0].name
    if not _has_frames(path):
        if is_marked(path):
            return f"{path} lacks its last commits: they were in its log {log}, which is not there"
        return _broken_seal(path)
    with suppress(sqlite3.Error, IndexFileError):  # what cannot be read is damaged, which opening says
        before = _state(path, through_log=True)
        main = _state(path, through_log=False)
        if before == _state(path, through_log=True) and not _fits(main, before):
            return f"the log {log} belongs to another file than {path}"
    return None


def _broken_seal(path: Path) -> str | None:
    odd = _odd(path)
    if odd < 2:
        return None
    with suppress(sqlite3.Error, IndexFileError):
        position = _state(path, through_log=False).position
        if position is not None and _seal_of(position) == odd:
            return None
    return f"{path} lacks commits: it was copied while they were written"


def _fits(main: _State, logged: _State) -> bool:
    """Whether a log belongs to a main file, as far as both say where they stand.

    A power cut may have left the main file half written, so that its row is not found; the log is right then.
    """
    if main.row is None and logged.row is None:  # of an older release
        return main.generation <= logged.generation
    if main.row is not None and logged.row is None:  # older releases leave the row alone
        return False
    return main.position is None or logged.position is None or logged.position.lies_on(main.position)


def _state(path: Path, *, through_log: bool) -> _State:
    with closing(connect_reader(path) if through_log else connect_immutable(path)) as db:
        rows = dict(db.execute("SELECT key, value FROM meta WHERE key IN (?, 'generation')", (ROW,)).fetchall())
    generation = str(rows.get("generation"))
    return _State(rows.get(ROW), int(generation) if re.fullmatch("[0-9]{1,18}", generation) else 0)


def identity(path: Path) -> tuple[int, int] | None:
    """What tells the file at a path from another one; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove_log(path: Path, log: tuple[int, int] | None) -> None:
    """Delete a log that SQLite left behind because its file was moved away. log: its identity"""
    if identity(log_files(path)[0]) == log:
        for file in log_files(path):
            with suppress(OSError):
                file.unlink(missing_ok=True)


# All that are open in this process, and those that were in its parent when it was forked.
_open_files: "weakref.WeakSet[OpenFile]" = weakref.WeakSet()


class OpenFile:
    """Which file it is that is open at a path, until `leave`."""

    def __init__(self, path: Path) -> None:
        """Raises IndexFileError where the process was forked from one that was using the file at that moment.

        SQLite of a child believes that it holds its parent's locks on the file, which end at a fork: what others write
        would be read half. So what the child inherited is closed first, by whoever set `give_up`.
        """
        self._path = path
        self._file = identity(path)
        self._process = os.getpid()
        self.give_up: Callable[[], Callable[[], bool] | None] = lambda: None
        for other in list(_open_files):
            if other._file == self._file and other._process != self._process and other in _open_files:
                give_up = other.give_up()
                if give_up is None or not give_up():
                    raise IndexFileError(
                        f"{path} was in use in the process that this one was forked from, which SQLite's locks do not "
                        "survive. Fork while nothing is done with the index, or start the process with spawn",
                        path=path,
                        code="forked",
                    )
        _open_files.add(self)

    def leave(self) -> None:
        _open_files.discard(self)

    @property
    def same(self) -> bool:
        return identity(self._path) == self._file

    @property
    def gone(self) -> bool:
        return identity(self._path) is None

    def check(self, what: str = "nothing was stored") -> None:
        """Raises IndexFileError where the file is no longer there."""
        if not self.same:
            how = "was moved or deleted" if self.gone else "was replaced by another file"
            raise IndexFileError(
                f"{self._path} {how} while it was open: {what}. Close this object, and open the file where it is now",
                path=self._path,
                code="index_moved",
            )


def checkpoint(db: sqlite3.Connection, seconds: float, *, empty: bool = False) -> bool:
    """Copy commits from the log into the main file. Returns whether all of them are there.

    seconds: to wait at the most for readers of older states
    empty:   make the log empty, too
    """
    until = time.monotonic() + seconds
    while True:
        busy, logged, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not busy and logged == copied:
            break
        if time.monotonic() >= until:
            return False
        time.sleep(LOOK / 5)
    if empty:
        with without_waiting(db):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return True


@contextmanager
def without_waiting(db: sqlite3.Connection) -> Iterator[None]:
    """SQLite's own waiting for locks of others is off."""
    (before,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        db.execute(f"PRAGMA busy_timeout = {int(before)}")
