"""`edge-embed rebuild`."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from edge_embed.cli.options import json_option, show


@click.command()
@click.argument("index", metavar="INDEX")
@click.option(
    "--graph",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="auto: build an HNSW graph from two million passages on, and keep it if it is faster on this device.",
)
@json_option
def rebuild(index: str, graph: Any, as_json: bool) -> None:
    """Build binary codes, word table and graph of INDEX again.

    These are computed from the texts and vectors of INDEX. Run it after you added many documents unlike the first ones,
    on a new device, and after an update of edge-embed. Needs no bundle. If it is killed, INDEX stays whole.
    """
    from edge_embed_runtime.index.index import Index

    with Index.open(index) as target:
        done = target.rebuild(graph, show_progress=True)

    def text() -> Iterator[str]:
        yield f"{index}: {done.passages} binary codes and the word table built again; frame: {done.frame}"
        yield f"graph: {done.graph}"
        if (verdict := done.verdict) is not None:
            yield f"  scan  {verdict.exact_ms:.2f} ms a search, recall@10 {verdict.exact_recall:.4f}"
            yield f"  graph {verdict.graph_ms:.2f} ms a search, recall@10 {verdict.graph_recall:.4f}"
            yield f"  {verdict.bytes:,} bytes, built in {verdict.build_seconds:.0f} s, on {verdict.cpu}"

    show(asdict(done), as_json, text)
