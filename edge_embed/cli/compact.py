"""`edge-embed compact`."""

from collections.abc import Iterator

import click

from edge_embed.cli.options import json_option, show


@click.command()
@click.argument("index", metavar="INDEX")
@json_option
def compact(index: str, as_json: bool) -> None:
    """Shrink INDEX by the space of deleted documents.

    While it runs it needs free disk space for a copy of INDEX.
    """
    from edge_embed_runtime.maintenance.compact import compact_index

    done = compact_index(index)

    def text() -> Iterator[str]:
        yield f"{index}: {done.before:,} bytes before, {done.after:,} after"
        if done.pending:
            yield "  a reader still uses the old state; the file shrinks once it has ended and INDEX is written again"

    show(vars(done), as_json, text)
