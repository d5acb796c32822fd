"""One writer per index: a lock file that the system releases when its process ends, however it ends."""

import io
import math
import os
import time
from contextlib import suppress
from pathlib import Path

from edge_embed_runtime.errors import IndexLockedError, IndexReadOnlyError, InputError

# Seconds between tries to get a lock that another holds.
POLL = 0.02

if os.name == "nt":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        os.lseek(descriptor, 2**30, os.SEEK_SET)  # beyond the text: Windows locks bytes against reading too
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]
else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class _File(io.FileIO):
    """Closed when nobody has it any more, without a warning: also where an interrupt comes before `release`."""

    def __del__(self) -> None:
        self.close()


def _open(path: str, _: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)


class WriterLock:
    """Held from construction to `release`. The file stays: removing it would let two writers lock different files."""

    def __init__(self, index: Path, timeout: float = 0.0) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < math.inf:
            raise InputError(f"timeout is {timeout!r:.40}, expected a number of seconds, 0 or more")
        path = index.with_name(index.name + ".lock")
        try:
            self._file = _File(path, "r+", opener=_open)
        except OSError as error:
            raise IndexReadOnlyError(
                f"{index} cannot be opened for writing: {path} cannot be created ({error.strerror}). "
                "To search only, open it with read_only=True"
            ) from error
        try:
            descriptor = self._file.fileno()
            self._wait(descriptor, index, timeout)
            with suppress(OSError):  # on a full disk the lock holds all the same
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
        except BaseException:
            self._file.close()
            raise

    def _wait(self, descriptor: int, index: Path, timeout: float) -> None:
        until = time.monotonic() + timeout
        while True:
            try:
                _try_lock(descriptor)
            except OSError:
                left = until - time.monotonic()
                if left > 0:
                    time.sleep(min(POLL, left))
                    continue
                owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() if os.name != "nt" else ""
                raise IndexLockedError(
                    f"{index} is open for writing {f'in process {owner}' if owner else 'elsewhere'}. One writer at a "
                    "time: close that one, wait for it with timeout=seconds, or open this one with read_only=True"
                ) from None
            return

    def release(self) -> None:
        """Let the next writer in, also where a forked child still has the file open. May be called again."""
        if not self._file.closed:
            _unlock(self._file.fileno())
            self._file.close()
