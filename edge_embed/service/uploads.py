"""A file that a client sends: read as `edge-embed add` reads one, under a key made of its name.

Its documents have keys that no file under the root of an index can have, and name no `source`, so that `add --sync`
never takes them for files that are gone.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.files.adding import ADD_BATCH, ADD_CHARACTERS
from edge_embed.files.documents import read_rows
from edge_embed.files.finding import NO_TOWER
from edge_embed.files.formats.filetypes import TEXT, modality_of
from edge_embed.files.problems import Problem
from edge_embed.files.rows import SOURCE, SOURCE_FILE, Reading
from edge_embed.files.storing import upsert
from edge_embed.service.media import check_content, modalities
from edge_embed.service.refusals import Refusal
from edge_embed_runtime.batches import batches
from edge_embed_runtime.errors import StorageError
from edge_embed_runtime.storage.documents import Document

if TYPE_CHECKING:
    from edge_embed.service.service import Service
    from edge_embed_runtime.index.index import Index

PREFIX = "upload:"
# The field that holds the name of the file.
FILE = "file"
MAX_NAME_BYTES = 255
# Problems that the answer names, and keys that are looked at at a time.
MAX_PROBLEMS = 100
KEYS_AT_ONCE = 1024


@dataclass
class Uploaded:
    """What became of a file.

    key:       of its document; keys of rows begin so
    stored:    documents that are new or changed
    unchanged: documents that were there already
    deleted:   documents of an earlier file of this name, which this one no longer has
    documents: in the index now
    notes:     how the file was read, where that is worth saying
    problems:  line and reason; those beyond MAX_PROBLEMS are counted
    """

    key: str
    stored: int = 0
    unchanged: int = 0
    deleted: int = 0
    documents: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)
    problems_left_out: int = 0

    def report(self, problem: Problem) -> None:
        self.refuse(problem.line, problem.reason)

    def refuse(self, line: int | None, reason: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append({"line": line, "reason": reason})
        else:
            self.problems_left_out += 1


def file_name(given: str) -> str:
    """The last part of a name that a browser or a program sends: "C:\\docs\\a.txt" -> "a.txt". Raises Refusal."""
    name = given.replace("\\", "/").rpartition("/")[2]
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_NAME_BYTES or name in (".", "..") or not name.isprintable():
        raise Refusal(
            400, "invalid_name", f"name is no name of a file: expected 1 to {MAX_NAME_BYTES} bytes, all printable"
        )
    return name


async def store_file(service: "Service", name: str, content: bytes) -> Uploaded:
    """Put the documents of one file into the index, in place of those of an earlier file of this name. Raises Refusal
    where nothing of it can be read."""
    uploaded = Uploaded(f"{PREFIX}{name}")
    bounds, beside, taken = await service.read(lambda index: (index.bounds, index.path.parent, modalities(index)))
    reading = Reading() if bounds is None else Reading(max_bytes=bounds.row)
    modality = modality_of(name)
    if modality in NO_TOWER and modality != TEXT:
        if modality not in taken:
            raise Refusal(400, "invalid_source", f"{name} is one of the {NO_TOWER[modality]}")
        check_content(modality, content, service.limits)
    documents = await asyncio.to_thread(_read, name, content, reading, uploaded, beside)
    if not documents:
        raise Refusal(400, "invalid_source", f"{name}{_first(uploaded)}")
    for batch in batches(documents, ADD_BATCH, (lambda document: len(document.text), ADD_CHARACTERS)):
        await service.write(partial(_store, batch, uploaded))
    keys = {document.key for document in documents}
    if not uploaded.problems:  # else it may have rows that could not be read
        await service.write(partial(_forget, keys, uploaded))
    uploaded.documents = await service.read(len)
    return uploaded


@contextmanager
def _on_disk(content: bytes, suffix: str, beside: Path) -> Iterator[Path]:
    """A file for readers, where temporary files go; beside the index where there is no such place, as in a container
    whose root is read-only. Raises StorageError."""
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError:
        place = str(beside)
    try:
        folder = tempfile.TemporaryDirectory(prefix="edge-embed-", dir=place)
    except OSError as error:
        raise _no_place(error) from error
    with folder:
        path = Path(folder.name, f"upload{suffix}")
        try:
            path.write_bytes(content)
        except OSError as error:
            raise _no_place(error) from error
        yield path


def _no_place(error: OSError) -> StorageError:
    return StorageError(f"there is no place on the disk to read the file from: {error.strerror}", cause=error)


def _read(name: str, content: bytes, reading: Reading, uploaded: Uploaded, beside: Path) -> list[Document]:
    """The documents of a file."""
    with _on_disk(content, Path(name).suffix, beside) as path:
        found: dict[str, Document] = {}
        for row in read_rows(path, uploaded.key, reading, uploaded.report, note=uploaded.notes.append):
            if row.document.key in found:
                uploaded.refuse(row.line, f"the key {row.document.key!r:.100} comes twice")
            else:
                document = _renamed(row.document, name, uploaded.key)
                found[row.document.key] = replace(document, **_bytes(document, content))
    return list(found.values())


def _first(uploaded: Uploaded) -> str:
    """What to say behind the name of a file of which nothing could be read."""
    if not uploaded.problems:
        return " holds no text"
    line, reason = uploaded.problems[0].values()
    return f" {reason}" if line is None else f", line {line}: {reason}"


def _renamed(document: Document, name: str, key: str) -> Document:
    """Without the field that says which file of the root it is; `file` names it instead, unless it has one."""
    own = SOURCE_FILE if document.metadata.get(SOURCE_FILE) == key else SOURCE
    metadata = {field: value for field, value in document.metadata.items() if field != own}
    return replace(document, metadata={FILE: name, **metadata})


def _bytes(document: Document, content: bytes) -> dict[str, Any]:
    """In place of the file, which will be gone, its bytes."""
    return {name: content for name in ("image", "audio") if getattr(document, name) is not None}


def _store(batch: list[Document], uploaded: Uploaded, index: "Index") -> None:
    stored, refused = upsert(index, batch, thumbnails=True)
    uploaded.stored += stored
    uploaded.unchanged += len(batch) - len(refused) - stored
    for _, reason in refused:
        uploaded.refuse(None, reason)


def _forget(keys: set[str], uploaded: Uploaded, index: "Index") -> None:
    """Delete what an earlier file of this name had, and this one has not."""
    for key in list(_earlier(index, uploaded.key)):
        if key not in keys:
            uploaded.deleted += index.delete([key])


def _earlier(index: "Index", key: str) -> Iterator[str]:
    yield from (found for found in (key,) if found in index)
    for mark in "#:":  # rows by id, and by line
        yield from index.keys(f"{key}{mark}")
