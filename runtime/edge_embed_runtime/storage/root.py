"""The root of an index: the folder that the keys of its documents' files are relative to, so that a file has one key
from wherever it is added. A row of `meta`, with its own checksum.

Documents name their file in their metadata: `source`, or `source_file` where `source` is theirs.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed_runtime.errors import IndexDamagedError, IndexFileError, InputError
from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.filters import METADATA
from edge_embed_runtime.storage.notes import IN_LIST

if TYPE_CHECKING:
    from edge_embed_runtime.storage.store import Store

NOTE = "root"
ORIGIN = f"coalesce(json_extract({METADATA}, '$.source_file'), json_extract({METADATA}, '$.source'))"
# Files of documents that are looked for where an index was moved.
SAMPLE = 100


@dataclass(frozen=True)
class Root:
    """absolute: the folder, without links; relative: the way to it from the folder of the index, for an index that was
    moved along with the files, "" where there is none; free: whether there are keys that do not name their file."""

    absolute: str
    relative: str
    free: bool = False

    @staticmethod
    def at(folder: str | os.PathLike[str], index: Path, *, free: bool = False) -> "Root":
        """A folder as the root of an index. Raises InputError where it is none or its name is not UTF-8."""
        absolute = os.path.realpath(folder)
        if not Path(absolute).is_dir():
            raise InputError(f"{folder} is no folder: the root of an index is one", path=folder)
        try:
            absolute.encode()
            relative = os.path.relpath(absolute, index.parent)
        except UnicodeEncodeError:
            raise InputError(
                f"{absolute!a} cannot be the root of an index: its name is not UTF-8", path=absolute
            ) from None
        except ValueError:  # another drive
            relative = ""
        return Root(absolute, relative, free)

    def to_text(self) -> str:
        return IN_LIST.write(json.dumps([self.absolute, self.relative, self.free]))

    @staticmethod
    def from_text(text: str) -> "Root | None":
        """None where its checksum does not fit."""
        try:
            return Root(*json.loads(IN_LIST.read(text) or ""))
        except (ValueError, TypeError, RecursionError):
            return None


def read_root(store: "Store") -> Root | None:
    """The root that was recorded, or None. Raises IndexDamagedError where it is not whole."""
    text = store.note(NOTE)
    root = None if text is None else Root.from_text(text)
    if text is not None and root is None:
        raise IndexDamagedError(
            f"{store.path} is damaged (its root does not fit its checksum); add --root FOLDER mends it", path=store.path
        )
    return root


def write_root(store: "Store", root: Root) -> None:
    """The caller holds the transaction."""
    store.set_note(NOTE, root.to_text())


def find_root(store: "Store") -> Root | None:
    """The root where it is now: an index that was moved along with its files is followed.

    Raises IndexFileError where both the old place and the new one hold the files, as after a copy.
    """
    root = read_root(store)
    if root is None or not root.relative:
        return root
    moved = os.path.realpath(store.path.parent / root.relative)
    if moved == root.absolute:
        return root
    here, there = (count_files(store, folder) for folder in (moved, root.absolute))
    if here and here == there:
        raise IndexFileError(
            f"{store.path} was copied: its documents' files lie in {root.absolute} and in {moved}; "
            "add --root DIR says which of them it is for",
            path=store.path,
        )
    return Root(moved, root.relative, root.free) if here > there else root


def root_folder(store: "Store") -> str | None:
    """Where the files of an index lie now; the recorded root where it is not clear; None without one."""
    try:
        root = find_root(store)
    except IndexFileError:
        try:
            root = read_root(store)
        except IndexDamagedError:
            root = None
    return None if root is None else root.absolute


def count_files(store: "Store", folder: str) -> int:
    """How many of the files that some documents, or pictures, come from lie in a folder that may be the root."""
    queries = [f"SELECT DISTINCT {ORIGIN} FROM doc LIMIT {SAMPLE}"]
    with translated(store.path):
        if store.has_optional("media"):
            queries.append(f"SELECT source FROM media WHERE source <> '' LIMIT {SAMPLE}")
        found = {name for query in queries for (name,) in store.connection.execute(query)}
    names = [name for name in found if isinstance(name, str)]
    return sum(os.path.lexists(Path(folder, name)) for name in names if not Path(name).is_absolute())


def has_files(store: "Store") -> bool:
    """Whether any document comes from a file."""
    with translated(store.path):
        query = f"SELECT 1 FROM doc WHERE {ORIGIN} IS NOT NULL LIMIT 1"
        return store.connection.execute(query).fetchone() is not None


def origins(store: "Store", keys: Iterable[str]) -> dict[str, str | None]:
    """The files of the documents with these keys; None for one that names none. Unknown keys are left out."""
    query = f"SELECT key, {ORIGIN} FROM doc WHERE key IN (SELECT value FROM json_each(?))"
    with translated(store.path):
        rows = store.connection.execute(query, (json.dumps(list(keys)),)).fetchall()
    return {key: name if isinstance(name, str) else None for key, name in rows}
