"""The connections of one Index: whose turn it is to use them, in which process, and until when."""

import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from sys import getsizeof
from typing import TYPE_CHECKING

import numpy as np

from edge_embed_runtime.errors import (
    IndexClosedError,
    IndexFileError,
    IndexLockedError,
    IndexReadOnlyError,
    StorageError,
)
from edge_embed_runtime.search.searcher import Searcher
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.rows import Entry
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import Room
from edge_embed_runtime.system.turns import Turns

if TYPE_CHECKING:  # readers do without
    from edge_embed_runtime.index.writer import Writer
    from edge_embed_runtime.storage.writing import Chosen


class Connections:
    """One for reading, one for writing where this object may, and what searches keep in memory.

    room: what there is of memory, None without a budget
    """

    def __init__(self, reader: Store, writer: "Writer | None", room: Room | None) -> None:
        self._writer = writer  # before the reader, so that it is freed before it: see IndexFile.abandon
        self.reader = reader
        self.room = room
        self.search = Searcher(reader, room)
        # the order in which threads may take them: writing, then reading
        self.write_turn, self.read_turn = Turns(), Turns()
        self._process = os.getpid()
        self._closed = False
        for store in self._stores():
            store.open_file.give_up = weakref.WeakMethod(self._abandon)

    @property
    def writer(self) -> Store | None:
        """The connection for writing; None where none is open."""
        return None if self._writer is None else self._writer.store

    def _stores(self) -> list[Store]:
        return [store for store in (self.writer, self.reader) if store is not None]

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """The connection for reading, for this thread alone."""
        self.check_process()
        call = sys._getframe(2)  # the caller of contextlib
        self.read_turn.take(call)
        try:
            self._check_open()
            if self.reader.interrupted:
                self.search.reset()
                self.reader.recover()
            elif self.reader.refresh():
                self.search.reset()
            if self.room is not None:
                self.reader.limit_values(self.room.longest_value())
            yield self.reader
            if self.reader.changed:
                raise IndexLockedError(
                    f"{self.reader.path} was written while it was read; try again",
                    path=self.reader.path,
                    code="index_busy",
                )
        finally:
            self.read_turn.give(call)
        self._settle()

    @contextmanager
    def writing(self) -> Iterator[Store]:
        """The connection for writing, for this thread alone; others may go on searching."""
        self.check_process()
        call = sys._getframe(2)
        first = self.write_turn.take(call)
        try:
            self._check_open()
            if self._writer is None:
                raise IndexReadOnlyError(f"{self.reader.path} is open with read_only=True", path=self.reader.path)
            yield self._begin(self._writer, first=first)
        finally:
            try:
                if first and self._writer is not None:
                    self._writer.end()
            finally:
                self.write_turn.give(call)

    def _begin(self, writer: "Writer", *, first: bool) -> Store:
        """first: whether this is no part of an operation that began before"""
        if first:
            self.reader.open_file.check()  # before a lock is taken next to another file
            writer.begin()
            self.reader.open_file.check()
        store = writer.store
        assert store is not None  # noqa: S101 - an operation has begun
        store.open_file.give_up = weakref.WeakMethod(self._abandon)
        store.recover()
        store.open_file.check()
        if self.room is not None:
            store.limit_values(self.room.longest_value(stored=True))
        return store

    def commit(self, records: Sequence[Record], entries: Iterable[Entry], delete: "Chosen" = (), more: int = 0) -> int:
        """Delete documents and store records, whose entries are given, in one transaction. Returns how many were
        deleted.

        more: bytes of memory that this takes on top of what storing takes in any case
        """
        delete = delete if isinstance(delete, np.ndarray) else list(delete)
        if not records and not len(delete):
            return 0
        from edge_embed_runtime.storage.writing import write

        with self.writing() as store:
            with self.storing(records, more):
                removed = write(store, entries, delete)
            with self.read_turn:
                self.search.forget(removed)  # or searches would read all codes again
            if records:
                from edge_embed_runtime.maintenance import learn_rotation

                learn_rotation.when_grown(store)
        return removed.documents

    def delete(self, chosen: "Chosen") -> int:
        """Delete documents. On a full disk this is what makes room: the lock keeps a reserve for it."""
        try:
            return self.commit([], [], chosen)
        except StorageError:
            if self._writer is None or not self._writer.give_reserve():
                raise
            return self.commit([], [], chosen)

    def storing(self, records: Sequence[Record], more: int) -> AbstractContextManager[None]:
        """Memory for storing documents, where there is a budget. more: see `commit`"""
        if self.room is None:
            return nullcontext()
        given = sum(getsizeof(record.text) + getsizeof(record.metadata) for record in records)
        return self.room.for_storing(given, more)

    def close(self) -> None:
        """May be called again, also where an interrupt ended it."""
        if os.getpid() != self._process:
            return  # a forked child's copy: file and lock belong to the parent
        with self.write_turn, self.read_turn:
            self._closed = True
            self.search.release()
            self.reader.close()
            if self._writer is not None:
                self._writer.close()

    def check_process(self) -> None:
        if os.getpid() != self._process:
            raise IndexFileError(
                "this Index was opened before a fork: open it again in the child process",
                code="forked",
                path=self.reader.path,
            )

    def _check_open(self) -> None:
        if self._closed:
            raise IndexClosedError(f"{self.reader.path} was closed", path=self.reader.path)

    def _abandon(self) -> bool:
        """In a forked child that opens the file itself: close what it inherited. Returns whether that could be done."""
        call = sys._getframe()
        idle = self.write_turn.take_now(call) and self.read_turn.take_now(call)
        if not idle or any(store.connection.in_transaction for store in self._stores()):
            return False  # a thread that is not there any more was in the middle of something
        if self._writer is not None:
            self._writer.abandon()
        self.reader.abandon()
        return True

    def _settle(self) -> None:
        """After a search, which may have been what kept commits from being copied into the main file."""
        call = sys._getframe()
        if self.writer is not None and self.writer.pending and self.write_turn.take_now(call):
            try:
                if not self._closed and self.writer is not None:
                    self.writer.settle()
            finally:
                self.write_turn.give(call)
