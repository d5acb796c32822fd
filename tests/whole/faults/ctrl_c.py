"""Ctrl-C: a KeyboardInterrupt at every line of our packages, and signals at random times, in a process that goes on."""

import gc
import random
import signal
from collections.abc import Callable
from pathlib import Path

from builders.interrupting import NAMES, Interrupts
from children import HangError, in_child
from workload import Bench, Operation, Row, State, Store, Verdict, check, contents, judge, plan

from edge_embed import Embedder

OPERATIONS = 40  # of a workload
SHORTEST, LONGEST = 1e-4, 0.06  # seconds after which a signal comes


def interrupts(bench: Bench) -> Interrupts:
    """With embedders of the process that calls it."""
    return Interrupts(
        bench.fresh(), Embedder("static"), Embedder("static", truncate_dim=64), Embedder(bench.bundle, threads=2)
    )


def interrupt_lines(bench: Bench, row: Row, runs: int) -> None:
    """A KeyboardInterrupt at each line that the operations run; or at so many in all, at even distances."""
    for name in NAMES:
        lines = in_child(lambda: interrupts(bench).lines(name), 600)  # noqa: B023 - called at once
        step = max(1, lines * len(NAMES) // runs) if runs else 1

        def work(name: str = name, places: range = range(0, lines, step)) -> list[tuple[int, str]]:
            tried = interrupts(bench)
            return [(at, problem) for at in places if (problem := tried.interrupt(name, at))]

        try:
            for at, problem in in_child(work, 3600):
                row.fail("wrong", f"{name}, line {at}", problem)
        except HangError:
            row.fail("hangs", name, "no answer")
        row.runs += len(range(0, lines, step))


def interrupt_randomly(bench: Bench, row: Row, signals: int) -> None:
    """Signals at random times in the operations of one object, which goes on with the next operation after each."""
    ended = 0
    for case in bench.cases(10 * signals):
        if ended >= signals:
            break
        rng, folder = bench.rng(row.fault, case), bench.fresh()
        operations, states = plan(rng, {}, OPERATIONS)
        try:
            count, problem = in_child(lambda: work(bench, folder, operations, states, rng), 600)  # noqa: B023 - at once
            ended += count
            verdict = Verdict(None, "wrong", problem) if problem else in_child(lambda: whole(bench, folder, states[-1]))  # noqa: B023
            if verdict.state is None:
                row.fail(verdict.kind, f"case {case}", verdict.what)
        except HangError:
            row.fail("hangs", f"case {case}", "no answer")
        except RuntimeError as error:
            row.fail("crashes", f"case {case}", str(error))
    row.runs = ended


def whole(bench: Bench, folder: Path, state: State) -> Verdict:
    return check(folder, [state], bench.embedder())


def work(
    bench: Bench, folder: Path, operations: list[Operation], states: list[State], rng: random.Random
) -> tuple[int, str | None]:
    """(operations that a signal ended, what is wrong after one of them)."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    embedder, ended = bench.embedder(), 0
    store = Store(folder, embedder)
    keys = sorted({key for state in states for key in state})
    for number, operation in enumerate(operations):
        if interrupted(lambda: store.apply(operation), SHORTEST * (LONGEST / SHORTEST) ** rng.random()):  # noqa: B023
            ended += 1
            if operation.name == "reopen":  # closed, or not, and perhaps opened
                store.close()
                del store
                gc.collect()
                store = Store(folder, embedder)
            allowed = states[number : number + 2]
            found = contents(store.index, keys)
            if found not in allowed or len(store.index) != len(found):
                return ended, f"{operation.name}: {judge(found, allowed).what}"
            if found == allowed[0]:
                store.apply(operation)
    store.close()
    return ended, None


def interrupted(call: Callable[[], object], seconds: float) -> bool:
    """Whether a call was ended by a KeyboardInterrupt after so many seconds."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    return False
