"""Haystack: a document store in one file, its retrievers, embedders and a ranker, as components of a pipeline."""

from edge_embed_runtime.extras import require

require("haystack", "haystack")

from haystack.core.serialization import allow_deserialization_module  # noqa: E402 - after it was asked for

from edge_embed.integrations.haystack.embedders import EdgeDocumentEmbedder, EdgeTextEmbedder  # noqa: E402
from edge_embed.integrations.haystack.ranker import EdgeRanker  # noqa: E402
from edge_embed.integrations.haystack.retrievers import (  # noqa: E402
    EdgeEmbeddingRetriever,
    EdgeHybridRetriever,
    EdgeKeywordRetriever,
)
from edge_embed.integrations.haystack.store import EdgeDocumentStore  # noqa: E402

__all__ = [
    "EdgeDocumentEmbedder",
    "EdgeDocumentStore",
    "EdgeEmbeddingRetriever",
    "EdgeHybridRetriever",
    "EdgeKeywordRetriever",
    "EdgeRanker",
    "EdgeTextEmbedder",
]

# Pipelines saved as YAML may name the classes of this package, and of no other of ours, where a program imports it.
allow_deserialization_module("edge_embed.integrations.haystack")
