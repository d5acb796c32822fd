"""LlamaIndex: an embedding, a vector store in one index file, a reranker. Needs the extra `llamaindex`.

from edge_embed.integrations.llamaindex import EdgeEmbedding, EdgeReranker, EdgeVectorStore
"""

from edge_embed.integrations.llamaindex.embedding import EdgeEmbedding
from edge_embed.integrations.llamaindex.reranker import EdgeReranker
from edge_embed.integrations.llamaindex.store import EdgeVectorStore

__all__ = ["EdgeEmbedding", "EdgeReranker", "EdgeVectorStore"]
