"""Pictures and sounds of documents are embedded, a few at a time; what the index has already is not embedded again."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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

# Takes the key of a document, and why it is left out.
Refuse = Callable[[str, MediaError], None]
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
    refuse:     takes records whose picture or sound cannot be read; None raises the error
    """

    models: "Models"
    dim: int
    root: str | None
    thumbnails: bool
    known: dict[Content, KnownMedia]
    repeated: set[Content]
    refuse: "Refuse | None" = None

    @staticmethod
    def of(
        models: "Models", store: Store, records: Sequence[Record], thumbnails: bool, refuse: "Refuse | None" = None
    ) -> "MediaVectors":
        """Raises InputError where something is to be embedded and there is no model for it."""
        givens = [record.media for record in records if record.media is not None]
        known = _known(store, givens)
        counts = Counter(map(_content, givens))
        new = {content for content in counts if content not in known or not known[content].codes}
        for kind in sorted({kind for kind, _ in new}):
            models.check_kind(kind, store.path)
        repeated = {content for content in new if counts[content] > 1}
        return MediaVectors(models, store.dim, root_folder(store), thumbnails, known, repeated, refuse)

    def entries(self, records: Sequence[Record]) -> dict[str, Entry]:
        """The entries of their vectors, by the keys of records; of those that were refused there is none."""
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
        failed: dict[Content, MediaError] = {}
        for kind, pairs in new.items():
            for part in batches(pairs, SLICE):
                made |= self._embedded(kind, part, failed)
        for record, given in later:
            with self._refusing(record, failed):
                if _content(given) in failed:
                    raise failed[_content(given)]
                made[record.key] = self._copied(record, given)
        return made

    def _has_vector(self, content: Content) -> bool:
        return content in self.known and len(self.known[content].codes) > 0

    def _copied(self, record: Record, given: Given) -> Entry:
        packed_codes, thumbnail = self.known[_content(given)]
        if thumbnail is None and given.content is not None:
            thumbnail = self._thumbnail(given)
            given.check_unchanged()
        raw = np.frombuffer(b"".join(packed_codes), np.int8).reshape(len(packed_codes), -1)
        return _entry(record, raw[:, 4:], np.ascontiguousarray(raw[:, :4]).view("<f4")[:, 0], thumbnail)

    def _embedded(
        self, kind: MediaKind, pairs: Sequence[tuple[Record, Given]], failed: dict[Content, MediaError]
    ) -> dict[str, Entry]:
        """Of pictures, or of sounds. failed: gets those that were refused"""
        readable = list[tuple[Record, Given]]()
        for record, given in pairs:
            with self._refusing(record, failed):
                readable.append((record, given if given.content is not None else read_again(given.media, self.root)))
        made = {}
        for place, found in self.models.each_media(kind, [given.content for _, given in readable]):
            record, given = readable[place]
            with self._refusing(record, failed):
                if isinstance(found, MediaError):
                    raise found
                made[record.key] = self._made(record, given, found[0])
        return made

    def _made(self, record: Record, given: Given, found: Vectors) -> Entry:
        """found: [dim], or several vectors [n, dim]"""
        codes, scales = quantize_int8(check_vectors(found.reshape(-1, found.shape[-1]), self.dim, "vectors"))
        known = self.known.get(_content(given))
        thumbnail = known.thumbnail if known and known.thumbnail else self._thumbnail(given)
        given.check_unchanged()
        if _content(given) in self.repeated:
            self.known[_content(given)] = KnownMedia(list(map(packed, codes, scales)), thumbnail)
        return _entry(record, codes, scales, thumbnail)

    def _thumbnail(self, given: Given) -> bytes | None:
        if not self.thumbnails or given.kind != "image":
            return None
        from edge_embed_runtime.inputs.thumbnails import thumbnail

        return thumbnail(given.content)

    @contextmanager
    def _refusing(self, record: Record, failed: dict[Content, MediaError]) -> Iterator[None]:
        """A record whose picture or sound cannot be read is refused, or the error raised with its key."""
        try:
            yield
        except MediaError as error:
            if record.media is not None:
                failed[_content(record.media)] = error
            if self.refuse is not None:
                self.refuse(record.key, error)
                return
            message = f"document {shown(record.key)}: {error}; nothing was stored"
            raise MediaError(message, code=error.code, path=error.path, keys=[record.key]) from error


def _known(store: Store, givens: Sequence[Given]) -> dict[Content, KnownMedia]:
    """What the index has of pictures and sounds."""
    found: dict[Content, KnownMedia] = {}
    with store.snapshot():
        table = store.media
        for given in givens if table is not None else ():
            if table is not None and _content(given) not in found and (one := table.known(given.media)) is not None:
                found[_content(given)] = one
    return found


def _content(given: Given) -> Content:
    return given.kind, given.media.sha256


def _entry(record: Record, codes: Int8Codes, scales: Vectors, thumbnail: bytes | None) -> Entry:
    """codes [n, dim], scales [n]: of all vectors of a picture or sound."""
    assert record.media is not None  # noqa: S101 - only those with one come here
    start = MEDIA_STARTS[record.media.kind]
    spans = [(start, start)] * len(codes)
    return Entry(record, spans, codes, scales, thumbnail=thumbnail or record.media.media.thumbnail)


def given_entries(record: Record, codes: Int8Codes, scales: Vectors, *, bare: bool) -> Iterator[Entry]:
    """Of a document with a picture or sound whose vector was given; its text has words and no vector.

    codes [1, dim], scales [1]
    """
    yield replace(_entry(record, codes, scales, None), bare=bare)
    if record.text.strip():
        yield Entry(record, [(0, len(record.text))], codes, scales, bare=True)
