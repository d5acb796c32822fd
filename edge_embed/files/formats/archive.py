"""ZIP files that hold documents: what is in them is read by name, within limits that are counted while it is read."""

import zipfile
import zlib
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from typing import BinaryIO

from edge_embed.files.formats.content import UnreadableError

# Of all that is read of one file: bytes, and how many times more than it has itself where they are many.
MAX_BYTES, MAX_RATIO, SMALL = 2**30, 200, 2**24
MAX_ENTRIES = 100_000
CHUNK = 2**16
ENCRYPTED = 1
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError)


class Archive:
    """Nothing is unpacked to the disk, so what its names look like does not matter. Raises UnreadableError."""

    def __init__(self, file: BinaryIO, what: str) -> None:
        self._what, self._read = what, 0
        try:
            self._size = file.seek(0, 2)
            file.seek(0)
            self._zip = zipfile.ZipFile(file)
        except (*BROKEN, OSError) as error:
            head = _head(file)
            if head.startswith(b"\xd0\xcf\x11\xe0"):  # an OLE file, which Office puts around what it encrypts
                raise UnreadableError(f"is encrypted with a password, or no {what}") from None
            raise UnreadableError(f"is no {what}, or damaged ({error})") from None
        self.names = [entry.filename for entry in self._zip.infolist()[: MAX_ENTRIES + 1]]
        if len(self.names) > MAX_ENTRIES:
            raise UnreadableError(f"holds more than {MAX_ENTRIES:,} files")
        self._there = set(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._there

    def open(self, name: str) -> BufferedReader:
        """An entry, to be read from its beginning."""
        return BufferedReader(_Entry(self, self._chunks(name)), CHUNK)

    def read(self, name: str) -> bytes:
        return b"".join(self._chunks(name))

    def check(self) -> None:
        """Read everything once: for readers that have no limits of their own."""
        for name in self.names:
            for _ in self._chunks(name):
                pass
        self._read = 0

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            if self._zip.getinfo(name).flag_bits & ENCRYPTED:
                raise UnreadableError("is encrypted: it needs a password")
            with self._zip.open(name) as entry:
                while chunk := entry.read(CHUNK):
                    self._count(len(chunk))
                    yield chunk
        except BROKEN as error:
            raise UnreadableError(f"is a damaged {self._what} ({error} in {name[:60]!r})") from None

    def _count(self, size: int) -> None:
        self._read += size
        if self._read > MAX_BYTES or (self._read > SMALL and self._read > MAX_RATIO * self._size):
            raise UnreadableError(
                f"grows from {self._size:,} to more than {self._read:,} bytes when it is unpacked, which is refused"
            )


class _Entry(RawIOBase):
    def __init__(self, archive: Archive, chunks: Iterator[bytes]) -> None:
        self._archive, self._chunks, self._rest = archive, chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: "memoryview") -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._chunks, b"")
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _head(file: BinaryIO) -> bytes:
    try:
        file.seek(0)
        return file.read(8)
    except (OSError, ValueError):
        return b""
