"""Pictures and sounds of documents are embedded, a few at a time; what the index has already is not embedded again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge_embed_runtime.batches import batches
from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import MediaError
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.media import Given, MediaKind, read_again, under_root
from edge_embed_runtime.storage.mediatable import KnownMedia
from edge_embed_runtime.storage.root import root_folder
from edge_embed_runtime.storage.rows import MEDIA_STARTS, Entry, packed
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.normalize import check_vectors
from edge_embed_runtime.vectors.types import Int8Codes, Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.index.embedders import Models

# Handed to the embedder at once.
SLICE = 32

# What two pictures or sounds that are the same have in common: their kind and the hash of their content.
Content = tuple[MediaKind, str]


def placed(store: Store, records: Sequence[Record]) -> list[Record]:
    """Records whose pictures and sounds are named from the root of the index, where they lie under it."""
    if all(record.media is None for record in records):
        return list(records)
    root = root_folder(store)
    return [
        record if record.media is None else replace(record, media=under_root(record.media, root)) for record in records
    ]


@dataclass(frozen=True)
class MediaVectors:
    """What becomes of the pictures and sounds of some records.

    root:       the folder that paths are relative to, None without one
    thumbnails: whether small pictures are stored, too
    known:      what the index has of them, looked up before anything is deleted, and what was embedded and comes again
    repeated:   those that are not known, and come more than once
    """

    models: "Models"
    dim: int
    root: str | None
    thumbnails: bool
    known: dict[Content, KnownMedia]
    repeated: set[Content]

    @staticmethod
    def of(models: "Models", store: Store, records: Sequence[Record], thumbnails: bool) -> "MediaVectors":
        """Raises InputError where something is to be embedded and there is no model for it."""
        givens = [record.media for record in records if record.media is not None]
        known = _known(store, givens)
        counts = Counter(map(_content, givens))
        new = {content for content in counts if content not in known or known[content].code is None}
        for kind in sorted({kind for kind, _ in new}):
            models.check_media(kind, store.path)
        repeated = {content for content in new if counts[content] > 1}
        return MediaVectors(models, store.dim, root_folder(store), thumbnails, known, repeated)

    def entries(self, records: Sequence[Record]) -> dict[str, Entry]:
        """The entries of their vectors, by the keys of records."""
        made: dict[str, Entry] = {}
        new: dict[MediaKind, list[tuple[Record, Given]]] = {}
        later: list[tuple[Record, Given]] = []
        first: set[Content] = set()
        for record in records:
            if record.media is None:
                continue
            content = _content(record.media)
            if self._has_vector(content) or content in first:
                later.append((record, record.media))
            else:
                first.add(content)
                new.setdefault(record.media.kind, []).append((record, record.media))
        for kind, pairs in new.items():
            for part in batches(pairs, SLICE):
                made |= self._embedded(kind, part)
        return made | {record.key: self._copied(record, given) for record, given in later}

    def _has_vector(self, content: Content) -> bool:
        return content in self.known and self.known[content].code is not None

    def _copied(self, record: Record, given: Given) -> Entry:
        code, thumbnail = self.known[_content(given)]
        assert code is not None  # noqa: S101 - it was embedded before, or the index has it
        if thumbnail is None and given.content is not None:
            thumbnail = self._thumbnail(record, given)
        raw = np.frombuffer(code, np.int8)
        return _entry(record, raw[None, 4:], raw[:4].view("<f4"), thumbnail)

    def _embedded(self, kind: MediaKind, pairs: Sequence[tuple[Record, Given]]) -> dict[str, Entry]:
        """Of pictures, or of sounds."""
        readable = [(record, self._readable(record, given)) for record, given in pairs]
        found = self._vectors(kind, readable)
        codes, scales = quantize_int8(check_vectors(found, self.dim, "vectors"))
        made = {}
        for i, (record, given) in enumerate(readable):
            known = self.known.get(_content(given))
            thumbnail = known.thumbnail if known and known.thumbnail else self._thumbnail(record, given)
            with _naming(record):
                given.check_unchanged()
            made[record.key] = _entry(record, codes[i : i + 1], scales[i : i + 1], thumbnail)
            if _content(given) in self.repeated:
                self.known[_content(given)] = KnownMedia(packed(codes[i], scales[i]), thumbnail)
        return made

    def _readable(self, record: Record, given: Given) -> Given:
        with _naming(record):
            return given if given.content is not None else read_again(given.media, self.root)

    def _vectors(self, kind: MediaKind, pairs: Sequence[tuple[Record, Given]]) -> Vectors:
        """float32 [n, dim]."""
        try:
            return self.models.encode_media(kind, [given.content for _, given in pairs])
        except MediaError:
            for record, given in pairs:  # which one it is
                with _naming(record):
                    self.models.encode_media(kind, [given.content])
            raise

    def _thumbnail(self, record: Record, given: Given) -> bytes | None:
        if not self.thumbnails or given.kind != "image":
            return None
        from edge_embed_runtime.inputs.thumbnails import thumbnail

        with _naming(record):
            return thumbnail(given.content)


def _known(store: Store, givens: Sequence[Given]) -> dict[Content, KnownMedia]:
    """What the index has of pictures and sounds."""
    found: dict[Content, KnownMedia] = {}
    with store.snapshot():
        table = store.media
        for given in givens if table is not None else ():
            if table is not None and _content(given) not in found and (one := table.known(given.media)) is not None:
                found[_content(given)] = one
    return found


@contextmanager
def _naming(record: Record) -> Iterator[None]:
    """An error about a picture or sound names its document."""
    try:
        yield
    except MediaError as error:
        message = f"document {shown(record.key)}: {error}; nothing was stored"
        raise MediaError(message, code=error.code, path=error.path, keys=[record.key]) from error


def _content(given: Given) -> Content:
    return given.kind, given.media.sha256


def _entry(record: Record, codes: Int8Codes, scales: Vectors, thumbnail: bytes | None) -> Entry:
    """codes [1, dim], scales [1]."""
    assert record.media is not None  # noqa: S101 - only those with one come here
    start = MEDIA_STARTS[record.media.kind]
    return Entry(record, [(start, start)], codes, scales, thumbnail=thumbnail)
