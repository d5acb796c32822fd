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


@click.command("eval")
@click.argument("data_dir")
@bundle_option
@kind_options
@space_options
@threads_option
@json_option
def evaluate(data_dir: str, as_json: bool, sparse: str | None, multi: str | None, **model: Any) -> None:
    """Measure retrieval quality on a judged set in BEIR's layout.

    DATA_DIR holds corpus.jsonl (or .gz), queries.jsonl, and qrels.tsv or qrels/test.tsv. Each storage tier (float32,
    int8, binary, ...) and each search mode gets its own figures.
    """
    from edge_embed.embedder import Embedder
    from edge_embed.measuring.quality import evaluate as run
    from edge_embed.measuring.quality import read_judged_set
    from edge_embed_quantize.receipt import FIGURES

    judged = read_judged_set(data_dir)
    result = run(judged, Embedder(**model), **more_embedders(sparse, multi, model), show_progress=True)

    def text() -> Iterator[str]:
        yield f"{len(judged.documents)} documents, {len(judged.queries)} queries"
        yield f"{'tier':<12}" + "".join(f"{name:>11}" for name in FIGURES) + "  bytes/vector"
        for tier, figures in result.items():
            numbers = "".join(f"{figures[name]:>11.4f}" for name in FIGURES)
            yield f"{tier:<12}{numbers}{figures['bytes_per_vector']:>14}"

    show(result, as_json, text)
