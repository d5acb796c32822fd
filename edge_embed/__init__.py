"""On-device text embedding and retrieval: quantized ONNX bundles, a durable one-file index, no network.

from edge_embed import Document, Embedder, Index
"""

from edge_embed import errors
from edge_embed.embedder import Embedder
from edge_embed.errors import EdgeEmbedError
from edge_embed_runtime.documents import Document, Hit, Hits
from edge_embed_runtime.index import Index

__version__ = "0.1.0"
__all__ = ["Document", "EdgeEmbedError", "Embedder", "Hit", "Hits", "Index", "__version__", "errors"]
