"""LangChain: embeddings, a vector store in one index file, a reranker. Needs the extra `langchain`.

from edge_embed.integrations.langchain import EdgeEmbeddings, EdgeReranker, EdgeVectorStore
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self, get_args
from uuid import uuid4

import numpy as np

from edge_embed.integrations.embedding import embedder_of, reranker_of
from edge_embed.integrations.metadata import as_stored, stored_metadata
from edge_embed.integrations.stores import EVERY, Where, check_once, nearest_vectors, store_for, with_documents
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.checks import check_count, unusable
from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.search.diversity import mmr_order, spread
from edge_embed_runtime.search.query import Mode
from edge_embed_runtime.storage.documents import Document, Hit, check_key

require("langchain_core", "langchain")
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import run_in_executor
from langchain_core.vectorstores import VectorStore
from pydantic import PrivateAttr

__all__ = ["EdgeEmbeddings", "EdgeReranker", "EdgeVectorStore"]

Scored = list[tuple[LangChainDocument, float]]


class EdgeEmbeddings(Embeddings):
    """Embeds texts with a bundle: `embed_documents` with its prompt for documents, `embed_query` with that for queries.

    bundle:  a bundle's folder or the name of an embedded one, None for the default; or an Embedder
    options: of `Embedder`, such as threads, truncate_dim, max_rss_mb

    A document that is longer than the model reads is a TruncationWarning. Can be pickled. Raises what `Embedder`
    raises.
    """

    def __init__(self, bundle: str | os.PathLike[str] | Bundle | Encoder | None = None, **options: Any) -> None:
        self.embedder = embedder_of(bundle, options)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embedder.encode_document(texts, on_truncation="warn").tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embedder.encode_query([text])[0].tolist()

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return (await self.embedder.aencode_document(texts, on_truncation="warn")).tolist()

    async def aembed_query(self, text: str) -> list[float]:
        return (await self.embedder.aencode_query([text]))[0].tolist()


class EdgeVectorStore(VectorStore):
    """Documents in one index file, which `edge-embed` and other stores may have open at the same time.

    path:      the file, made where it is missing
    embedding: None for the index's own bundle (of a new file the default one); EdgeEmbeddings for an index of their
               bundle; any other embeddings for an index of the vectors that these make
    mode:      how searches compare: "vector" (the default), "hybrid", "text" and others, see `Index.search`
    passages:  False gives whole documents, as they were added; True the passage that fits best of each, with its place
               in the metadata (`start_index`, and `place` where the document has pages or headings)
    space:     names the model of other embeddings in the file; None for their class and model
    options:   of `Index.open`, such as fields, words, timeout, max_rss_mb, read_only

    A `filter` is a `where` of `Index.search`: {"lang": "en", "year": {"$gte": 2000}}. Values may be all that metadata
    may hold, such as dates.
    Can be pickled: a copy opens the same file. Raises what `Index.open` raises.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        embedding: Embeddings | Encoder | None = None,
        *,
        mode: Mode = "vector",
        passages: bool = False,
        space: str | None = None,
        **options: Any,
    ) -> None:
        if mode not in get_args(Mode):
            raise unusable("mode", mode, f"one of {get_args(Mode)}")
        self._store = store_for(path, embedding, EdgeEmbeddings, Embeddings, space=space, options=options)
        path, own = str(self._store.path), self._store.embedder
        self._made = partial(type(self), path, embedding, mode=mode, passages=passages, space=space, **options)
        self._embedding = (
            embedding if isinstance(embedding, Embeddings) else None if own is None else EdgeEmbeddings(own)
        )
        self.mode, self.passages = mode, passages

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made, ()

    @property
    def embeddings(self) -> Embeddings | None:
        return self._embedding

    @property
    def index(self) -> Index | None:
        """The index, for all that it can do besides; None where the first vectors of other embeddings are missing."""
        return self._store.index

    def close(self) -> None:
        """Let go of the file; all that was added is on disk already."""
        self._store.close()

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
    ) -> list[str]:
        """Store texts, in place of those with the same ids, all or none: they are on disk when this returns.

        ids:        None, for all or some, makes new ones
        batch_size: so many at a time, each batch all or none: other processes may write in between

        Raises InputError for lists of other lengths, and one text in place of a list, DuplicateKeyError for an id that
        comes twice, DocumentError for an empty text and for metadata that JSON cannot hold (see
        edge_embed.integrations.metadata).
        """
        if isinstance(texts, str):
            raise InputError("add_texts takes a list of texts, got str: write [text]", option="texts")
        given = list(texts)
        metadatas = [None] * len(given) if metadatas is None else metadatas
        ids = [None] * len(given) if ids is None else ids
        for name, values in (("metadatas", metadatas), ("ids", ids)):
            if len(values) != len(given):
                raise InputError(f"{len(given)} texts and {len(values)} {name}: expected one each", option=name)
        keys = [uuid4().hex if key is None else check_key(key) for key in ids]
        documents = [
            Document(key, text, stored_metadata(metadata, key))
            for key, text, metadata in zip(keys, given, metadatas, strict=True)
        ]
        check_once(keys)
        size = len(given) or 1 if batch_size is None else check_count(batch_size, "batch_size", 1)
        for start in range(0, len(given), size):
            self._upsert(documents[start : start + size])
        return keys

    def _upsert(self, documents: Sequence[Document]) -> None:
        vectors = None
        if self._store.space is not None and self._embedding is not None:
            vectors = self._embedding.embed_documents([document.text for document in documents])
        self._store.upsert(documents, vectors)

    def delete(self, ids: Sequence[str] | None = None, *, filter: Where | None = None) -> bool:
        """Delete documents by id, or those that fit a filter; without either all, as LangChain has it. Ids that are not
        there are passed over."""
        index = self._store.index
        if index is None:
            return True
        if ids is not None and filter is not None:
            raise InputError("delete takes either ids or a filter", option="filter")
        if ids is not None:
            index.delete(ids)  # a text is one id
        else:
            index.delete(where=EVERY if filter is None else as_stored(filter))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """Documents in the order of the ids, without those that are not there."""
        index = self._store.index
        found = [] if index is None else index.get_many(ids)
        return [_whole(document) for document in found if document is not None]

    def similarity_search(
        self, query: str, k: int = 4, *, filter: Where | None = None, mode: Mode | None = None
    ) -> list[LangChainDocument]:
        """The k documents that fit a query best, best first. mode: in place of the store's"""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter=filter, mode=mode)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Where | None = None, mode: Mode | None = None
    ) -> Scored:
        """`similarity_search` with scores, of which larger is better: in mode "vector" the cosine; others compare hits
        of one search only (see `Hit`)."""
        return self._documents(self._hits(query, None, k, filter, mode or self.mode))

    def similarity_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Where | None = None
    ) -> list[LangChainDocument]:
        """The k documents whose vectors are nearest to one."""
        return [document for document, _ in self._documents(self._hits(None, embedding, k, filter, "vector"))]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,
        mode: Mode | None = None,
    ) -> list[LangChainDocument]:
        """Of the `fetch_k` documents that fit a query best, k that also differ from each other.

        lambda_mult: 1 is the order of the scores, 0 takes documents as different from those before as can be
        """
        mode = mode or self.mode
        return self._diverse(query, self._vector(query), k, fetch_k, lambda_mult, filter, mode)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Where | None = None,
    ) -> list[LangChainDocument]:
        """`max_marginal_relevance_search` for a vector."""
        return self._diverse(None, embedding, k, fetch_k, lambda_mult, filter, "vector")

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        path: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """A store at a path, and texts in it. options: of the store. Documents that are there stay."""
        if path is None:
            raise InputError("from_texts needs path=..., the file of the index", option="path")
        store = cls(path, embedding, **options)
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.close()
            raise
        return store

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, *, filter: Where | None = None, mode: Mode | None = None
    ) -> Scored:
        """From 0 to 1 in any mode: the cosine of the query and the nearest passage, 0 where it is negative."""
        mode = mode or self.mode
        index = self._store.index
        if index is None:
            return []
        vector = self._vector(query)
        found = self._hits(query, vector, k, filter, mode)
        _, cosines = nearest_vectors(index, [hit.key for hit in found], vector)
        by_key = {hit.key: float(cosine) for hit, cosine in zip(found, cosines.clip(0, 1), strict=True)}
        return [(document, by_key[document.id or ""]) for document, _ in self._documents(found)]

    async def _asimilarity_search_with_relevance_scores(self, query: str, k: int = 4, **options: Any) -> Scored:
        return await run_in_executor(None, partial(self._similarity_search_with_relevance_scores, query, k, **options))

    def _vector(self, query: str) -> Sequence[float]:
        """Of a query. Raises InputError where nothing makes it."""
        if self._embedding is None:
            raise InputError(f"{self._store.path} holds given vectors: open it with their embeddings")
        return self._embedding.embed_query(query)

    def _hits(
        self, query: str | None, vector: Sequence[float] | None, k: int, where: Where | None, mode: Mode
    ) -> list[Hit]:
        """vector: of the query, where the caller has it"""
        index = self._store.index
        if index is None:  # nothing was added yet
            return []
        if self._store.space is None:
            if query is not None and mode != "vector":
                vector = None  # the index asks more than one vector, and knows how much each counts
        elif vector is None and query is not None and mode != "text":
            vector = self._vector(query)
        return index.search(query, k, as_stored(where), mode, vector=vector)

    def _diverse(
        self,
        query: str | None,
        vector: Sequence[float],
        k: int,
        fetch_k: int,
        share: float,
        where: Where | None,
        mode: Mode,
    ) -> list[LangChainDocument]:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise unusable("lambda_mult", share, "a number from 0 to 1")
        found = self._hits(query, vector, max(k, fetch_k), where, mode)
        index = self._store.index
        if not found or index is None:
            return []
        vectors, cosines = nearest_vectors(index, [hit.key for hit in found], vector)
        scores = cosines if mode == "vector" else spread(np.array([hit.score for hit in found]))
        order = mmr_order(scores.astype(np.float64), vectors.astype(np.float64), share, k)
        return [document for document, _ in self._documents([found[place] for place in order])]

    def _documents(self, hits: Sequence[Hit]) -> Scored:
        index = self._store.index
        if self.passages or index is None:
            return [(_passage(hit), hit.score) for hit in hits]
        return [(_whole(document), hit.score) for hit, document in with_documents(index, hits)]


class EdgeReranker(BaseDocumentCompressor):
    """Orders documents by how well they fit a query, with a bundle of kind "rerank" (a cross-encoder).

    bundle:  a bundle's folder, or a Reranker
    top_n:   how many documents are kept, the best; None keeps all
    options: of `Reranker`, such as threads, max_rss_mb

    The score is in `metadata["relevance_score"]` of what it gives; documents that were given stay as they are.
    """

    top_n: int | None = None
    _reranker: Reranker = PrivateAttr()

    def __init__(
        self, bundle: str | os.PathLike[str] | Bundle | Reranker, *, top_n: int | None = None, **options: Any
    ) -> None:
        super().__init__(top_n=top_n)
        self._reranker = reranker_of(bundle, options)

    def compress_documents(
        self,
        documents: Sequence[LangChainDocument],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002 - LangChain's
    ) -> list[LangChainDocument]:
        """The documents, best first. Raises InputError for an empty query and a model with several scores."""
        ranked = self._reranker.rerank(query, [document.page_content for document in documents], top_k=self.top_n)
        return [
            LangChainDocument(
                page_content=documents[one.index].page_content,
                metadata={**documents[one.index].metadata, "relevance_score": one.score},
                id=documents[one.index].id,
            )
            for one in ranked
        ]


def _whole(document: Document) -> LangChainDocument:
    return LangChainDocument(id=document.key, page_content=document.text, metadata=dict(document.metadata))


def _passage(hit: Hit) -> LangChainDocument:
    """Where a text splitter of LangChain made the document, `start_index` is counted from where that began, too."""
    before = hit.metadata.get("start_index")
    start = hit.start + (before if isinstance(before, int) else 0)
    place = {} if hit.place is None else {"place": hit.place}
    return LangChainDocument(
        id=hit.key, page_content=hit.text, metadata={**hit.metadata, "start_index": start, **place}
    )
