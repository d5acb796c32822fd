"""Keys of files: their place under the root of an index, so that a file has one key for all ways to type its path."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from edge_embed_runtime.errors import IndexDamagedError, IndexFileError, InputError
from edge_embed_runtime.storage.root import Root, count_files, find_root, has_files, read_root
from edge_embed_runtime.storage.store import Store


@dataclass(frozen=True)
class Naming:
    """root: of the index; None for an index from before there were roots: its keys are paths as they were typed.
    new: whether the index does not have this root recorded yet."""

    root: Root | None
    new: bool = False

    def key(self, path: Path, real: str) -> str:
        """The key of a file: path as it was given, and absolute without links.

        root /home/me, real /home/me/notes/a.md -> "notes/a.md"; real /etc/motd.txt -> "/etc/motd.txt"
        """
        if self.root is None:
            return Path(os.path.normpath(path)).as_posix()
        inside = is_under(real, self.root.absolute)
        return Path(os.path.relpath(real, self.root.absolute) if inside else real).as_posix()

    def place(self, key: str) -> str:
        """The absolute path of the file that has this key."""
        return str(Path(self.root.absolute, key)) if self.root else key

    def prefixes(self, place: str) -> Iterator[str]:
        """The beginnings of keys of documents whose files lie under a place, which is absolute and without links."""
        if self.root is None:
            return
        if self.root.free or is_under(self.root.absolute, place):
            yield ""
        else:
            yield self.key(Path(place), place) + ("/" if Path(place).is_dir() else "")


def is_under(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it: both absolute and without links."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def folders_above(path: str) -> Iterator[str]:
    """ "/a/b/c" -> "/a/b", "/a", "/"."""
    while (above := os.path.dirname(path)) != path:  # noqa: PTH120
        yield above
        path = above


def naming_of(index: Path, root: str | None = None, *, free: bool = False) -> Naming:
    """How the files of an index are named: by its recorded root, by `root`, or by the folder of the index.

    free: whether keys are added that do not name their file

    Raises InputError where another root would give the documents that are there other keys.
    """
    default = Root.at(index.parent if root is None else root, index, free=free)
    if not index.exists():
        return Naming(default, new=True)
    with closing(Store(index, read_only=True)) as store:
        recorded, old = _roots(store, given=root is not None)
        if old is None and not has_files(store):
            return Naming(default, new=True)
        if root is None or old is None:
            if root is not None:
                raise InputError(
                    f"{index} has keys that are paths as they were typed; for --root make a new index", path=index
                )
            wanted = old
        else:
            wanted = _changed(store, old, default)
    if wanted is None:
        return Naming(None)
    wanted = replace(wanted, free=wanted.free or free)
    return Naming(wanted, new=wanted != recorded)


def _roots(store: Store, *, given: bool) -> tuple[Root | None, Root | None]:
    """The root as it was recorded, and where it is now. If another root is given, an index that was copied or is
    damaged raises no error."""
    try:
        recorded = read_root(store)
        return recorded, find_root(store)
    except IndexDamagedError:
        if not given:
            raise
        return None, Root(os.devnull, "", free=True)  # nothing lies there
    except IndexFileError:
        if not given:
            raise
        return recorded, recorded


def _changed(store: Store, old: Root, wanted: Root) -> Root:
    """Another root for existing documents. It is right if their files lie under it, as after a move."""
    if wanted.absolute == old.absolute:
        return replace(wanted, free=wanted.free or old.free)
    there = count_files(store, wanted.absolute)
    if has_files(store) and (not there or there < count_files(store, old.absolute)):
        raise InputError(
            f"{store.path} has the root {old.absolute}, and the files of its documents do not lie so under "
            f"{wanted.absolute}: all would be stored a second time. Make a new index for another root",
            path=store.path,
        )
    return replace(wanted, free=wanted.free or old.free)
