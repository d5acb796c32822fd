"""Work for several threads, in the order in which it was given.

concurrent.futures refuses work once the main thread has ended, where threads of a program and functions of atexit still
embed. Here the calling thread does it alone where no other can be started.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

from edge_embed_runtime.system.ending import has_begun

Item = TypeVar("Item")
Result = TypeVar("Result")
# A piece of work by its number: what came of it, or the error that it raised.
_Done = tuple[int, Result | None, BaseException | None]


def spread(
    call: Callable[[Item], Result],
    items: Sequence[Item],
    threads: int,
    *,
    background: bool,
    end: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """`work`, or where that needs no threads, the calling thread alone. background: in threads that give way"""
    if not background and (threads == 1 or len(items) < 2):
        yield from map(call, items)
        return
    prepare = None
    if background:
        from edge_embed_runtime.system import process  # few programs give way

        prepare = process.give_way
    yield from work(call, items, threads, prepare, end)


def work(
    call: Callable[[Item], Result],
    items: Sequence[Item],
    threads: int,
    prepare: Callable[[], None] | None = None,
    end: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """`call` of each item, in their order, by so many threads. Raises what a call raises, and drops the rest then.

    prepare: run in each thread at first
    end:     run before calls that go on are waited for at the end: it may make them end early
    """
    left = deque(enumerate(items))
    done: SimpleQueue[_Done[Result]] = SimpleQueue()
    started: list[threading.Thread] = []
    try:
        for _ in range(0 if has_begun() else min(threads, len(items))):
            thread = threading.Thread(target=_run, args=(call, left, done, prepare), name="edge_embed worker")
            started.append(thread)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, or the system has no more threads
                started.remove(thread)
                break
        if not started:
            _run(call, left, done, None)
        found: dict[int, _Done[Result]] = {}
        for number in range(len(items)):
            while number not in found:
                one = done.get()
                found[one[0]] = one
            _, result, error = found.pop(number)
            if error is not None:
                raise error
            yield result  # type: ignore[misc]  # there is one where there is no error
    finally:
        try:
            left.clear()
        finally:  # should an interrupt come just there
            left.clear()
            if end is not None:
                end()
            for thread in started:
                if thread.ident is not None:
                    thread.join()


def _run(
    call: Callable[[Item], Result],
    left: "deque[tuple[int, Item]]",
    done: "SimpleQueue[_Done[Result]]",
    prepare: Callable[[], None] | None,
) -> None:
    while True:
        try:
            number, item = left.popleft()
        except IndexError:
            return
        try:
            if prepare is not None:
                prepare()
                prepare = None
            done.put((number, call(item), None))
        except BaseException as error:  # noqa: BLE001 - raised by `work`
            done.put((number, None, error))
