"""Who may write to an index: one object until it is closed, or several that take turns, an operation each."""

from contextlib import suppress
from pathlib import Path

from edge_embed_runtime.errors import EdgeEmbedError, StorageError
from edge_embed_runtime.storage.mainfile import identity, remove_log
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.lock import WriterLock


class Writer:
    """The lock of an index and a connection to write with, held until it is closed.

    store: the connection; None where none is open
    """

    def __init__(self, path: Path, timeout: float, secure_delete: bool = False) -> None:
        """timeout: seconds to wait for the lock

        Raises IndexLockedError where another holds it for longer, IndexReadOnlyError where there can be none.
        """
        self.path = path
        self._timeout, self._secure_delete = timeout, secure_delete
        self.lock: WriterLock | None = WriterLock(path, timeout)
        self.store: Store | None = None

    def open(self) -> None:
        """Open the connection; the file is there now."""
        assert self.lock is not None  # noqa: S101 - it is held from the beginning
        try:
            self.store = Store(self.path, read_only=False, secure_delete=self._secure_delete)
        except StorageError:  # on a full disk, with what the lock keeps in reserve
            if not self.lock.give_reserve():
                raise
            self.store = Store(self.path, read_only=False, secure_delete=self._secure_delete)

    def opened(self) -> None:
        """The index is open: its connection to read with is there, too."""

    def begin(self) -> Store:
        """The connection for an operation, which `end` follows."""
        assert self.store is not None  # noqa: S101 - only those that are open are asked
        return self.store

    def end(self) -> None:
        """The operation has ended."""

    def give_reserve(self) -> bool:
        """On a full disk: give the lock's reserve back to the file system; gives whether there was one."""
        return self.lock is not None and self.lock.give_reserve()

    def close(self) -> None:
        """May be called again."""
        try:
            if self.store is not None:
                self.store.close()
        finally:
            self.store = None
            if self.lock is not None:
                self.lock.release()

    def abandon(self) -> None:
        """In a forked child: let go of the files, not of the lock, which is the parent's."""
        if self.store is not None:
            self.store.abandon()
        if self.lock is not None:
            self.lock.abandon()


class SharedWriter(Writer):
    """The lock and the connection are held during an operation; between two operations others may write."""

    def __init__(self, path: Path, timeout: float, secure_delete: bool = False) -> None:
        super().__init__(path, timeout, secure_delete)
        self._file = self._log = identity(path)

    def open(self) -> None:
        super().open()
        assert self.store is not None  # noqa: S101 - just opened
        self._file, self._log = identity(self.path), self.store.log

    def opened(self) -> None:
        self.end()

    def begin(self) -> Store:
        """Take the lock and open a connection (1 ms), which copies what a killed writer left in the log."""
        self.end()  # of an operation that an interrupt kept from ending
        self.lock = WriterLock(self.path, self._timeout)
        try:
            self.open()
            return super().begin()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        super().close()
        self.lock = None

    def close(self) -> None:
        """The last one to close copies the log into the main file, which is the whole index then."""
        self.end()
        self._timeout = 0.0  # whoever has the lock now does the same
        if identity(self.path) == self._file:
            with suppress(EdgeEmbedError):
                self.begin()
                self.end()
        else:
            remove_log(self.path, self._log)
