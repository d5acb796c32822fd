"""Methods that an event loop can wait for, under the names that frameworks have for them."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_thread(method: Callable[P, T], name: str | None = None) -> Callable[P, Coroutine[Any, Any, T]]:
    """A method to be awaited, with the arguments, the result and the errors of another one. name: of the new one;
    None for the other's with "_async" behind it"""
    blocking = method.__name__
    name = name or f"{blocking}_async"

    @functools.wraps(method)
    async def call(*args: P.args, **options: P.kwargs) -> T:
        of_object: Callable[..., T] = getattr(args[0], blocking)  # of a subclass, where it has its own
        return await asyncio.to_thread(of_object, *args[1:], **options)

    call.__name__, call.__qualname__ = name, method.__qualname__.removesuffix(blocking) + name
    call.__doc__ = f"`{blocking}` in a thread, to be awaited."
    return call
