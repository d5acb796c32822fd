"""On-device text embedding and retrieval: quantized ONNX bundles, a durable one-file index, no network.

from edge_embed import Document, Embedder, Index
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_embed import errors
    from edge_embed.embedder import Embedder
    from edge_embed_runtime.embed.composed import ComposedEmbedder
    from edge_embed_runtime.errors import EdgeEmbedError
    from edge_embed_runtime.index.index import Index
    from edge_embed_runtime.storage.documents import Document, Hit, Hits
    from edge_embed_runtime.vectors.maxsim import maxsim
    from edge_embed_runtime.vectors.sparse import SparseVector

__version__ = "0.1.0"
__all__ = [
    "ComposedEmbedder",
    "Document",
    "EdgeEmbedError",
    "Embedder",
    "Hit",
    "Hits",
    "Index",
    "SparseVector",
    "__version__",
    "errors",
    "maxsim",
]

# Imported on first use: `edge-embed --help` then needs neither numpy nor onnxruntime.
_HOMES = {
    "ComposedEmbedder": "edge_embed_runtime.embed.composed",
    "Document": "edge_embed_runtime.storage.documents",
    "EdgeEmbedError": "edge_embed_runtime.errors",
    "Embedder": "edge_embed.embedder",
    "Hit": "edge_embed_runtime.storage.documents",
    "Hits": "edge_embed_runtime.storage.documents",
    "Index": "edge_embed_runtime.index.index",
    "SparseVector": "edge_embed_runtime.vectors.sparse",
    "maxsim": "edge_embed_runtime.vectors.maxsim",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("edge_embed.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_embed' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
