"""`edge-embed distill`."""

from pathlib import Path

import click

from edge_embed.cli.options import json_option, show, threads_option
from edge_embed.cli.terminal import say_step


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@click.argument("out", metavar="OUT")
@click.option("--dim", type=click.IntRange(1), default=256, show_default=True, help="Dimensions of the vectors.")
@click.option("--texts", metavar="FILE", help="Texts to learn from, one per line, like those you will embed.")
@click.option("--name", help="The new bundle's name.  [default: the folder's]")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
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
    """Make a small and very fast static bundle from another bundle.

    BUNDLE is a folder, or the name of an embedded bundle; OUT is the folder to write. In a static bundle each token has
    one vector, and the vector of a text is the sum of its tokens' vectors: less exact than BUNDLE, and some hundred
    times as fast. A few thousand texts (--texts) make it much better. Needs the extra `export`.
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
        progress=say_step,
    )
    size = sum(record.size for record in manifest.files.values())
    notes = {key: manifest.provenance.get(key) for key in ("distilled_from", "texts", "held_out_cosine")}
    result = {"bundle": out, "bytes": size, "dim": manifest.dim, **notes, "receipt": manifest.receipt}
    cosines = notes["held_out_cosine"] or {}

    def text() -> "list[str]":
        lines = [f"{out}: {size / 1e6:.1f} MB, dim {manifest.dim}"]
        if cosines:
            steps = ", ".join(f"{step} {value:.3f}" for step, value in cosines.items())
            lines.append(f"cosine to the model on held-out texts: {steps}")
        return lines

    show(result, as_json, text)
