"""Methods that an event loop can wait for: they run in a thread, and it goes on meanwhile."""

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor

P = ParamSpec("P")
T = TypeVar("T")

# Calls of one object that run at a time. Each can keep the event loop from Python's lock for 5 ms.
CALLS = 2


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
    found: Executor | None = owner.__dict__.get("_threads")
    if found is None:
        from concurrent.futures import ThreadPoolExecutor

        found = owner.__dict__["_threads"] = ThreadPoolExecutor(CALLS, "edge-embed")
    return found
