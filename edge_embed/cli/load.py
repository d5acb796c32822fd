"""`edge-embed load`."""

from typing import Any

import click

from edge_embed.cli.options import fields_option, json_option, max_rss_option, show, timeout_option, words_option


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("vectors", metavar="VECTORS")
@click.option("--documents", metavar="FILE", help="A .jsonl or .csv file of documents, in the order of the vectors.")
@click.option("--space", metavar="NAME", help="Name of the model that made the vectors; required for a new INDEX.")
@click.option("--key", metavar="FIELD", help="The column of keys.  [default: key, _id or id, if there is only one]")
@click.option("--text", metavar="FIELD", help="The column of texts.  [default: text; texts in .npz files]")
@click.option("--vector", metavar="FIELD", help="The column of vectors.  [default: vector; vectors in .npz files]")
@click.option("--replace", is_flag=True, help="Replace documents of other files that have the same keys.")
@words_option
@fields_option
@timeout_option
@max_rss_option
@json_option
def load(
    index: str, vectors: str, documents: str | None, fields: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Store vectors of a file in INDEX, which is created if missing.

    VECTORS is a .npy, .npz, .parquet or .arrow file. A .npy file has vectors only. The others may also have keys, texts
    and metadata, as `dump` writes them; their other columns become metadata. .parquet and .arrow need the extra
    `arrow`. Rows of --documents are read as `add` reads them, but the keys are their ids alone, and a text may be
    missing. If there are only vectors and texts, the keys are the row numbers, from 0. Rows that INDEX already has
    unchanged are skipped, so you can run an interrupted command again.
    """
    from edge_embed.files.load import load_vectors

    done = load_vectors(index, vectors, documents, fields=fields or None, **options, show_progress=True)
    line = f"{index}: {done.stored} stored, {done.unchanged} unchanged, of {done.rows} rows"
    show(vars(done), as_json, lambda: [line])
