"""`edge-embed demo`: the whole job on a small real corpus that ships with the package."""

import time
from collections.abc import Iterator
from typing import Any

import click

from edge_embed.cli.options import bundle_option, json_option, shorten, show, space_options, threads_option

QUERIES = (
    "my purse was stolen on the train",
    "why is there an extra charge on my statement?",
    "can my teenage daughter get her own account?",
    "the machine kept my money but gave me nothing",
)


@click.command()
@bundle_option
@space_options
@threads_option
@json_option
def demo(as_json: bool, **model: Any) -> None:
    """Index and search a small real corpus; show times and memory."""
    result = run_demo(model)

    def text() -> Iterator[str]:
        engine = f", engine {result['engine']}" if result["engine"] else ""
        runs = f"{result['bundle']}{engine}, threads: {result['threads']}"
        yield f"{result['documents']} questions of bank customers; {runs}"
        for answer in result["results"]:
            yield ""
            yield f"> {answer['query']}   ({answer['ms']:.1f} ms)"
            for hit in answer["hits"]:
                yield f"  {hit['score']:.4f}  {shorten(hit['text'], 70)}  [{hit['metadata']['topic']}]"
        yield ""
        yield f"load {result['load_seconds']:.2f} s, embed and store {result['add_seconds']:.2f} s"
        if result["start_to_first_hit_seconds"] is not None:
            yield f"process start to first hit {result['start_to_first_hit_seconds']:.2f} s"
        if result["peak_rss_mb"] is not None:
            yield f"peak memory {result['peak_rss_mb']:.0f} MB"

    show(result, as_json, text)


def run_demo(model: dict[str, Any]) -> dict[str, Any]:
    """Load a bundle, index the corpus in a temporary folder, search it. Returns hits, seconds and peak memory.

    model: what `Embedder` takes
    """
    import tempfile
    from pathlib import Path

    from edge_embed.corpus import demo_documents
    from edge_embed.embedder import Embedder
    from edge_embed_runtime.index.index import Index
    from edge_embed_runtime.system.memory import peak_rss_bytes
    from edge_embed_runtime.system.process import seconds_since_start

    began = time.perf_counter()
    embedder = Embedder(**model)
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
        "engine": embedder.engine,
        "threads": embedder.threads,
        "documents": len(documents),
        "load_seconds": loaded - began,
        "add_seconds": added - loaded,
        "start_to_first_hit_seconds": first_hit,
        "peak_rss_mb": None if peak is None else peak / 1e6,
        "results": results,
    }
