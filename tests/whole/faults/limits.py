"""A process without memory (RLIMIT_AS), and one that is told to end (SIGINT, SIGTERM)."""

import ctypes
import json
import os
import random
import resource
import signal
import time
from collections import Counter
from pathlib import Path

from children import Child, Clock, HangError, Send, in_child
from powercut import read_files, write_files
from workload import NAME, Bench, Operation, Row, State, Store, after, check, contents, make_document

from edge_embed import Document, Index
from edge_embed.errors import EdgeEmbedError
from edge_embed_runtime.maintenance.verify import verify_index

MIB = 2**20
M_MMAP_THRESHOLD = -3  # of malloc.h
NOT_BEGUN = 99  # exit status of a command that was interrupted before it ran
DOCUMENTS = 600  # of the command that is interrupted: more than two of its transactions
WORDS = ["the", "cat", "at", "the", "river"]


def memory_operations(rng: random.Random) -> tuple[list[Operation], list[State]]:
    """Operations that need some memory, and the states before the first and after each."""
    documents = [make_document(rng, f"d{i}") for i in range(50)]
    large = Document("d1000", "the cat at the river " * 1000, {"n": 1000, "padding": "x" * 8 * MIB})
    operations = [
        Operation("add", documents),
        Operation("add", [large]),
        Operation("upsert", [Document("d1000", "the cat", large.metadata), *documents[:10]]),
        Operation("delete", [document.key for document in documents[20:40]]),
        Operation("compact"),
        Operation("repair"),
    ]
    states: list[State] = [{}]
    for operation in operations:
        states.append(after(states[-1], operation))
    return operations, states


def starve(bench: Bench, row: Row, case: int, headroom: int, *, from_start: bool) -> str:
    """How a process ends that may have so many bytes more than it has, from its start or once the index is open."""
    rng, folder = bench.rng(row.fault, case), bench.fresh()
    operations, states = memory_operations(rng)

    def limit() -> None:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # glibc: what is free already would go beyond the limit
            libc.mallopt(M_MMAP_THRESHOLD, MIB // 8)
            libc.malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        soft = pages * resource.getpagesize() + headroom
        resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))

    def work(send: Send) -> None:
        if from_start:
            limit()
        try:
            store = Store(folder, bench.embedder())
            if not from_start:
                limit()
            for operation in operations:
                store.apply(operation)
                send("done")
            end = "whole"
        except (EdgeEmbedError, MemoryError) as error:
            end = type(error).__name__
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        send(end)

    child = Child(work)
    messages = list(child.messages())
    done = messages.count("done")
    verdict = in_child(lambda: check(folder, states[done : done + 2], bench.embedder()))
    if verdict.state is None:
        row.fail(verdict.kind, f"case {case}", verdict.what)
    if child.error:
        row.fail("wrong", f"case {case}", child.error.strip().splitlines()[-1])
    return messages[-1] if messages and messages[-1] != "done" else str(child.crashed)


def starve_all(bench: Bench, row: Row, steps: int) -> None:
    """Several steps of memory. A process that aborts for want of it is no failure here, lost documents are."""
    if not Path("/proc/self/statm").exists():
        row.skipped = "needs Linux"
        return
    ends: Counter[str] = Counter()
    for case in bench.cases(2 * steps):
        try:
            ends[starve(bench, row, case, case // 2 * 96 * MIB // steps, from_start=bool(case % 2))] += 1
        except HangError:
            row.fail("hangs", f"case {case}", "no answer")
        row.runs += 1
    row.notes.append(", ".join(f"{count} {end}" for end, count in ends.most_common()))


class Command:
    """`edge-embed ...` in a fork; `ended` gives its exit status, what it said, and the seconds it took to obey."""

    def __init__(self, arguments: list[str], errors: Path) -> None:
        def work(send: Send) -> None:
            from edge_embed.cli.main import main

            descriptor = os.open(errors, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
            try:
                send("begin")
                main(arguments, prog_name="edge-embed")
            except SystemExit as end:
                os._exit(int(end.code or 0))
            except KeyboardInterrupt:  # before the command began: the program catches its own
                os._exit(NOT_BEGUN)

        self._errors, self._child = errors, Child(work)
        self._messages = self._child.messages()
        next(self._messages)

    def signal(self, number: int) -> None:
        os.kill(self._child.pid, number)

    def ended(self) -> tuple[int, str, float]:
        clock = Clock()
        list(self._messages)
        assert self._child.status is not None
        return self._child.status, self._errors.read_text() + (self._child.error or ""), clock()


def write_documents(path: Path, version: int) -> State:
    """A file of documents for `edge-embed add`, and what is stored then."""
    texts = {f"d{i}": " ".join(WORDS * 3) + f" d{i} v{version}" for i in range(DOCUMENTS)}
    path.write_text("".join(json.dumps({"key": key, "text": text}) + "\n" for key, text in texts.items()))
    keys = {f"{path.name}#{key}": text for key, text in texts.items()}
    return {key: Document(key, text, {"source": path.name}) for key, text in keys.items()}


def interrupt(bench: Bench, row: Row, runs: int, number: int) -> None:
    """A signal at a random moment of add (of new and of changed documents) and compact."""
    scale: dict[str, float] = {}
    slowest, signalled = 0.0, 0
    for case in bench.cases(runs):
        rng, folder = bench.rng(row.fault, case), bench.fresh()
        what = ("add", "change", "compact")[case % 3]
        arguments, allowed = prepare(bench, folder, what)
        try:
            if what not in scale:
                start, whole = read_files(folder), Clock()
                assert Command(arguments, folder / "said").ended()[0] == 0
                scale[what] = whole()
                write_files(folder, start)
            running = Command(arguments, folder / "said")
            time.sleep(rng.uniform(0, scale[what]))
            running.signal(number)
            status, said, seconds = running.ended()
            row.runs += 1
            slowest = max(slowest, seconds)
            signalled += status != 0
            problem = obeyed(number, status, said) or in_child(lambda: whole_after(bench, folder, allowed))  # noqa: B023
            if problem:
                row.fail("wrong", f"case {case} ({what})", problem)
        except HangError:
            row.fail("hangs", f"case {case} ({what})", "no answer")
    row.notes.append(f"{signalled} ended by the signal, at most {slowest:.2f} s after it")


def prepare(bench: Bench, folder: Path, what: str) -> tuple[list[str], list[State]]:
    """What to type for "add", "change" or "compact", and the states that may be there after an interruption."""
    path, rows = str(folder / NAME), folder / "rows.jsonl"
    add = ["add", path, str(rows), "--bundle", str(bench.bundle), "--threads", "1"]
    number = ("add", "change", "compact").index(what)
    states = [State(), write_documents(rows, 1)]
    if number > 0:
        assert Command(add, folder / "said").ended()[0] == 0
        states.append(write_documents(rows, 2))
    if number > 1:
        assert Command(add, folder / "said").ended()[0] == 0
    return [add, add, ["compact", path]][number], states[number : number + 2]


def obeyed(number: int, status: int, said: str) -> str | None:
    """What is wrong with how a command ended."""
    if status in (0, NOT_BEGUN):
        return None
    expected = 130 if number == signal.SIGINT else -number
    lines = [line for line in said.splitlines() if line.strip()]
    if status != expected:
        return f"exit status {status}, not {expected}: {said[-300:]}"
    if number == signal.SIGINT and (len(lines) != 1 or "interrupted" not in lines[0]):
        return f"says {said[-300:]!r}"
    return None


def whole_after(bench: Bench, folder: Path, allowed: list[State]) -> str | None:
    """What is wrong with an index after an interrupted command: each document has to be as it was or as it will be."""
    path = folder / NAME
    if not path.exists():
        return None if not allowed[0] else "the index is gone"
    report = verify_index(path)
    if not report.whole:
        return f"{report.damaged} {report.problems}"
    with Index.open(path, bench.embedder()) as index:
        found = contents(index, sorted(allowed[-1]))
        strange = [key for key in allowed[-1] if all(found.get(key) != state.get(key) for state in allowed)]
        if strange:
            return f"documents of neither state: {strange[:5]}"
        if len(allowed) > 1:
            index.upsert(allowed[-1].values())
        return None if contents(index, sorted(allowed[-1])) == allowed[-1] else "the next run does not do the rest"
