"""`edge-embed serve`."""

from typing import Any

import click

from edge_embed.cli.options import max_rss_option, threads_option
from edge_embed.cli.terminal import say
from edge_embed_runtime.extras import require


@click.command()
@click.argument("index", metavar="[INDEX]", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on.")
@click.option(
    "--bundle", "bundles", metavar="[NAME=]BUNDLE", multiple=True, help="A bundle; may be given several times."
)
@threads_option
@max_rss_option
def serve(index: str | None, host: str, port: int, bundles: tuple[str, ...], **model: Any) -> None:
    """Answer requests over HTTP on this machine."""
    require("starlette", "serve")
    require("uvicorn", "serve")
    from edge_embed.embedder import Embedder
    from edge_embed.service.server import run
    from edge_embed.service.service import Service
    from edge_embed_runtime.index.index import Index

    embedders = {}
    for given in bundles or ("minilm",):
        name, _, path = given.partition("=") if "=" in given else (None, "", given)
        embedder = Embedder(path, **model)
        embedders[name or embedder.name] = embedder
    first = next(iter(embedders.values()))
    opened = None if index is None else Index.open(index, first, read_only=True, max_rss_mb=model["max_rss_mb"])
    say(f"listening on http://{host}:{port}")
    run(Service(embedders, index=opened), host, port)
