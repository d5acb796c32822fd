"""`edge-embed values`."""

from collections.abc import Iterator

import click

from edge_embed.cli.options import json_option, max_rss_option, shorten, show
from edge_embed.cli.terminal import json_text
from edge_embed.cli.where import given_where, where_options


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("field", metavar="FIELD")
@where_options
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Show no more values than this.")
@max_rss_option
@json_option
def values(
    index: str,
    field: str,
    conditions: tuple[str, ...],
    where_json: tuple[str, ...],
    limit: int,
    max_rss_mb: float | None,
    as_json: bool,
) -> None:
    """Show which values a metadata field has in INDEX, and how often.

    Those that most documents have come first; what stands in a list counts like a value of its own. The last line is
    the least and the greatest number, or text where there is no number. --where and --where-json mean the same as for
    search. Needs no bundle, and works while another process writes.
    """
    from edge_embed_runtime.index.index import Index

    where = given_where(conditions, where_json)
    with Index.open(index, read_only=True, max_rss_mb=max_rss_mb) as target:
        found = target.field_values(field, where, limit=limit + 1)
        ends = target.field_range(field, where)
    more, found = len(found) > limit, found[:limit]

    def text() -> Iterator[str]:
        for value, documents in found:
            yield f"{documents:>10}  {shorten(json_text(value), 200)}"
        if more:
            yield f"{'...':>10}  and more: see --limit"
        if ends is not None:
            yield "from " + " to ".join(shorten(json_text(end), 200) for end in ends)
        if not found:
            yield "no values"

    result = {"field": field, "values": [one._asdict() for one in found], "more": more}
    show({**result, "range": None if ends is None else list(ends)}, as_json, text)
