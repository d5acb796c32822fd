"""`edge-embed backup`."""

import click

from edge_embed.cli.options import json_option, show


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("out", metavar="OUT")
@click.option("--compact", is_flag=True, help="Leave out the space of deleted documents.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@json_option
def backup(index: str, out: str, compact: bool, force: bool, as_json: bool) -> None:
    """Copy INDEX to the file OUT.

    It works while another process writes to INDEX: OUT has what was committed when the copy began. Needs no bundle.
    """
    from edge_embed_runtime.maintenance.backup import backup_index

    made = backup_index(index, out, compact=compact, overwrite=force, show_progress=True)
    result = {"path": str(made.path), "bytes": made.bytes, "generation": made.generation}
    show(result, as_json, lambda: [f"{out}: {made.bytes:,} bytes"])
