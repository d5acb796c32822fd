"""The index: documents in, hits out."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from edge_embed_runtime.checks import check_path
from edge_embed_runtime.codes import Int8Codes, Vectors, quantize_int8
from edge_embed_runtime.database import check_header, locate, wal_bytes
from edge_embed_runtime.documents import Document, Hits, Record, check_documents, check_key
from edge_embed_runtime.embedder import Embedder
from edge_embed_runtime.errors import (
    BundleMismatchError,
    DuplicateKeyError,
    IndexClosedError,
    IndexFileError,
    IndexReadOnlyError,
    InputError,
)
from edge_embed_runtime.filelock import WriterLock
from edge_embed_runtime.maintenance import Compaction, Repair, Report, compact, repair, verify_index
from edge_embed_runtime.passages import Span, split
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.search import Mode, Searcher
from edge_embed_runtime.store import Entry, Store

# Passages that are embedded before their int8 codes replace the float vectors.
EMBED_SLICE = 1024


class Index:
    """Documents, their vectors and their words in one file. Made by `Index.open`; close it, or use it with `with`.

    Threads may share one object. One object may write at a time, over all processes; any number may read.
    """

    def __init__(self, store: Store, embedder: Embedder, lock: WriterLock | None) -> None:
        self._store = store
        self._embedder = embedder
        self._writer_lock = lock
        self._mutex = threading.RLock()
        self._process = os.getpid()
        self._search = Searcher(store, embedder)
        self._closed = False

    @classmethod
    def open(cls, path: str | os.PathLike[str], embedder: Embedder, *, read_only: bool = False) -> Self:
        """Open an index, made when missing, with the embedder that its vectors come from.

        read_only: search only: works while another process writes, and on read-only storage

        Raises IndexLockedError when it is open for writing elsewhere, BundleMismatchError when its vectors come from
        another bundle, IndexFormatError or IndexDamagedError when the file is not a whole index.
        """
        if not isinstance(embedder, Embedder):
            raise InputError(
                f"Index.open takes an Embedder, got {type(embedder).__name__}: Index.open(path, Embedder())"
            )
        path = locate(path, must_exist=read_only)
        if path.exists():
            check_header(path)  # before a lock file is put beside what is no index
        lock = None if read_only else WriterLock(path)
        store = None
        try:
            if not path.exists():
                Store.create(path, _facts(embedder))
            store = Store(path, read_only=read_only)
            _check_bundle(path, store.meta(), embedder)
        except BaseException:
            if store is not None:
                store.close()
            if lock is not None:
                lock.release()
            raise
        return cls(store, embedder, lock)

    @property
    def path(self) -> Path:
        return self._store.path

    def close(self) -> None:
        """Let go of the file. What was added is on disk already."""
        if os.getpid() != self._process:
            return  # a forked child's copy: file and lock belong to the parent
        with self._mutex:
            if not self._closed:
                self._closed = True
                self._search.release()
                self._store.close()
                if self._writer_lock is not None:
                    self._writer_lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _use(self, *, write: bool = False) -> Iterator[None]:
        if os.getpid() != self._process:
            raise IndexFileError("this Index was opened before a fork: open it again in the child process")
        with self._mutex:
            if self._closed:
                raise IndexClosedError(f"{self._store.path} was closed")
            if write and self._store.read_only:
                raise IndexReadOnlyError(f"{self._store.path} is open with read_only=True")
            yield

    def __len__(self) -> int:
        """Number of documents."""
        with self._use():
            return self._store.counts()[0]

    def __contains__(self, key: object) -> bool:
        with self._use():
            return isinstance(key, str) and bool(self._store.existing([key]))

    def get(self, key: str) -> Document | None:
        """The document under a key, or None."""
        check_key(key)
        with self._use():
            found = self._store.document(key)
        return Document(found.key, found.text, found.metadata) if found else None

    def stats(self) -> dict[str, Any]:
        """Documents, passages, dim, bytes on disk, the bundle's name and fingerprint, generation (commits so far)."""
        with self._use():
            return _stats(self._store)

    def search(self, query: str, k: int = 10, where: Mapping[str, Any] | None = None, mode: Mode = "hybrid") -> Hits:
        """The k documents that fit a query best, each with its best passage, best first.

        where: conditions on metadata that a document must fit, such as {"lang": "en"} or {"year": {"$gte": 2000}};
               help(edge_embed_runtime.filters) lists them
        mode:  "vector" compares meanings, "text" words (BM25), "hybrid" fuses the two rankings

        Where there are fewer than k, `shortfall` of the result says why. Raises InputError for an empty query or a k
        under 1, FilterError for a field that no document has and for what is no condition.
        """
        with self._use():
            return self._search.search(query, k, where, mode)

    @property
    def damaged(self) -> list[int]:
        """Ids of passages that searches found damaged, or whose documents are; they are never returned."""
        return sorted(self._search.damaged)

    def add(self, documents: Iterable[Document], *, show_progress: bool = False) -> int:
        """Store new documents, all of them or none: they are on disk when this returns. Gives their number.

        Raises DuplicateKeyError for a key that is there already (see `upsert`), DocumentError for a document that
        cannot be stored, StorageError when the disk fails.
        """
        records = check_documents(documents)
        with self._use(write=True):
            existing = self._store.existing(record.key for record in records)
            if existing:
                raise DuplicateKeyError(
                    f"already in the index: {', '.join(map(repr, sorted(existing)[:5]))}"
                    f"{' and more' if len(existing) > 5 else ''}; nothing was stored. Use upsert to replace documents"
                )
            self._write(records, (), show_progress)
        return len(records)

    def upsert(self, documents: Iterable[Document], *, show_progress: bool = False) -> int:
        """Store documents, in place of those with the same keys, all of them or none. Gives the number that changed.

        A document that is stored already with the same text and metadata costs nothing.
        """
        records = check_documents(documents)
        with self._use(write=True):
            existing = self._store.existing(record.key for record in records)
            changed = [r for r in records if r.key not in existing or not self._store.holds(r)]
            self._write(changed, existing.intersection(r.key for r in changed), show_progress)
        return len(changed)

    def delete(self, keys: str | Iterable[str]) -> int:
        """Delete documents by key; gives how many were there."""
        if not isinstance(keys, Iterable):
            raise InputError(f"delete takes a key or a list of keys, got {type(keys).__name__}")
        wanted = [check_key(key) for key in ([keys] if isinstance(keys, str) else keys)]
        with self._use(write=True):
            existing = self._store.existing(wanted)
            if existing:
                self._search.forget(self._store.write([], existing))
        return len(existing)

    def verify(self, *, show_progress: bool = False) -> Report:
        """Read everything and say what is wrong; neither searches nor another process that writes are held up.

        Without an embedder: `edge_embed_runtime.maintenance.verify_index(path)`.
        """
        with self._use():
            path = self._store.path
        return verify_index(path, show_progress=show_progress)

    def repair(
        self, *, drop: bool = False, backup: str | os.PathLike[str] | None = None, show_progress: bool = False
    ) -> Repair:
        """Restore what the stored texts allow: look-up tables, the table of words, and passages, embedded again.

        drop:   delete the documents that cannot be restored, whose text, key or metadata is damaged
        backup: a file, not there yet, that gets a copy of the index as it was

        Each step is one transaction, so that an interruption loses nothing; what is left to do, the next call does.
        Raises IndexDamagedError when rows cannot even be read: such a file has to be restored from a copy.
        """
        with self._use(write=True):
            try:
                return repair(self._store, self._write, drop=drop, backup=backup, show_progress=show_progress)
            finally:
                self._search.reset()

    def compact(self) -> Compaction:
        """Give the space of deleted documents back to the file system.

        Raises StorageError when there is too little free space for SQLite's copy; the index stays as it is.
        """
        with self._use(write=True):
            return compact(self._store)

    def _write(self, records: list[Record], delete: Iterable[str], show_progress: bool) -> None:
        """Embed and store records, after deleting documents by key."""
        tokenizer = self._embedder.tokenizer
        reserved = len(tokenizer.encode(self._embedder.prompts["document"])) - len(tokenizer.encode(""))
        spans = [split(record.text, tokenizer, reserved) for record in records]
        texts = [r.text[start:stop] for r, parts in zip(records, spans, strict=True) for start, stop in parts]
        self._commit(records, spans, *self._embed(texts, show_progress), delete)

    def _embed(self, texts: list[str], show_progress: bool) -> tuple[Int8Codes, Vectors]:
        """Int8 codes [n, dim] and scales [n] of passages."""
        codes = np.empty((len(texts), self._embedder.dim), np.int8)
        scales = np.empty(len(texts), np.float32)
        with progress_bar(len(texts), show_progress) as advance:
            for start in range(0, len(texts), EMBED_SLICE):
                part = slice(start, start + EMBED_SLICE)
                vectors = self._embedder.encode_document(texts[part])
                codes[part], scales[part] = quantize_int8(vectors)
                advance(len(vectors))
        return codes, scales

    def _commit(
        self,
        records: list[Record],
        spans: list[list[Span]],
        codes: Int8Codes,
        scales: Vectors,
        delete: Iterable[str] = (),
    ) -> None:
        """Store records with the codes of their passages, given one after the other, in one transaction."""
        entries, start = [], 0
        for record, parts in zip(records, spans, strict=True):
            stop = start + len(parts)
            entries.append(Entry(record, parts, codes[start:stop], scales[start:stop]))
            start = stop
        delete = list(delete)
        if entries or delete:
            self._search.forget(self._store.write(entries, delete))


def read_stats(path: str | os.PathLike[str]) -> dict[str, Any]:
    """`Index.stats` of a file, without its embedder."""
    store = Store(check_path(path, "the index"), read_only=True)
    try:
        return _stats(store)
    finally:
        store.close()


def _stats(store: Store) -> dict[str, Any]:
    documents, passages = store.counts()
    meta = store.meta()
    return {
        "documents": documents,
        "passages": passages,
        "dim": int(meta["dim"]),
        "bundle": meta["bundle"],
        "fingerprint": meta["fingerprint"],
        "generation": int(meta["generation"]),
        "bytes": store.path.stat().st_size + wal_bytes(store.path),
    }


def _facts(embedder: Embedder) -> dict[str, str]:
    return {
        "fingerprint": embedder.fingerprint,
        "bundle": embedder.manifest.name,
        "dim": str(embedder.dim),
    }


def _check_bundle(path: Path, meta: Mapping[str, str], embedder: Embedder) -> None:
    made = (meta["fingerprint"], meta["dim"])
    if made != (embedder.fingerprint, str(embedder.dim)):
        raise BundleMismatchError(
            f"{path} holds vectors of the bundle {meta['bundle']!r} ({meta['fingerprint'][:8]}, dim {meta['dim']}); "
            f"the embedder is {embedder.manifest.name!r} ({embedder.fingerprint[:8]}, dim {embedder.dim}). "
            "Open it with the bundle it was made with, or add the documents to a new index"
        )
