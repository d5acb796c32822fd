"""Keys and paths of a part as the merged index has them: both are relative to the root of their index.

root /home/me, key "notes/a.txt#2": in an index with the root /home/me/notes it is "a.txt#2", in one with the root /srv
it is "/home/me/notes/a.txt#2": as if the file had been added there.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_embed_runtime.checks import shown
from edge_embed_runtime.maintenance.mergeparts import IndexPart, Part, Whole
from edge_embed_runtime.storage.documents import Record, check_key, metadata_json
from edge_embed_runtime.storage.filerecords import FileRecord
from edge_embed_runtime.storage.media import Given
from edge_embed_runtime.storage.root import Root


def merged_root(out: Path, old: IndexPart | None, parts: Sequence[Part]) -> Root | None:
    """The root of the merged index: that which it has; else the one of all parts, or where these differ its own folder.

    old: the index that is there already, None where it is new

    None where the index that is there, or all parts, name files without a root, as those do that `edge-embed add` did
    not make. Such names stay as they are, also beside parts that have a root.
    """
    indexes = [part for part in (old, *parts) if isinstance(part, IndexPart) and part.has_files]
    rooted = [part for part in indexes if part.root is not None]
    if indexes and (not rooted or (indexes[0] is old and old.root is None)):
        return None
    free = len(rooted) < len(parts) + (old is not None) or any(part.root.free for part in rooted if part.root)
    if old is not None and old.root is not None:
        return replace(old.root, free=free or old.root.free)
    folders = {part.root.absolute for part in rooted if part.root is not None}
    folder = folders.pop() if len(folders) == 1 else os.path.realpath(out.parent)
    try:
        relative = os.path.relpath(folder, out.parent)
    except ValueError:  # another drive
        relative = ""
    return Root(folder, relative, free)


@dataclass(frozen=True)
class Named:
    """A part, and what it holds as the merged index names it. naming: None where names stay as they are"""

    part: Part
    naming: "Naming | None"

    @staticmethod
    def of(part: Part, root: Root | None) -> "Named":
        return Named(part, Naming.between(part.root, root))

    def documents(self) -> Iterator[Whole]:
        found = self.part.documents()
        return found if self.naming is None else map(self.naming.document, found)

    def records(self) -> Iterator[FileRecord]:
        found = self.part.records()
        return found if self.naming is None else map(self.naming.record, found)


@dataclass(frozen=True)
class Naming:
    """How names of a part become those of the merged index. old, new: the folders that they are relative to; new is
    os.devnull, where nothing lies, for names that are all absolute"""

    old: str
    new: str

    @staticmethod
    def between(old: Root | None, new: Root | None) -> "Naming | None":
        """None where names stay as they are."""
        if old is None or (new is not None and old.absolute == new.absolute):
            return None
        return Naming(old.absolute, os.devnull if new is None else new.absolute)

    def file(self, key: str) -> str:
        """The key of a file."""
        place = os.path.normpath(Path(self.old, key))
        inside = place == self.new or place.startswith(self.new.rstrip(os.sep) + os.sep)
        return Path(os.path.relpath(place, self.new) if inside else place).as_posix()

    def document(self, whole: Whole) -> Whole:
        """A document whose key, metadata, picture and sound name their file so."""
        record = whole.record
        metadata = json.loads(record.metadata)
        name = "source_file" if metadata.get("source_file") is not None else "source"
        origin, key, text = metadata.get(name), record.key, record.metadata
        if isinstance(origin, str) and "://" not in origin:  # the address of a page is no file
            file = self.file(origin)
            if key == origin or (key.startswith(origin) and not key[len(origin)].isalnum()):
                key = check_key(file + key[len(origin) :], f"{shown(key)} in the merged index")
            text = metadata_json({**metadata, name: file}, f"document {shown(key)}")
        media = record.media
        if media is not None and media.media.source:
            media = Given(replace(media.media, source=self.file(media.media.source)))
        return replace(whole, record=Record(key, record.text, text, record.places, media))

    def record(self, record: FileRecord) -> FileRecord:
        """What is known of a file."""
        mount = record.mount and self.file(record.mount)
        return record._replace(key=self.file(record.key), mount=mount)
