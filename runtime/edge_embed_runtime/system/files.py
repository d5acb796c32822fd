"""The one way to open files that are given to be read: regular files, whatever else may lie under their name.

A pipe would wait for ever, a device may never end, a folder cannot be read, and a link may lead elsewhere.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

from edge_embed_runtime.errors import EdgeEmbedError, IndexFileError, MediaError, SourceError

FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # a pipe that takes the file's place after the look at it does not hold us up
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
# Bytes of a file of lines, which is read whole.
MAX_LINES = 2**30
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(
    path: str | os.PathLike[str], *, follow: bool = True, error: type[EdgeEmbedError] = SourceError
) -> os.stat_result:
    """The status of a regular file, without opening it: for files that a library opens by their name.

    follow: whether a symbolic link to a regular file will do
    error:  what to raise for everything else, with a message that says what lies there
    """
    try:
        status = Path(path).stat(follow_symlinks=follow)
    except (OSError, ValueError) as found:
        raise _unreadable(path, found, error) from found
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path} is {_kind(status.st_mode)}, not a regular file", path=path)
    return status


def open_regular(
    path: str | os.PathLike[str], *, follow: bool = True, error: type[EdgeEmbedError] = SourceError
) -> BufferedReader:
    """Open a regular file for reading, in bytes. Takes and raises what `check_regular` does."""
    check_regular(path, follow=follow, error=error)
    try:
        descriptor = os.open(path, FLAGS if follow else FLAGS | getattr(os, "O_NOFOLLOW", 0))
    except OSError as found:
        raise _unreadable(path, found, error) from found
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) or (not follow and Path(path).is_symlink()):  # replaced since the look at it
        os.close(descriptor)
        raise error(f"{path} is {_kind(mode)}, not a regular file", path=path)
    return os.fdopen(descriptor, "rb")


def check_no_link(path: Path) -> None:
    """Refuse anything but a regular file or nothing where a file of ours is made or written.

    Raises IndexFileError. SQLite follows links: who put one there would have it write to any file of this user.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise IndexFileError(f"{path} cannot be looked at: {error.strerror}", path=path) from error
    if not stat.S_ISREG(mode):
        what = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
        raise IndexFileError(f"{path} is {what}; edge_embed keeps a file of its own there: remove it", path=path)


@contextmanager
def open_unpacked(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """`open_regular`; of a file whose name ends in .gz what it holds."""
    with open_regular(path) as file:
        if Path(path).suffix != ".gz":
            yield file
            return
        import gzip

        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast("IO[bytes]", unpacked)


def read_regular(
    path: str | os.PathLike[str], limit: int, *, follow: bool = True, error: type[EdgeEmbedError] = SourceError
) -> bytes:
    """The whole of a regular file of at most `limit` bytes; a larger one, or one that grows beyond, is not read.

    Takes and raises what `check_regular` does.
    """
    with open_regular(path, follow=follow, error=error) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            content = file.read(limit + 1) if size <= limit else b""
        except OSError as found:
            raise _unreadable(path, found, error) from found
    if size > limit or len(content) > limit:
        raise error(f"{path} has {max(size, len(content)):,} bytes; such a file has at most {limit:,}", path=path)
    return content


def read_lines(path: str | os.PathLike[str], limit: int = MAX_LINES) -> list[str]:
    """The lines of a regular file of UTF-8 text. Raises SourceError for every other."""
    try:
        return read_regular(path, limit).decode().splitlines()
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})", path=path) from error


def _kind(mode: int) -> str:
    """S_IFIFO -> "a pipe"."""
    return next((name for test, name in KINDS if test(mode)), "something else")


def _unreadable(path: str | os.PathLike[str], found: Exception, error: type[EdgeEmbedError]) -> EdgeEmbedError:
    if not isinstance(found, FileNotFoundError):
        return error(f"{path} cannot be read: {getattr(found, 'strerror', None) or found}", path=path)
    missing = issubclass(error, SourceError | MediaError)
    return error(f"{path} does not exist", path=path, code="source_missing" if missing else None)
