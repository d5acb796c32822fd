"""Haystack's documents as those of an index, and back.

The meta of a document is the metadata of the index's, field by field, so that other programs can ask for it. What an
index has no place for lies in one field more, RESERVED, as far as there is any of it:

text:   false where the content is None; of an index the text is "" then
blob:   ByteStream.to_dict, its data in base64
score, sparse: as they are
vector: the embedding, as it was given: in base64, little-endian floats of 4 bytes where these hold it, else of 8
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from numpy.typing import NDArray

from edge_embed.integrations.metadata import stored_metadata
from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import DocumentError, InputError
from edge_embed_runtime.storage import documents
from edge_embed_runtime.storage.media import Media

RESERVED = "_haystack"
# The scores of vectors: float64 [dim].
Embedding = NDArray[np.float64]
FLOATS = {4: "<f4", 8: "<f8"}


@dataclass(frozen=True)
class Given:
    """A document of an index, and the vector that was given with it."""

    document: documents.Document
    vector: Embedding | None


def to_index(document: Document, *, exact: bool) -> Given:
    """exact: keep the embedding as it is, besides the index's code of it

    Raises DocumentError, which names document and field, for what cannot be stored.
    """
    meta = stored_metadata(document.meta, document.id)
    check_free(meta, document.id)
    vector = (
        None
        if document.embedding is None
        else checked_vector(document.embedding, f"document {shown(document.id)}: the embedding", [document.id])
    )
    more: dict[str, Any] = {}
    if document.content is None:
        more["text"] = False
    if document.blob is not None:
        blob = document.blob
        more["blob"] = {
            "data": base64.b64encode(blob.data).decode(),
            "meta": stored_metadata(blob.meta, document.id),
            "mime_type": blob.mime_type,
        }
    if document.score is not None:
        more["score"] = float(document.score)
    if document.sparse_embedding is not None:
        more["sparse"] = stored_metadata(document.sparse_embedding.to_dict(), document.id)
    if exact and vector is not None:
        more["vector"] = _packed(vector)
    if more:
        meta[RESERVED] = more
    return Given(documents.Document(document.id, document.content or "", meta), vector)


def check_free(meta: Mapping[str, Any], key: str) -> None:
    if RESERVED in meta:
        raise DocumentError(f"document {shown(key)}: the meta field {RESERVED!r} is kept for this store", keys=[key])


def checked_vector(embedding: Any, what: str = "query_embedding", keys: list[str] | None = None) -> Embedding:
    """float64 [n]. what: it is, for errors; keys: of its document

    Raises DocumentError, of a query InputError, for what is no vector, NaN, and nothing but zeros, which has no
    direction.
    """
    try:
        vector = np.asarray(embedding, np.float64)
    except (TypeError, ValueError):
        vector = np.empty((0, 0))
    if vector.ndim != 1 or not vector.size:
        problem = f"is {shown(embedding)}, expected a list of numbers"
    elif not np.isfinite(vector).all():
        problem = "holds NaN or infinity"
    elif not vector.any():
        problem = "has nothing but zeros, and so no direction"
    else:
        return vector
    raise DocumentError(f"{what} {problem}: leave it out", keys=keys) if keys else InputError(f"{what} {problem}")


def from_index(document: documents.Document, *, vectors: bool = True) -> Document:
    """vectors: give the embedding, where it was kept

    Of a picture or sound that another program stored, meta has the path as "file_path".
    """
    meta = dict(document.metadata)
    more = meta.pop(RESERVED, None)
    more = more if isinstance(more, dict) else {}
    content = None if more.get("text") is False else document.text
    media = document.image or document.audio
    if isinstance(media, Media):
        meta.setdefault("file_path", media.source)
    sparse = more.get("sparse")
    return Document(
        id=document.key,
        content=content,
        blob=_blob(more.get("blob")),
        meta=meta,
        score=more.get("score"),
        embedding=_unpacked(more["vector"]) if vectors and "vector" in more else None,
        sparse_embedding=None if sparse is None else SparseEmbedding.from_dict(sparse),
    )


def _blob(stored: Mapping[str, Any] | None) -> ByteStream | None:
    if stored is None:
        return None
    return ByteStream(base64.b64decode(stored["data"]), meta=stored["meta"], mime_type=stored["mime_type"])


def _packed(vector: Embedding) -> dict[str, Any]:
    size = 4 if (vector.astype(np.float32) == vector).all() else 8
    return {"size": size, "data": base64.b64encode(vector.astype(FLOATS[size]).tobytes()).decode()}


def _unpacked(stored: Mapping[str, Any]) -> list[float]:
    return np.frombuffer(base64.b64decode(stored["data"]), FLOATS[stored["size"]]).tolist()
