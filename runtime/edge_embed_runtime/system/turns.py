"""A lock for the calls of one object that no interrupted call keeps.

Python raises KeyboardInterrupt between any two instructions: also between the taking of a lock and the block that gives
it back, or between the end of that block and the giving. So a lock here knows the call that holds it. Where that call
has ended, whoever comes next throws the lock away and makes a new one.
"""

import sys
import threading
from types import FrameType, TracebackType

# Seconds after which a thread that waits looks whether the call that holds the lock still runs.
PATIENCE = 0.2


class Turns:
    """One call at a time. A call that has its turn may begin others of the same object; each in a function of its own.

    Use it with `with`, or `take` and `give`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # the thread and the frame of the call that holds the lock; None where none does, and for a moment before and
        # after one does
        self._holder: tuple[int, FrameType] | None = None
        self._renewing = threading.Lock()

    def __enter__(self) -> None:
        self.take(sys._getframe(1))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give(sys._getframe(1))

    def take(self, frame: FrameType) -> bool:
        """Wait for the turn of a call; `frame` is what runs until `give`. Returns False where the call is part of one
        that has its turn."""
        holder = self._holder
        if holder is not None and holder[0] == threading.get_ident():
            if _runs(*holder):
                return False
            self._renew(self._lock)
        ended = 0
        while not (lock := self._lock).acquire(timeout=PATIENCE) or lock is not self._lock:
            holder = self._holder
            # twice: there are moments in which a lock has no holder yet, or not any more
            ended = 0 if holder is not None and _runs(*holder) else ended + 1
            if ended > 1:
                self._renew(lock)
        self._holder = threading.get_ident(), frame
        return True

    def take_now(self, frame: FrameType) -> bool:
        """Take the turn where no call has it; gives whether that was so."""
        lock = self._lock
        if not lock.acquire(blocking=False) or lock is not self._lock:
            return False
        self._holder = threading.get_ident(), frame
        return True

    def give(self, frame: FrameType) -> None:
        """The end of the turn that was taken for `frame`; nothing happens where another call has it."""
        holder, lock = self._holder, self._lock
        if holder is not None and holder[1] is frame:
            self._holder = None
            lock.release()

    def _renew(self, lock: threading.Lock) -> None:
        with self._renewing:
            if self._lock is lock:
                self._holder = None
                self._lock = threading.Lock()


def _runs(thread: int, frame: FrameType) -> bool:
    """Whether a frame is still on the stack of its thread."""
    current = sys._current_frames().get(thread)
    while current is not None:
        if current is frame:
            return True
        current = current.f_back
    return False
