"""`edge-embed add`."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_embed.cli.options import (
    all_options,
    bundle_option,
    counted,
    fields_option,
    json_option,
    kind_options,
    more_embedders,
    run_options,
    secure_option,
    shorten,
    show,
    timeout_option,
    words_option,
)
from edge_embed.cli.terminal import say

if TYPE_CHECKING:
    from edge_embed.files.task import Added

# Problems that are listed; --json has all of them.
SHOWN_PROBLEMS = 20
# Reasons for which entries of folders were skipped that are listed; --json has all of them.
SHOWN_REASONS = 8
# What towers are for.
MEDIA = {"image": "pictures", "audio": "sounds", "text": "texts"}
# How files are read: see edge_embed.files.rows.Reading.
READING_OPTIONS = all_options(
    click.option(
        "--text",
        metavar="FIELD",
        multiple=True,
        help="The field of rows that holds their text; several are joined.  [default: text]",
    ),
    click.option("--title", metavar="FIELD", help="The field to put before the text.  [default: title]"),
    click.option(
        "--key",
        metavar="FIELD",
        help="The field whose values alone are the keys, without the file's name.  [default: key, _id or id, after the "
        "file's name]",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        help="Encoding of text without a byte order mark.  [default: utf-8, or found out where it is clear]",
    ),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="The character between the cells of .csv files.  [default: found in each file]",
    ),
)
# Which entries of folders are read: see edge_embed.files.choosing.Selection.
SELECTION_OPTIONS = all_options(
    click.option(
        "--include",
        metavar="PATTERN",
        multiple=True,
        help="Of folders, read only what PATTERN names, as in .gitignore files: '*.md', 'notes/'; hidden files, too, "
        "where PATTERN names the dot.",
    ),
    click.option("--exclude", metavar="PATTERN", multiple=True, help="Of folders, leave out what PATTERN names."),
    click.option("--gitignore", is_flag=True, help="Of folders, leave out what git ignores."),
)


@click.command()
@click.argument("index", metavar="INDEX")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--sync", is_flag=True, help="Delete documents whose files under PATH no longer exist or are excluded.")
@SELECTION_OPTIONS
@click.option(
    "--allow-empty",
    is_flag=True,
    help="With --sync, also where PATH is a folder without any entry, as one whose disk is not mounted.",
)
@click.option(
    "--watch",
    "watched",
    is_flag=True,
    help="Go on: store what changes under PATH, as with --sync, until Ctrl-C. With --json a line is an object.",
)
@click.option("--read-all", is_flag=True, help="Also read files that are as they were when they were added.")
@click.option("--strict", is_flag=True, help="Stop at the first file or row that cannot be read.")
@click.option("--follow-links", is_flag=True, help="Follow symbolic links inside folders.")
@click.option("--no-thumbnails", is_flag=True, help="Store no small copies of pictures in INDEX.")
@click.option(
    "--root",
    metavar="FOLDER",
    help="The folder that keys are relative to.  [default: the one recorded in INDEX; for a new one, its folder]",
)
@READING_OPTIONS
@words_option
@fields_option
@click.option(
    "--late-chunking",
    is_flag=True,
    help="For a new INDEX: run each document through the model as a whole, and pool passages from its token vectors.",
)
@timeout_option
@bundle_option
@kind_options
@run_options
@secure_option
@json_option
def add(
    index: str,
    paths: tuple[str, ...],
    sync: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    gitignore: bool,
    allow_empty: bool,
    watched: bool,
    read_all: bool,
    strict: bool,
    follow_links: bool,
    no_thumbnails: bool,
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
    secure_delete: bool,
    as_json: bool,
    sparse: str | None,
    multi: str | None,
    **model: Any,
) -> None:
    """Add files and folders of files to INDEX.

    INDEX is created if missing. Files are text (.txt .md .rst .org .adoc .tex .srt .vtt), source code, tables (.jsonl
    .csv .tsv) and, with the extra `files`, .pdf .html .docx .pptx .odt .odp .epub .eml .mbox .xlsx .xls and .ods. A
    file is one document; its key is its path, relative to the root of INDEX. A row of a table has a `text`, may have a
    `title`, and gets the key FILE#ID if it has an id (`key`, `_id` or `id`), otherwise FILE:LINE. Its other fields
    become metadata, as does the front matter of .md files.

    Pictures (.jpg .png .gif .webp .tif ...) and sounds (.wav .flac .mp3 .ogg ...) are added with a bundle that has a
    tower for them, and the extra `image` or `audio`. What is said in them, and in a .txt or .json file of the same name
    beside them, is their text; a row of a table may name one as `image` or `audio`.

    Documents that INDEX already has unchanged are skipped, so you can run an interrupted command again. Files and rows
    that cannot be read are listed at the end, and the exit status is then 1; all others are stored. Documents whose
    files no longer exist are kept, unless you give --sync.
    """
    from edge_embed.embedder import Embedder, modalities_of
    from edge_embed.files.adding import add_files
    from edge_embed.files.choosing import Selection
    from edge_embed.files.lines import check_encoding
    from edge_embed.files.opening import Opening
    from edge_embed.files.rows import Reading
    from edge_embed.files.task import Added, AddTask

    if delimiter is not None and len(delimiter := delimiter.replace("\\t", "\t")) != 1:
        raise click.BadParameter("expected one character", param_hint="--delimiter")

    @cache
    def models() -> dict[str, Any]:
        return {"embedder": Embedder(**model), **more_embedders(sparse, multi, model)}

    options = {"timeout": timeout, "words": words, "fields": fields or None, "max_rss_mb": model["max_rss_mb"]}
    options |= {"late_chunking": True} if late_chunking else {}
    options |= {"secure_delete": True} if secure_delete else {}
    reading = Reading(text, title, key, check_encoding(encoding), delimiter)
    selection = Selection(include, exclude, gitignore)
    task = AddTask(
        paths, reading, root, follow_links, sync, strict, selection, read_all, allow_empty,
        modalities=modalities_of(model["bundle"]), thumbnails=not no_thumbnails,
    )  # fmt: skip
    if watched:
        from edge_embed.cli.watch import watch

        watch(index, task, lambda: Opening(index, models, options), as_json=as_json)
        return
    added = Added()
    try:
        add_files(task, Opening(index, models, options), added, show_progress=True)
        if added.files or added.passed_over or sync or as_json:
            show(_result(added), as_json, lambda: _lines(index, added))
    finally:
        _list_problems(added)
    if added.problems:
        click.get_current_context().exit(1)


def _result(added: "Added") -> dict[str, Any]:
    found = {**vars(added), "passed_over": dict(added.passed_over), "problems": [vars(p) for p in added.problems]}
    del found["bytes"]
    return found


def _lines(index: str, added: "Added") -> Iterator[str]:
    from edge_embed.files.choosing import UNWANTED
    from edge_embed.files.finding import NO_TOWER

    moved = f", {added.moved} moved" if added.moved else ""
    documents = counted(added.documents, "document")
    yield f"{index}: {added.stored} stored{moved}, {added.unchanged} unchanged; {documents} in all"
    if added.gone:
        exist, are = ("exists", "is") if added.gone_files == 1 else ("exist", "are")
        or_excluded = f" or {are} excluded" if any(reason in added.passed_over for reason in UNWANTED) else ""
        files = f"{counted(added.gone_files, 'file')} that no longer {exist}{or_excluded}"
        gone = f"{counted(added.gone, 'document')} of {files}"
        yield f"deleted {gone}" if added.deleted else f"{gone}; add --sync removes them"
    if added.passed_over:
        reasons = sorted(added.passed_over.items(), key=lambda entry: (-entry[1], entry[0]))
        others = sum(count for _, count in reasons[SHOWN_REASONS:])
        listed = [f"{count} {reason}" for reason, count in reasons[:SHOWN_REASONS]]
        yield f"skipped: {', '.join([*listed, *([f'{others} for other reasons'] if others else [])])}"
    yield from _about_towers(index, [kind for kind, reason in NO_TOWER.items() if reason in added.passed_over])
    notes = Counter(note for notes in added.notes.values() for note in dict.fromkeys(notes))
    for note, count in sorted(notes.items()):
        yield f"{counted(count, 'file')} {note}"


def _about_towers(index: str, lacking: list[str]) -> Iterator[str]:
    """What to do about files that the bundle has no tower for. lacking: their kinds"""
    from edge_embed_runtime.index.stats import read_stats

    stats = read_stats(index) if lacking and Path(index).exists() else {}
    for kind in lacking:
        if stats.get("kinds", {}).get(kind):
            yield f"{index} has {MEDIA[kind]} of the bundle {stats['bundle']!r}: give it that bundle, --bundle FOLDER"
        else:
            yield f"for {MEDIA[kind]} give a bundle with {_a(kind)} tower: --bundle FOLDER"


def _a(modality: str) -> str:
    return f"a {modality}" if modality == "text" else f"an {modality}"


def _list_problems(added: "Added") -> None:
    """Print to stderr what could not be read."""
    for problem in added.problems[:SHOWN_PROBLEMS]:
        say(f"edge-embed: {shorten(str(problem), 500)}", err=True)
    if len(added.problems) > SHOWN_PROBLEMS:
        total = len(added.problems) + added.problems_left_out
        say(f"edge-embed: {total} problems in all; --json lists them", err=True)
