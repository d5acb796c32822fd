"""`load` and `dump`: vectors into an index and out of it."""

import click

from edge_embed.cli.options import fields_option, json_option, max_rss_option, show, timeout_option, words_option
from edge_embed.cli.terminal import say


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("vectors", metavar="VECTORS")
@click.option("--documents", metavar="FILE", help="A .jsonl or .csv file of documents, in the order of the vectors.")
@click.option("--space", metavar="NAME", help="Name of the model that the vectors come from; needed for a new INDEX.")
@click.option("--key", metavar="FIELD", help="The column of keys.  [default: key, _id or id, if there is just one]")
@click.option("--text", metavar="FIELD", help="The column of texts.  [default: text; texts in .npz files]")
@click.option("--vector", metavar="FIELD", help="The column of vectors.  [default: vector; vectors in .npz files]")
@click.option("--replace", is_flag=True, help="Put rows in the place of documents of other files with the same keys.")
@words_option
@fields_option
@timeout_option
@max_rss_option
@json_option
def load(
    index: str,
    vectors: str,
    documents: str | None,
    space: str | None,
    key: str | None,
    text: str | None,
    vector: str | None,
    replace: bool,
    words: str | None,
    fields: tuple[str, ...],
    timeout: float,
    max_rss_mb: float | None,
    as_json: bool,
) -> None:
    """Store vectors that you have in INDEX, made when missing: of .npy, .npz, .parquet or .arrow files.

    A .npy file holds vectors alone. The others may hold keys, texts and metadata too, as `dump` writes them; their
    other columns become metadata. .parquet and .arrow need the extra `arrow`. Rows of --documents are read as `add`
    reads them, but their ids are keys by themselves, and their texts may be missing. Where there is nothing but
    vectors and texts, keys are the numbers of rows, from 0. What is there already unchanged is skipped, so an
    interrupted run can be run again.
    """
    from edge_embed.files.load import load_vectors

    done = load_vectors(
        index,
        vectors,
        documents,
        space=space,
        key=key,
        text=text,
        vector=vector,
        replace=replace,
        words=words,
        fields=fields or None,
        timeout=timeout,
        max_rss_mb=max_rss_mb,
        show_progress=True,
    )
    line = f"{index}: {done.stored} stored, {done.unchanged} unchanged, of {done.rows} rows"
    show(vars(done), as_json, lambda: [line])


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("output", metavar="OUT")
@click.option("--codes", is_flag=True, help="Write int8 codes and their scales, a quarter of the size, not vectors.")
@click.option("--force", is_flag=True, help="Replace OUT where it is there.")
@json_option
def dump(index: str, output: str, codes: bool, force: bool, as_json: bool) -> None:
    """Write keys, vectors, texts and metadata of INDEX to OUT: .npz, .parquet or .arrow.

    A row is a passage. Needs no bundle, and works while another process writes; .parquet and .arrow need the extra
    `arrow`. Damaged rows are left out; the exit status is 1 then.
    """
    from edge_embed.files.load import dump_vectors

    done = dump_vectors(index, output, codes=codes, force=force, show_progress=True)
    show(vars(done), as_json, lambda: [f"{output}: {done.rows} passages, {done.dim} numbers each"])
    if done.damaged:
        warning = f"edge-embed: warning: {done.damaged} damaged rows of {index} were left out; see verify"
        say(warning, err=True)
        click.get_current_context().exit(1)
