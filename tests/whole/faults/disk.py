"""A full disk (ENOSPC) and a failing one (EIO): at the n-th call, once or from then on; a small tmpfs."""

import errno
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from children import CHANGES, READ, HangError, in_child
from powercut import count_cuts, cut_trace, read_trace
from workload import Bench, Operation, Row, State, Store, check, contents, plan

from edge_embed.errors import EdgeEmbedError

OPERATIONS = 14
CUTS = 4  # power cuts of a workload in which a call failed
MOST_CALLS = 10_000  # more than any workload has
PAGE = 4096
NAMES = {"add", "upsert", "delete", "compact", "repair", "rebuild", "reopen"}


class Fault(NamedTuple):
    kinds: int
    error: int
    keep_on: bool

    def __str__(self) -> str:
        what = "read" if self.kinds == READ else "change"
        return f"{errno.errorcode[self.error]} at each {what}, {'from then on' if self.keep_on else 'once'}"


FAULTS = [Fault(CHANGES, error, keep_on) for error in (errno.ENOSPC, errno.EIO) for keep_on in (False, True)]
FAULTS.append(Fault(READ, errno.EIO, keep_on=False))


class Outcome(NamedTuple):
    """calls: seen before the fault was taken away, or in all; errors: what the user saw; wrong: promises broken"""

    calls: int
    errors: list[str]
    wrong: list[str]


class Session:
    """Somebody who goes through a list of operations and tries again when the disk is well, with the same object."""

    def __init__(self, bench: Bench, folder: Path, heal: Callable[[], Any]) -> None:
        self._folder, self._heal, self._embedder = folder, heal, bench.embedder()
        self._store: Store | None = None
        self.errors: list[str] = []
        self.wrong: list[str] = []

    def go(self, operation: Operation, before: State, *, again: bool) -> None:
        """again: try once more while the disk is still ill."""
        for attempt in range(4):
            doing = "open"
            try:
                self._store = self._store or Store(self._folder, self._embedder)
                doing = operation.name
                self._store.apply(operation)
            except EdgeEmbedError as error:
                self.errors.append(f"{type(error).__name__} in {doing}: {error}")
                if attempt == 0 and again:
                    continue
                self._heal()
                self._look(operation, before, attempt)
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                self.wrong.append(f"{doing}: {type(error).__name__}: {error}")
                self._heal()
                self._store = None
            else:
                return
        self.wrong.append(f"{operation.name} does not work again: {self.errors[-1:]}")

    def _look(self, operation: Operation, before: State, attempt: int) -> None:
        """After an error the same object shows what was there before; where it cannot, it is opened again."""
        if operation.name == "reopen" or self._store is None:
            self._store = None
            return
        try:
            found = contents(self._store.index, sorted(before))
            if found != before or len(self._store.index) != len(before):
                self.wrong.append(f"{operation.name} failed ({self.errors[-1]}), and changed what is stored")
        except EdgeEmbedError as error:
            self.errors.append(f"{type(error).__name__} after {operation.name}: {error}")
            attempt = 2
        if attempt >= 2:
            self.wrong.append(f"{operation.name} works with a new object only: {self.errors[-1]}")
            self._store.close()
            self._store = None

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def check(self, state: State) -> None:
        verdict = check(self._folder, [state], self._embedder)
        if verdict.state is None:
            self.wrong.append(f"{verdict.kind}: {verdict.what}")


def workload(bench: Bench) -> tuple[list[Operation], list[State]]:
    """The first planned one that has every kind of operation."""
    for number in range(10_000):
        operations, states = plan(bench.rng("disk", number), {}, OPERATIONS)
        if {operation.name for operation in operations} == NAMES:
            return operations, states
    raise AssertionError("no workload has every kind of operation")


def run_with_fault(bench: Bench, fault: Fault, n: int) -> Outcome:
    """A workload whose n-th call fails. In a child: it changes where temporary files go, to see them fail too."""
    folder, shim = bench.fresh(), bench.shim
    (folder / "tmp").mkdir()  # SQLite's as well: the harness was started with SQLITE_TMPDIR
    tempfile.tempdir = str(folder / "tmp")
    calls: list[int] = []
    session = Session(bench, folder, lambda: calls.append(shim.disarm()))
    descriptor = os.open(bench.folder / "trace", os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND)
    shim.watch(folder, descriptor)
    shim.arm(fault.kinds, n, fault.error, keep_on=fault.keep_on)
    operations, states = workload(bench)
    for number, operation in enumerate(operations):
        session.go(operation, states[number], again=fault.keep_on)
        shim.mark(number + 1)
    calls.append(shim.disarm())
    session.close()
    shim.watch(folder)
    session.check(states[-1])
    return Outcome(calls[0], session.errors, session.wrong)


def fail_calls(bench: Bench, row: Row, stride: int, fault: Fault) -> None:
    """The n-th call fails, for every stride-th n until the workload has no more calls."""
    kinds, hidden = Counter[str](), 0
    first = bench.rng(row.fault).randint(1, stride)
    for n in range(first, MOST_CALLS, stride) if bench.only is None else [bench.only]:
        outcome = _tried(row, f"case {n}", lambda: run_with_fault(bench, fault, n))  # noqa: B023 - called at once
        if outcome is None:
            continue
        if outcome.calls < n:
            break
        kinds.update({error.split()[0] for error in outcome.errors})
        hidden += not outcome.errors
    row.notes.append(", ".join(f"{count} {name}" for name, count in kinds.most_common()) + f"; {hidden} had no error")


def _tried(row: Row, case: str, work: Callable[[], Outcome]) -> Outcome | None:
    """The outcome of a child, entered in a row."""
    try:
        outcome: Outcome = in_child(work)
    except HangError:
        row.fail("hangs", case, "no answer")
        return None
    except RuntimeError as error:
        row.fail("crashes", case, str(error))
        return None
    row.runs += 1
    for wrong in outcome.wrong:
        row.fail("lost" if wrong.startswith("lost") else "wrong", case, wrong)
    return outcome


def cut_after_fault(bench: Bench, row: Row, cuts: int) -> None:
    """Power cuts of workloads in which a call failed. What could not be synced once is never on the disk.

    On a disk with a journal: SQLite goes on when the folder cannot be synced after its log was made in it, and without
    a journal the log's name could be missing then.
    """
    _, states = workload(bench)
    for case in bench.cases(-(-cuts // CUTS)):
        rng = bench.rng(row.fault, case)
        fault, n = rng.choice(FAULTS[:-1]), rng.randint(1, 400)
        in_child(lambda: run_with_fault(bench, fault, n))  # noqa: B023 - called at once
        calls = list(read_trace(bench.folder / "trace"))
        count_cuts(row, f"case {case}", cut_trace(bench, Store, case, {}, calls, states, CUTS, journal=True))


class SmallDisk:
    """A tmpfs of some bytes; `mount` again gives it another size. Raises PermissionError where one may not mount."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._mount("-t", "tmpfs", "-o", f"size={size}")

    def _mount(self, *options: str) -> None:
        program = shutil.which("mount")
        command = [program or "", *options, "tmpfs", str(self.folder)]
        if program is None or subprocess.run(command, capture_output=True, check=False).returncode:
            raise PermissionError("needs the right to mount a tmpfs")

    def grow(self) -> None:
        self._mount("-o", "remount,size=100m")

    def close(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)  # noqa: S607 - the system's


def fill_disk(bench: Bench, row: Row, runs: int) -> None:
    """Workloads on tmpfs of several sizes, until nothing fits any more; then there is room again."""
    full = 0
    for case in bench.cases(runs):
        rng = bench.rng(row.fault, case)
        operations, states = plan(rng, {}, 5 * OPERATIONS)
        try:
            disk = SmallDisk(bench.folder / "disk", PAGE * rng.randint(20, 120))
        except PermissionError as error:
            row.skipped = str(error)
            return

        def work() -> Outcome:
            session = Session(bench, disk.folder, disk.grow)  # noqa: B023 - called at once
            for number, operation in enumerate(operations):  # noqa: B023
                session.go(operation, states[number], again=True)  # noqa: B023
            session.close()
            session.check(states[-1])  # noqa: B023
            return Outcome(0, session.errors, session.wrong)

        try:
            outcome = _tried(row, f"case {case}", work)
        finally:
            disk.close()
        full += bool(outcome and outcome.errors)
    row.notes.append(f"{full} disks got full")
