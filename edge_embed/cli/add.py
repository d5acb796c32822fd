"""`edge-embed add`."""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from edge_embed.cli.options import (
    background_option,
    beside,
    bundle_option,
    fields_option,
    json_option,
    kind_options,
    max_rss_option,
    secure_option,
    shorten,
    show,
    space_options,
    threads_option,
    timeout_option,
    words_option,
)
from edge_embed.cli.terminal import say

if TYPE_CHECKING:
    from edge_embed.cli.adding import Added, Order

# Problems that are listed; --json has all of them.
SHOWN_PROBLEMS = 20


def _reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """How files are read: see edge_embed.files.documents.Reading."""
    options = (
        click.option(
            "--text",
            metavar="FIELD",
            multiple=True,
            help="The field of rows that holds their text; several are joined.  [default: text]",
        ),
        click.option("--title", metavar="FIELD", help="The field that is put before the text.  [default: title]"),
        click.option(
            "--key",
            metavar="FIELD",
            help="The field whose values are keys by themselves, whatever file they are in.  "
            "[default: key, _id or id, within its file]",
        ),
        click.option(
            "--encoding", metavar="NAME", help="How files without a byte order mark are encoded.  [default: utf-8]"
        ),
        click.option(
            "--delimiter", metavar="CHARACTER", help="What is between the cells of a .csv file.  [default: found out]"
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--sync", is_flag=True, help="Delete the documents of files under PATH that are gone.")
@click.option("--strict", is_flag=True, help="Stop at the first file or row that cannot be read.")
@click.option("--follow-links", is_flag=True, help="Read what symbolic links inside folders lead to.")
@click.option(
    "--root",
    metavar="FOLDER",
    help="The folder that keys are relative to.  [default: what INDEX has; of a new one, the folder it lies in]",
)
@_reading_options
@words_option
@fields_option
@click.option(
    "--late-chunking",
    is_flag=True,
    help="Of a new INDEX: cut passages' vectors out of one long pass of their document through the model.",
)
@timeout_option
@bundle_option
@kind_options
@space_options
@threads_option
@max_rss_option
@background_option
@secure_option
@json_option
def add(
    index: str,
    paths: tuple[str, ...],
    sync: bool,
    strict: bool,
    follow_links: bool,
    root: str | None,
    text: tuple[str, ...],
    title: str | None,
    key: str | None,
    encoding: str | None,
    delimiter: str | None,
    words: str | None,
    fields: tuple[str, ...],
    late_chunking: bool,
    timeout: float,
    bundle: str | None,
    threads: int | None,
    max_rss_mb: float | None,
    background: bool,
    secure_delete: bool,
    as_json: bool,
    sparse: str | None,
    multi: str | None,
    **space: Any,
) -> None:
    """Add files to INDEX, made when missing: .txt, .md, .jsonl, .csv, .tsv, and folders of them.

    A .txt or .md file is one document; its key is its path, relative to the root of INDEX. A row of .jsonl or .csv has
    a `text`, may have a `title`, and the key FILE#ID where it has an ID (`key`, `_id` or `id`), else FILE:LINE. Its
    other fields become metadata, as does the front matter of .md files.

    What is there already unchanged is skipped, so an interrupted run can be run again. What cannot be read is listed at
    the end, and the exit status is 1 then; the rest is stored. Documents whose files are gone stay until --sync.
    """
    from edge_embed.cli.adding import Added, Opening, Order
    from edge_embed.embedder import Embedder
    from edge_embed.files.documents import Reading
    from edge_embed.files.lines import check_encoding

    if delimiter is not None and len(delimiter := delimiter.replace("\\t", "\t")) != 1:
        raise click.BadParameter("expected one character", param_hint="--delimiter")
    same: dict[str, Any] = {"threads": threads, "max_rss_mb": max_rss_mb, "background": background}

    def models() -> dict[str, Any]:
        return {"embedder": Embedder(bundle, **same, **space), **beside(sparse, multi, **same)}

    options = {"timeout": timeout, "words": words, "fields": fields or None, "max_rss_mb": max_rss_mb}
    options |= {"late_chunking": True} if late_chunking else {}
    options |= {"secure_delete": True} if secure_delete else {}
    reading = Reading(text, title, key, check_encoding(encoding), delimiter)
    order = Order(paths, reading, root, follow_links, sync, strict)
    added = Added()
    try:
        _add(order, Opening(index, models, options), added)
        if added.files or added.passed_over or sync or as_json:
            show(_result(added), as_json, lambda: _lines(index, added))
    finally:
        _list(added)
    if added.problems:
        click.get_current_context().exit(1)


def _add(order: "Order", opening: Any, added: "Added") -> None:
    """With a progress bar over characters on stderr."""
    from edge_embed.cli.adding import add_files

    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label="adding", file=sys.stderr, hidden=hidden) as bar:

        def advance(characters: int) -> None:
            bar.length = max(1, added.bytes)
            bar.update(characters)

        add_files(order, opening, added, advance)
        bar.update(max(0, (bar.length or 0) - bar.pos))


def _result(added: "Added") -> dict[str, Any]:
    said = {**vars(added), "passed_over": dict(added.passed_over), "problems": [vars(p) for p in added.problems]}
    del said["bytes"]
    return said


def _lines(index: str, added: "Added") -> Iterator[str]:
    yield f"{index}: {added.stored} stored, {added.unchanged} unchanged; {added.documents} documents in all"
    if added.gone:
        gone = f"{_count(added.gone, 'document')} of {_count(added.gone_files, 'file')} that are gone"
        yield f"deleted {gone}" if added.deleted else f"{gone}; add --sync removes them"
    if added.passed_over:
        reasons = sorted(added.passed_over.items(), key=lambda entry: (-entry[1], entry[0]))
        yield f"passed over: {', '.join(f'{count} {reason}' for reason, count in reasons)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _list(added: "Added") -> None:
    """What could not be read, on stderr."""
    for problem in added.problems[:SHOWN_PROBLEMS]:
        say(f"edge-embed: {shorten(str(problem), 500)}", err=True)
    if len(added.problems) > SHOWN_PROBLEMS:
        total = len(added.problems) + added.problems_left_out
        say(f"edge-embed: {total} problems in all; --json lists them", err=True)
