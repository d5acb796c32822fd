"""Pictures and sounds of an index that is embedded again: read from their files, where these are as they were."""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from edge_embed_runtime.checks import listed
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.errors import IndexDamagedError, InputError, MediaError
from edge_embed_runtime.storage.media import Media, MediaKind, read_again
from edge_embed_runtime.storage.root import root_folder
from edge_embed_runtime.storage.rows import MEDIA_STARTS
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.types import Int8Codes, Vectors

WORDS = {"image": "pictures", "audio": "sounds"}
# Start, codes [n, dim] and scales [n] of the rows of a picture or sound.
Made = tuple[int, Int8Codes, Vectors]


class MediaAgain:
    """The pictures and sounds of one index, and the embedder that they are embedded with."""

    def __init__(self, store: Store, embedder: Encoder) -> None:
        self._store, self._embedder = store, embedder
        self._there = store.has_optional("media")
        self._root = root_folder(store) if self._there else None

    def of(self, doc: int) -> Media | None:
        """What is known of a document's picture or sound. Raises IndexDamagedError."""
        found = self._store.media_of([doc]).get(doc, ()) if self._there else ()
        if found is None:
            raise IndexDamagedError(
                f"{self._store.path}: what is known of a picture or sound is damaged: repair it first",
                path=self._store.path,
            )
        return found or None

    def source(self, doc: int, crc: int) -> int:
        """What tells a document from others that had its id: the crc32 of its row, and of its picture."""
        media = self.of(doc)
        return crc if media is None else zlib.crc32(bytes.fromhex(media.sha256), crc)

    def check(self) -> None:
        """Raise InputError where pictures or sounds cannot be embedded: no model, or no file."""
        if not self._there:
            return
        lacking, gone = set[str](), list[str]()
        for doc, media, *_ in self._store.media.all() if self._store.media is not None else ():
            if media is not None and media.kind not in getattr(self._embedder, "modalities", ()):
                lacking.add(media.kind)
            if media is not None and not (media.source and self._path(media).is_file()):
                gone.append(self._key(doc))
        if lacking:
            what = " and ".join(word for kind, word in WORDS.items() if kind in lacking)
            raise InputError(
                f"{self._store.path} holds {what}, which the bundle {self._embedder.name!r} has no tower for",
                path=self._store.path,
            )
        if gone:
            raise InputError(
                f"{self._store.path}: {len(gone):,} pictures or sounds cannot be read again, since their files are not "
                f"where they were or they were not given as files: {listed(gone, 5, quoted=True)}. Put the files "
                "back, or run `add` on their folder if they were only renamed, or delete these documents, and run it "
                "again; nothing was changed",
                path=self._store.path,
                keys=gone,
            )

    def _path(self, media: Media) -> Path:
        return Path(self._root or "", media.source)

    def _key(self, doc: int) -> str:
        row = self._store.connection.execute("SELECT key FROM doc WHERE id = ?", (doc,)).fetchone()
        return f"(row {doc})" if row is None else str(row[0])

    def embedded(self, docs: Iterable[int]) -> dict[int, Made]:
        """The rows of the pictures and sounds of documents, by id. Raises MediaError for one that is another by now."""
        found: dict[int, Made] = {}
        known = ((doc, media) for doc in docs if (media := self.of(doc)) is not None)
        by_kind: dict[MediaKind, list[tuple[int, Media]]] = {}
        for doc, media in known:
            by_kind.setdefault(media.kind, []).append((doc, media))
        for kind, pairs in by_kind.items():
            for doc, vectors in self._vectors(kind, pairs):
                rows = vectors.reshape(-1, vectors.shape[-1])
                found[doc] = (MEDIA_STARTS[kind], *quantize_int8(rows))
        return found

    def _vectors(self, kind: MediaKind, pairs: list[tuple[int, Media]]) -> Iterator[tuple[int, Vectors]]:
        assert isinstance(self._embedder, Embedder)  # noqa: S101 - `check` has said so
        givens = []
        for doc, media in pairs:
            try:
                givens.append(read_again(media, self._root))
            except MediaError as error:
                raise self._named(doc, error) from error
        for place, vector in self._embedder.each_input(kind, [given.content for given in givens]):
            doc = pairs[place][0]
            if isinstance(vector, MediaError):
                raise self._named(doc, vector) from vector
            yield doc, vector

    def count_vectors(self, doc: int, vectors: int) -> None:
        """In the transaction: say how many vectors a document's picture or sound has now."""
        media, table = self.of(doc), self._store.media
        if media is not None and table is not None:
            self._store.count_more(*table.set_vectors(doc, media, vectors))

    def _named(self, doc: int, error: MediaError) -> MediaError:
        key = self._key(doc)
        message = f"{self._store.path}: document {key!r:.80}: {error}; the index is as it was"
        return MediaError(message, code=error.code, path=error.path, keys=[key])


def together(
    docs: Iterable[int], media: dict[int, Made], texts: dict[int, tuple[list[tuple[int, int]], Int8Codes, Vectors]]
) -> tuple[list[list[tuple[int, int]]], Int8Codes, Vectors]:
    """Spans of each document's rows, and codes [n, dim] and scales [n] of all: those of pictures before passages."""
    spans, codes, scales = [], list[Int8Codes](), list[Vectors]()
    for doc in docs:
        own = list[tuple[int, int]]()
        if doc in media:
            start, code, scale = media[doc]
            own += [(start, start)] * len(code)
            codes.append(code)
            scales.append(scale)
        if doc in texts:
            parts, code, scale = texts[doc]
            own += parts
            codes.append(code)
            scales.append(scale)
        spans.append(own)
    return spans, np.concatenate(codes), np.concatenate(scales)
