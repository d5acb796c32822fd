"""One writer per index: a lock file that the system releases when its process ends, however it ends."""

import os
from contextlib import suppress
from pathlib import Path

from edge_embed_runtime.errors import IndexLockedError, IndexReadOnlyError

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


class WriterLock:
    """Held from construction to `release`. The file stays: removing it would let two writers lock different files."""

    def __init__(self, index: Path) -> None:
        path = index.with_name(index.name + ".lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise IndexReadOnlyError(
                f"{index} cannot be opened for writing: {path} cannot be created ({error.strerror}). "
                "To search only, open it with read_only=True"
            ) from error
        try:
            _try_lock(self._descriptor)
        except OSError:
            owner = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip() if os.name != "nt" else ""
            os.close(self._descriptor)
            raise IndexLockedError(
                f"{index} is open for writing {f'in process {owner}' if owner else 'elsewhere'}. One writer at a time: "
                "close that one, or open this one with read_only=True"
            ) from None
        with suppress(OSError):  # on a full disk the lock holds all the same
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let the next writer in, also where a forked child still has the file open."""
        if self._descriptor >= 0:
            _unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
