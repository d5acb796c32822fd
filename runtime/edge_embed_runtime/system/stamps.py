"""Golden texts that passed here: a process that finds its stamp need not embed them again.

A stamp is the hash of everything that decides their vectors: bundle, engine and its version, the file of its library,
CPU (see golden.py). They lie in one small file per user, which is believed only where it is this user's own. Whatever
else lies there, and a folder or disk that takes no file, means that golden texts are embedded, as without it.
"""

import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from edge_embed_runtime.errors import InputError, SourceError, StorageError
from edge_embed_runtime.system.cachefolder import cache_folder, read_own, remove

SCHEMA = 1
FILE = "passed.json"
MAX_STAMPS = 64
# A file of 64 stamps has 6 KB.
MAX_BYTES = 32 * 1024
STAMP = re.compile("[0-9a-f]{64}")
# A cosine that passes, of another engine's vectors too (see golden.py), as float32 gives it.
LEAST, MOST = 0.998, 1.001


class Passed(NamedTuple):
    """What came of golden texts: their cosine, and the form of the model that they passed in (see `Loaded`)."""

    cosine: float
    exact: bool


def passed(stamp: str) -> Passed | None:
    """What came of golden texts with this stamp, or None where nothing can be believed. Never an error."""
    return _read().get(stamp)


def remember(stamp: str, found: Passed) -> None:
    """Keep it for the next process, with the newest others. Where it cannot be kept, nothing happens."""
    folder = cache_folder()
    if folder is None or not _ours(folder):
        return
    kept = [item for item in _read().items() if item[0] != stamp][1 - MAX_STAMPS :]
    stamps = {name: list(one) for name, one in [*kept, (stamp, found)]}
    from edge_embed_runtime.system.writing import replacing

    with suppress(OSError, ValueError, InputError, StorageError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(folder / FILE) as file:
            file.write(json.dumps({"schema": SCHEMA, "passed": stamps}, indent=1).encode())


def forget() -> Path | None:
    """Remove all of them; where they were, or None where there were none. Raises StorageError when it cannot be."""
    return remove(FILE)


def _ours(folder: Path) -> bool:
    """Whether a folder, or what it would be made in, is this user's: another one's home is left as it is."""
    if sys.platform == "win32":
        return True
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        return there.stat().st_uid == os.geteuid()
    except (OSError, StopIteration):
        return False


def _read() -> dict[str, Passed]:
    folder = cache_folder()
    if folder is None:
        return {}
    try:
        return _parsed(json.loads(read_own(folder / FILE, MAX_BYTES)))
    except (SourceError, OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}


def _parsed(content: Any) -> dict[str, Passed]:
    """Raises ValueError, TypeError or KeyError where these are no stamps of this release."""
    if not isinstance(content, dict) or content["schema"] != SCHEMA or len(content["passed"]) > MAX_STAMPS:
        raise ValueError("another schema")
    return {stamp: _one(stamp, *entry) for stamp, entry in content["passed"].items()}


def _one(stamp: str, cosine: object, exact: object) -> Passed:
    if not STAMP.fullmatch(stamp) or type(cosine) is not float or type(exact) is not bool:
        raise TypeError("other types")
    if not LEAST <= cosine <= MOST:
        raise ValueError("no cosine of golden texts that passed")
    return Passed(cosine, exact)
