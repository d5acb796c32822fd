"""The index: documents in, hits out."""

import hashlib
import json
import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from sys import getsizeof
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, get_args

from numpy.typing import ArrayLike

from edge_embed_runtime.checks import check_count, check_path, check_text, listed, shown
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.errors import (
    BundleMismatchError,
    DuplicateKeyError,
    IndexClosedError,
    IndexFileError,
    IndexLockedError,
    IndexReadOnlyError,
    InputError,
    StorageError,
)
from edge_embed_runtime.index.embedders import Models, is_encoder
from edge_embed_runtime.model.budget import check_limit
from edge_embed_runtime.passages.entries import embed_passages, embed_texts, entries, passage_parts
from edge_embed_runtime.passages.split import Span
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.search.query import MAX_HITS, RECALL, STATIC_TEXT_SHARE, TEXT_SHARE, Mode, Query
from edge_embed_runtime.search.searcher import Searcher
from edge_embed_runtime.storage.database import bytes_on_disk, check_header, locate
from edge_embed_runtime.storage.documents import Document, Hits, Record, check_documents, check_key
from edge_embed_runtime.storage.schema import WORDS, Facts, check_fields
from edge_embed_runtime.storage.store import Entry, Removed, Store, remove_leftovers
from edge_embed_runtime.storage.textquery import NORMAL
from edge_embed_runtime.system.headroom import WORD_COPIES, Bounds, Room
from edge_embed_runtime.system.lock import WriterLock
from edge_embed_runtime.system.turns import Turns
from edge_embed_runtime.vectors.int8 import Int8Codes, Vectors, quantize_int8
from edge_embed_runtime.vectors.normalize import check_vectors

if TYPE_CHECKING:  # imported where they are used: most processes search, and are smaller without them
    from edge_embed_runtime.maintenance.backup import Backup
    from edge_embed_runtime.maintenance.rebuild import GraphChoice, Rebuilt
    from edge_embed_runtime.maintenance.repair import Compaction, Repair, Report
    from edge_embed_runtime.storage.root import Root

# Bytes for each number of vectors that are checked, and become codes.
VECTOR_COPIES = 48
# Bytes for each character of a text whose tokens are all held.
LATE_BYTES = 24
KEYS_AT_ONCE = 1024
MAX_DIM = 2**16
MAX_SPACE_CHARACTERS = 256


# Of an index whose table of words an earlier release made.
OLD_WORDS = "the words were stored as an earlier release did: rebuild finds texts in other Unicode forms (NFD) too"


class Index:
    """Documents, their vectors and their words in one file. Made by `Index.open` or, for vectors from elsewhere, by
    `Index.create`; close it, or use it with `with`.

    Threads may share one object. One object may write at a time, over all processes; any number may read, and what is
    read is one committed state. Writing holds up neither searches of other processes nor those of other threads.
    """

    def __init__(
        self,
        reader: Store,
        writer: Store | None,
        embedder: Encoder | None,
        lock: WriterLock | None,
        room: Room | None = None,
        models: Models | None = None,
    ) -> None:
        self._writer = writer  # before the reader, so that it is freed before it: see Store.abandon
        self._store = reader
        self._models = models or Models(embedder)
        self._embedder = self._models.dense
        self._writer_lock = lock
        # the order in which threads may take them: writing, then reading
        self._writing, self._reading = Turns(), Turns()
        self._process = os.getpid()
        self._room = room
        self._search = Searcher(reader, room)
        self._closed = False
        for store in (reader, writer):
            if store is not None:
                store.place.give_up = weakref.WeakMethod(self._abandon)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        embedder: Encoder | None = None,
        *,
        sparse: Embedder | None = None,
        multi: Embedder | None = None,
        read_only: bool = False,
        timeout: float = 0.0,
        words: str | None = None,
        fields: Sequence[str] | None = None,
        late_chunking: bool | None = None,
        max_rss_mb: float | None = None,
        secure_delete: bool = False,
    ) -> Self:
        """Open an index, made when missing, with the embedder that its vectors come from.

        embedder:  an Embedder or a ComposedEmbedder; None for an index of given vectors (see `create`); an index of a
                   bundle can be searched by words or with `vector`, and deleted from, without it
        sparse:    an Embedder of a bundle of kind "sparse": its vectors are stored beside the others, for mode "sparse"
                   and as a part of mode "hybrid"; or give it as `embedder`, where there are no others
        multi:     likewise one of kind "multi", for mode "multi". An index that was made with either can be searched
                   and deleted from without it, but not added to
        read_only: search only: works while another process writes, and on read-only storage
        timeout:   seconds to wait for another process that has it open for writing
        words:     for a new index, how the words of its texts are told apart: "english" (stems; the default), "plain"
                   (whole words) or "trigram" (three characters in a row, for languages without spaces)
        fields:    for a new index, metadata fields that `where` often asks for: each gets an index
        late_chunking: for a new index, whether passages' vectors are cut out of one long pass of their document through
                   the model, of which each then knows something (see help(edge_embed_runtime.passages.late))

        max_rss_mb: megabytes that searching and storing are not to bring the resident set of the process over. Where
                    binary codes do not fit, they stay in the file, and searches read them: some 8 ms for each 100,000
                    passages. Give the same to the Embedder. Raises MemoryBudgetError, now or later, before more is
                    taken: for a k that is too large it says which works. Hits that a program keeps are its own
        secure_delete: overwrite what this object deletes or replaces, in the file, in the table of words and in the
                    log, in the call itself, which takes longer the more words there are. Without it deleted text stays
                    in the file until it is written over, or until `compact`

        Raises IndexLockedError when it is open for writing elsewhere, BundleMismatchError when its vectors come from
        another bundle, IndexFormatError or IndexDamagedError when the file is not a whole index.
        """
        if embedder is not None and not is_encoder(embedder):
            raise InputError(
                f"Index.open takes an Embedder, got {type(embedder).__name__}: Index.open(path, Embedder())"
            )
        limit = check_limit(max_rss_mb)
        models = Models.of(embedder, sparse, multi)
        room = None if limit is None else Room(limit, models.peak)
        path = locate(path, must_exist=read_only)
        facts = models.facts(_check_words(words or "english"), json.dumps(check_fields(fields or [])))
        if late_chunking and facts is not None:
            from edge_embed_runtime.passages.late import check_late

            check_late(embedder)
            facts = replace(facts, late="yes")
        opened = cls._open(path, models, facts, read_only, timeout, words, fields, room, secure_delete=secure_delete)
        try:
            stored = bool(opened._store.facts.late)
            if late_chunking is not None and late_chunking != stored:
                raise InputError(
                    f"{path} was made with late_chunking={stored}; that can't be changed to {late_chunking!r}"
                )
            return opened
        except BaseException:
            opened.close()
            raise

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        space: str,
        dim: int,
        words: str = "english",
        fields: Sequence[str] = (),
        timeout: float = 0.0,
        max_rss_mb: float | None = None,
    ) -> Self:
        """Make an index of vectors that come from elsewhere, such as an API; `add_vectors` takes them.

        space: names the model that all of them come from; the same name is one space
        dim:   numbers in a vector
        words, fields, timeout, max_rss_mb: see `Index.open`

        Vectors are brought to length 1 and compared by cosine. Of a model that is made for dot products of vectors of
        other lengths this gives another order.

        `Index.open(path)` opens it later. Raises InputError where the path exists.
        """
        if not check_text(space, "space").strip() or len(space) > MAX_SPACE_CHARACTERS or not space.isprintable():
            raise InputError(f"space is {space[:40]!r}, expected a name of 1 to {MAX_SPACE_CHARACTERS} characters")
        facts = Facts(
            hashlib.sha256(f"space {space}".encode()).hexdigest()[:32],
            space,
            str(check_count(dim, "dim", 1, MAX_DIM)),
            space="yes",
            words=_check_words(words),
            normal=NORMAL,
            fields=json.dumps(check_fields(fields)),
        )
        path = locate(path, must_exist=False)
        if path.exists():
            raise InputError(f"{path} exists; Index.open opens it")
        limit = check_limit(max_rss_mb)
        return cls._open(path, Models(), facts, False, timeout, None, None, None if limit is None else Room(limit, 0))

    @classmethod
    def _open(
        cls,
        path: Path,
        models: Models,
        facts: Facts | None,
        read_only: bool,
        timeout: float,
        words: str | None,
        fields: Sequence[str] | None,
        room: Room | None,
        *,
        secure_delete: bool = False,
    ) -> Self:
        if facts is None and not path.exists():
            raise IndexFileError(
                f"{path} does not exist; a new index needs the embedder of its vectors, or Index.create makes one for "
                "vectors that you have"
            )
        if path.exists():
            check_header(path)  # before a lock file is put beside what is no index
        lock: WriterLock | None = None
        parts: list[Store] = []
        try:
            if not read_only:
                lock = WriterLock(path, timeout)
                remove_leftovers(path)
                if facts is not None and not path.exists():
                    Store.create(path, facts)
                parts.append(_open_writer(path, lock, secure_delete=secure_delete))
            reader = Store(path, read_only=True)
            parts.append(reader)
            _check_facts(path, reader.facts, models.dense, words, fields)
            models.check(path, reader.facts)
            if room is not None:
                room.for_codes(reader.blocks.count(), reader.dim)
            return cls(reader, None if read_only else parts[0], models.dense, lock, room, models)
        except BaseException:
            for part in reversed(parts):
                part.close()
            if lock is not None:
                lock.release()
            raise

    @property
    def path(self) -> Path:
        return self._store.path

    def close(self) -> None:
        """Let go of the file. What was added is on disk already."""
        if os.getpid() != self._process:
            return  # a forked child's copy: file and lock belong to the parent
        with self._writing, self._reading:
            self._closed = True  # the rest can be done again where an interrupt ends it
            self._search.release()
            self._store.close()
            if self._writer is not None:
                self._writer.close()
            if self._writer_lock is not None:
                self._writer_lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise InputError(
            f"an Index cannot be pickled or copied: give the other process the path, and open {self.path} there "
            "(read_only=True where one writes already)"
        )

    @contextmanager
    def _read(self) -> Iterator[Store]:
        """The connection for reading, for this thread alone."""
        self._check_process()
        call = sys._getframe(2)  # behind contextlib's
        self._reading.take(call)
        try:
            self._check_open()
            if self._store.interrupted:
                self._search.reset()
                self._store.recover()
            elif self._store.refresh():
                self._search.reset()
            if self._room is not None:
                self._store.limit_values(self._room.longest_value())
            yield self._store
            if self._store.changed:
                raise IndexLockedError(f"{self._store.path} was written while it was read; try again")
        finally:
            self._reading.give(call)
        self._settle()

    @contextmanager
    def _write(self) -> Iterator[Store]:
        """The connection for writing, for this thread alone; others may go on searching."""
        self._check_process()
        call = sys._getframe(2)
        self._writing.take(call)
        try:
            self._check_open()
            if self._writer is None:
                raise IndexReadOnlyError(f"{self._store.path} is open with read_only=True")
            self._writer.recover()
            self._writer.check_place()
            if self._room is not None:
                self._writer.limit_values(self._room.longest_value(stored=True))
            yield self._writer
        finally:
            self._writing.give(call)

    def _check_open(self) -> None:
        if self._closed:
            raise IndexClosedError(f"{self._store.path} was closed")

    def _abandon(self) -> bool:
        """In a forked child that opens the file itself: close what it inherited. Gives whether that could be done."""
        stores = [store for store in (self._writer, self._store) if store is not None]
        call = sys._getframe()
        idle = self._writing.take_now(call) and self._reading.take_now(call)
        if not idle or any(store.connection.in_transaction for store in stores):
            return False  # a thread that is not there any more was in the middle of something
        for store in stores:
            store.abandon()
        if self._writer_lock is not None:
            self._writer_lock.abandon()
        return True

    def _settle(self) -> None:
        """After a search, which may have been what kept commits from being copied into the main file."""
        call = sys._getframe()
        if self._writer is not None and self._writer.pending and self._writing.take_now(call):
            try:
                if not self._closed:
                    self._writer.settle()
            finally:
                self._writing.give(call)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise IndexFileError("this Index was opened before a fork: open it again in the child process")

    @property
    def bounds(self) -> Bounds | None:
        """What of files can be read and stored under `max_rss_mb`, None without. Raises MemoryBudgetError."""
        return None if self._room is None else self._room.bounds()

    def __len__(self) -> int:
        """Number of documents."""
        with self._read() as store:
            return store.counts()[0]

    def __contains__(self, key: object) -> bool:
        with self._read() as store:
            return isinstance(key, str) and bool(store.existing([key]))

    def get(self, key: str) -> Document | None:
        """The document under a key, or None."""
        check_key(key)
        with self._read() as store:
            found = store.document(key)
        return Document(found.key, found.text, found.metadata) if found else None

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """Keys of the documents in order: those that begin with `prefix` and come behind `after`; what is written
        meanwhile may be among them."""
        check_text(prefix, "prefix")
        last = check_text(after, "after")
        while True:  # other threads may read and write in between
            with self._read() as store:
                block = store.keys(prefix, last, KEYS_AT_ONCE)
            yield from block
            if len(block) < KEYS_AT_ONCE:
                return
            last = block[-1]

    def unchanged(self, documents: Iterable[Document]) -> set[str]:
        """Keys of the documents that are stored as they are: `upsert` would pass over them. Needs no embedder."""
        from edge_embed_runtime.storage.comparing import unchanged

        records = check_documents(documents, blank=True)
        with self._read() as store:
            return unchanged(store, records)

    @property
    def root(self) -> "Root | None":
        """The folder that keys of files are relative to, see storage/root.py; None where none is recorded."""
        from edge_embed_runtime.storage.root import find_root

        with self._read() as store:
            return find_root(store)

    @root.setter
    def root(self, root: "Root") -> None:
        from edge_embed_runtime.storage.root import write_root

        with self._write() as store:
            write_root(store, root)

    def origins(self, keys: Iterable[str]) -> dict[str, str | None]:
        """The files that documents come from, by key; None for one that names none. Others than these are left out."""
        from edge_embed_runtime.storage.root import origins

        with self._read() as store:
            return origins(store, keys)

    def stats(self) -> dict[str, Any]:
        """Documents, passages, dim, bytes on disk, the bundle's name and fingerprint, generation (commits so far);
        graph: whether searches use one and what `rebuild` measured, None where it measured none."""
        from edge_embed_runtime.search.hnsw import describe

        with self._read() as store:
            return {**_stats(store), "graph": describe(store, self._search.graph)}

    def search(
        self,
        query: str | None = None,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        *,
        vector: ArrayLike | None = None,
        recall: float = RECALL,
    ) -> Hits:
        """The k documents that fit a query best, each with its best passage, best first.

        where:  conditions on metadata that a document must fit, such as {"lang": "en"} or {"year": {"$gte": 2000}};
                help(edge_embed_runtime.storage.filters) lists them
        mode:   "vector" compares meanings, "text" words (BM25), "sparse" weights of tokens, "multi" vectors of tokens
                (MaxSim); "hybrid" fuses the rankings of the first three that the index was opened for; None is
                "hybrid" where there is a text, else "vector"
        vector: [dim], of any length but 0, in place of the one that the embedder would make of the query
        recall: part of the k nearest by int8 codes that is to be found, on average; more takes longer, and 1.0 compares
                with every passage: 0.3 s for 100,000

        Where there are fewer than k, `shortfall` of the result says why. Raises InputError for an empty query or a k
        under 1, FilterError for a field that no document has and for what is no condition.
        """
        k = min(check_count(k, "k", 1), MAX_HITS)
        if isinstance(recall, bool) or not isinstance(recall, int | float) or not 0 < recall <= 1:
            raise InputError(f"recall is {recall!r:.40}, expected a number over 0, up to 1")
        asked, mode = self._query(query, mode, vector)
        with self._read():
            return self._search.search(asked, k, where, mode, recall)

    def _query(self, query: str | None, mode: Mode | None, vector: ArrayLike | None) -> tuple[Query, Mode]:
        """What is searched for, checked and embedded."""
        self._check_process()
        if mode is None:
            mode = "vector" if query is None else "hybrid"
        if mode not in get_args(Mode):
            raise InputError(f"mode is {shown(mode)}, expected one of {get_args(Mode)}")
        if query is None and (vector is None or mode != "vector"):
            raise InputError(f"there is no query; mode {mode!r} needs a text" if vector is not None else "give a query")
        if query is not None and not check_text(query, "the query").strip():
            raise InputError("the query is empty")
        if vector is not None:
            return Query(query, check_vectors([vector], self._store.dim, "vector")[0]), mode
        if mode == "text" or query is None:
            return Query(query, None), mode
        lacking = self._models.cannot(mode, self._store.facts)
        if lacking is not None:
            raise InputError(f"{self.path} cannot embed the query: {lacking}, or search with mode='text'")
        static = self._embedder is not None and self._embedder.is_static
        share = STATIC_TEXT_SHARE if static else TEXT_SHARE
        return Query(query, *self._models.ask(query, mode), text_share=share), mode

    @property
    def damaged(self) -> list[int]:
        """Ids of passages that searches found damaged, or whose documents are; they are never returned."""
        return sorted(self._search.damaged)

    def add(self, documents: Iterable[Document], *, show_progress: bool = False) -> int:
        """Store new documents, all of them or none: they are on disk when this returns. Gives their number.

        Raises DuplicateKeyError for a key that is there already (see `upsert`), DocumentError for a document that
        cannot be stored, StorageError when the disk fails.
        """
        records = check_documents(documents, room=self._room)
        with self._write() as store:
            _check_new(store, records)
            self._store_texts(records, (), show_progress)
        return len(records)

    def upsert(self, documents: Iterable[Document], *, show_progress: bool = False) -> int:
        """Store documents, in place of those with the same keys, all of them or none. Gives the number that changed.

        A document that is stored already with the same text and metadata costs nothing.
        """
        records = check_documents(documents, room=self._room)
        with self._write() as store:
            existing = store.existing(record.key for record in records)
            changed = [r for r in records if r.key not in existing or not store.holds(r)]
            self._store_texts(changed, existing.intersection(r.key for r in changed), show_progress)
        return len(changed)

    def add_vectors(self, documents: Iterable[Document], vectors: ArrayLike) -> int:
        """Store new documents with their vectors [n, dim], all of them or none, in an index made by `create`.

        A document is one passage; its text may be empty. Vectors are brought to length 1 and compared by cosine.
        Raises InputError for vectors of another shape, or with NaN, infinite or no other numbers than 0, and what
        `add` raises.
        """
        with self._write() as store:
            records, codes, scales = self._check_pairs(documents, vectors)
            _check_new(store, records)
            self._commit(records, _whole(records), codes, scales)
        return len(records)

    def upsert_vectors(self, documents: Iterable[Document], vectors: ArrayLike) -> int:
        """`add_vectors`, in place of documents with the same keys. Gives the number that changed."""
        with self._write() as store:
            records, codes, scales = self._check_pairs(documents, vectors)
            existing = store.existing(record.key for record in records)
            changed = [
                i
                for i, record in enumerate(records)
                if record.key not in existing or not store.holds(record, codes[i], scales[i])
            ]
            fresh = [records[i] for i in changed]
            old = existing.intersection(record.key for record in fresh)
            self._commit(fresh, _whole(fresh), codes[changed], scales[changed], old)
        return len(changed)

    def _check_pairs(
        self, documents: Iterable[Document], vectors: ArrayLike
    ) -> tuple[list[Record], Int8Codes, Vectors]:
        if not self._store.facts.space:
            raise InputError(
                f"{self.path} holds vectors of the bundle {self._store.facts.bundle!r}: use add; Index.create makes "
                "indexes for vectors from elsewhere"
            )
        records = check_documents(documents, blank=True, room=self._room)
        with self._storing(records, VECTOR_COPIES * len(records) * self._store.dim):
            checked = check_vectors(vectors, self._store.dim, "vectors")
            if len(checked) != len(records):
                raise InputError(f"{len(records)} documents and {len(checked)} vectors: expected one vector each")
            return records, *quantize_int8(checked)

    def delete(self, keys: str | Iterable[str]) -> int:
        """Delete documents by key; gives how many were there."""
        if not isinstance(keys, Iterable):
            raise InputError(f"delete takes a key or a list of keys, got {type(keys).__name__}")
        wanted = [check_key(key) for key in ([keys] if isinstance(keys, str) else keys)]
        with self._write() as store:
            existing = store.existing(wanted)
            if existing:
                try:
                    self._write_entries([], [], existing, 0)
                except StorageError:  # on a full disk a delete is what makes room
                    if self._writer_lock is None or not self._writer_lock.give_reserve():
                        raise
                    self._write_entries([], [], existing, 0)
        return len(existing)

    def verify(self, *, show_progress: bool = False) -> "Report":
        """Read everything and say what is wrong; neither searches nor another process that writes are held up.

        Without an embedder: `edge_embed_runtime.maintenance.repair.verify_index(path)`.
        """
        from edge_embed_runtime.maintenance.repair import verify_index

        with self._read() as store:
            path = store.path
        return verify_index(path, show_progress=show_progress)

    def repair(
        self, *, drop: bool = False, backup: str | os.PathLike[str] | None = None, show_progress: bool = False
    ) -> "Repair":
        """Restore what the stored texts allow: look-up tables, the table of words, binary codes, and passages,
        embedded again.

        drop:   delete the documents that cannot be restored, whose text, key or metadata is damaged
        backup: a file, not there yet, that gets a copy of the index as it was

        Each step is one transaction, so that an interruption loses nothing; what is left to do, the next call does.
        Given vectors cannot be made again: without an embedder, documents with damaged ones are lost.
        Raises IndexDamagedError when rows cannot even be read: such a file has to be restored from a copy.
        """
        from edge_embed_runtime.maintenance.repair import repair

        with self._write() as store:
            write = None if self._models.missing(store.facts) else self._store_texts
            try:
                return repair(store, write, drop=drop, backup=backup, show_progress=show_progress)
            finally:
                with self._reading:
                    self._search.reset()

    def backup(
        self,
        path: str | os.PathLike[str],
        *,
        compact: bool = False,
        overwrite: bool = False,
        show_progress: bool = False,
    ) -> "Backup":
        """Copy the index as it is now to another file, which is there whole and durable when this returns; neither
        searches nor another process that writes are held up.

        compact:   leave out the space of deleted documents
        overwrite: replace a file that is there

        Without an embedder: `edge_embed_runtime.maintenance.backup.backup_index(path, out)`.
        Raises InputError where the file is there, StorageError when the disk is too full or fails; nothing is
        changed then.
        """
        from edge_embed_runtime.maintenance.backup import backup_index

        with self._read() as store:
            source = store.path
        return backup_index(source, path, compact=compact, overwrite=overwrite, show_progress=show_progress)

    def compact(self) -> "Compaction":
        """Give the space of deleted documents back to the file system. Searches wait for it.

        Raises StorageError when there is too little free space for SQLite's copy; the index stays as it is.
        """
        from edge_embed_runtime.maintenance.repair import compact

        with self._write() as store, self._reading:
            return compact(store)

    def rebuild(self, graph: "GraphChoice" = "auto", *, show_progress: bool = False) -> "Rebuilt":
        """Make anew what is derived from the stored texts and vectors: the frame in which binary codes are made,
        learned from what is stored now; these; the table of words; and a graph over the codes, in a file of its own.

        graph: "auto" builds one for two million passages and more, measures searches with and without it on this
               device, and keeps it where it is faster and finds as much; "always" keeps it in any case; "never"
               removes it

        Searches go on meanwhile. Each step is one transaction, and the graph a file that appears whole or not at all:
        an interruption loses nothing. Raises StorageError when the disk fails, IndexFileError when memory is too small
        for a graph; the index is whole then, and searches compare all codes.
        """
        from edge_embed_runtime.maintenance.rebuild import GraphChoice, rebuild

        if graph not in get_args(GraphChoice):
            raise InputError(f"graph is {graph!r:.40}, expected one of {get_args(GraphChoice)}")
        with self._write() as store:
            return rebuild(store, graph, show_progress=show_progress)

    def _store_texts(self, records: list[Record], delete: Iterable[str], show_progress: bool) -> None:
        """Embed and store records, after deleting documents by key."""
        facts = self._store.facts
        if missing := self._models.missing(facts):
            how = "use add_vectors" if facts.space else f"open it with {missing}"
            kinds = " of each kind" if facts.attached else ""
            raise InputError(f"{self.path} was opened without an embedder{kinds}: {how}")
        late = bool(facts.late)
        # of late chunking, places of all tokens of a document are held
        more = LATE_BYTES * max((len(record.text) for record in records), default=0) if late else 0
        self._write_entries(records, self._embedded(records, late, show_progress), delete, more)

    def _embedded(self, records: list[Record], late: bool, show_progress: bool) -> Iterator[Entry]:
        """Records with their passages, embedded when they are asked for, some hundred at a time."""
        first = self._models.first
        assert first is not None  # noqa: S101 - or something would be missing
        with progress_bar(sum(len(record.text) for record in records), show_progress) as advance:
            for part in passage_parts(first, records, late=late, bounded=self._room is not None):
                texts = [record.text[start:stop] for record, spans in part for start, stop in spans]
                if late:
                    _, codes, scales = embed_passages(first, [record.text for record, _ in part], False, late=True)
                else:
                    codes, scales = embed_texts(first, texts)
                yield from entries(part, codes, scales, self._models.rows(texts))
                advance(sum(stop - start for _, spans in part for start, stop in spans))

    def _commit(
        self,
        records: list[Record],
        spans: list[list[Span]],
        codes: Int8Codes,
        scales: Vectors,
        delete: Iterable[str] = (),
        attached: Mapping[str, Sequence[bytes]] | None = None,
    ) -> None:
        """Store records with the codes and other rows of their passages, given one after the other, in one
        transaction."""
        more = WORD_COPIES * max((len(record.text) for record in records), default=0)
        part = list(zip(records, spans, strict=True))
        self._write_entries(records, entries(part, codes, scales, attached or {}), delete, more)

    def _write_entries(
        self, records: Sequence[Record], entries: Iterable[Entry], delete: Iterable[str], more: int
    ) -> None:
        """more: bytes that this takes besides what storing takes in any case."""
        delete = list(delete)
        if not records and not delete:
            return
        with self._write() as store:
            with self._storing(records, more):
                removed = store.write(entries, delete)
            self._forget(removed)
            if records:
                from edge_embed_runtime.maintenance import learning

                learning.follow(store)

    def _storing(self, records: Sequence[Record], more: int) -> AbstractContextManager[None]:
        """Memory for storing documents, where there is a budget. more: see `_write_entries`"""
        if self._room is None:
            return nullcontext()
        return self._room.for_storing(
            sum(getsizeof(record.text) + getsizeof(record.metadata) for record in records), more
        )

    def _forget(self, removed: Removed) -> None:
        """Spare searches from reading all codes again after a commit of this object that deleted some."""
        with self._reading:
            self._search.forget(removed)


def _open_writer(path: Path, lock: WriterLock, *, secure_delete: bool) -> Store:
    """On a full disk, with what the lock keeps in reserve."""
    try:
        return Store(path, read_only=False, secure_delete=secure_delete)
    except StorageError:
        if not lock.give_reserve():
            raise
        return Store(path, read_only=False, secure_delete=secure_delete)


def _whole(records: Iterable[Record]) -> list[list[Span]]:
    """Every record as one passage."""
    return [[(0, len(record.text))] for record in records]


def _check_new(store: Store, records: Iterable[Record]) -> None:
    existing = store.existing(record.key for record in records)
    if existing:
        raise DuplicateKeyError(
            f"already in the index: {listed(sorted(existing), 5, quoted=True)}; nothing was stored. "
            "Use upsert to replace documents"
        )


def _check_words(words: str) -> str:
    if not isinstance(words, str) or words not in WORDS:
        raise InputError(f"words is {words!r:.40}, expected one of {', '.join(WORDS)}")
    return words


def _check_facts(
    path: Path, facts: Facts, embedder: Encoder | None, words: str | None, fields: Sequence[str] | None
) -> None:
    """Refuse an index of other vectors, or one that was made with other options than those given."""
    made = f"of the space {facts.bundle!r}" if facts.space else f"of the bundle {facts.bundle!r}"
    if embedder is not None and (facts.fingerprint, facts.dim) != (embedder.fingerprint, str(embedder.dim)):
        how = "Open it without an embedder" if facts.space else "Open it with the bundle it was made with"
        if facts.fingerprint == embedder.fingerprint and int(facts.dim) < embedder.dim:
            how = f"Make the embedder with truncate_dim={facts.dim} (--truncate-dim)"
        raise BundleMismatchError(
            f"{path} holds vectors {made} ({facts.fingerprint[:8]}, dim {facts.dim}); "
            f"the embedder is {embedder.name!r} ({embedder.fingerprint[:8]}, dim {embedder.dim}). "
            f"{how}, or embed it again: edge-embed reembed"
        )
    if words is not None and _check_words(words) != facts.words:
        raise InputError(f"{path} was made with words={facts.words!r}; that can't be changed to {words!r}")
    if fields is not None and sorted(check_fields(fields)) != sorted(json.loads(facts.fields)):
        raise InputError(f"{path} was made with fields={shown(facts.fields)}; that can't be changed")


def read_stats(path: str | os.PathLike[str]) -> dict[str, Any]:
    """`Index.stats` of a file, without its embedder."""
    from edge_embed_runtime.search.hnsw import describe

    store = Store(check_path(path, "the index"), read_only=True)
    try:
        return {**_stats(store), "graph": describe(store, None)}
    finally:
        store.close()


def _root(store: Store) -> str | None:
    """The root as it was recorded, for people."""
    from edge_embed_runtime.storage.root import read_root

    root = read_root(store)
    return None if root is None else root.absolute


def _stats(store: Store) -> dict[str, Any]:
    generation, _ = store.counters()  # and the facts of what is committed now
    documents, passages = store.counts()
    return {
        "documents": documents,
        "passages": passages,
        "dim": store.dim,
        "bundle": store.facts.bundle,
        "space": bool(store.facts.space),
        "fingerprint": store.facts.fingerprint,
        "words": store.facts.words,
        "fields": json.loads(store.facts.fields),
        "root": _root(store),
        **{name: model[1] for name, model in store.facts.attached.items()},
        **({"late_chunking": True} if store.facts.late else {}),
        **({} if store.facts.normal else {"advice": OLD_WORDS}),
        "generation": generation,
        "bytes": bytes_on_disk(store.path),
    }
