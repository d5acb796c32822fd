"""Work that is done while the caller does something else."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """One call in a thread of its own, when `begin` is called. It pays where the call, or what goes on meanwhile, is
    native: Python itself runs in one thread at a time."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start the thread. Where none can be, as at the end of the program, `result` makes the call."""
        if self._thread is None:
            # a daemon, so that a program that gives up does not wait for it
            thread = threading.Thread(target=self._run, name="edge_embed background", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 (raised by `result`)
            self._error = error

    def result(self) -> T:
        """What the call gave, when it has ended. Raises what it raised."""
        self.begin()
        if self._thread is None:
            self._run()
        else:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result
