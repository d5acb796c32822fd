"""On-device text embedding and retrieval: quantized ONNX bundles, a durable one-file index, no network.

from edge_embed import Document, Embedder, Index
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_embed import errors
    from edge_embed.embedder import Embedder
    from edge_embed_runtime.documents import Document, Hit, Hits
    from edge_embed_runtime.errors import EdgeEmbedError
    from edge_embed_runtime.index import Index

__version__ = "0.1.0"
__all__ = ["Document", "EdgeEmbedError", "Embedder", "Hit", "Hits", "Index", "__version__", "errors"]

# Imported on first use: `edge-embed --help` then needs neither numpy nor onnxruntime.
_HOMES = {
    "Document": "edge_embed_runtime.documents",
    "EdgeEmbedError": "edge_embed_runtime.errors",
    "Embedder": "edge_embed.embedder",
    "Hit": "edge_embed_runtime.documents",
    "Hits": "edge_embed_runtime.documents",
    "Index": "edge_embed_runtime.index",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("edge_embed.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_embed' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
