"""What a memory budget leaves after the models: for indexes, what they read, store and return.

    limit = what the process has, or is predicted to have while it embeds
          + what indexes hold between calls: binary codes, sparse vectors
          + what calls in progress have asked for, before they take it

A call that asks for more than is left waits while other threads have some, and is refused where it would not fit alone.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from edge_embed_runtime.errors import MemoryBudgetError
from edge_embed_runtime.system.memory import MB, rss_bytes, trim_heap

# Bytes that sparse vectors take while they are ordered by token, for each byte of them in the file.
POSTINGS = 4
# Of SQLite, and of what a search looks at besides codes.
SEARCH_BYTES = 6 * MB
# Of storing anything: SQLite's pages and words before they are written, a block of text that is cut into tokens, and
# vectors and codes of the passages that are embedded at a time.
WRITE_BYTES = 12 * MB
# Copies of a text or of metadata while it is stored, or read to be replaced: as Python has it, as UTF-8, as SQLite
# takes it, as a row. And JSON of which SQLite makes a tree, for a `where`.
COPIES = 12
# Copies of a row of a file from reading it to having it stored. One character beyond the basic plane makes Python keep
# four bytes for each of a text, and there are the row as bytes, as text, its fields, and what is put together of them.
ROW_COPIES = 16
# Of one long passage the words are kept in memory while it is stored, each with some bytes of its own.
WORD_COPIES = 30
# Of what a call took, the free heap that is not worth giving back to the system.
KEPT_BYTES = 4 * MB
# Of what is left, a part (1 / SPARE) that advice leaves alone: a process grows a little from one call to the next.
SPARE = 16
# The least that a row may have, so that an error is about the budget and not about an ordinary row.
LEAST_ROW = 16_384
# The least for what SQLite may read or be given at a time; a `where` of many values is a long text too.
LEAST_VALUE = 2**18
UNLIMITED = nullcontext()


class Bounds(NamedTuple):
    """What of files can be read and stored in what is left, in bytes.

    row:   of one file or row as it lies on the disk
    batch: of the texts and metadata of one call of `add` or `upsert`, see `documents.document_bytes`
    """

    row: int
    batch: int


class _Ledger:
    """What indexes hold, and what calls in progress have asked for, in bytes. There is one: a process has one resident
    set."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, str], int] = {}
        self.clear()

    def clear(self) -> None:
        self.changed = threading.Condition()
        self.taken: dict[int, int] = {}  # by thread
        self.before = 0  # the resident set when the first of them asked

    def total(self) -> int:
        return sum(self.taken.values())

    def process(self) -> int:
        """The resident set without what was asked for, whether it was taken meanwhile or not."""
        now = rss_bytes() or 0
        if not self.taken:
            self.before = now
        return max(self.before, now - self.total())

    def give_back(self, size: int) -> None:
        me = threading.get_ident()
        with self.changed:
            self.taken[me] -= size
            if self.taken[me] <= 0:
                del self.taken[me]
            self.changed.notify_all()
            last = me not in self.taken
        if last and (rss_bytes() or 0) > self.before + KEPT_BYTES:
            trim_heap()


_ledger = _Ledger()
if hasattr(os, "register_at_fork"):  # a lock that another thread held would stay locked in the child
    os.register_at_fork(after_in_child=_ledger.clear)


def embedding(limit: int | None, peak: int) -> AbstractContextManager[None]:
    """Reserve what embedding takes up to its predicted peak; waits while calls of other threads leave too little.

    limit: None where there is none
    """
    return UNLIMITED if limit is None else _embedding(limit, peak)


@contextmanager
def _embedding(limit: int, peak: int) -> Iterator[None]:
    me = threading.get_ident()
    if me in _ledger.taken:  # what stores texts has reserved it
        yield
        return
    with _ledger.changed:
        while True:
            size = max(1, peak + sum(_ledger.held.values()) - _ledger.process())
            if not _ledger.taken or size <= limit - _ledger.process() - _ledger.total():
                break
            _ledger.changed.wait()
        _ledger.taken[me] = size
    try:
        yield
    finally:
        _ledger.give_back(size)


class Room:
    """What a limit leaves for the index of a process that also embeds.

    peak: what the process is predicted to take without the index, or 0
    """

    def __init__(self, limit: int, peak: int) -> None:
        self._limit = limit
        self._peak = peak

    def hold(self, what: str, size: int) -> None:
        """Count so many bytes of something that stays between calls; 0 when it was let go of."""
        if size:
            _ledger.held[id(self), what] = size
        else:
            _ledger.held.pop((id(self), what), None)

    def left(self, floor: int = 0) -> int:
        """Bytes that can be taken now. floor: what the process is going to have in any case."""
        return self._limit - max(_ledger.process(), floor) - _ledger.total()

    def storing(self, given: int) -> int:
        """What the process is going to have where it embeds texts of so many bytes, which are there already."""
        return self._peak + sum(_ledger.held.values()) + given

    @contextmanager
    def take(self, size: int, refuse: Callable[[int], str], floor: int = 0) -> Iterator[None]:
        """Reserve bytes for what the block does. Raises MemoryBudgetError with what `refuse` says of the bytes left."""
        before = _ledger.taken.get(threading.get_ident(), 0)
        self.add(size, refuse, floor)
        try:
            yield
        finally:
            _ledger.give_back(_ledger.taken[threading.get_ident()] - before)

    def add(self, size: int, refuse: Callable[[int], str], floor: int = 0) -> None:
        """Reserve more bytes inside of `take`."""
        me, trimmed = threading.get_ident(), False
        with _ledger.changed:
            while size > (left := self.left(floor)):
                if me not in _ledger.taken and _ledger.taken:
                    _ledger.changed.wait()
                elif not trimmed:
                    trim_heap()
                    trimmed = True
                else:
                    raise MemoryBudgetError(
                        f"max_rss_mb={self._limit / MB:g} cannot be kept: {refuse(left)}",
                        needed_mb=self._least_mb(size, left),
                        limit_mb=self._limit / MB,
                    )
            size += max(0, floor - _ledger.process())
            _ledger.taken[me] = _ledger.taken.get(me, 0) + size

    def least(self, size: int, left: int) -> str:
        """The least limit, in words, under which so many bytes could be taken where only so many are left."""
        return f"the least is {self._least_mb(size, left)} MB"

    def _least_mb(self, size: int, left: int) -> int:
        return math.ceil((self._limit + size - left) / MB)

    @contextmanager
    def for_hits(self, k: int, cost: Callable[[int], int]) -> Iterator[None]:
        """Reserve what a search for k documents takes: cost(k) bytes, which grow with k."""

        def refuse(left: int) -> str:
            works = _largest(k, lambda fewer: cost(fewer) <= left - left // SPARE)
            advice = f"k={works} works; " if works else ""
            return f"a search for k={k} takes up to {cost(k) / MB:.0f} MB; {advice}{self.least(cost(k), left)}"

        with self.take(cost(k), refuse):
            yield

    def rows(self, each: int) -> int:
        """How many rows of so many bytes may be held at a time: half of what is left, one at the least."""
        return max(1, self.left() // (2 * each))

    def bounds(self) -> Bounds:
        """What of files can be read and stored. Raises MemoryBudgetError where that is nothing."""
        left = self.left(self.storing(0))
        if left - WRITE_BYTES < ROW_COPIES * LEAST_ROW:
            trim_heap()
            left = self.left(self.storing(0))
        spare = left - WRITE_BYTES
        if spare < ROW_COPIES * LEAST_ROW:
            wanted = WRITE_BYTES + ROW_COPIES * LEAST_ROW
            raise MemoryBudgetError(
                f"max_rss_mb={self._limit / MB:g} cannot be kept: nothing can be stored; {self.least(wanted, left)}",
                needed_mb=self._least_mb(wanted, left),
                limit_mb=self._limit / MB,
            )
        return Bounds(spare // ROW_COPIES, spare // 4)

    def for_storing(self, given: int, more: int = 0) -> AbstractContextManager[None]:
        """Reserve what storing documents takes.

        given: bytes of their texts and metadata; more: besides
        """

        def refuse(left: int) -> str:
            least = self.least(WRITE_BYTES + more, left)
            return f"these documents have {given / MB:.1f} MB of text and metadata; give fewer at a time, or {least}"

        return self.take(WRITE_BYTES + more, refuse, self.storing(given))

    def longest_value(self, *, stored: bool = False) -> int:
        """Bytes of a text, or of metadata, that SQLite may read or that may be stored."""
        left = self.left(self.storing(0)) - WRITE_BYTES if stored else self.left()
        return max(LEAST_VALUE, left // COPIES)

    def for_postings(self, size: int) -> None:
        """Raise MemoryBudgetError where sparse vectors of so many bytes cannot be held."""
        before = max(_ledger.process(), self.storing(0))
        if before + POSTINGS * size > self._limit:
            least = math.ceil((before + POSTINGS * size) / MB)
            raise MemoryBudgetError(
                f"max_rss_mb={self._limit / MB:g} cannot be kept: with these sparse vectors the least is {least} MB",
                needed_mb=least,
                limit_mb=self._limit / MB,
            )

    def for_codes(self, count: int, dim: int) -> bool:
        """Whether binary codes of so many passages can be held. Raises MemoryBudgetError where not even their ids."""
        words = 8 * -(-dim // 64)
        # of each: its id, its code, and two numbers of 16 bits while they are compared
        held, streamed = ((8 + size) * count + SEARCH_BYTES for size in (words + 4, 0))
        before = max(_ledger.process(), self.storing(0))
        if before + held <= self._limit:
            return True
        if before + streamed <= self._limit:
            return False
        raise MemoryBudgetError(
            f"max_rss_mb={self._limit / MB:g} cannot be kept: with {count} passages the least is "
            f"{math.ceil((before + streamed) / MB)} MB (process {before / MB:.0f}, search {streamed / MB:.0f}); with "
            f"{math.ceil((before + held) / MB)} MB searches read no codes from the file",
            needed_mb=math.ceil((before + streamed) / MB),
            limit_mb=self._limit / MB,
        )


class Credit:
    """Bytes that a call has reserved inside of `Room.take`, and has not used."""

    def __init__(self, room: Room, size: int) -> None:
        self._room, self._left = room, size

    def use(self, size: int, said: str) -> None:
        """Use some, and reserve more where there are not enough. Raises MemoryBudgetError with what is said."""
        more = size - self._left
        if more > 0:
            self._room.add(more, lambda left: f"{said}; {self._room.least(more, left)}")
            self._left = size
        self._left -= size


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, where all smaller ones do; 0 where none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
