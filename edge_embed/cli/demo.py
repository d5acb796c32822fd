"""The whole job on a small real corpus that ships with the package."""

import tempfile
import time
from pathlib import Path
from typing import Any

from edge_embed.corpus import demo_documents
from edge_embed.embedder import Embedder
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.system.cpu import peak_rss_bytes, seconds_since_start

QUERIES = (
    "my purse was stolen on the train",
    "why is there an extra charge on my statement?",
    "can my teenage daughter get her own account?",
    "the machine kept my money but gave me nothing",
)


def run_demo(bundle: str | None = None, threads: int | None = None, **space: Any) -> dict[str, Any]:
    """Load the bundle, index the corpus in a temporary folder, search it. Gives hits, seconds and peak memory."""
    began = time.perf_counter()
    embedder = Embedder(bundle, threads=threads, **space)
    loaded = time.perf_counter()
    documents = demo_documents()
    first_hit = None
    results = []
    with tempfile.TemporaryDirectory() as folder, Index.open(Path(folder) / "demo.db", embedder) as index:
        index.add(documents)
        added = time.perf_counter()
        for query in QUERIES:
            asked = time.perf_counter()
            hits = index.search(query, k=3)
            answered = time.perf_counter()
            first_hit = first_hit if first_hit is not None else seconds_since_start()
            results.append({"query": query, "ms": 1e3 * (answered - asked), "hits": [vars(hit) for hit in hits]})
    peak = peak_rss_bytes()
    return {
        "bundle": embedder.manifest.name,
        "threads": embedder.threads,
        "documents": len(documents),
        "load_seconds": loaded - began,
        "add_seconds": added - loaded,
        "start_to_first_hit_seconds": first_hit,
        "peak_rss_mb": None if peak is None else peak / 1e6,
        "results": results,
    }
