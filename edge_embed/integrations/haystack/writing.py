"""Documents into an index, as Haystack's policies for duplicates say."""

from collections.abc import Sequence

from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from edge_embed.integrations.haystack.documents import Given
from edge_embed_runtime.checks import listed, shown
from edge_embed_runtime.errors import DocumentError, DuplicateKeyError
from edge_embed_runtime.index.index import Index


def unrepeated(documents: Sequence[Document], policy: DuplicatePolicy) -> list[Document]:
    """Of documents with one id the last to overwrite with, and the first otherwise. Raises DuplicateDocumentError."""
    chosen: dict[str, Document] = {}
    for document in documents:
        if document.id not in chosen:
            chosen[document.id] = document
        elif policy == DuplicatePolicy.OVERWRITE:
            del chosen[document.id]  # its place is that of the last one
            chosen[document.id] = document
        elif policy != DuplicatePolicy.SKIP:
            raise DuplicateDocumentError(f"the id {shown(document.id)} comes twice in one call; nothing was stored")
    return list(chosen.values())


def check_dim(given: Sequence[Given], dim: int, path: str) -> None:
    """Raise DocumentError where the embedding of a document has not as many numbers as those in the file."""
    for one in given:
        if one.vector is not None and one.vector.size != dim:
            raise DocumentError(
                f"document {shown(one.document.key)}: the embedding has {one.vector.size} numbers, {path} holds those "
                f"of {dim}; nothing was stored. The first embeddings, or embedding_dim, decide",
                keys=[one.document.key],
            )


def write(index: Index, given: Sequence[Given], policy: DuplicatePolicy, *, vectors: bool) -> int:
    """Store documents whose ids differ, all of them or none. Returns how many were stored.

    vectors: whether the index takes those that are given; otherwise it embeds the texts

    Raises DuplicateDocumentError for an id that is there already, but with OVERWRITE and SKIP.
    """
    put = _put_vectors if vectors else _put_texts
    if policy == DuplicatePolicy.OVERWRITE:
        return put(index, given, new=False)
    if policy != DuplicatePolicy.SKIP:
        try:
            return put(index, given, new=True)
        except DuplicateKeyError as error:
            raise DuplicateDocumentError(
                f"ids that are stored already: {listed(error.keys, 5, quoted=True)}; nothing was stored. "
                "DuplicatePolicy.OVERWRITE replaces documents, SKIP leaves them as they are"
            ) from error
    while True:  # others may write meanwhile
        new = [one for one in given if one.document.key not in index]
        try:
            return put(index, new, new=True) if new else 0
        except DuplicateKeyError:
            continue


def _put_vectors(index: Index, given: Sequence[Given], *, new: bool) -> int:
    """In an index of given vectors; a document without one is stored with its words alone."""
    put = index.add_vectors if new else index.upsert_vectors
    return put([one.document for one in given], [one.vector for one in given])


def _put_texts(index: Index, given: Sequence[Given], *, new: bool) -> int:
    """In an index whose bundle embeds the texts. Raises DocumentError for a document that brings an embedding."""
    bringing = [one.document.key for one in given if one.vector is not None]
    if bringing:
        raise DocumentError(
            f"document {shown(bringing[0])} brings an embedding, and {index.path} makes its own, with its bundle: "
            "leave the embedder out, or use a store without a bundle; nothing was stored",
            keys=bringing,
        )
    put = index.add if new else index.upsert
    return put([one.document for one in given])
