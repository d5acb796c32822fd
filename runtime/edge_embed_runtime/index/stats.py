"""What an index says of itself."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.checks import check_path
from edge_embed_runtime.search.hnsw import Cache, describe
from edge_embed_runtime.storage.database import bytes_on_disk
from edge_embed_runtime.storage.root import read_root
from edge_embed_runtime.storage.store import Store

if TYPE_CHECKING:
    from edge_embed_runtime.storage.media import MediaKind

# Of an index whose table of words an earlier release made.
OLD_WORDS = "the words were stored as an earlier release did: rebuild finds texts in other Unicode forms (NFD) too"


def read_stats(path: str | os.PathLike[str]) -> dict[str, Any]:
    """`Index.stats` of a file, without its embedder."""
    store = Store(check_path(path, "the index"), read_only=True)
    try:
        return stats(store, None)
    finally:
        store.close()


def _kinds(documents: int, media: "Mapping[MediaKind, int]") -> dict[str, int]:
    """Documents by kind."""
    return {"text": documents - sum(media.values()), "image": media.get("image", 0), "audio": media.get("audio", 0)}


def stats(store: Store, graph: Cache | None) -> dict[str, Any]:
    """See `Index.stats`. graph: that of its searches"""
    generation, _ = store.counters()  # reads the facts again where they have changed
    documents, passages = store.counts()
    facts, root = store.facts, read_root(store)
    bare = passages - store.blocks.count() if store.gaps else 0
    return {
        "documents": documents,
        "passages": passages,
        "dim": facts.dim,
        "bundle": facts.bundle,
        "space": facts.space,
        "fingerprint": facts.fingerprint,
        "words": facts.words,
        "fields": list(facts.fields),
        "root": None if root is None else root.absolute,  # as it was recorded
        **{name: model.name for name, model in facts.attached.items()},
        **({} if store.media is None else {"kinds": _kinds(documents, store.media.counts())}),
        **({"late_chunking": True} if facts.late else {}),
        **({"without_vector": bare} if bare > 0 else {}),
        **({} if facts.normal else {"advice": OLD_WORDS}),
        "generation": generation,
        "bytes": bytes_on_disk(store.path),
        "graph": describe(store, graph),
    }
