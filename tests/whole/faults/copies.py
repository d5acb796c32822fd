"""Copies and moves of the one file at random moments, beside a process that writes.

In every second case readers hold on to old states, so that the file lacks commits and says so. Copies are fast there:
one that goes on over several commits after that may be the file as it was before them, without saying so.
"""

import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from children import Child, HangError, Send, in_child
from powercut import write_files
from workload import NAME, Bench, Operation, Row, State, Store, Verdict, contents, judge, plan

from edge_embed import Index
from edge_embed.errors import EdgeEmbedError, IndexFileError
from edge_embed_runtime.maintenance.verify import verify_index
from edge_embed_runtime.storage.store import Store as File

OPERATIONS = 40  # of one worker
COPIES = 6  # of the file of one worker; the last is a move, or comes after a kill
PAGE = 4096


class Taken(NamedTuple):
    """A copy, the operations that were acknowledged when it began, and those when it ended."""

    how: str
    data: bytes
    before: int
    after: int


def worker(bench: Bench, folder: Path, operations: Sequence[Operation], case: int) -> Child:
    """A child that says after each operation that it is done. Now and then a reader of it holds on to an old state."""

    def work(send: Send) -> None:
        rng, store, held = bench.rng("reader", case), Store(folder, bench.embedder()), ExitStack()
        for operation in operations:
            try:
                if case % 2 and rng.random() < 0.3:
                    held.close()
                    if rng.random() < 0.6:
                        file = held.enter_context(closing(File(folder / NAME, read_only=True)))
                        held.enter_context(file.snapshot())
                        file.counts()
                if operation.name != "reopen":  # at a path that was left it makes a new index
                    store.apply(operation)
            except IndexFileError as error:
                send(str(error))
                return
            send("done")

    return Child(work)


def copy_slowly(path: Path) -> bytes:
    """Page by page, so that the writer changes what was read and what was not."""
    data = b""
    with path.open("rb") as file:
        while page := file.read(PAGE):
            data += page
            time.sleep(0.0002)
    return data


def take_copies(bench: Bench, row: Row, copies: int) -> None:
    """So many copies and moves, each judged alone."""
    hit, said = Counter[str](), Counter[str]()
    for case in bench.cases(copies):
        if row.runs >= copies:
            break
        rng, folder = bench.rng(row.fault, case), bench.fresh()
        operations, states = plan(rng, {}, OPERATIONS)
        try:
            for taken in watch(bench, folder, operations, case):
                row.runs += 1
                hit[taken.how] += 1
                allowed = states[taken.before : taken.after + 2]
                verdict = in_child(lambda: look(bench, taken.data, allowed))  # noqa: B023 - called at once
                if verdict.state is None and verdict.kind:
                    row.fail(verdict.kind, f"case {case}, {taken.how} after operation {taken.before}", verdict.what)
                elif verdict.state is None:
                    said[verdict.what.split(",")[0][:40]] += 1
        except HangError:
            row.fail("hangs", f"case {case}", "no answer")
        except RuntimeError as error:
            row.fail("crashes", f"case {case}", str(error))
    row.notes.append(", ".join(f"{count} {name}" for name, count in hit.most_common()))
    row.notes.append(f"{sum(said.values())} copies said that they are not whole")


def watch(bench: Bench, folder: Path, operations: Sequence[Operation], case: int) -> list[Taken]:
    """What copies of a worker's file hold; the last one is of a file that was moved, or whose writer was killed."""
    rng, path = bench.rng("copies", case), folder / NAME
    child = worker(bench, folder, operations, case)
    messages, taken, done = child.messages(), [], 0
    stops = sorted(rng.sample(range(2, OPERATIONS - 2), COPIES))
    for number, stop in enumerate(stops):
        while done < stop and next(messages, None) == "done":
            done += 1
        time.sleep(rng.uniform(0, 0.004))
        how = (
            rng.choice(["copy", "copy" if case % 2 else "slow copy"])
            if number < COPIES - 1
            else rng.choice(["move", "copy after kill"])
        )
        if how == "slow copy":
            data = copy_slowly(path)
        elif how == "copy":
            shutil.copyfile(path, folder / "copy")
            data = (folder / "copy").read_bytes()
        elif how == "move":
            path.rename(folder / "moved")
            data = b""
        else:
            child.kill()
            data = path.read_bytes()
        begun = done
        if how in ("move", "copy after kill"):
            rest = list(messages)
            done += rest.count("done")
            begun, data = done, data or (folder / "moved").read_bytes()
            if child.error:
                raise RuntimeError(child.error)
            noticed = "was moved|does not exist|not a file|cannot be opened"
            if how == "move" and not (rest and re.search(noticed, str(rest[-1]))):
                raise RuntimeError(f"the worker did not notice the move: {rest[-1:]}")
        taken.append(Taken(how, data, begun, OPERATIONS if how == "slow copy" else done + COPIES))
    return taken


def look(bench: Bench, data: bytes, allowed: Sequence[State]) -> Verdict:
    """Without a kind where the copy says that it is not whole, or cannot be opened."""
    folder = write_files(bench.folder / "copied", {NAME: data})
    try:
        report = verify_index(folder / NAME)
        if not report.whole:
            return Verdict(None, "", str([*report.problems, *report.damaged])[:200])
        with Index.open(folder / NAME, bench.embedder(), read_only=True) as index:
            return judge(contents(index, sorted({key for state in allowed for key in state})), allowed)
    except EdgeEmbedError as error:
        return Verdict(None, "", f"{type(error).__name__}: {error}")
