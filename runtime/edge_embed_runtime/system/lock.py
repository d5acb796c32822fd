"""One writer per index: a lock file that the system releases when its process ends, however it ends.

It keeps some space, too: where the disk is full, what a delete needs to be written.
"""

import errno
import io
import math
import os
import time
from contextlib import suppress
from pathlib import Path

from edge_embed_runtime.checks import unusable
from edge_embed_runtime.errors import IndexLockedError, IndexReadOnlyError
from edge_embed_runtime.system.files import check_no_link

# Seconds between tries to get a lock that another holds: at most, by chance, so that each of several gets it.
POLL = 0.02
# Bytes of the file that say which process holds it.
OWNER = 20
# Bytes kept for deletes on a full disk, where this is at most a part of so many of what is free.
RESERVE = 2**19
RESERVE_PART = 100

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
    flags = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))
    return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)


class WriterLock:
    """Held from construction to `release`. The file stays: removing it would let two writers lock different files."""

    def __init__(self, index: Path, timeout: float = 0.0) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < math.inf:
            raise unusable("timeout", timeout, "a number of seconds, 0 or more")
        path = index.with_name(index.name + ".lock")
        check_no_link(path)
        try:
            self._file = _File(path, "r+", opener=_open)
        except OSError as error:
            if error.errno == errno.ELOOP:
                check_no_link(path)
            raise IndexReadOnlyError(
                f"{index} cannot be opened for writing: {path} cannot be created ({error.strerror}). "
                "To search only, open it with read_only=True",
                path=index,
            ) from error
        try:
            descriptor = self._file.fileno()
            self._wait(descriptor, index, timeout)
            with suppress(OSError):  # on a full disk the lock holds all the same
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, f"{os.getpid()}\n".ljust(OWNER).encode())
            self._reserve(path.parent)
        except BaseException:
            self._file.close()
            raise

    def _reserve(self, folder: Path) -> None:
        """Take the reserve where there is much room, and the lock does not have it yet."""
        descriptor = self._file.fileno()
        if not hasattr(os, "posix_fallocate") or os.fstat(descriptor).st_size >= RESERVE:
            return
        try:
            room = os.statvfs(folder)
            if room.f_bavail * room.f_frsize >= RESERVE_PART * RESERVE:
                os.posix_fallocate(descriptor, 0, RESERVE)
        except OSError:
            self.give_reserve()

    def give_reserve(self) -> bool:
        """Give the reserve back to the file system; gives whether there was one."""
        there = os.fstat(self._file.fileno()).st_size > OWNER
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), OWNER)
        return there

    def _wait(self, descriptor: int, index: Path, timeout: float) -> None:
        until = time.monotonic() + timeout
        while True:
            try:
                _try_lock(descriptor)
            except OSError:
                left = until - time.monotonic()
                if left > 0:
                    time.sleep(min(POLL * (1 + os.urandom(1)[0]) / 256, left))
                    continue
                raw = os.pread(descriptor, OWNER, 0) if os.name != "nt" else b""
                owner = raw.decode("ascii", "replace").strip("\0 \n")
                raise IndexLockedError(
                    f"{index} is open for writing {f'in process {owner}' if owner else 'elsewhere'}. One writer at a "
                    "time: close that one, wait for it with timeout=seconds, or open this one with read_only=True",
                    path=index,
                    pid=int(owner) if owner.isdecimal() else None,
                ) from None
            return

    def abandon(self) -> None:
        """In a forked child: let go of the file, not of the lock, which is the parent's."""
        self._file.close()

    def release(self) -> None:
        """Let the next writer in, also where a forked child still has the file open. May be called again."""
        if not self._file.closed:
            _unlock(self._file.fileno())
            self._file.close()
