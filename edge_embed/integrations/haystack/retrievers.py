"""Documents of an EdgeDocumentStore for a query: by embedding, by words, or by both."""

from typing import Any, Self

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from edge_embed.integrations.haystack.store import EdgeDocumentStore
from edge_embed.integrations.threads import in_thread
from edge_embed_runtime.checks import check_count


class _Retriever:
    """What the retrievers have in common.

    document_store:   an EdgeDocumentStore
    filters:          what documents must fit
    top_k:            how many documents to give
    return_embedding: give documents with their embeddings
    filter_policy:    whether filters of a run take the place of `filters` ("replace") or are added to them ("merge")
    """

    def __init__(
        self,
        document_store: EdgeDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        if not isinstance(document_store, EdgeDocumentStore):
            raise TypeError(f"document_store is {type(document_store).__name__}, expected EdgeDocumentStore")
        self.document_store = document_store
        self.filters = filters
        self.top_k = check_count(top_k, "top_k", 1)
        self.return_embedding = return_embedding
        self.filter_policy = FilterPolicy.from_str(str(filter_policy))

    def _asked(self, filters: dict[str, Any] | None, top_k: int | None, embedding: bool | None) -> dict[str, Any]:
        """What of a run takes the place of what the retriever was made with."""
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
            "return_embedding": self.return_embedding if embedding is None else embedding,
        }

    def to_dict(self) -> dict[str, Any]:
        return default_to_dict(self, **self._parameters())

    def _parameters(self) -> dict[str, Any]:
        return {
            "document_store": self.document_store,
            "filters": self.filters,
            "top_k": self.top_k,
            "return_embedding": self.return_embedding,
            "filter_policy": self.filter_policy.value,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return default_from_dict(cls, data)


class _ScaledRetriever(_Retriever):
    """scale_score: bring scores to 0..1."""

    def __init__(self, document_store: EdgeDocumentStore, *, scale_score: bool = False, **options: Any) -> None:
        super().__init__(document_store, **options)
        self.scale_score = scale_score

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"scale_score": self.scale_score}


@component
class EdgeEmbeddingRetriever(_ScaledRetriever):
    __doc__ = f"""Documents whose embeddings are nearest to a query's, with their cosines as scores.

    {_Retriever.__doc__}"""

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """{"documents": the nearest ones, nearest first}. Options take the place of the retriever's own."""
        asked = self._asked(filters, top_k, return_embedding)
        scale = self.scale_score if scale_score is None else scale_score
        return {"documents": self.document_store.embedding_retrieval(query_embedding, scale_score=scale, **asked)}

    run_async = component.output_types(documents=list[Document])(in_thread(run))


@component
class EdgeKeywordRetriever(_ScaledRetriever):
    __doc__ = f"""Documents that have words of a query, with their BM25 as scores.

    {_Retriever.__doc__}"""

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """{"documents": the best ones, best first}. Options take the place of the retriever's own."""
        asked = self._asked(filters, top_k, return_embedding)
        scale = self.scale_score if scale_score is None else scale_score
        return {"documents": self.document_store.keyword_retrieval(query, scale_score=scale, **asked)}

    run_async = component.output_types(documents=list[Document])(in_thread(run))


@component
class EdgeHybridRetriever(_Retriever):
    __doc__ = f"""Documents that fit a query by words and by meaning; scores compare documents of one query only.

    {_Retriever.__doc__}"""

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        query_embedding: list[float] | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        return_embedding: bool | None = None,
    ) -> dict[str, list[Document]]:
        """{"documents": the best ones, best first}. Options take the place of the retriever's own.

        query_embedding: leave it out where the store has a bundle, which embeds the query
        """
        asked = self._asked(filters, top_k, return_embedding)
        return {"documents": self.document_store.hybrid_retrieval(query, query_embedding, **asked)}

    run_async = component.output_types(documents=list[Document])(in_thread(run))
