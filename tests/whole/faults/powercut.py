"""Power cuts: traced calls are replayed up to a random one, on a disk that keeps what was synced and some of the rest.

Of what was not synced when the power went, each write survives or not sector by sector, a file has one of the sizes it
had since, and each entry of the folder one of the states it had since.
"""

import os
import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from children import Child, HangError, Send, in_child
from workload import Bench, Operation, Row, State, Store, plan

SECTOR = 512
RECORD = struct.Struct("=ciqII")
OPERATIONS = 20  # of one traced workload
CUTS = 100  # of one trace
SERIES = 5  # traces, each of which begins on what a power cut in the one before left
DEEP = 10  # of so many cuts one is checked row by row
KEPT = (0, 0.1, 0.5, 0.9, 1)  # share of what was not synced that a cut leaves


class Call(NamedTuple):
    """A traced call: open, write, truncate, sync, failed sync, rename, unlink, or a mark (by their first letters)."""

    what: str
    fd: int
    offset: int  # size for truncate, flags for open, the number of a mark
    data: bytes
    second: bytes


def read_trace(path: Path) -> Iterator[Call]:
    """See shim.c."""
    data, position = path.read_bytes(), 0
    while position < len(data):
        what, fd, offset, first, second = RECORD.unpack_from(data, position)
        position += RECORD.size
        middle, end = position + first, position + first + second
        yield Call(what.decode(), fd, offset, data[position:middle], data[middle:end])
        position = end


def apply(data: bytearray, call: Call) -> None:
    """A write or a truncate."""
    end = call.offset + (len(call.data) if call.what == "w" else 0)
    if len(data) < end:
        data += bytes(end - len(data))
    if call.what == "w":
        data[call.offset : end] = call.data
    else:
        del data[end:]


@dataclass
class File:
    """What is on the disk for sure, and the writes and truncates that may be there."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        for call in self.pending:
            apply(self.durable, call)
        self.pending.clear()

    def now(self) -> bytes:
        data = bytearray(self.durable)
        for call in self.pending:
            apply(data, call)
        return bytes(data)

    def after_cut(self, rng: random.Random, kept: float) -> bytes:
        """Each sector of a pending write is there with the probability `kept`; the size is one it had since."""
        data = bytearray(self.durable)
        sizes = rng.randint(0, len(self.pending)) if 0 < kept < 1 else int(kept) * len(self.pending)
        for number, call in enumerate(self.pending):
            resizes = number < sizes
            if call.what == "t":
                if resizes:
                    apply(data, call)
                continue
            end = call.offset + len(call.data)
            if resizes and len(data) < end:
                data += bytes(end - len(data))
            start = call.offset
            while start < min(end, len(data)):
                stop = min(start - start % SECTOR + SECTOR, end, len(data))
                if rng.random() < kept:
                    data[start:stop] = call.data[start - call.offset : stop - call.offset]
                start = stop
        return bytes(data)


class Disk:
    """One folder's files as a process sees them and as they would be after a power cut.

    journal: syncing a file makes names in the folder durable too, as ext4, XFS and btrfs do and POSIX does not promise
    """

    def __init__(self, folder: Path, files: dict[str, bytes], *, journal: bool = False) -> None:
        self._folder, self._journal = os.fsencode(folder), journal
        self._now = {self._path(name): File(bytearray(data)) for name, data in files.items()}
        self._durable = dict(self._now)
        self._entries: list[dict[bytes, File | None]] = []  # changes of the folder that are not synced
        self._open: dict[int, File | None] = {}  # None: the folder itself
        self._rng = random.Random(len(files))  # noqa: S311 - not for secrets

    def _path(self, name: str) -> bytes:
        return self._folder + b"/" + os.fsencode(name)

    def _enter(self, change: dict[bytes, File | None]) -> None:
        self._entries.append(change)
        _change(self._now, change)

    def replay(self, call: Call) -> None:
        match call.what:
            case "o":
                self._replay_open(call)
            case "w" | "t":
                file = self._open[call.fd]
                assert file is not None
                file.pending.append(call)
            case "s":
                file = self._open[call.fd]
                if file is not None:
                    file.sync()
                    if not self._journal:
                        return
                for change in self._entries:
                    _change(self._durable, change)
                self._entries.clear()
            case "f":  # Linux forgets what it could not write: no later sync brings it to the disk
                if (file := self._open[call.fd]) is not None:
                    file.durable = bytearray(file.after_cut(self._rng, 0.5))
                    file.pending.clear()
            case "r":
                self._enter({call.second: self._now[call.data], call.data: None})
            case "u":
                self._enter({call.data: None})

    def _replay_open(self, call: Call) -> None:
        path = call.data
        if path == self._folder:
            self._open[call.fd] = None
            return
        if path not in self._now:
            self._enter({path: File()})
        file = self._open[call.fd] = self._now[path]
        if call.offset & os.O_TRUNC:
            file.pending.append(Call("t", call.fd, 0, b"", b""))

    def now(self) -> dict[str, bytes]:
        return {name: file.now() for name, file in self._named(self._now)}

    def after_cut(self, rng: random.Random) -> dict[str, bytes]:
        """The files that a power cut leaves."""
        entries, blocked = dict(self._durable), set[bytes]()
        in_order, kept = rng.random() < 0.5, rng.choice(KEPT)
        for change in self._entries:
            if (blocked and in_order) or not blocked.isdisjoint(change) or rng.random() >= kept:
                blocked |= change.keys()
            else:
                _change(entries, change)
        kept = rng.choice(KEPT)
        return {name: file.after_cut(rng, kept) for name, file in self._named(entries)}

    def _named(self, entries: dict[bytes, File]) -> Iterator[tuple[str, File]]:
        """Without SQLite's shared memory, which is never on the disk, and without temporary files in folders below."""
        for path, file in entries.items():
            folder, _, name = path.rpartition(b"/")
            if folder == self._folder and not name.endswith(b"-shm"):
                yield os.fsdecode(name), file


def _change(entries: dict[bytes, File], change: dict[bytes, File | None]) -> None:
    for path, file in change.items():
        if file is None:
            entries.pop(path, None)
        else:
            entries[path] = file


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """A new folder with these files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def read_files(folder: Path, *, shared: bool = False) -> dict[str, bytes]:
    """The files of a folder by name; with SQLite's shared memory, or without."""
    found = (path for path in folder.iterdir() if path.is_file() and (shared or not path.name.endswith("-shm")))
    return {path.name: path.read_bytes() for path in found}


def traced(bench: Bench, store: type[Store], folder: Path, operations: list[Operation]) -> list[Call]:
    """The calls of a workload in a folder, with a mark after each operation."""
    trace = bench.folder / "trace"

    def work() -> None:
        embedder = bench.embedder()
        descriptor = os.open(trace, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND)
        bench.shim.watch(folder, descriptor)
        opened = store(folder, embedder)
        for number, operation in enumerate(operations, 1):
            opened.apply(operation)
            bench.shim.mark(number)
        opened.close()

    in_child(work)
    return list(read_trace(trace))


def cut_trace(
    bench: Bench,
    store: type[Store],
    case: int,
    start: dict[str, bytes],
    calls: list[Call],
    states: list[State],
    cuts: int,
    *,
    journal: bool = False,
) -> Child:
    """A child that cuts a trace at random points and sends each verdict; at last what one of the cuts left."""

    def work(send: Send) -> None:
        embedder, disk = bench.embedder(), Disk(bench.folder / "run", start, journal=journal)
        position = done = 0
        rngs = [bench.rng("cut", case, number) for number in range(cuts)]
        left = None
        for point, number in sorted((rng.randint(0, len(calls)), number) for number, rng in enumerate(rngs)):
            for call in calls[position:point]:
                disk.replay(call)
                done = call.offset if call.what == "m" else done
            position = point
            files = disk.after_cut(rngs[number])
            folder = write_files(bench.folder / "cut", files)
            verdict = store.check(folder, states[done : done + 2], embedder, deep=number % DEEP == 0)
            send((f"cut {number} after call {point} of {len(calls)}, operation {done}", verdict.kind, verdict.what))
            if number == 0 and verdict.state is not None:
                left = files, verdict.state
        send(left)

    return Child(work)


def cut_store(bench: Bench, row: Row, cuts: int, store: type[Store] = Store, *, syncs: bool = True) -> None:
    """Power cuts of traced workloads that use a store. syncs: whether the disk heeds fsync."""
    left: tuple[dict[str, bytes], State] | None = None
    for case in bench.cases(-(-cuts // CUTS), SERIES):
        files, state = (left if case % SERIES else None) or ({}, {})
        folder = write_files(bench.folder / "run", files)
        operations, states = plan(bench.rng(row.fault, case), state, OPERATIONS)
        calls = traced(bench, store, folder, operations)
        disk = Disk(folder, files)
        for call in calls:
            disk.replay(call)
        if disk.now() != read_files(folder):
            row.fail("wrong", f"case {case}", "the replayed trace differs from the files: the shim misses a call")
        kept = [call for call in calls if syncs or call.what != "s"]
        left = count_cuts(row, f"case {case}", cut_trace(bench, store, case, files, kept, states, min(cuts, CUTS)))


def count_cuts(row: Row, case: str, child: Child) -> Any:
    """Enter the verdicts of `cut_trace` in a row; gives what it sent last."""
    left = None
    try:
        for message in child.messages():
            if message is None or len(message) == 2:
                left = message
                continue
            row.runs += 1
            where, kind, what = message
            if kind:
                row.fail(kind, f"{case}, {where}", what)
    except HangError:
        row.fail("hangs", case, "no answer")
    if child.crashed:
        row.fail("crashes", case, child.crashed)
    return left
