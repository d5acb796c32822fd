"""Vectors in and out of an index: `load_vectors` from .npy, .npz, .parquet and .arrow files, `dump_vectors` to them.

Rows are counted from 0, as numpy does. Memory stays bounded whatever the number of rows.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edge_embed.files.arrays import NpyFile, NpzFile, NpzWriter
from edge_embed.files.arrow import SUFFIXES as ARROW_SUFFIXES
from edge_embed.files.arrow import ArrowFile, ArrowWriter
from edge_embed.files.bounded import batches
from edge_embed.files.columns import Names
from edge_embed.files.documents import ROW_SUFFIXES, Reading, read_documents
from edge_embed.files.naming import Naming, naming_of
from edge_embed_runtime.checks import check_path
from edge_embed_runtime.errors import DuplicateKeyError, InputError, SourceError, about
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.database import locate
from edge_embed_runtime.storage.documents import Document, check_key
from edge_embed_runtime.storage.rows import DOCUMENTS, PASSAGES, checked, is_whole
from edge_embed_runtime.storage.schema import Facts
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.writing import check_output, replacing
from edge_embed_runtime.vectors.int8 import dequantize

# Rows of a commit of `load_vectors` and of a part of `dump_vectors`, at the most; fewer where they hold more numbers or
# characters than this.
BATCH_ROWS = 8192
BATCH_NUMBERS = 2**22
BATCH_CHARACTERS = 4_000_000
# Under a memory budget, of `Bounds.batch`, for each number: vectors take several times what the texts do.
NUMBER_BYTES = 16

Row = TypeVar("Row")


@dataclass(frozen=True)
class Loaded:
    """What `load_vectors` did: rows read, documents stored or replaced, and those that were there unchanged."""

    rows: int
    stored: int
    unchanged: int


@dataclass(frozen=True)
class Dumped:
    """What `dump_vectors` did: passages written, and rows left out because they are damaged."""

    rows: int
    damaged: int
    dim: int


class _Source(Protocol):
    """Rows of a file of vectors."""

    count: int
    dim: int
    bundle: str | None  # name of the bundle or space that the file says its vectors come from
    keyed: bool

    def take(self, rows: int) -> NDArray[Any]:
        """The next vectors [rows, dim]; fewer at the end."""

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
DUMP_SUFFIXES = (".npz", *ARROW_SUFFIXES)


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
    """Store vectors of a file in an index of given vectors, made when missing.

    vectors_path:   .npy [rows, dim]; .npz, .parquet or .arrow as `dump_vectors` writes them, where all but the vectors
                    may be missing; other columns become metadata
    documents_path: .jsonl or .csv as `edge-embed add` reads them, rows in the order of the vectors; texts may be
                    missing, and ids are keys by themselves. Without it, and where a file has nothing but vectors, texts
                    and metadata, keys are the numbers of rows, and `source` in the metadata says of which file
    space:          names the model that the vectors come from; an index that is there must have it already
    key, text, vector: columns of keys, texts and vectors; None for the usual names: key, _id or id (just one of them),
                    text, vector. In .npz files keys, texts, vectors
    replace:        documents of other files may be replaced where they have the same keys
    words, fields, timeout, max_rss_mb: see `Index.create`

    Rows are committed in batches, and those that are stored already unchanged are passed over: what was interrupted
    can be run again. Headers, numbers of rows and keys are checked before anything is stored. Raises SourceError for
    a file that cannot be read and for a row that cannot be stored, with the number of the row and of those before it
    that are stored; DuplicateKeyError for a key that comes twice; MissingExtraError without pyarrow where it is needed.
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
    """A file to read, with the path as it was given: keys of documents hold it."""
    found = check_path(path, what)
    if found.suffix.lower() not in suffixes:
        raise SourceError(f"{found} is no file of a known type; expected {', '.join(suffixes)}", path=found)
    if not found.is_file():
        raise SourceError(
            f"{found} {'is not a file' if found.exists() else 'does not exist'}",
            path=found,
            code=None if found.exists() else "source_missing",
        )
    return Path(cast(str, path))


@dataclass(frozen=True)
class _Rows:
    """Rows to store: their vectors come from one file, and their documents from it or from another."""

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
        """Their documents, from the first."""
        if self.documents is not None:
            return read_documents(self.documents, blank=True, key=self.file_key, reading=self.reading)
        return self.source.documents() if self.source.keyed else self._numbered()

    def _numbered(self) -> Iterator[Document]:
        """Documents whose keys are numbers of rows, with the file that these are of."""
        for document in self.source.documents():
            name = "source_file" if "source" in document.metadata else "source"
            yield Document(document.key, document.text, {**document.metadata, name: self.file_key})

    def keys(self) -> Iterator[str]:
        return self.source.keys() if self.documents is None else (document.key for document in self.read())


def _check_keys(rows: _Rows) -> None:
    """Read all keys once: as many as vectors, each once, each one that can be stored, equal in both files."""
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
    """Two places that hold the same number, the second of them as early as can be: [5, 7, 7, 5] -> (1, 2)."""
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
    """The index to store into, after a look at whether the vectors belong there."""
    target = locate(index_path, must_exist=False)
    if not source.dim:
        raise SourceError(f"{path} holds vectors of no numbers")
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
    """What an index is of, without its embedder."""
    with closing(Store(path, read_only=True)) as store:
        return store.facts


def _store(index: Index, rows: _Rows, replace: bool, show_progress: bool) -> Loaded:
    read = changed = 0
    source, path = rows.source, rows.path
    try:
        with progress_bar(source.count, show_progress, "loading") as advance:
            bounds = index.bounds
            most = _most(source.dim)
            if bounds is not None:
                most = max(1, min(most, bounds.batch // (NUMBER_BYTES * source.dim)))
            for batch in batches(rows.read(), lambda document: document, most, BATCH_CHARACTERS, bounds):
                vectors = source.take(len(batch))
                if len(vectors) < len(batch):
                    raise SourceError(
                        f"row {read + len(vectors)} of {rows.file} has no vector in {path}",
                        path=rows.file,
                        row=read + len(vectors),
                    )
                _check_rows(vectors, path, read)
                if not replace:
                    _check_origins(index, rows, batch, read)
                changed += index.upsert_vectors(batch, vectors)
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


def _check_origins(index: Index, rows: _Rows, batch: Sequence[Document], first: int) -> None:
    """Refuse to put a document in the place of one that comes from another file."""
    origins = index.origins(document.key for document in batch)
    for row, document in enumerate(batch, start=first) if origins else ():
        metadata = document.metadata
        own = metadata.get("source_file", metadata.get("source"))
        origin = origins.get(document.key, own)
        same = rows.naming.root is None and origin and os.path.realpath(origin) == os.path.realpath(rows.file)
        if origin != own and not same:
            whose = f"a document of {origin}" if origin else "a document that names no file"
            raise DuplicateKeyError(
                f"{rows.file}: row {row}: the key {document.key!r} is that of {whose}; --replace (replace=True) "
                "puts this one in its place",
                path=rows.file,
                keys=[document.key],
            )


def _most(dim: int) -> int:
    """Rows of a batch of vectors."""
    return max(1, min(BATCH_ROWS, BATCH_NUMBERS // dim))


def _batched(rows: Iterable[Row], most: int, characters: Callable[[Row], int]) -> Iterator[list[Row]]:
    """Rows in lists of at most so many, and of about BATCH_CHARACTERS."""
    batch: list[Row] = []
    pending = 0
    for row in rows:
        batch.append(row)
        pending += characters(row)
        if len(batch) == most or pending >= BATCH_CHARACTERS:
            yield batch
            batch, pending = [], 0
    if batch:
        yield batch


def _check_rows(vectors: NDArray[Any], path: Path, first: int) -> None:
    """Name the row of the file that cannot be stored; numbers in a batch would say little."""
    largest = np.maximum(vectors.max(axis=1), -vectors.min(axis=1).astype(np.float64))
    bad = np.flatnonzero(~np.isfinite(largest) | (largest == 0))
    if len(bad):
        raise SourceError(
            f"{path}: row {first + int(bad[0])} holds NaN, infinity, or nothing but zeros",
            row=first + int(bad[0]),
        )


def dump_vectors(
    index_path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    codes: bool = False,
    force: bool = False,
    show_progress: bool = False,
) -> Dumped:
    """Write every passage of an index to a file: a state of the index that was committed, while others may write.

    output: .npz: `keys`, `texts` and `metadata` (JSON) in the form that edge_embed.files.arrays describes; `starts` and
            `stops`, int64 [n], where the passage lies in its document, in characters; `vectors`, float32 [n, dim], each
            of length 1; `bundle` and `fingerprint`, of the bundle or space. .parquet or .arrow: the columns `key`,
            `start`, `stop`, `vector`, `text` and `metadata`; `bundle` and `fingerprint` in the schema's metadata
    codes:  in place of vectors, `codes`, int8 [n, dim], and `scales`, float32 [n]: vector = code * scale. In columns
            `code` and `scale`
    force:  replace the output where it is there

    The output appears whole or not at all. Rows that are damaged are left out and counted. Needs no embedder.
    Raises IndexFileError for what is no index, InputError for an output that is there, StorageError where it cannot
    be written, MissingExtraError without pyarrow where it is needed.
    """
    path = locate(index_path, must_exist=True)
    target = check_path(output, "the output")
    check_output(Path(cast(str, output)))  # a link is not what it leads to
    if target.suffix.lower() not in DUMP_SUFFIXES:
        raise InputError(f"{target} is no file of a known type; expected {', '.join(DUMP_SUFFIXES)}", path=target)
    if target == path or target.is_dir():
        raise InputError(
            f"{target} is {'the index itself' if target == path else 'a folder'}; give another name", path=target
        )
    if target.exists() and not force:
        raise InputError(
            f"{target} is there already; --force (force=True) replaces it", path=target, code="output_exists"
        )
    with closing(Store(path, read_only=True)) as store, replacing(target) as file:
        return _dump(store, file, target, codes, show_progress)


def _dump(store: Store, file: BinaryIO, target: Path, codes: bool, show_progress: bool) -> Dumped:
    found = _Found()
    with store.snapshot():
        store.counters()  # reads the facts again where they changed since the file was opened
        if not store.dim:
            raise InputError(f"{store.path} has no dense vectors to write", path=store.path)
        facts = {"bundle": store.facts.bundle, "fingerprint": store.facts.fingerprint}
        with closing(_writer(file, target, store.dim, codes, facts)) as writer:
            with progress_bar(store.counts()[1], show_progress, "writing") as advance:
                for rows in _batched(_whole(store, found), _most(store.dim), lambda row: len(row[3])):
                    writer.write(_columns(rows, codes))
                    advance(len(rows))
            writer.finish()
        bare = "SELECT count(*) FROM doc WHERE id NOT IN (SELECT doc FROM vec)"
        found.damaged += store.connection.execute(bare).fetchone()[0]
    return Dumped(found.passages, found.damaged, store.dim)


def _writer(file: BinaryIO, target: Path, dim: int, codes: bool, facts: dict[str, str]) -> NpzWriter | ArrowWriter:
    suffix = target.suffix.lower()
    if suffix == ".npz":
        return NpzWriter(file, target.parent, dim, codes, facts)
    return ArrowWriter(file, suffix, dim, codes, facts)


@dataclass
class _Found:
    """What was met on the way through an index."""

    passages: int = 0
    damaged: int = 0


def _whole(store: Store, found: _Found) -> Iterator[tuple[str, int, int, str, str, bytes]]:
    """key, start, stop, text, metadata and code (float32 scale, then int8 numbers) of the passages that are whole."""
    db = store.connection
    for doc, passages in groupby(db.execute(f"{PASSAGES} NOT INDEXED ORDER BY id"), key=itemgetter(1)):
        query = f"{DOCUMENTS} NOT INDEXED WHERE id = ?"
        row = db.execute(query, (doc,)).fetchone() if isinstance(doc, int) else None
        document, metadata = (None, "") if row is None else (checked(row), row[3])
        for passage in passages:
            _, _, start, stop, code, _ = passage
            if document is None or not is_whole(passage) or len(code) != store.dim + 4:
                found.damaged += 1
            else:
                found.passages += 1
                yield document.key, start, stop, document.text[start:stop], metadata, code


def _columns(rows: list[tuple[str, int, int, str, str, bytes]], codes: bool) -> dict[str, Any]:
    key, start, stop, text, metadata, code = zip(*rows, strict=True)
    raw = np.frombuffer(b"".join(code), np.int8).reshape(len(rows), -1)
    numbers, scales = raw[:, 4:], np.ascontiguousarray(raw[:, :4]).view("<f4")[:, 0]
    columns: dict[str, Any] = {"key": key, "start": start, "stop": stop, "text": text, "metadata": metadata}
    if codes:
        return {**columns, "code": numbers, "scale": scales}
    vectors = dequantize(numbers, scales)
    return {**columns, "vector": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}
