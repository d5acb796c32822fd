"""`edge-embed find`."""

from collections.abc import Iterable, Iterator
from typing import Any

import click

from edge_embed.cli.options import json_option, max_rss_option, shorten, show, show_each
from edge_embed.cli.terminal import json_text, say
from edge_embed.cli.where import given_where, number_hint, where_options
from edge_embed_runtime.storage.documents import Document


@click.command()
@click.argument("index", metavar="INDEX")
@where_options
@click.option("--limit", type=click.IntRange(0), help="Show no more documents than this.  [default: all]")
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True, help="Leave out so many first.")
@click.option("--count", "only_count", is_flag=True, help="Show only how many documents fit.")
@max_rss_option
@click.option("--jsonl", is_flag=True, help="Print a JSON object for each document, each on a line of its own.")
@json_option
def find(
    index: str,
    conditions: tuple[str, ...],
    where_json: tuple[str, ...],
    limit: int | None,
    offset: int,
    only_count: bool,
    max_rss_mb: float | None,
    jsonl: bool,
    as_json: bool,
) -> None:
    """List the documents of INDEX, in the order of their keys.

    All of them, or those that fit --where and --where-json, which mean the same as for search. Needs no bundle, and
    works while another process writes. Texts are cut where they are long; --json and --jsonl have all of them.
    """
    from edge_embed_runtime.index.index import Index

    if jsonl and (as_json or only_count):
        raise click.UsageError("--jsonl goes with neither --json nor --count")
    if only_count and (limit is not None or offset):
        raise click.UsageError("--count counts all that fit: it goes with neither --limit nor --offset")
    where = given_where(conditions, where_json)
    with Index.open(index, read_only=True, max_rss_mb=max_rss_mb) as target:
        if only_count:
            number = target.count(where)
            show({"count": number}, as_json, lambda: [str(number)])
            return
        found = target.find(where, limit=limit, offset=offset)
        if as_json:
            show_each("documents", map(_as_dict, found))
        else:
            nothing = f"nothing found{number_hint(conditions)}"
            for line in _lines(found, jsonl, nothing):
                say(line)
        damaged = len(target.damaged)
    if damaged:
        say(f"edge-embed: warning: {damaged} damaged passages of {index} were left out; see verify", err=True)


def _as_dict(document: Document) -> dict[str, Any]:
    """Places, and what is known of a picture or a sound, where there are any."""
    found: dict[str, Any] = {"key": document.key, "text": document.text, "metadata": document.metadata}
    media = document.image or document.audio
    if document.places:
        found["places"] = document.places
    names = ("kind", "source", "sha256", "time") if media is not None else ()
    return {**found, **{name: getattr(media, name) for name in names}}


def _lines(found: Iterable[Document], jsonl: bool, nothing: str) -> Iterator[str]:
    empty = True
    for document in found:
        empty = False
        if jsonl:
            yield json_text(_as_dict(document))
        else:
            yield f"{shorten(document.key, 200)}  {shorten(json_text(document.metadata), 200)}"
            yield f"   {shorten(document.text, 200)}"
    if empty and not jsonl:
        yield nothing
