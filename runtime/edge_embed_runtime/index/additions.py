"""Documents are checked, embedded and stored, all of a call or none."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_embed_runtime.batches import batches
from edge_embed_runtime.checks import listed
from edge_embed_runtime.errors import DuplicateKeyError, InputError
from edge_embed_runtime.index.connections import Connections
from edge_embed_runtime.index.embedders import Models
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.passages.encode import EMBED_SLICE, embed_passages, embed_texts
from edge_embed_runtime.passages.split import PASSAGE_TOKENS, each_span, reserved_tokens
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.storage.documents import Document, Record, Refused, check_documents
from edge_embed_runtime.storage.rows import NO_VECTOR, Entry, packed
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.headroom import WORD_COPIES
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.normalize import check_vectors
from edge_embed_runtime.vectors.types import Int8Codes, Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.embed.embedder import Embedder
    from edge_embed_runtime.embed.encoder import Encoder
    from edge_embed_runtime.index.mediaentries import MediaVectors, Refuse

# Bytes for each number of vectors that are checked, and become codes.
VECTOR_COPIES = 48
# Bytes for each character of a text whose tokens are all held.
LATE_BYTES = 24
# Passages of a part, fewer under a memory budget (else EMBED_SLICE), and about how many characters.
BOUNDED_SLICE = 256
SLICE_CHARACTERS = 2**20

Part = tuple[Record, list[Span]]
# Vectors [n, dim], None in the place of one that is missing, or of all.
GivenVectors = ArrayLike | Sequence[ArrayLike | None] | None


class Additions:
    """What `Index.add` and the like do."""

    def __init__(self, connections: Connections, models: Models) -> None:
        self._connections, self._models = connections, models

    def add(self, documents: Iterable[Document], show_progress: bool, thumbnails: bool, refused: Refused | None) -> int:
        given, refuse = _followed(documents, refused)
        records = check_documents(given, room=self._connections.room, refused=refused)
        with self._connections.writing() as store:
            records = placed_records(store, records)
            _check_new(store, records)
            return self.store_texts(records, (), show_progress, thumbnails, refuse)

    def upsert(
        self, documents: Iterable[Document], show_progress: bool, thumbnails: bool, refused: Refused | None
    ) -> int:
        given, refuse = _followed(documents, refused)
        records = check_documents(given, room=self._connections.room, refused=refused)
        with self._connections.writing() as store:
            records = placed_records(store, records)
            existing = store.existing(record.key for record in records)
            changed = [r for r in records if r.key not in existing or not store.holds(r)]
            old = existing.intersection(r.key for r in changed)
            return self.store_texts(changed, old, show_progress, thumbnails, refuse)

    def add_vectors(self, documents: Iterable[Document], vectors: GivenVectors) -> int:
        with self._connections.writing() as store:
            records, given = self._check_pairs(store, documents, vectors)
            _check_new(store, records)
            self._store_vectors(records, given, ())
        return len(records)

    def upsert_vectors(self, documents: Iterable[Document], vectors: GivenVectors) -> int:
        with self._connections.writing() as store:
            records, given = self._check_pairs(store, documents, vectors)
            existing = store.existing(record.key for record in records)
            changed = [
                i
                for i, record in enumerate(records)
                if record.key not in existing or not store.holds(record, given.packed(i))
            ]
            fresh = [records[i] for i in changed]
            old = existing.intersection(record.key for record in fresh)
            self._store_vectors(fresh, given.some(changed), old)
        return len(changed)

    def store_texts(
        self,
        records: Sequence[Record],
        delete: Iterable[str],
        show_progress: bool,
        thumbnails: bool = False,
        refuse: "Refuse | None" = None,
    ) -> int:
        """Embed and store records, after deleting documents by key. Returns the number of those that were stored.

        refuse: takes those whose picture or sound cannot be read; with it all others are embedded before any is stored
        """
        reader = self._connections.reader
        facts = reader.facts
        if missing := self._models.missing(facts):
            how = "use add_vectors" if facts.space else f"open it with {missing}"
            kinds = " of each kind" if facts.attached else ""
            raise InputError(f"{reader.path} was opened without an embedder{kinds}: {how}", path=reader.path)
        if any(record.media is None for record in records):
            self._models.check_kind("text", reader.path)
        bounded = self._connections.room is not None
        if any(record.media is not None for record in records):
            from edge_embed_runtime.index.mediaentries import MediaVectors

            with self._connections.writing() as store:
                media = MediaVectors.of(self._models, store, records, thumbnails, refuse)
            made = None
            if refuse is not None:
                made = media.entries(records)
                records = [record for record in records if record.media is None or record.key in made]
                delete = {record.key for record in records}.intersection(delete)
            found = mixed_entries(media, records, made, facts.late, bounded, show_progress)
        else:
            found = text_entries(self._models, records, facts.late, bounded, show_progress)
        # with late chunking, places of all tokens of a document are held
        self._connections.commit(records, found, delete, LATE_BYTES * _longest(records) if facts.late else 0)
        return len(records)

    def _store_vectors(self, records: Sequence[Record], given: "_Given", delete: Iterable[str]) -> None:
        """Store records as one passage each."""
        stored = (entry for i, record in enumerate(records) for entry in given.entries(i, record))
        self._connections.commit(records, stored, delete, WORD_COPIES * _longest(records))

    def _check_pairs(
        self, store: Store, documents: Iterable[Document], vectors: GivenVectors
    ) -> tuple[list[Record], "_Given"]:
        if not store.facts.space:
            raise InputError(
                f"{store.path} holds vectors of the bundle {store.facts.bundle!r}: use add; Index.create makes "
                "indexes for vectors from elsewhere",
                path=store.path,
            )
        records = check_documents(documents, blank=True, room=self._connections.room)
        records = placed_records(store, records)
        with self._connections.storing(records, VECTOR_COPIES * len(records) * store.dim):
            filled, bare = _filled(vectors, len(records), store.dim)
            checked = check_vectors(filled, store.dim, "vectors")
            if len(checked) != len(records):
                raise InputError(f"{len(records)} documents and {len(checked)} vectors: expected one vector each")
            return records, _Given(*quantize_int8(checked), bare)


@dataclass(frozen=True)
class _Given:
    """Codes [n, dim] and scales [n] of given vectors, and where there are none, [n]; None where all are there."""

    codes: Int8Codes
    scales: Vectors
    bare: NDArray[np.bool_] | None

    def is_bare(self, i: int) -> bool:
        return self.bare is not None and bool(self.bare[i])

    def entries(self, i: int, record: Record) -> Iterator[Entry]:
        codes, scales, bare = self.codes[i : i + 1], self.scales[i : i + 1], self.is_bare(i)
        if record.media is None:
            yield Entry(record, [(0, len(record.text))], codes, scales, bare=bare)
            return
        from edge_embed_runtime.index.mediaentries import given_entries

        yield from given_entries(record, codes, scales, bare=bare)

    def packed(self, i: int) -> bytes:
        return NO_VECTOR if self.is_bare(i) else packed(self.codes[i], self.scales[i])

    def some(self, chosen: list[int]) -> "_Given":
        return _Given(self.codes[chosen], self.scales[chosen], None if self.bare is None else self.bare[chosen])


def _filled(vectors: Any, count: int, dim: int) -> tuple[ArrayLike, NDArray[np.bool_] | None]:
    """Vectors without gaps: a vector of ones stands where there is None; and where that is, [n]."""
    if vectors is None:
        return np.ones((count, dim), np.float32), np.ones(count, np.bool_)
    objects = isinstance(vectors, np.ndarray) and vectors.dtype == object
    if not objects and not isinstance(vectors, list | tuple):
        return vectors, None
    bare = np.array([vector is None for vector in vectors], np.bool_)
    if not bare.any():
        return vectors, None
    ones = np.ones(dim, np.float32)
    return [ones if vector is None else vector for vector in vectors], bare


def _longest(records: Sequence[Record]) -> int:
    return max((len(record.text) for record in records), default=0)


def _followed(documents: Iterable[Document], refused: Refused | None) -> "tuple[Iterable[Document], Refuse | None]":
    """Documents, and what takes the key of one of them for `refused`."""
    if refused is None or isinstance(documents, Document) or not isinstance(documents, Iterable):
        return documents, None
    given = list(documents)
    by_key = {document.key: document for document in given if isinstance(document, Document)}
    return given, lambda key, error: refused(by_key[key], error)


def placed_records(store: Store, records: list[Record]) -> list[Record]:
    """Records as they are stored: see mediaentries.placed."""
    if all(record.media is None for record in records):
        return records
    from edge_embed_runtime.index.mediaentries import placed

    return placed(store, records)


def _check_new(store: Store, records: Iterable[Record]) -> None:
    existing = store.existing(record.key for record in records)
    if existing:
        raise DuplicateKeyError(
            f"already in the index: {listed(sorted(existing), 5, quoted=True)}; nothing was stored. "
            "Use upsert to replace documents",
            path=store.path,
            keys=sorted(existing),
        )


def text_entries(
    models: Models, records: Sequence[Record], late: bool, bounded: bool, show_progress: bool
) -> Iterator[Entry]:
    """Records with their passages, embedded when they are asked for, some hundred at a time."""
    if not records:
        return
    first = models.first
    assert first is not None  # noqa: S101 - the caller asks `Models.missing`
    if "text" not in models.modalities:  # captions, which are found by their words
        yield from (_bare_entry(record, first.dim) for record in records)
        return
    with progress_bar(sum(len(record.text) for record in records), show_progress) as advance:
        for part in _parts(first, records, late=late, bounded=bounded):
            texts = [record.text[start:stop] for record, spans in part for start, stop in spans]
            if late:
                _, codes, scales = embed_passages(first, [record.text for record, _ in part], False, late=True)
            else:
                codes, scales = embed_texts(first, texts)
            yield from entries(part, codes, scales, models.rows(texts))
            advance(sum(stop - start for _, spans in part for start, stop in spans))


def _bare_entry(record: Record, dim: int) -> Entry:
    """Of a text that has words and no vector."""
    codes, scales = np.zeros((1, dim), np.int8), np.ones(1, np.float32)
    return Entry(record, [(0, len(record.text))], codes, scales, bare=True)


def mixed_entries(
    media: "MediaVectors",
    records: Sequence[Record],
    embedded: "dict[str, Entry] | None",
    late: bool,
    bounded: bool,
    show_progress: bool,
) -> Iterator[Entry]:
    """Records with pictures and sounds, which come before the passages of their texts; some hundred at a time.

    embedded: entries of pictures and sounds that were made before; None for none
    """
    with progress_bar(len(records), show_progress) as advance:
        for part in batches(records, BOUNDED_SLICE):
            made = media.entries(part) if embedded is None else embedded
            texts = text_entries(
                media.models, [r for r in part if r.media is None or r.text.strip()], late, bounded, False
            )
            pending = next(texts, None)
            for record in part:
                if record.key in made:
                    yield made.pop(record.key)
                while pending is not None and pending.record is record:
                    yield pending
                    pending = next(texts, None)
                advance(1)


def entries(
    part: Iterable[Part],
    codes: Int8Codes,
    scales: Vectors,
    attached: Mapping[str, Sequence[bytes]] | None = None,
) -> Iterator[Entry]:
    """Of records with the spans of their passages; codes, scales and other rows are given one after the other."""
    start = 0
    for record, spans in part:
        stop = start + len(spans)
        rows = {name: given[start:stop] for name, given in (attached or {}).items()}
        yield Entry(record, spans, codes[start:stop], scales[start:stop], rows)
        start = stop


def _parts(
    embedder: "Encoder", records: Iterable[Record], *, late: bool, bounded: bool = False
) -> Iterator[list[Part]]:
    """Records with the spans of their passages, some hundred passages at a time; of a long record, some at a time.

    late:    documents stay whole
    bounded: fewer passages at a time
    """
    size = BOUNDED_SLICE if bounded else EMBED_SLICE
    if late:
        from edge_embed_runtime.passages.late import late_size

        reserved, most = 0, late_size(cast("Embedder", embedder))
    else:
        reserved, most = reserved_tokens(embedder), PASSAGE_TOKENS
    part: list[Part] = []
    passages = characters = 0
    for record in records:
        part.append((record, []))
        for span in each_span(record.text, embedder.tokenizer, reserved, most=most):
            part[-1][1].append(span)
            passages, characters = passages + 1, characters + span[1] - span[0]
            if not late and (passages >= size or characters >= SLICE_CHARACTERS):
                yield part
                part, passages, characters = [(record, [])], 0, 0
        if not part[-1][1]:  # all of it has been given
            part.pop()
        if passages >= size or characters >= SLICE_CHARACTERS:
            yield part
            part, passages, characters = [], 0, 0
    if part:
        yield part
