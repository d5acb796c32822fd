"""`edge-embed distill`: a static bundle, small and very fast, from any other."""

import sys
from pathlib import Path

import click

from edge_embed.cli.options import json_option, show, threads_option
from edge_embed.cli.terminal import say


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@click.argument("out", metavar="OUT")
@click.option("--dim", type=click.IntRange(1), default=256, show_default=True, help="Numbers in a vector.")
@click.option("--texts", metavar="FILE", help="Texts to learn from, one a line, like those that will be embedded.")
@click.option("--name", help="The new bundle's name.  [default: the folder's]")
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@threads_option
@json_option
def distill(
    bundle: str,
    out: str,
    dim: int,
    texts: str | None,
    name: str | None,
    force: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Make OUT, a static bundle, of BUNDLE: a folder, or the name of an embedded one.

    In a static bundle each token has one vector, and a text the sum of its tokens': worse than BUNDLE, some hundred
    times as fast. Some thousand texts (--texts) make it much better. Needs the extra `export`.
    """
    from edge_embed.embedder import bundle_path
    from edge_embed_export.static.distill import distill_model
    from edge_embed_runtime.system.files import read_lines

    manifest = distill_model(
        bundle_path(bundle),
        out,
        dim=dim,
        texts=[] if texts is None else read_lines(texts),
        texts_name="" if texts is None else Path(texts).name,
        name=name,
        threads=threads,
        overwrite=force,
        show_progress=True,
        progress=lambda step: say(step, err=True) if sys.stderr.isatty() else None,
    )
    size = sum(record.size for record in manifest.files.values())
    notes = {key: manifest.provenance.get(key) for key in ("distilled_from", "texts", "held_out_cosine")}
    result = {"bundle": out, "bytes": size, "dim": manifest.dim, **notes, "receipt": manifest.receipt}
    cosines = notes["held_out_cosine"] or {}

    def text() -> "list[str]":
        lines = [f"{out}: {size / 1e6:.1f} MB, dim {manifest.dim}"]
        if cosines:
            steps = ", ".join(f"{step} {value:.3f}" for step, value in cosines.items())
            lines.append(f"cosine to the model on texts held out: {steps}")
        return lines

    show(result, as_json, text)
