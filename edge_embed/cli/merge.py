"""`edge-embed merge`."""

from typing import Any

import click

from edge_embed.cli.options import fields_option, json_option, show, words_option


@click.command()
@click.argument("out", metavar="OUT")
@click.argument("shards", metavar="SHARD...", nargs=-1, required=True)
@click.option(
    "--on-duplicate",
    type=click.Choice(["error", "first", "last"]),
    default="error",
    show_default=True,
    help="What to do with a key that has different documents in several SHARDs, or in OUT, which comes first.",
)
@words_option
@fields_option
@click.option(
    "--timeout", type=click.FloatRange(0), default=0.0, help="Seconds to wait for another process that writes to OUT."
)
@json_option
def merge(out: str, shards: tuple[str, ...], fields: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Build the index OUT from shards of vectors, or from other indexes.

    Each SHARD is an index, a .parquet file that `bulk` wrote (extra `arrow`), or a folder of them.
    All must have vectors of the same bundle or space. OUT appears when it is whole; if it exists, everything is added
    in one step. Vectors are not computed again. Everything is read and checked before anything is written.
    """
    from edge_embed.files.merge import merge_indexes

    done = merge_indexes(out, shards, fields=fields or None, **options, show_progress=True)
    unchanged = f", {done.unchanged} unchanged" if done.unchanged else ""
    others = f", {done.skipped} skipped, {done.replaced} replaced" if done.skipped or done.replaced else ""
    line = f"{out}: {done.stored} documents stored{unchanged}{others}; {done.documents} now, {done.passages} passages"
    show(vars(done), as_json, lambda: [line])
