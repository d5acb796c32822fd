"""`edge-embed reembed`."""

from dataclasses import asdict
from typing import Any

import click

from edge_embed.cli.options import (
    bundle_option,
    json_option,
    run_options,
    show,
)
from edge_embed.cli.terminal import say


@click.command()
@click.argument("index", metavar="INDEX")
@click.option("--discard", is_flag=True, help="Remove the unfinished work of an interrupted run; embed nothing.")
@bundle_option
@run_options
@json_option
def reembed(index: str, discard: bool, as_json: bool, **model: Any) -> None:
    """Embed every document of INDEX again, with another bundle.

    Searches work during the run and use the old vectors, until one transaction at the end replaces them all. You can
    run an interrupted command again, and it continues; unfinished work is kept in INDEX.reembed. The old bundle is not
    needed.
    """
    from edge_embed.embedder import Embedder
    from edge_embed_runtime.maintenance.reembed import discard_staging, reembed_index

    if discard:
        removed = discard_staging(index)
        what = "the work of an interrupted run was removed" if removed else "no run was interrupted"
        show({"discarded": removed}, as_json, lambda: [f"{index}: {what}"])
        return
    embedder = Embedder(**model)
    done = reembed_index(index, embedder, show_progress=True, notify=lambda what: say(what, err=True))
    name, fingerprint = embedder.manifest.name, embedder.fingerprint
    counts = f"{done.embedded} documents embedded, {done.kept} by earlier runs"
    show(
        {**asdict(done), "bundle": name, "fingerprint": fingerprint},
        as_json,
        lambda: [f"{index}: {counts}; {done.documents} documents, {done.passages} passages of {name}"],
    )
