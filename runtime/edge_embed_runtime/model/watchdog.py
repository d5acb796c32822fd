"""Ends work that takes too long, so that a bundle made to hang a program does not."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from edge_embed_runtime.errors import DeadlineError

# Of loading a model, and of one batch. The default bundle takes 0.1 s and 0.03 s; a Raspberry Pi is ten times slower.
SECONDS = 60.0
# A batch of more tokens has more time, in proportion: one text of 8,192 takes 8 s where a short one takes 1 ms.
TOKENS = 2048


@dataclass(slots=True)
class _Work:
    until: float
    end: Callable[[], None]
    late: bool = False


class Watchdog:
    """A thread that ends work which is late. It ends itself when there is none: an idle process has no such thread.

    A timer for each run would cost 0.1 ms, which is a lot for a query of 1.3 ms; looking around now and then costs
    nothing. Work is therefore ended after one to one and a half times its limit.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._works: dict[object, _Work] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, end: Callable[[], None], what: str, times: float = 1.0) -> Iterator[None]:
        """Call `end`, in another thread, where the work inside takes too long. Its error becomes a DeadlineError.

        times: the limit that the work has, as a multiple of the usual one
        """
        seconds = self.seconds * times
        work = _Work(time.monotonic() + seconds, end)
        try:
            self._works[id(work)] = work
            if self._thread is None:
                self._start()
            yield
        except Exception as error:
            if work.late:
                raise DeadlineError(
                    f"the model {what} within {seconds:g} s and was ended", limit_seconds=seconds
                ) from error
            raise
        finally:
            self._works.pop(id(work), None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="edge_embed deadline", daemon=True)
                with suppress(RuntimeError):  # the interpreter ends: nobody waits for late work any more
                    thread.start()
                    self._thread = thread

    def _watch(self) -> None:
        while True:
            time.sleep(self.seconds / 2)
            now = time.monotonic()
            for work in list(self._works.values()):
                if work.until < now:
                    work.late = True
                    work.end()
            with self._lock:
                # first the thread, then the works: one that begins now is seen here, or sees that it needs a thread
                thread, self._thread = self._thread, None
                if not self._works:
                    return
                self._thread = thread

    def forget(self) -> None:
        """Start again in a forked child: it has no thread, and perhaps a lock that nobody will release."""
        self._works, self._lock, self._thread = {}, threading.Lock(), None


WATCHDOG = Watchdog()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WATCHDOG.forget)
