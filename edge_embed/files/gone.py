"""Documents whose files are no longer there, and files of which that is not certain."""

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from edge_embed.files.finding import Found
from edge_embed.files.naming import Naming, folders_above, is_under
from edge_embed.files.opening import Opening
from edge_embed.files.problems import Problem, Report, shown
from edge_embed.files.seen import FileState, Seen
from edge_embed_runtime.storage.filerecords import FileRecord

# Keys that are looked at, and deleted, at once where files no longer exist.
GONE_BATCH = 1024
BARE = "is empty, as where a disk is not mounted: documents of its files are kept; --allow-empty deletes them"
NO_DISK = "had a disk mounted, and has none now: the documents of its files are kept"
NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True)
class Gone:
    """How to tell, after a walk, that a file is gone.

    sync: whether documents of files that are gone are to be deleted
    """

    naming: Naming
    opening: Opening
    seen: Seen
    found: Found
    report: Report
    sync: bool
    allow_empty: bool

    @cached_property
    def _places(self) -> dict[str, None]:
        return dict.fromkeys(self.found.places)

    def is_gone(self, origin: str) -> bool:
        """Whether a file surely no longer exists, or is not wanted any more. False where that cannot be found out."""
        place = self.naming.place(origin)
        try:
            os.lstat(place)
        except (OSError, ValueError) as error:
            return getattr(error, "errno", None) in NOT_THERE
        return self._is_unwanted(os.path.normpath(place))

    def may_delete(self, record: FileRecord) -> bool:
        """Whether a file is gone, and lay under a place that was given, on a disk that is there."""
        place = os.path.normpath(self.naming.place(record.key))
        here = any(above in self._places for above in (place, *folders_above(place)))
        return here and self.is_gone(record.key) and (not record.mount or self._is_mounted(record.mount))

    def documents(self) -> Iterator[list[tuple[str, str]]]:
        """(key, file) of documents under the places that were given whose file is gone, or was read whole without them;
        some at a time."""
        places = [place for place in self._places if not any(above in self._places for above in folders_above(place))]
        mounts: dict[str, bool] = {}
        for place in places:
            documents = self._under(place)
            while block := list(islice(documents, GONE_BATCH)):
                if self.sync and place in self.found.bare and not self.allow_empty:
                    self.report(Problem(shown(place), None, BARE))
                    break
                yield self._without_missing_disks(block, mounts)

    def _under(self, place: str) -> Iterator[tuple[str, str]]:
        for prefix in self.naming.prefixes(place):
            keys = self._keys(prefix)
            while block := list(islice(keys, GONE_BATCH)):
                missing = self._not_of_same_files(self.seen.missing(block))
                index = self.opening.index
                origins = index.origins(missing) if index is not None and missing else {}
                states = self.seen.states(origin for origin in origins.values() if origin is not None)
                for key, origin in origins.items():
                    if origin is None or not is_under(os.path.normpath(self.naming.place(origin)), place):
                        continue
                    state = states.get(origin)
                    if state is FileState.WHOLE or (state is None and self.is_gone(origin)):
                        yield key, origin

    def _not_of_same_files(self, keys: list[str]) -> list[str]:
        """Without the keys of documents whose files are as they were: "a.csv#7" names "a.csv"."""
        if self.naming.root is not None and self.naming.root.free:
            return keys
        files = {key: list(_files_of(key)) for key in keys}
        states = self.seen.states(file for found in files.values() for file in found)
        return [key for key in keys if all(states.get(file) is not FileState.SAME for file in files[key])]

    def _keys(self, prefix: str) -> Iterator[str]:
        """Keys of the index, which may be closed and opened again for writing during the iteration."""
        last = ""
        while self.opening.index is not None:
            block = list(islice(self.opening.index.keys(prefix, after=last), GONE_BATCH))
            yield from block
            if len(block) < GONE_BATCH:
                return
            last = block[-1]

    def _is_unwanted(self, place: str) -> bool:
        unwanted = self.found.unwanted
        return bool(unwanted) and any(path in unwanted for path in (place, *folders_above(place)))

    def _is_mounted(self, mount: str) -> bool:
        return os.path.ismount(self.naming.place(mount))

    def _without_missing_disks(self, block: list[tuple[str, str]], mounts: dict[str, bool]) -> list[tuple[str, str]]:
        """Without the documents of files that lay on a disk which is not mounted now. mounts: whether it is, by its
        place; each that is not is reported once."""
        index = self.opening.index
        records = {} if index is None else index.files.records({origin for _, origin in block})
        kept = []
        for key, origin in block:
            mount = records[origin].mount if origin in records else ""
            if mount and mount not in mounts:
                mounts[mount] = self._is_mounted(mount)
                if not mounts[mount] and self.sync:
                    self.report(Problem(shown(self.naming.place(mount)), None, NO_DISK))
            if mounts.get(mount, True):
                kept.append((key, origin))
        return kept


def _files_of(key: str) -> Iterable[str]:
    """The files that a key may name: "a#b.csv#7" -> "a#b.csv#7", "a#b.csv", "a"."""
    yield key
    for i, character in enumerate(key):
        if character in "#:":
            yield key[:i]
