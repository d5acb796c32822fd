"""The one way to write files that are asked for: whole or not at all, and never through a link."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from edge_embed_runtime.errors import InputError, StorageError

FLAGS = (
    os.O_RDWR
    | os.O_CREAT
    | os.O_EXCL  # what is there already, a link too, is not opened
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def check_output(target: Path) -> None:
    """Raise InputError where something lies at `target` that a file may not take the place of."""
    try:
        mode = os.lstat(target).st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        what = "a symbolic link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise InputError(f"{target} is {what}; give another name", path=target)


@contextmanager
def replacing(target: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file that takes the target's place once it is written whole and on disk.

    mode: the new file's, less the process's umask; texts are for their owner alone

    Raises InputError for a target that is no regular file, StorageError where it cannot be written.
    """
    check_output(target)
    temporary = target.with_name(f".edge_embed.{os.urandom(6).hex()}.tmp")
    try:
        with os.fdopen(os.open(temporary, FLAGS, mode), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"{target} could not be written: {reason}; nothing was changed", path=target, cause=error
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable. Windows has no such call: there the file system's journal must do."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
