"""Vectors of .npy, .npz, .parquet and .arrow files into an index.

Rows are counted from 0, as numpy does. Memory stays bounded, whatever the number of rows.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edge_embed.files.arrays import NpyFile, NpzFile, check_rows
from edge_embed.files.arrow import SUFFIXES as ARROW_SUFFIXES
from edge_embed.files.arrow import ArrowFile
from edge_embed.files.columns import BATCH_CHARACTERS, Names, rows_per_batch
from edge_embed.files.documents import read_documents
from edge_embed.files.formats.filetypes import ROW_SUFFIXES
from edge_embed.files.naming import Naming, naming_of
from edge_embed.files.rows import Reading
from edge_embed_runtime.batches import Limit, batches
from edge_embed_runtime.checks import check_path
from edge_embed_runtime.errors import DuplicateKeyError, InputError, SourceError, about
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.database import locate
from edge_embed_runtime.storage.documents import Document, check_key, document_bytes
from edge_embed_runtime.storage.schema import Facts
from edge_embed_runtime.storage.store import Store

# Of the bytes of a batch under a memory budget, what each number of a vector takes.
NUMBER_BYTES = 16


@dataclass(frozen=True)
class Loaded:
    """What `load_vectors` did: rows read, documents stored or replaced, and those that were there unchanged."""

    rows: int
    stored: int
    unchanged: int


class _Source(Protocol):
    """Rows of a file of vectors."""

    count: int
    dim: int
    bundle: str | None  # name of the bundle or space that the file says its vectors come from
    keyed: bool

    def take(self, rows: int) -> NDArray[Any]:
        """The next vectors [rows, dim]; fewer at the end."""

    def gaps(self, rows: int) -> NDArray[np.bool_] | None:
        """Whether the next rows [rows] have no vector; None where all rows of the file have one."""

    def keys(self) -> Iterator[str]:
        """The keys of all rows, from the start."""

    def documents(self) -> Iterator[Document]:
        """Documents of all rows, from the start."""

    def close(self) -> None: ...


SOURCES: dict[str, Callable[[Path, Names], _Source]] = {
    ".npy": NpyFile,
    ".npz": NpzFile,
    **dict.fromkeys(ARROW_SUFFIXES, ArrowFile),
}


def load_vectors(
    index_path: str | os.PathLike[str],
    vectors_path: str | os.PathLike[str],
    documents_path: str | os.PathLike[str] | None = None,
    *,
    space: str | None = None,
    key: str | None = None,
    text: str | None = None,
    vector: str | None = None,
    replace: bool = False,
    words: str | None = None,
    fields: Sequence[str] | None = None,
    timeout: float = 0.0,
    max_rss_mb: float | None = None,
    show_progress: bool = False,
) -> Loaded:
    """Store vectors of a file in an index of given vectors, which is created if missing.

    vectors_path:   .npy [rows, dim]; .npz, .parquet or .arrow as `dump_vectors` writes them, where all but the vectors
                    may be missing; other columns become metadata
    documents_path: .jsonl or .csv as `edge-embed add` reads them, rows in the order of the vectors; texts may be
                    missing, and the keys are the ids alone. Without it, and where a file has only vectors, texts and
                    metadata, the keys are the row numbers, and `source` in the metadata names the file
    space:          names the model that made the vectors; an existing index must have the same
    key, text, vector: columns of keys, texts and vectors; None for the usual names: key, _id or id (just one of them),
                    text, vector. In .npz files keys, texts, vectors
    replace:        documents of other files may be replaced where they have the same keys
    words, fields, timeout, max_rss_mb: see `Index.create`

    Rows are committed in batches, and rows that the index already has unchanged are skipped: after an interruption,
    call it again. Headers, numbers of rows and keys are checked before anything is stored. Raises SourceError for a
    file that cannot be read and for a row that cannot be stored, with the number of the row and the number of rows
    stored before it; DuplicateKeyError for a key that comes twice; MissingExtraError where pyarrow is needed and
    missing.
    """
    path, documents = _given(vectors_path, "the vectors", SOURCES), None
    if documents_path is not None:
        documents = _given(documents_path, "the documents", ROW_SUFFIXES)
    asked = Names(None if documents else key, None if documents else text, vector)
    reading = Reading(text=(text,) if text else (), key=key, scoped=False)
    with about(path, SourceError), closing(SOURCES[path.suffix.lower()](path, asked)) as source:
        naming = naming_of(locate(index_path, must_exist=False), free=True)
        rows = _Rows(source, path, documents, reading, naming)
        _check_keys(rows)
        with _opened(index_path, source, path, space, words, fields, timeout, max_rss_mb) as index:
            if naming.new and naming.root is not None:
                index.root = naming.root
            return _store(index, rows, replace, show_progress)


def _given(path: object, what: str, suffixes: Iterable[str]) -> Path:
    """A file to read. The path is returned as it was given: keys of documents contain it."""
    found = check_path(path, what)
    if found.suffix.lower() not in suffixes:
        raise SourceError(f"{found} is not a file of a known type; expected {', '.join(suffixes)}", path=found)
    if not found.is_file():
        raise SourceError(
            f"{found} {'is not a file' if found.exists() else 'does not exist'}",
            path=found,
            code=None if found.exists() else "source_missing",
        )
    return Path(cast(str, path))


@dataclass(frozen=True)
class _Rows:
    """Rows to store: their vectors come from one file, their documents from the same file or another."""

    source: _Source
    path: Path
    documents: Path | None
    reading: Reading
    naming: Naming

    @property
    def file(self) -> Path:
        """The file that keys come from."""
        return self.documents or self.path

    @property
    def file_key(self) -> str:
        return self.naming.key(self.file, os.path.realpath(self.file))

    def read(self) -> Iterator[Document]:
        """All documents, from the first."""
        if self.documents is not None:
            return read_documents(self.documents, blank=True, key=self.file_key, reading=self.reading)
        return self.source.documents() if self.source.keyed else self._numbered()

    def _numbered(self) -> Iterator[Document]:
        """Documents whose keys are row numbers, with the name of their file."""
        for document in self.source.documents():
            name = "source_file" if "source" in document.metadata else "source"
            yield Document(document.key, document.text, {**document.metadata, name: self.file_key})

    def keys(self) -> Iterator[str]:
        return self.source.keys() if self.documents is None else (document.key for document in self.read())


def _check_keys(rows: _Rows) -> None:
    """Read all keys once. There must be as many as vectors, each only once, each valid, the same in both files."""
    source, path, documents = rows.source, rows.path, rows.documents
    if documents is None and not source.keyed:
        return
    hashes = array("q")  # 8 bytes a row
    own = source.keys() if source.keyed and documents is not None else None
    for row, key in enumerate(rows.keys()):
        check_key(key, f"{rows.file}: row {row}: key")
        hashes.append(hash(key))
        if own is not None and (other := next(own, None)) not in (None, key):
            raise SourceError(
                f"row {row} has the key {other!r} in {path} and {key!r} in {documents}", keys=[key], row=row
            )
    if len(hashes) != source.count:
        what = f"{rows.file} has {len(hashes)} rows and {path} {source.count} vectors"
        raise SourceError(f"{what}: expected as many of both; nothing was stored", path=rows.file)
    twice = _first_twice(np.frombuffer(hashes, np.int64))
    if twice is not None:
        key = next(islice(rows.keys(), twice[1], None))
        raise DuplicateKeyError(
            f"{rows.file}: rows {twice[0]} and {twice[1]} have the same key {key!r}", path=rows.file, keys=[key]
        )


def _first_twice(hashes: NDArray[np.int64]) -> tuple[int, int] | None:
    """Two places with the same number, of which the second is the earliest possible: [5, 7, 7, 5] -> (1, 2)."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    if not len(same):
        return None
    found = same[np.argmin(order[same + 1])]
    return int(order[found]), int(order[found + 1])


def _opened(
    index_path: str | os.PathLike[str],
    source: _Source,
    path: Path,
    space: str | None,
    words: str | None,
    fields: Sequence[str] | None,
    timeout: float,
    max_rss_mb: float | None,
) -> Index:
    """The index to store into, after a check that the vectors belong there."""
    target = locate(index_path, must_exist=False)
    if not source.dim:
        raise SourceError(f"{path} holds vectors without numbers")
    if not target.exists():
        if space is None:
            hint = f"; {path} says {source.bundle!r}" if source.bundle else ""
            raise InputError(
                f"{target} is new: give its space, the name of the model of the vectors{hint}",
                path=target,
                option="space",
            )
        return Index.create(
            target,
            space=space,
            dim=source.dim,
            words=words or "english",
            fields=fields or (),
            timeout=timeout,
            max_rss_mb=max_rss_mb,
        )
    facts = _facts(target)
    wanted = source.bundle if space is None else space
    if not facts.space:
        raise InputError(
            f"{target} holds vectors of the bundle {facts.bundle!r}; load into an index of its own", path=target
        )
    if wanted not in (None, facts.bundle):
        raise InputError(f"{target} holds vectors of {facts.bundle!r}, not of {wanted!r}", path=target, option="space")
    if facts.dim != source.dim:
        raise InputError(f"{target} holds vectors of {facts.dim} numbers, {path} of {source.dim}", path=target)
    return Index.open(target, words=words, fields=fields, timeout=timeout, max_rss_mb=max_rss_mb)


def _facts(path: Path) -> Facts:
    """The facts of an index, read without its embedder."""
    with closing(Store(path, read_only=True)) as store:
        return store.facts


def _store(index: Index, rows: _Rows, replace: bool, show_progress: bool) -> Loaded:
    read = changed = 0
    source, path = rows.source, rows.path
    try:
        with progress_bar(source.count, show_progress, "loading") as advance:
            most = rows_per_batch(source.dim)
            limits: list[Limit[Document]] = [(lambda document: len(document.text), BATCH_CHARACTERS)]
            if (bounds := index.bounds) is not None:
                most = max(1, min(most, bounds.batch // (NUMBER_BYTES * source.dim)))
                limits.append((document_bytes, bounds.batch))
            for batch in batches(rows.read(), most, *limits):
                vectors = source.take(len(batch))
                if len(vectors) < len(batch):
                    raise SourceError(
                        f"row {read + len(vectors)} of {rows.file} has no vector in {path}",
                        path=rows.file,
                        row=read + len(vectors),
                    )
                gaps = source.gaps(len(batch))
                check_rows(vectors if gaps is None else np.where(gaps[:, None], 1, vectors), path, read)
                if not replace:
                    _check_origins(index, rows, batch, read)
                changed += index.upsert_vectors(batch, vectors if gaps is None else _with_gaps(vectors, gaps))
                read += len(batch)
                advance(len(batch))
        if read < source.count:
            raise SourceError(f"{rows.file} ends before row {read}; {path} has {source.count} vectors", path=rows.file)
    except (SourceError, InputError) as error:
        kept = f"the {read} rows before row {read} are stored" if read else "nothing was stored"
        row = getattr(error, "row", None)
        raise SourceError(
            f"{error}; {kept}", code=error.code, path=error.path or path, keys=error.keys, row=row
        ) from error
    return Loaded(read, changed, read - changed)


def _with_gaps(vectors: NDArray[Any], gaps: NDArray[np.bool_]) -> list[NDArray[Any] | None]:
    return [None if gap else vector for vector, gap in zip(vectors, gaps, strict=True)]


def _check_origins(index: Index, rows: _Rows, batch: Sequence[Document], first: int) -> None:
    """Raise DuplicateKeyError where a document would replace one that comes from another file."""
    origins = index.origins(document.key for document in batch)
    for row, document in enumerate(batch, start=first) if origins else ():
        metadata = document.metadata
        own = metadata.get("source_file", metadata.get("source"))
        origin = origins.get(document.key, own)
        same = rows.naming.root is None and origin and os.path.realpath(origin) == os.path.realpath(rows.file)
        if origin != own and not same:
            whose = f"a document of {origin}" if origin else "a document that names no file"
            raise DuplicateKeyError(
                f"{rows.file}: row {row}: the key {document.key!r} belongs to {whose}; --replace (replace=True) "
                "replaces it",
                path=rows.file,
                keys=[document.key],
            )
