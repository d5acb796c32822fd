"""Which files are as they were when they were read: by size and time, and where these differ by the content's hash.

What is found out about files is written down at the end of a run, when no document of theirs that is no longer in them
is left: an interruption costs work, and loses nothing.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_embed.files.captions import NOTHING, Beside
from edge_embed.files.captiontables import CaptionTables
from edge_embed.files.finding import FoundFile
from edge_embed.files.naming import Naming
from edge_embed.files.opening import Opening
from edge_embed.files.rows import READERS, Reading
from edge_embed.files.seen import Seen
from edge_embed_runtime.batches import batches
from edge_embed_runtime.errors import EdgeEmbedError, IndexLockedError, IndexReadOnlyError
from edge_embed_runtime.storage.filerecords import FileRecord
from edge_embed_runtime.system.files import open_regular

# Files whose records are asked for, and written, at once.
RECORDS = 1024
# A file that was written less long ago may be written again without another time: FAT counts in steps of two seconds.
# Git calls such a file racily clean.
RACY_NANOSECONDS = 2 * 10**9
HASH_BYTES, READING_BYTES = 16, 8


@dataclass
class Candidate:
    """A file that was found. record: what is known of it; fresh: what will be, once all its documents are stored;
    beside: its captions."""

    file: FoundFile
    key: str
    record: FileRecord | None = None
    fresh: FileRecord | None = None
    beside: Beside = NOTHING

    @property
    def same(self) -> bool:
        """Whether it is as it was, and read in the same way."""
        old, new = self.record, self.fresh
        return old is not None and new is not None and (old.hash, old.reading) == (new.hash, new.reading)


class Known:
    """What an index knows of files, and what is to be written down about them."""

    def __init__(self, naming: Naming, opening: Opening, seen: Seen, reading: Reading, captions: CaptionTables) -> None:
        self._naming, self._opening, self._seen, self._captions = naming, opening, seen, captions
        self._reading = _digest_of(reading)

    def candidates(self, files: Sequence[FoundFile], *, read_all: bool) -> Iterator[Candidate]:
        """The files in their order, with what is known of them. read_all: as if nothing were."""
        for block in batches(files, RECORDS):
            keys = [self._naming.key(file.path, file.real) for file in block]
            index = self._opening.index
            records = {} if index is None or read_all or self._naming.root is None else index.files.records(keys)
            for file, key in zip(block, keys, strict=True):
                yield self._candidate(file, key, records.get(key))

    def _candidate(self, file: FoundFile, key: str, record: FileRecord | None) -> Candidate:
        beside = self._captions.beside(file)
        if self._naming.root is None:  # keys as they were typed do not name one file
            return Candidate(file, key, beside=beside)
        digest = beside.digest
        reading = self._reading
        if digest:
            reading = hashlib.blake2b(reading + digest, digest_size=READING_BYTES).digest()
        try:
            status = os.stat(file.real)  # noqa: PTH116 - once a file
            times = status.st_mtime_ns, status.st_ctime_ns
            old = record is not None and (record.size, record.reading) == (status.st_size, reading)
            if record is not None and old and (record.mtime, record.ctime) == times:
                return Candidate(file, key, record, record, beside)
            racy = times[0] > time.time_ns() - RACY_NANOSECONDS
            hash_ = _hash(file.real)
        except (OSError, EdgeEmbedError):  # whoever reads it says so
            return Candidate(file, key, record, beside=beside)
        times = (0, 0) if racy else times
        mount = self._naming.key(Path(file.folder.mount), file.folder.mount) if file.folder.mount else ""
        documents = record.documents if record is not None else 0
        fresh = FileRecord(key, status.st_size, *times, hash_, reading, documents, mount)
        return Candidate(file, key, record, fresh, beside)

    def read_whole(self, candidate: Candidate, documents: int) -> None:
        """All documents of a file are stored, or it is as it was."""
        fresh = candidate.fresh
        if fresh is not None and fresh._replace(documents=documents) != candidate.record:
            self._seen.keep(fresh._replace(documents=documents))

    def renamed(self, candidate: Candidate) -> list[FileRecord]:
        """Records of other files of the same type that had this content and were read in the same way."""
        index, fresh = self._opening.index, candidate.fresh
        if index is None or fresh is None or candidate.record is not None:
            return []
        suffix = candidate.file.path.suffix
        found = index.files.with_hash(fresh.hash)
        return [r for r in found if r.key != fresh.key and r.reading == fresh.reading and r.key.endswith(suffix)]

    def write(self) -> None:
        """Write records down. Where another process writes to the index they are left out: they only save work."""
        with suppress(IndexLockedError, IndexReadOnlyError):
            for records in self._seen.kept(RECORDS) if self._opening.index is not None else ():
                self._opening.write(self._naming, embed=False).files.record(records)


def _digest_of(reading: Reading) -> bytes:
    """What tells ways of reading apart; of another release, too, where that reads otherwise."""
    said: tuple[object, ...]
    said = (READERS, reading.text, reading.title, reading.key, reading.encoding, reading.delimiter, reading.scoped)
    said += (reading.media,) if reading.media else ()
    return hashlib.blake2b(repr(said).encode("utf-8", "surrogatepass"), digest_size=READING_BYTES).digest()


def _hash(path: str) -> bytes:
    with open_regular(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=HASH_BYTES)).digest()
