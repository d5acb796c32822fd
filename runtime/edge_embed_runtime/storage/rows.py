"""Rows of the tables `doc` and `vec`: what they hold, and the crc32 over all of each."""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.vectors.types import Ids, Int8Codes, Vectors

# Whole rows, in the order in which their checksums are made.
DOCUMENTS = "SELECT id, key, text, metadata, crc FROM doc"
PASSAGES = "SELECT id, doc, start, stop, code, crc FROM vec"
# Both of a passage, which is looked up first.
BOTH = (
    "SELECT doc.id, key, text, metadata, doc.crc, vec.id, vec.doc, start, stop, code, vec.crc "
    "FROM vec CROSS JOIN doc ON doc.id = vec.doc"
)
# Where the row of a document's picture or sound "begins" and "ends": nowhere in its text. Texts sliced so are empty.
MEDIA_STARTS = {"image": -1, "audio": -2}
# The code of a passage that has no vector, in an index of given vectors.
NO_VECTOR = b""
DocumentRow = tuple[int, str, str, str, int]
PassageRow = tuple[int, int, int, int, bytes, int]

# Documents of fewer characters, metadata included, are read and compared whole: that is faster.
LONG = 2**18
# Characters that are encoded, and bytes that are read, at a time.
PIECE = 65_536


@dataclass(frozen=True)
class StoredDocument:
    """A row of `doc` whose crc32 fits."""

    id: int
    key: str
    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class StoredPassages:
    """Rows of `vec` whose crc32 fits, the ids of those whose does not, and the ids of whole ones without a vector."""

    ids: Ids
    docs: Ids
    codes: Int8Codes
    scales: Vectors
    damaged: list[int]
    bare: list[int]


@dataclass(frozen=True)
class Removed:
    """Ids of passages that a commit deleted, the counter `deletions` after it, and how many documents it deleted."""

    passages: Ids
    deletions: int
    documents: int


@dataclass(frozen=True)
class Entry:
    """A document to store with its passages: spans, and their codes [n, dim] and scales [n].

    A long document may come in several entries that follow each other: all have the same record.

    attached: what else is stored of them, a row for each, by the name of the table
    bare:     whether it has no vector, and codes and scales stand for nothing
    thumbnail: of the record's picture, in the entry of its vector
    """

    record: Record
    spans: Sequence[Span]
    codes: Int8Codes
    scales: Vectors
    attached: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    bare: bool = False
    thumbnail: bytes | None = None


def is_text(row: PassageRow) -> bool:
    """Whether a row of `vec` is of a passage of text, not of a picture or sound."""
    return isinstance(row[2], int) and row[2] >= 0


def document_crc(id_: int, key: str, text: str, metadata: str) -> int:
    if len(text) + len(metadata) < LONG:
        return zlib.crc32("\x00".join((str(id_), key, text, metadata)).encode("utf-8", "surrogateescape"))
    crc = crc_before_text(id_, key)
    for piece in chain(encoded(text), [b"\x00"], encoded(metadata)):
        crc = zlib.crc32(piece, crc)
    return crc


def crc_before_text(id_: int, key: str) -> int:
    """Where `document_crc` stands before the text, which may follow in pieces."""
    return zlib.crc32("\x00".join((str(id_), key, "")).encode("utf-8", "surrogateescape"))


def encoded(text: str) -> Iterator[bytes]:
    """A text as UTF-8, in pieces."""
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE].encode("utf-8", "surrogateescape")


def whole_document(row: DocumentRow) -> bool:
    """Whether the checksum of a row of `doc` fits."""
    id_, key, text, metadata, crc = row
    are_texts = isinstance(key, str) and isinstance(text, str) and isinstance(metadata, str)
    return are_texts and document_crc(id_, key, text, metadata) == crc


def checked(row: DocumentRow) -> StoredDocument | None:
    """A row of `doc` as a document, or None when its checksum does not fit."""
    id_, key, text, metadata, _ = row
    return StoredDocument(id_, key, text, json.loads(metadata)) if whole_document(row) else None


def passage_crc(id_: int, doc: int, start: int, stop: int, code: bytes) -> int:
    return zlib.crc32(code, zlib.crc32(f"{id_},{doc},{start},{stop}".encode()))


def packed(code: Int8Codes, scale: Any) -> bytes:
    """A vector as it is stored: float32 scale and int8 code [dim]."""
    return b"".join((np.asarray(scale, "<f4").tobytes(), code.tobytes()))


def passage_row(id_: int, doc: int, span: Span, code: bytes) -> PassageRow:
    """A row of `vec`, with its checksum; code: what `packed` gives, or NO_VECTOR."""
    return id_, doc, *span, code, passage_crc(id_, doc, *span, code)


def is_whole(row: PassageRow) -> bool:
    """Whether the checksum of a row of `vec` fits."""
    id_, doc, start, stop, code, crc = row
    return isinstance(code, bytes) and passage_crc(id_, doc, start, stop, code) == crc


def checked_passages(rows: list[PassageRow], dim: int) -> StoredPassages:
    """Rows of `vec` sorted into those whose checksum fits, those whose does not, and those without a vector."""
    ids, docs, damaged, bare = [], [], [], []
    blobs: list[bytes] = []
    size, crc32 = dim + 4, zlib.crc32
    for id_, doc, start, stop, blob, crc in rows:
        # `is_whole` in line: a call for each of hundreds of rows is felt in a search
        head = f"{id_},{doc},{start},{stop}".encode()
        if isinstance(blob, bytes) and len(blob) == size and crc32(blob, crc32(head)) == crc:
            ids.append(id_)
            docs.append(doc)
            blobs.append(blob)
        elif blob == NO_VECTOR and crc32(head) == crc:
            bare.append(id_)
        else:
            damaged.append(id_)
    raw = np.frombuffer(b"".join(blobs), np.int8).reshape(len(blobs), size)
    scales: NDArray[np.float32] = np.ascontiguousarray(raw[:, :4]).view("<f4")[:, 0].astype(np.float32)
    return StoredPassages(np.array(ids, np.int64), np.array(docs, np.int64), raw[:, 4:], scales, damaged, bare)
