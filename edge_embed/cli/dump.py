"""`edge-embed dump`."""

import click

from edge_embed.cli.options import json_option, show
from edge_embed.cli.terminal import say


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("output", metavar="OUT")
@click.option("--codes", is_flag=True, help="Write int8 codes and their scales instead of vectors: a quarter the size.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@json_option
def dump(index: str, output: str, codes: bool, force: bool, as_json: bool) -> None:
    """Write keys, vectors, texts and metadata of INDEX to a file.

    OUT is a .npz, .parquet or .arrow file; the last two need the extra `arrow`. Each row is a passage. Needs no bundle,
    and works while another process writes. Damaged rows are left out; the exit status is then 1.
    """
    from edge_embed.files.dump import dump_vectors

    done = dump_vectors(index, output, codes=codes, force=force, show_progress=True)
    show(vars(done), as_json, lambda: [f"{output}: {done.rows} passages, {done.dim} numbers each"])
    if done.damaged:
        warning = f"edge-embed: warning: {done.damaged} damaged rows of {index} were left out; see verify"
        say(warning, err=True)
        click.get_current_context().exit(1)
