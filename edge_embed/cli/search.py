"""`edge-embed search`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from edge_embed.cli.options import (
    bundle_option,
    json_option,
    kind_options,
    max_rss_option,
    more_embedders,
    shorten,
    show,
    show_each,
    space_options,
    threads_option,
)
from edge_embed.cli.terminal import say
from edge_embed.cli.where import given_where, number_hint, where_options

if TYPE_CHECKING:
    from edge_embed_runtime.embed.reranker import Reranker


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("query", required=False)
@click.option("-k", "count", type=int, default=10, show_default=True, help="Number of hits.")
@where_options
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "vector", "text", "sparse", "multi"]),
    help="What to compare.  [default: hybrid; without QUERY, vector]",
)
@click.option(
    "--like",
    metavar="KEY",
    multiple=True,
    help="Find documents near to this one, with QUERY or without; may be given several times. It is no hit.",
)
@click.option("--unlike", metavar="KEY", multiple=True, help="Keep away from this document, likewise.")
@click.option(
    "--mmr",
    type=float,
    metavar="NUMBER",
    help="Diversity: 1 keeps the order of the scores, 0 takes hits as different as can be, 0.5 lies between.",
)
@click.option(
    "--rerank", metavar="BUNDLE", help="Score the first documents again, with this bundle of a cross-encoder."
)
@click.option(
    "--rerank-depth",
    type=int,
    metavar="NUMBER",
    help="How many documents --rerank scores.  [default: 50, or -k if that is more]",
)
@click.option("--image", metavar="FILE", help="A picture to find documents by, instead of QUERY or with it.")
@click.option("--audio", metavar="FILE", help="A sound to find documents by, likewise.")
@click.option(
    "--kind",
    type=click.Choice(["text", "image", "audio"]),
    help="Find only texts (captions included), pictures or sounds.  [default: all]",
)
@click.option("--vector", metavar="FILE", help="A .npy file with the query's vector, instead of QUERY or with it.")
@bundle_option
@kind_options
@space_options
@threads_option
@max_rss_option
@json_option
def search(
    index: str,
    query: str | None,
    count: int,
    conditions: tuple[str, ...],
    where_json: tuple[str, ...],
    mode: Any,
    like: tuple[str, ...],
    unlike: tuple[str, ...],
    mmr: float | None,
    rerank: str | None,
    rerank_depth: int | None,
    image: str | None,
    audio: str | None,
    kind: Any,
    vector: str | None,
    as_json: bool,
    sparse: str | None,
    multi: str | None,
    **model: Any,
) -> None:
    """Find the documents of INDEX that fit QUERY best.

    The value in --where is read as JSON if it is JSON (year=2020, draft=false), otherwise as text (lang=en). With =, !=
    and ~= a JSON value also matches its text: isbn=9780306406157 finds "9780306406157" too. tags~=sea fits a list with
    sea in it, or a text with these letters. Quote < and > for the shell: --where "year>=2000" --where "year<2020". A
    field whose name contains =, < or > needs --where-json.

    Pictures and sounds are compared by bundles that have towers for them. Where INDEX has several kinds of documents,
    each is ranked by itself, and the rankings are joined.

    No bundle is loaded for --mode text, nor with --vector, as for an index of loaded vectors, nor for --like without
    QUERY; --mode sparse loads only --sparse.
    """
    from edge_embed.embedder import Embedder
    from edge_embed.files.arrays import read_vector
    from edge_embed_runtime.index.index import Index

    where = given_where(conditions, where_json)
    media = {name: file for name, file in (("image", image), ("audio", audio)) if file is not None}
    if query is None and vector is None and not like and not media:
        raise click.UsageError("Missing argument 'QUERY' or option '--image', '--audio', '--vector' or '--like'.")
    asked = None if vector is None else read_vector(vector)
    embedder = None
    others = more_embedders(sparse, multi, model) if mode != "text" else {}
    if media and query is None:
        embedder = Embedder(**model, towers=tuple(media))
    elif media or (mode != "text" and asked is None and query is not None and not (mode == "sparse" and sparse)):
        embedder = Embedder(**model)
    judge = None if rerank is None else _reranker(rerank, model)
    with Index.open(index, embedder, **others, read_only=True, max_rss_mb=model["max_rss_mb"]) as target:
        near: dict[str, Any] = {"like": like, "unlike": unlike, "mmr": mmr, "rerank_depth": rerank_depth}
        near |= {**media, "kind": kind} if media or kind else {}
        hits = target.search(query, count, where, mode, vector=asked, rerank=judge, **near)
        damaged = len(target.damaged)
    if damaged:
        say(f"edge-embed: warning: {damaged} damaged passages of {index} were left out", err=True)

    def text() -> Iterator[str]:
        for rank, hit in enumerate(hits, start=1):
            place = "" if hit.place is None else f"  {shorten(hit.place, 200)}"
            what = "" if hit.kind == "text" else f"  {hit.kind}"
            yield f"{rank}. {shorten(hit.key, 200)}  ({hit.score:.4g}){what}{place}"
            yield f"   {shorten(hit.text or hit.source, 200)}"
        if not hits:
            yield f"nothing found: {hits.shortfall}{number_hint(conditions)}"

    if as_json:
        show_each("hits", map(vars, hits), shortfall=hits.shortfall)
    else:
        show({}, False, text)


def _reranker(bundle: str, model: dict[str, Any]) -> "Reranker":
    from edge_embed_runtime.embed.reranker import Reranker

    return Reranker(bundle, threads=model["threads"], max_rss_mb=model["max_rss_mb"])
