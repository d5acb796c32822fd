"""Haystack: a document store in one file, its retrievers, embedders and a ranker, as components of a pipeline."""

from edge_embed_runtime.extras import require

require("haystack", "haystack")

from haystack.core.serialization import allow_deserialization_module

from edge_embed.integrations.haystack.embedders import EdgeDocumentEmbedder, EdgeTextEmbedder
from edge_embed.integrations.haystack.ranker import EdgeRanker
from edge_embed.integrations.haystack.retrievers import (
    EdgeEmbeddingRetriever,
    EdgeHybridRetriever,
    EdgeKeywordRetriever,
)
from edge_embed.integrations.haystack.store import EdgeDocumentStore

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
