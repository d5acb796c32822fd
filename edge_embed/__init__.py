"""On-device text embedding and retrieval: quantized ONNX bundles, a durable one-file index, no network.

from edge_embed import Document, Embedder, Index
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge_embed import errors
from edge_embed.errors import *  # noqa: F403 - every error, where users look for it

if TYPE_CHECKING:
    from edge_embed.embedder import Embedder
    from edge_embed.files.dump import dump_vectors
    from edge_embed.files.load import load_vectors
    from edge_embed.files.merge import merge_indexes
    from edge_embed_runtime.embed.composed import ComposedEmbedder
    from edge_embed_runtime.embed.reranker import Ranked, Reranker
    from edge_embed_runtime.errors import TruncationWarning
    from edge_embed_runtime.index.index import Index
    from edge_embed_runtime.index.session import Session
    from edge_embed_runtime.maintenance.compact import compact_index
    from edge_embed_runtime.maintenance.reembed import reembed_index
    from edge_embed_runtime.maintenance.verify import verify_index
    from edge_embed_runtime.storage.documents import Document, Hit, Hits
    from edge_embed_runtime.storage.media import Media
    from edge_embed_runtime.vectors.maxsim import maxsim
    from edge_embed_runtime.vectors.sparse import SparseVector

__version__ = "0.1.0"
__all__ = [
    "ComposedEmbedder",
    "Document",
    "Embedder",
    "Hit",
    "Hits",
    "Index",
    "Media",
    "Ranked",
    "Reranker",
    "Session",
    "SparseVector",
    "TruncationWarning",
    "__version__",
    "compact_index",
    "dump_vectors",
    "errors",
    "load_vectors",
    "maxsim",
    "merge_indexes",
    "reembed_index",
    "verify_index",
]
__all__ += [name for name in dir(errors) if name.endswith("Error")]

# Imported on first use: `edge-embed --help` then needs neither numpy nor onnxruntime.
_HOMES = {
    "ComposedEmbedder": "edge_embed_runtime.embed.composed",
    "Document": "edge_embed_runtime.storage.documents",
    "Embedder": "edge_embed.embedder",
    "Hit": "edge_embed_runtime.storage.documents",
    "Hits": "edge_embed_runtime.storage.documents",
    "Index": "edge_embed_runtime.index.index",
    "Media": "edge_embed_runtime.storage.media",
    "Ranked": "edge_embed_runtime.embed.reranker",
    "Reranker": "edge_embed_runtime.embed.reranker",
    "Session": "edge_embed_runtime.index.session",
    "SparseVector": "edge_embed_runtime.vectors.sparse",
    "TruncationWarning": "edge_embed_runtime.errors",
    "compact_index": "edge_embed_runtime.maintenance.compact",
    "dump_vectors": "edge_embed.files.dump",
    "load_vectors": "edge_embed.files.load",
    "maxsim": "edge_embed_runtime.vectors.maxsim",
    "merge_indexes": "edge_embed.files.merge",
    "reembed_index": "edge_embed_runtime.maintenance.reembed",
    "verify_index": "edge_embed_runtime.maintenance.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_embed' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
