"""Haystack's documents in one file on this device."""

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.utils import expit

from edge_embed.embedder import Embedder, own_embedder
from edge_embed.integrations.embedding import checked_options
from edge_embed.integrations.haystack import searching, values, writing
from edge_embed.integrations.haystack.documents import Given, check_free, checked_vector, to_index
from edge_embed.integrations.haystack.filters import Plan, planned
from edge_embed.integrations.haystack.parts import Restored
from edge_embed.integrations.metadata import stored_metadata
from edge_embed.integrations.stores import EVERY, StoreIndex, check_options
from edge_embed.integrations.threads import in_thread
from edge_embed_runtime.checks import check_count, shown
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.index.stats import read_stats
from edge_embed_runtime.storage.filters import MAX_VALUES

Filters = dict[str, Any]
Embeddings = Literal["exact", "int8"]

# What embeddings come from where nothing is said, and how many numbers they have where none is known yet.
SPACE, DIM = "haystack", 384
# Scores of words are scaled as Haystack's own store does.
WORDS_SCALE = 8


class EdgeDocumentStore(Restored):
    """Documents in one durable file: `path`, made with the first documents. Any number of stores and processes may have
    it open, and write in turns.

    bundle:           None: the store holds the embeddings that documents bring, of an EdgeDocumentEmbedder or of
                      others; documents without one are found by their words. Or a name ("minilm", "static") or a
                      bundle's folder: the store embeds the texts of documents itself, in passages, and queries, too;
                      documents bring no embeddings then. A file that is there already opens as what it is
    embeddings:       "exact" keeps embeddings as they are, besides the codes that are searched: 4 or 8 bytes a number
                      more. "int8" keeps the codes alone, 1 byte a number: documents come back with embeddings of length
                      1 that are near theirs
    embedding_dim:    numbers in an embedding; None means as many as the first documents bring
    space:            names what embeddings come from; a file of another one is refused
    embedder_options: options of `edge_embed.Embedder`, where the store embeds
    index_options:    options of `edge_embed.Index.open`, such as {"words": "plain", "fields": ["lang"]}

    Embeddings are compared by cosine. Methods that end with `_async` do the same in a thread. Raises DocumentError for
    a document that cannot be stored, and then nothing is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        bundle: str | os.PathLike[str] | None = None,
        embeddings: Embeddings = "exact",
        embedding_dim: int | None = None,
        space: str | None = None,
        embedder_options: dict[str, Any] | None = None,
        index_options: dict[str, Any] | None = None,
    ) -> None:
        if embeddings not in ("exact", "int8"):
            raise InputError(f"embeddings is {shown(embeddings)}, expected exact or int8", option="embeddings")
        if bundle is not None and (space is not None or embedding_dim is not None):
            raise InputError("with a bundle the store makes the embeddings: leave space and embedding_dim out")
        self.path = os.fspath(path)
        self.bundle = None if bundle is None else os.fspath(bundle)
        self.embeddings, self.space = embeddings, space
        self.embedding_dim = None if embedding_dim is None else check_count(embedding_dim, "embedding_dim", 1)
        self.embedder_options = checked_options(embedder_options)
        self.index_options = dict(index_options or {})
        check_options(self.index_options)
        self._lock = threading.RLock()
        self._opened: StoreIndex | None = None

    def to_dict(self) -> dict[str, Any]:
        return default_to_dict(
            self,
            path=self.path,
            bundle=self.bundle,
            embeddings=self.embeddings,
            embedding_dim=self.embedding_dim,
            space=self.space,
            embedder_options=dict(self.embedder_options),
            index_options=dict(self.index_options),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EdgeDocumentStore":
        return default_from_dict(cls, data)

    def close(self) -> None:
        """Let go of the file; the next call opens it again. All that was written is on disk already."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    @property
    def index(self) -> Index | None:
        """The `edge_embed.Index` of the store; None where nothing was written yet."""
        return self._store().index

    def count_documents(self) -> int:
        return 0 if (index := self.index) is None else index.count()

    def filter_documents(self, filters: Filters | None = None) -> list[Document]:
        """The documents that fit, in the order in which they were written; one that was overwritten comes last."""
        plan = planned(filters)
        if (index := self.index) is None:
            return []
        found = searching.matching(index, plan, vectors=self._takes_vectors)
        return searching.with_embeddings(index, found) if self._takes_vectors else list(found)

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Store documents, all of them or none; they are on disk when this returns. Returns how many were written.

        policy: of documents whose id is there already, or comes twice: FAIL, and NONE, raise DuplicateDocumentError;
                SKIP leaves the first, OVERWRITE the last
        """
        if not isinstance(documents, list | tuple) or not all(isinstance(one, Document) for one in documents):
            raise ValueError("Please provide a list of Documents.")
        if not isinstance(policy, DuplicatePolicy):
            raise ValueError(f"policy is {shown(policy)}, expected a DuplicatePolicy")
        chosen = writing.unrepeated(documents, policy)
        given = [to_index(document, exact=self.embeddings == "exact") for document in chosen]
        if not given:
            return 0
        store, vectors = self._store(), self._takes_vectors
        index = store.for_vectors(self._dim_for(given)) if vectors else store.index
        assert index is not None  # noqa: S101 - without a space it was opened at once
        written = writing.write(index, given, policy, vectors=vectors)
        return len(documents) if policy == DuplicatePolicy.OVERWRITE else written

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents by id, all of those that are there or none."""
        if (index := self.index) is not None:
            index.delete(document_ids)

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """recreate_index: give the space back to the file system, too; searches wait for that."""
        if (index := self.index) is not None:
            index.delete(where=EVERY)
            if recreate_index:
                index.compact()

    def delete_by_filter(self, filters: Filters) -> int:
        """Returns how many were deleted. Raises FilterError for an empty filter, which would fit all."""
        plan = _chosen(filters)
        return 0 if (index := self.index) is None else searching.delete(index, plan)

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Set fields of the meta of the documents that fit; other fields stay. Returns how many fitted. Raises
        FilterError for an empty filter, which would fit all."""
        plan, changes = _chosen(filters), stored_metadata(meta, "")
        check_free(changes, "")
        index = self.index
        chosen = [] if index is None else searching.ids(index, plan)
        for start in range(0, len(chosen) if changes else 0, MAX_VALUES):
            assert index is not None  # noqa: S101 - else nothing is chosen
            index.update_metadata({"$key": {"$in": chosen[start : start + MAX_VALUES]}}, changes)
        return len(chosen)

    def count_documents_by_filter(self, filters: Filters) -> int:
        plan = planned(filters)
        return 0 if (index := self.index) is None else searching.count(index, plan)

    def count_unique_metadata_by_filter(self, filters: Filters, metadata_fields: list[str]) -> dict[str, int]:
        """By field, without "meta.", how many different values the documents that fit have."""
        return values.count_unique(self._metas(filters), metadata_fields)

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """By field its type: keyword, int, float or boolean."""
        return values.fields_info(self._metas(None))

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """{"min": ..., "max": ...}, None where there are none that can be compared."""
        return values.least_and_greatest(self._metas(None), metadata_field)

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters | None = None,
    ) -> tuple[list[Any], int]:
        """A page of the different values of a field, and how many there are. search_term: letters in them."""
        return values.page_of_values(self._metas(filters), metadata_field, search_term, from_, size)

    def embedding_retrieval(
        self,
        query_embedding: Sequence[float],
        filters: Filters | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
    ) -> list[Document]:
        """The documents whose embeddings are nearest to one, with their cosines. scale_score: to 0..1."""
        vector = checked_vector(query_embedding)
        scale = (lambda score: (score + 1) / 2) if scale_score else None
        return self._search(filters, top_k, scale, return_embedding, vector=vector, mode="vector")

    def keyword_retrieval(
        self,
        query: str,
        filters: Filters | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
    ) -> list[Document]:
        """The documents that have words of a query, by BM25. scale_score: to 0.5..1."""
        scale = (lambda score: expit(score / WORDS_SCALE)) if scale_score else None
        return self._search(filters, top_k, scale, return_embedding, query=query, mode="text")

    def hybrid_retrieval(
        self,
        query: str,
        query_embedding: Sequence[float] | None = None,
        filters: Filters | None = None,
        top_k: int = 10,
        return_embedding: bool = False,
    ) -> list[Document]:
        """The documents that fit a query by words and by meaning. Scores compare documents of one query only.

        query_embedding: of the query; None where the store has a bundle, which embeds it
        """
        vector = None if query_embedding is None else checked_vector(query_embedding)
        if vector is None and self.index is not None and "hybrid" not in self.index.modes:
            raise ValueError(
                f"{self.path} holds embeddings that documents brought: give the query's, of the same embedder, as "
                "query_embedding"
            )
        return self._search(filters, top_k, None, return_embedding, query=query, vector=vector, mode="hybrid")

    count_documents_async = in_thread(count_documents)
    filter_documents_async = in_thread(filter_documents)
    write_documents_async = in_thread(write_documents)
    delete_documents_async = in_thread(delete_documents)
    delete_all_documents_async = in_thread(delete_all_documents)
    delete_by_filter_async = in_thread(delete_by_filter)
    update_by_filter_async = in_thread(update_by_filter)
    count_documents_by_filter_async = in_thread(count_documents_by_filter)
    count_unique_metadata_by_filter_async = in_thread(count_unique_metadata_by_filter)
    get_metadata_fields_info_async = in_thread(get_metadata_fields_info)
    get_metadata_field_min_max_async = in_thread(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = in_thread(get_metadata_field_unique_values)
    embedding_retrieval_async = in_thread(embedding_retrieval)
    keyword_retrieval_async = in_thread(keyword_retrieval)
    hybrid_retrieval_async = in_thread(hybrid_retrieval)

    @property
    def _takes_vectors(self) -> bool:
        """Whether embeddings are given; those of a bundle belong to passages, and are the index's alone."""
        return self._store().space is not None

    def _store(self) -> StoreIndex:
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> StoreIndex:
        if self.bundle is not None:
            return StoreIndex(self.path, Embedder(self.bundle, **self.embedder_options), **self.index_options)
        stats = read_stats(self.path) if Path(self.path).exists() else None
        if stats is not None and not stats["space"] and self.space is None:
            return StoreIndex(self.path, own_embedder(self.path, **self.embedder_options), **self.index_options)
        if self.embedder_options:
            raise InputError(
                f"{self.path} holds embeddings that documents bring: embedder_options do nothing without a bundle",
                option="embedder_options",
            )
        space = self.space or (SPACE if stats is None else stats["bundle"])
        return StoreIndex(self.path, space=space, **self.index_options)

    def _dim_for(self, given: list[Given]) -> int:
        """Numbers in embeddings: of the file where it is there. Raises DocumentError where a document has others."""
        index = self.index
        first = next((one.vector.size for one in given if one.vector is not None), None)
        dim = int(index.stats()["dim"]) if index is not None else self.embedding_dim or first or DIM
        if index is not None and first is not None and first != dim and self.embedding_dim in (None, first):
            with suppress(InputError):  # which says that it holds vectors
                index.set_dim(first)
                dim = first
        writing.check_dim(given, dim, self.path)
        return dim

    def _metas(self, filters: Filters | None) -> Iterable[Document]:
        plan = planned(filters)
        return () if (index := self.index) is None else searching.matching(index, plan, vectors=False)

    def _search(
        self, filters: Filters | None, top_k: int, scale: Any, return_embedding: bool, **query: Any
    ) -> list[Document]:
        plan, k = planned(filters), check_count(top_k, "top_k", 0)
        if (index := self.index) is None:
            return []
        wanted = return_embedding and self._takes_vectors
        hits = searching.search(index, plan, k, vectors=wanted, **query)
        found = [replace(one, score=hit.score if scale is None else scale(hit.score)) for hit, one in hits]
        return searching.with_embeddings(index, found) if wanted else found


def _chosen(filters: Filters) -> Plan:
    """The plan of what is to be changed, which an empty filter does not say."""
    if not filters:
        raise FilterError("an empty filter fits every document: say which; delete_all_documents deletes all")
    return planned(filters)
