"""`edge-embed reembed`: an index gets the vectors of another bundle."""

from dataclasses import asdict
from typing import Any

import click

from edge_embed.cli.options import (
    background_option,
    bundle_option,
    json_option,
    max_rss_option,
    show,
    space_options,
    threads_option,
)
from edge_embed.cli.terminal import say


@click.command()
@click.argument("index", metavar="INDEX")
@click.option("--discard", is_flag=True, help="Remove what an interrupted run left beside INDEX; embed nothing.")
@bundle_option
@space_options
@threads_option
@max_rss_option
@background_option
@json_option
def reembed(
    index: str,
    discard: bool,
    bundle: str | None,
    threads: int | None,
    max_rss_mb: float | None,
    background: bool,
    as_json: bool,
    **space: Any,
) -> None:
    """Embed every document of INDEX again with the bundle given.

    INDEX can be searched meanwhile and finds its old vectors until one transaction at the end puts the new ones in
    their place. An interrupted run can be run again and goes on where it was; until it is done its work lies in
    INDEX.reembed. The old bundle is not needed.
    """
    from edge_embed.embedder import Embedder
    from edge_embed_runtime.maintenance.reembed import discard_staging, reembed_index

    if discard:
        removed = discard_staging(index)
        what = "the work of an interrupted run was removed" if removed else "no run was interrupted"
        show({"discarded": removed}, as_json, lambda: [f"{index}: {what}"])
        return
    embedder = Embedder(bundle, threads=threads, max_rss_mb=max_rss_mb, background=background, **space)
    done = reembed_index(index, embedder, show_progress=True, notify=lambda what: say(what, err=True))
    name, fingerprint = embedder.manifest.name, embedder.fingerprint
    counts = f"{done.embedded} documents embedded, {done.kept} by earlier runs"
    show(
        {**asdict(done), "bundle": name, "fingerprint": fingerprint},
        as_json,
        lambda: [f"{index}: {counts}; {done.documents} documents, {done.passages} passages of {name}"],
    )
