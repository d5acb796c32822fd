"""Methods that an event loop can wait for: they run in a thread, and it goes on meanwhile."""

import functools
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from concurrent.futures import Executor

P = ParamSpec("P")
T = TypeVar("T")

# Calls of one object that run at a time: a search does not wait for what is written meanwhile. Each can keep the event
# loop from Python's lock for 5 ms, so an object whose calls use all cores says that one is enough, as `calls_at_once`.
CALLS = 2
# Threads by the object whose calls they run, with the process that made them.
_POOLS: "WeakKeyDictionary[object, tuple[int, Executor]]" = WeakKeyDictionary()


def awaitable(method: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A method to be awaited, with the arguments, the result and the errors of another one.

    A call that is cancelled while it waits for a thread does not begin; one that runs, runs to its end.
    """

    @functools.wraps(method)
    async def call(*args: P.args, **options: P.kwargs) -> T:
        import asyncio  # where this runs, it is there already
        from contextvars import copy_context

        owner = args[0]
        run: Callable[[], T] = functools.partial(copy_context().run, getattr(owner, name), *args[1:], **options)
        return await asyncio.get_running_loop().run_in_executor(_threads(owner), run)

    name = method.__name__
    call.__name__, call.__qualname__ = f"a{name}", method.__qualname__.replace(name, f"a{name}")
    call.__doc__ = f"`{name}`, to be awaited: it runs in a thread, and the event loop goes on meanwhile."
    return call


def _threads(owner: object) -> "Executor":
    """The threads of an object, which end with it."""
    process, found = _POOLS.get(owner, (0, None))
    if found is None or process != os.getpid():  # in a forked child nobody would begin what is put in the queue
        from concurrent.futures import ThreadPoolExecutor

        found = ThreadPoolExecutor(getattr(owner, "calls_at_once", CALLS), "edge-embed")
        _POOLS[owner] = os.getpid(), found
    return found
