"""What a merge takes documents from: a part. A part that is an index is here; those that are files come from above."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from edge_embed_runtime.batches import batches
from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import IndexDamagedError, IndexFileError, IndexLockedError
from edge_embed_runtime.maintenance.scan import Row, document_row, grouped, shown_key
from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.documents import Place, Record
from edge_embed_runtime.storage.filerecords import COLUMNS, FileRecord
from edge_embed_runtime.storage.media import Given, Media
from edge_embed_runtime.storage.root import Root, find_root, has_files, read_root
from edge_embed_runtime.storage.rows import NO_VECTOR, Entry, is_whole, whole_document
from edge_embed_runtime.storage.schema import Facts
from edge_embed_runtime.storage.store import Store

# Documents whose places, pictures and other vectors are read at once, and about how many characters of them.
READ, READ_CHARACTERS = 256, 2**20
DIGEST_BYTES = 16


class Passage(NamedTuple):
    """A row of `vec`: where it lies in its document, and what `rows.packed` gives of its vector."""

    start: int
    stop: int
    code: bytes


@dataclass(frozen=True)
class Whole:
    """A document with all that is stored of it.

    passages: those of its picture or sound first
    attached: rows of the tables next to `vec`, one for each passage of text, by the name of the table
    """

    record: Record
    passages: Sequence[Passage]
    attached: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    thumbnail: bytes | None = None

    def digest(self) -> bytes:
        """Equal for documents that are the same in all but a thumbnail."""
        record = self.record
        media = None if record.media is None else record.media.media
        said = [record.text, record.metadata, repr(record.places)]
        said += [] if media is None else [media.kind, media.source, media.sha256, media.time or ""]
        found = hashlib.blake2b("\x00".join(said).encode("utf-8", "surrogateescape"), digest_size=DIGEST_BYTES)
        for start, stop, code in self.passages:
            found.update(b"\x00%d,%d," % (start, stop) + code)
        for name, rows in sorted(self.attached.items()):
            found.update(b"".join([b"\x00", name.encode(), *rows]))
        return found.digest()

    def entries(self, dim: int) -> Iterator[Entry]:
        """As `writing.write` takes them: an entry for each run of passages that are alike."""
        text = 0
        for (nowhere, bare), group in groupby(self.passages, lambda one: (one.start < 0, one.code == NO_VECTOR)):
            run = list(group)
            raw = np.frombuffer(b"".join(bytes(dim + 4) if bare else one.code for one in run), np.int8)
            rows = raw.reshape(len(run), dim + 4)
            scales = np.ascontiguousarray(rows[:, :4]).view("<f4")[:, 0].astype(np.float32)
            spans, own = [(one.start, one.stop) for one in run], slice(text, text + len(run))
            attached = {} if nowhere else {name: found[own] for name, found in self.attached.items()}
            small = self.thumbnail if nowhere else None
            yield Entry(self.record, spans, rows[:, 4:], scales, attached, bare=bare, thumbnail=small)
            text += 0 if nowhere else len(run)


class Part(Protocol):
    """What a merge takes documents from. It may be read several times, and gives the same each time.

    path:    of its file
    facts:   of its vectors; words "" where it has no table of words
    prompt:  what was put before its texts, where that is not what its bundle puts there; else None
    count:   documents, about
    """

    path: Path
    facts: Facts
    prompt: str | None
    count: int

    def documents(self) -> Iterator[Whole]:
        """All documents. Raises IndexDamagedError or SourceError for one that is not whole."""

    def check_unchanged(self) -> None:
        """Raise an error where what was read may not be of one time."""

    @property
    def root(self) -> Root | None:
        """The folder that keys of files are relative to; None for keys that do not name files."""

    def records(self) -> Iterator[FileRecord]:
        """What is known of the files that documents come from."""


class IndexPart:
    """An index as a part of a merge. The caller holds a snapshot of its store."""

    prompt: str | None = None

    def __init__(self, store: Store) -> None:
        self.path, self._store = store.path, store
        store.counters()  # reads the facts again, which may have changed since the file was opened
        self.facts = store.facts
        self.count, _ = store.counts()
        self._sizes = {self.facts.dim + 4, *([len(NO_VECTOR)] if store.gaps else [])}

    @property
    def store(self) -> Store:
        return self._store

    def documents(self) -> Iterator[Whole]:
        found = 0
        with translated(self.path):
            for batch in batches(self._rows(), READ, (lambda one: len(one[0][2]), READ_CHARACTERS)):
                yield from self._complete(batch)
                found += len(batch)
        if found < self.count:
            raise self._damaged(f"{self.count - found} documents have no passages")

    def _rows(self) -> Iterator[tuple[Row, list[Row]]]:
        """Rows of documents and of their passages, all of them whole."""
        db = self._store.connection
        for doc, row, passages in grouped(db):
            if row is None:
                raise self._damaged("passages belong to no document")
            if not whole_document(row):
                raise self._damaged(f"the checksum of the document {shown(shown_key(row))} does not fit", row)
            together = db.execute("SELECT count(*) FROM vec WHERE doc = ?", (doc,)).fetchone() == (len(passages),)
            if not together or not all(is_whole(one) and len(one[4]) in self._sizes for one in passages):
                raise self._damaged(f"passages of the document {shown(shown_key(row))} are damaged", row)
            yield row, passages

    def of(self, ids: Iterable[int]) -> Iterator[tuple[int, Whole]]:
        """Documents by their ids, with these."""
        db = self._store.connection
        for doc in ids:
            row = document_row(db, doc)
            query = "SELECT id, doc, start, stop, code, crc FROM vec WHERE doc = ? ORDER BY id"
            passages = db.execute(query, (doc,)).fetchall()
            if row is None or not whole_document(row):
                raise self._damaged(f"the checksum of the document {doc} does not fit", row)
            yield from ((doc, one) for one in self._complete([(row, passages)]))

    def _complete(self, batch: Sequence[tuple[Row, list[Row]]]) -> Iterator[Whole]:
        store = self._store
        ids = [row[0] for row, _ in batch]
        places, media = store.places_of(ids), store.media_of(ids)
        texts = [one[0] for _, passages in batch for one in passages if one[2] >= 0]
        tables = {name: table.rows(texts) for name, table in store.attached.items()}
        for row, passages in batch:
            own = places.get(row[0], ())
            known, small = self._media(row, media)
            if own is None:
                raise self._damaged(f"the places of the document {shown(row[1])} are damaged", row)
            of_text = [one[0] for one in passages if one[2] >= 0]
            if any(id_ not in table for table in tables.values() for id_ in of_text):
                raise self._damaged(f"vectors of the document {shown(row[1])} are missing or damaged", row)
            attached = {name: [table[id_] for id_ in of_text] for name, table in tables.items()}
            parts = [Passage(*one[2:5]) for one in sorted(passages, key=lambda one: (one[2] >= 0, one[0]))]
            yield Whole(self._record(row, own, known), parts, attached, small)

    def _record(self, row: Row, places: tuple[Place, ...], media: Media | None) -> Record:
        return Record(row[1], row[2], row[3], places, None if media is None else Given(media))

    def _media(self, row: Row, media: Mapping[int, Media | None]) -> tuple[Media | None, bytes | None]:
        """The picture or sound of a document, and its thumbnail; None without one."""
        if row[0] not in media:
            return None, None
        known, table = media[row[0]], self._store.media
        small, whole = (None, True) if table is None else table.thumbnail(row[0])
        if known is None or not whole:
            raise self._damaged(f"what is known of the picture or sound of {shown(row[1])} is damaged", row)
        return known, small

    def _damaged(self, what: str, row: Row | None = None) -> IndexDamagedError:
        keys = [] if row is None else [shown_key(row)]
        return IndexDamagedError(f"{self.path} is damaged ({what}): repair it first", path=self.path, keys=keys)

    def check_unchanged(self) -> None:
        if self._store.changed:
            raise IndexLockedError(
                f"{self.path} was written while it was read; try again", path=self.path, code="index_busy"
            )

    @cached_property
    def root(self) -> Root | None:
        try:
            return find_root(self._store)
        except IndexFileError:  # it was copied: which of two folders is meant does not matter here
            return read_root(self._store)

    @property
    def has_files(self) -> bool:
        return has_files(self._store) or self._store.media is not None

    def records(self) -> Iterator[FileRecord]:
        if self._store.has_optional("file"):
            with translated(self.path):
                for row in self._store.connection.execute(f"SELECT {COLUMNS} FROM file"):
                    yield FileRecord(*row)
