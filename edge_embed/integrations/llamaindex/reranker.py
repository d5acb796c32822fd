"""A cross-encoder as a node postprocessor of LlamaIndex."""

import os
from functools import partial
from typing import Any

from edge_embed.integrations.embedding import reranker_of
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require

require("llama_index.core", "llamaindex")
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from pydantic import PrivateAttr


class EdgeReranker(BaseNodePostprocessor):
    """Orders nodes by how well they fit a query, with a bundle of kind "rerank" (a cross-encoder).

    bundle:           a bundle's folder, or a Reranker
    top_n:            how many nodes are kept, the best; None keeps all
    callback_manager: of LlamaIndex
    options:          of `Reranker`, such as threads, max_rss_mb

    It reads what LlamaIndex embeds of a node: the text, and the metadata that are not excluded. Nodes that are given
    stay as they are; the scores are the model's.
    """

    model: str = ""
    top_n: int | None = None
    _reranker: Reranker = PrivateAttr()

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | Reranker,
        *,
        top_n: int | None = None,
        callback_manager: Any = None,
        **options: Any,
    ) -> None:
        reranker = reranker_of(bundle, options)
        given = {} if callback_manager is None else {"callback_manager": callback_manager}
        super().__init__(model=reranker.name, top_n=top_n, **given)
        self._reranker = reranker

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self._reranker, top_n=self.top_n), ()

    @classmethod
    def class_name(cls) -> str:
        return "EdgeReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        """Raises InputError without a query."""
        if query_bundle is None:
            raise InputError("a reranker compares nodes with a query: give query_str or query_bundle")
        payload = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
            ranked = self._reranker.rerank(query_bundle.query_str, texts, top_k=self.top_n)
            found = [NodeWithScore(node=nodes[one.index].node, score=one.score) for one in ranked]
            event.on_end(payload={EventPayload.NODES: found})
        return found
