"""Where this user's processes leave each other what they found out, and how much of it can be believed."""

import os
import sys
from pathlib import Path

from edge_embed_runtime.errors import StorageError
from edge_embed_runtime.system.files import open_regular


def cache_folder() -> Path | None:
    """$XDG_CACHE_HOME/edge_embed or ~/.cache/edge_embed, %LOCALAPPDATA%\\edge_embed on Windows; None without a home."""
    given = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    try:
        # the specification has a relative path ignored
        base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    except (RuntimeError, ValueError):
        return None
    return base / "edge_embed"


def read_own(path: Path, most: int) -> bytes:
    """A regular file of at most so many bytes that only this user may write to. Raises SourceError or ValueError for
    anything else."""
    with open_regular(path, follow=False) as file:
        status = os.fstat(file.fileno())
        if sys.platform != "win32" and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
            raise ValueError("others may have written it")
        if status.st_nlink != 1 or status.st_size > most:
            raise ValueError("not a small file of its own")
        return file.read(most)


def remove(name: str) -> Path | None:
    """Remove a file of the folder: its path, or None where there was none. Raises StorageError when it cannot be."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        (folder / name).unlink()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(
            f"{folder / name} cannot be removed: {error.strerror or error}", path=folder / name
        ) from error
    return folder / name
