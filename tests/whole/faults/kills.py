"""kill -9 at random moments, and in the middle of random system calls."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from children import CHANGES, Child, Clock, HangError, Send, in_child
from mutate import damaged_index
from powercut import read_files, write_files
from workload import KEYS, NAME, Bench, Operation, Row, State, Store, Verdict, check, make_document, plan

from edge_embed import Embedder

OPERATIONS = 30  # of one worker, unless it is killed before
SERIES = 10  # kills of workers that go on with the same index
MARGIN = 1.1  # of the time that a whole workload takes


def worker(bench: Bench, store: type[Store], folder: Path, operations: list[Operation], n: int | None) -> Child:
    """A child that says when it begins, and after each operation that it is done; dies in the n-th call."""

    def work(send: Send) -> None:
        embedder = bench.embedder()
        if bench.shim.loaded:
            bench.shim.watch(folder)
            bench.shim.arm(CHANGES, n or -1)
        send("begin")
        clock = Clock()
        opened = store(folder, embedder)
        for operation in operations:
            opened.apply(operation)
            send("done")
        opened.close()
        send((clock(), bench.shim.disarm() if bench.shim.loaded else 0))

    return Child(work)


def kill_one(
    bench: Bench, store: type[Store], folder: Path, operations: list[Operation], delay: float, n: int | None
) -> tuple[int, bool]:
    """(operations acknowledged, whether it was killed) of one worker, killed after a delay or in its n-th call."""
    child = worker(bench, store, folder, operations, n)
    messages = child.messages()
    next(messages, None)
    if n is None:
        time.sleep(delay)
        child.kill()
    rest = list(messages)
    if child.error:
        raise RuntimeError(child.error)
    return rest.count("done"), not (rest and isinstance(rest[-1], tuple))


def whole_run(bench: Bench, store: type[Store]) -> tuple[float, int]:
    """(seconds, calls) of a workload that nobody kills."""
    operations, _ = plan(bench.rng("whole"), {}, OPERATIONS)
    *_, last = worker(bench, store, bench.fresh(), operations, None).messages()
    assert isinstance(last, tuple), "the workload fails without any fault"
    return last


def kill_store(bench: Bench, row: Row, kills: int, store: type[Store] = Store) -> None:
    """So many kills of workers that use a store, in series."""
    scale, hit = whole_run(bench, store), Counter[str]()
    for case in bench.cases(10 * kills):
        if row.runs >= kills:
            break
        kill_series(bench, row, case, store, scale, hit)
    row.notes.append("killed in " + ", ".join(f"{name} {count}" for name, count in hit.most_common()))


def kill_series(
    bench: Bench, row: Row, case: int, store: type[Store], scale: tuple[float, int], hit: Counter[str]
) -> None:
    """Workers are killed one after the other, each on what the one before it left. hit: counts what they did."""
    rng, folder, state = bench.rng(row.fault, case), bench.fresh(), State()
    for number in range(SERIES):
        operations, states = plan(rng, state, OPERATIONS)
        n = rng.randint(1, scale[1]) if bench.shim.loaded and rng.random() < 0.5 else None
        where = f"case {case}, kill {number} ({'by time' if n is None else f'in call {n}'})"
        try:
            done, killed = kill_one(bench, store, folder, operations, rng.uniform(0, MARGIN * scale[0]), n)
            if killed:
                row.runs += 1
                hit[operations[done].name if done < OPERATIONS else "close"] += 1
            allowed = states[done : done + 2]
            verdict = in_child(lambda: store.check(folder, allowed, bench.embedder()))  # noqa: B023 - called at once
        except HangError:
            return row.fail("hangs", where, "no answer")
        except RuntimeError as error:
            return row.fail("crashes", where, str(error))
        if verdict.state is None:
            return row.fail(verdict.kind, where, verdict.what)
        state = verdict.state
    return None


class Damaged(Store):
    """A damaged index, whole after one more `repair`."""

    @staticmethod
    def check(folder: Path, allowed: Sequence[State], embedder: Embedder, *, deep: bool = True) -> Verdict:
        return check(folder, allowed, embedder, deep=deep, repair=True)


class Graphed(Store):
    """`rebuild` builds a graph too."""

    def apply(self, operation: Operation) -> None:
        if operation.name == "rebuild":
            self.index.rebuild("always")
        else:
            super().apply(operation)


def kill_repair(bench: Bench, row: Row, kills: int) -> None:
    """Kills while a damaged index is repaired: nothing is lost, and the next repair does the rest."""
    state, damaged = in_child(lambda: damaged_index(bench.fresh(), bench.embedder(), bench.rng("damaged")), 600)
    kill_operation(bench, row, kills, Damaged, Operation("repair"), [{NAME: data} for data in damaged], state)


def kill_rebuild(bench: Bench, row: Row, kills: int) -> None:
    """Kills while codes, words and graph are made anew."""

    def make() -> tuple[State, dict[str, bytes]]:
        folder, rng = bench.fresh(), bench.rng("graphed")
        store, state = Graphed(folder, bench.embedder()), {f"d{i}": make_document(rng, f"d{i}") for i in range(KEYS)}
        store.apply(Operation("add", list(state.values())))
        store.apply(Operation("rebuild"))
        store.close()
        return state, read_files(folder)

    state, files = in_child(make)
    kill_operation(bench, row, kills, Graphed, Operation("rebuild"), [files], state)


def kill_operation(
    bench: Bench,
    row: Row,
    kills: int,
    store: type[Store],
    operation: Operation,
    starts: list[dict[str, bytes]],
    state: State,
) -> None:
    """Kills in one operation that changes no document, each on one of the starts."""
    *_, scale = worker(bench, store, write_files(bench.fresh(), starts[0]), [operation], None).messages()
    for case in bench.cases(kills):
        rng = bench.rng(row.fault, case)
        folder = write_files(bench.fresh(), rng.choice(starts))
        n = rng.randint(1, scale[1]) if bench.shim.loaded and rng.random() < 0.5 else None
        try:
            _, killed = kill_one(bench, store, folder, [operation], rng.uniform(0, scale[0]), n)
            row.runs += killed
            verdict = in_child(lambda: store.check(folder, [state], bench.embedder()))  # noqa: B023 - called at once
            if verdict.state is None:
                row.fail(verdict.kind, f"case {case}", verdict.what)
        except HangError:
            row.fail("hangs", f"case {case}", "no answer")
        except RuntimeError as error:
            row.fail("crashes", f"case {case}", str(error))
