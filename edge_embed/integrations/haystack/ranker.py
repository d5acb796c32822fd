"""Documents in the order of a model that reads query and document at once."""

import os
from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from edge_embed.integrations.embedding import Loaded
from edge_embed.integrations.haystack.parts import Restored, check_documents, text_of
from edge_embed.integrations.threads import in_thread
from edge_embed_runtime.checks import check_count
from edge_embed_runtime.embed.reranker import Reranker


@component
class EdgeRanker(Restored):
    """Orders documents by how well they fit a query, with a bundle of kind "rerank".

    bundle:               the bundle's folder; there is no default
    top_k:                how many documents to give
    score_threshold:      leave out documents of a lower score; None keeps all
    meta_fields_to_embed: fields of meta whose values are put before the content
    embedding_separator:  what stands between these
    threads, max_rss_mb:  see `edge_embed.Reranker`
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        top_k: int = 10,
        score_threshold: float | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        threads: int | None = None,
        max_rss_mb: float | None = None,
    ) -> None:
        self._loaded = Loaded(Reranker, bundle, {"threads": threads, "max_rss_mb": max_rss_mb})
        self.top_k = check_count(top_k, "top_k", 1)
        self.score_threshold = score_threshold
        self.meta_fields_to_embed = list(meta_fields_to_embed or [])
        self.embedding_separator = embedding_separator

    def warm_up(self) -> None:
        """Load the bundle; `run` does it otherwise."""
        self._loaded.get()

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """{"documents": the best ones with their scores, best first}; of several with one id the first counts."""
        check_documents(documents, "EdgeRanker")
        most = self.top_k if top_k is None else check_count(top_k, "top_k", 1)
        least = self.score_threshold if score_threshold is None else score_threshold
        unique = list({document.id: document for document in [*documents, *documents[::-1]]}.values())
        if not unique:
            return {"documents": []}
        texts = [text_of(document, self.meta_fields_to_embed, self.embedding_separator) for document in unique]
        ranked = self._loaded.get().rerank(query, texts, top_k=most)
        kept = [one for one in ranked if least is None or one.score >= least]
        return {"documents": [replace(unique[one.index], score=one.score) for one in kept]}

    run_async = component.output_types(documents=list[Document])(in_thread(run))

    def to_dict(self) -> dict[str, Any]:
        return default_to_dict(
            self,
            bundle=self._loaded.bundle,
            top_k=self.top_k,
            score_threshold=self.score_threshold,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            **self._loaded.options,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EdgeRanker":
        return default_from_dict(cls, data)
