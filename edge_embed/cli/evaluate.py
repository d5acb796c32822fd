"""`edge-embed eval`."""

from collections.abc import Iterator
from typing import Any

import click

from edge_embed.cli.options import (
    bundle_option,
    json_option,
    kind_options,
    more_embedders,
    show,
    space_options,
    threads_option,
)


def _pairs(_: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> list[tuple[str, str]]:
    """("split=test",) -> [("split", "test")]."""
    found = [text.partition("=") for text in given]
    for name, sign, _value in found:
        if not name or not sign:
            raise click.BadParameter(f"{name!r} is not KEY=VALUE", param=parameter)
    return [(name, value) for name, _sign, value in found]


@click.command("eval")
@click.argument("data_dir")
@click.option("--queries", metavar="FILE", default="", help="The queries of DATA_DIR.  [default: queries.jsonl]")
@click.option(
    "--qrels", metavar="NAME", default="", help="Judge by qrels/NAME.tsv.  [default: qrels.tsv, or qrels/test.tsv]"
)
@click.option("--kind", type=click.Choice(["text", "image", "audio"]), help="Search only documents of this kind.")
@click.option(
    "--where",
    "documents",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_pairs,
    help="Search only documents whose metadata says so; may be given several times.",
)
@click.option(
    "--queries-where",
    "asked",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_pairs,
    help="Ask only queries whose metadata says so; may be given several times.",
)
@bundle_option
@kind_options
@space_options
@threads_option
@json_option
def evaluate(
    data_dir: str,
    queries: str,
    qrels: str,
    kind: str | None,
    documents: list[tuple[str, str]],
    asked: list[tuple[str, str]],
    as_json: bool,
    sparse: str | None,
    multi: str | None,
    **model: Any,
) -> None:
    """Measure retrieval quality on a judged set in BEIR's layout.

    DATA_DIR holds corpus.jsonl (or .gz), queries.jsonl, and qrels.tsv or qrels/test.tsv. Each storage tier (float32,
    int8, binary, ...) and each search mode gets its own figures. Rows of the corpus with `image` or `audio`, a path
    from DATA_DIR, are pictures and sounds, for a bundle that has towers for them.
    """
    from edge_embed.embedder import Embedder
    from edge_embed.measuring.judged import Chosen, read_judged_set
    from edge_embed.measuring.quality import evaluate as run
    from edge_embed_quantize.receipt import FIGURES

    judged = read_judged_set(data_dir, Chosen(queries, qrels, kind or "", documents, asked))
    result = run(judged, Embedder(**model), **more_embedders(sparse, multi, model), show_progress=True)

    def text() -> Iterator[str]:
        yield f"{len(judged.documents)} documents, {len(judged.queries)} queries"
        yield f"{'tier':<12}" + "".join(f"{name:>11}" for name in FIGURES) + "  bytes/vector"
        for tier, figures in result.items():
            numbers = "".join(f"{figures[name]:>11.4f}" for name in FIGURES)
            yield f"{tier:<12}{numbers}{figures['bytes_per_vector']:>14}"

    show(result, as_json, text)
