"""The end of a program whose daemon threads still embed.

Before 3.14 Python ends such a thread when it comes back from native code, by an exception that C++ does not let
through: onnxruntime then aborts the whole process. So native calls that run are waited for, and none begin any more.
"""

import atexit
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# How long the program waits for one batch, and how often it looks.
SECONDS = 10.0
POLL = 0.002

_running: set[int] = set()  # threads
_ender: int | None = None  # the thread that ends the program


@contextmanager
def native_call() -> Iterator[None]:
    """Around native code that other threads do not wait for. At the end of the program it never comes back, but in the
    thread that ends it: there functions of atexit may still embed."""
    thread = threading.get_ident()
    try:
        _running.add(thread)
        if _ender not in (None, thread):
            _running.discard(thread)
            while True:
                time.sleep(SECONDS)
        yield
    finally:
        _running.discard(thread)


def has_begun() -> bool:
    """Whether the program ends: then only one thread can do something."""
    return _ender is not None


def _end() -> None:
    global _ender  # noqa: PLW0603 - there is one program
    _ender = threading.get_ident()
    until = time.monotonic() + SECONDS
    while _running - {_ender} and time.monotonic() < until:
        time.sleep(POLL)


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)
