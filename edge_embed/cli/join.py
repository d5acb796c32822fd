"""`edge-embed join`."""

from pathlib import Path

import click

from edge_embed.cli.options import json_option, show


@click.command()
@click.argument("text_bundle", metavar="TEXT_BUNDLE")
@click.argument("tower_bundles", metavar="TOWER_BUNDLE...", nargs=-1, required=True)
@click.argument("out", metavar="OUT")
@click.option(
    "--same-space",
    is_flag=True,
    help="The models were trained to give vectors that can be compared, although the bundles name different spaces.",
)
@click.option("--name", help="The new bundle's name.  [default: the folder's]")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@json_option
def join(
    text_bundle: str,
    tower_bundles: tuple[str, ...],
    out: str,
    same_space: bool,
    name: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Join bundles for texts, pictures and sounds to one bundle.

    OUT gets the text model of TEXT_BUNDLE and the image and audio models of each TOWER_BUNDLE; their files are copied
    unchanged. All must be of one space: exported from the same model, or trained into the space of TEXT_BUNDLE.
    """
    from edge_embed.cli.describe import bundle_facts, bundle_lines
    from edge_embed.embedder import bundle_path
    from edge_embed_runtime.bundle.join import join_bundles

    manifest = join_bundles(
        bundle_path(text_bundle),
        [bundle_path(bundle) for bundle in tower_bundles],
        out,
        same_space=same_space,
        name=name,
        overwrite=force,
    )
    show(bundle_facts(manifest), as_json, lambda: bundle_lines(Path(out), manifest))
