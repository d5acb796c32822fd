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
    help="auto: builds a graph for two million passages and more, and keeps it where it is faster on this device.",
)
@json_option
def rebuild(index: str, graph: Any, as_json: bool) -> None:
    """Make anew what INDEX derives from its texts and vectors: binary codes, the table of words, the graph.

    Worth it after much was added that differs from what was there first, on another device, and after a new release.
    Needs no bundle. Killed at any moment it leaves a whole index.
    """
    from edge_embed_runtime.index.index import Index

    with Index.open(index) as target:
        done = target.rebuild(graph, show_progress=True)

    def text() -> Iterator[str]:
        yield f"{index}: {done.passages} binary codes and the table of words made anew; frame: {done.frame}"
        yield f"graph: {done.graph}"
        if (verdict := done.verdict) is not None:
            yield f"  scan  {verdict.exact_ms:.2f} ms a search, recall@10 {verdict.exact_recall:.4f}"
            yield f"  graph {verdict.graph_ms:.2f} ms a search, recall@10 {verdict.graph_recall:.4f}"
            yield f"  {verdict.bytes:,} bytes, built in {verdict.build_seconds:.0f} s, on {verdict.cpu}"

    show(asdict(done), as_json, text)
