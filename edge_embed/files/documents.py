"""Files and folders as documents: .txt and .md (one each), .jsonl, .csv and .tsv (one per row)."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from edge_embed.files.frontmatter import split_front_matter
from edge_embed.files.lines import MAX_FILE, MAX_ROW, decode, undecodable
from edge_embed.files.problems import CHANGED, Report, about, refuse
from edge_embed.files.rows import Reading, Row, Source, read_jsonl
from edge_embed.files.tables import read_table
from edge_embed_runtime.errors import InputError, SourceError
from edge_embed_runtime.storage.documents import Document, check_document
from edge_embed_runtime.system.files import open_regular

MARKDOWN = (".md", ".markdown")
ROW_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")


def read_documents(
    path: Path,
    *,
    blank: bool = False,
    key: str | None = None,
    reading: Reading | None = None,
    report: Report = refuse,
    max_bytes: int | None = None,
) -> Iterator[Document]:
    """The documents of one file; those without text are left out, or with `blank` returned with an empty text.

    A .txt or .md file is one document with the file's key, by default its path. A row of .jsonl or .csv has its text in
    `text` (after its `title`, if it has one) and the key FILE#ID with its `key`, `_id` or `id`, otherwise FILE:LINE;
    other fields are metadata. `reading` names other fields.

    max_bytes: of a text file or of a row; larger ones are a problem. None means 1 GiB for a file, 64 MiB for a row
    report:    called with each file or row that cannot be read; reading continues after it. By default such a problem
               raises SourceError with path and line
    """
    chosen = reading or Reading()
    chosen = chosen if max_bytes is None else replace(chosen, max_bytes=max_bytes)
    for row in read_rows(path, path.as_posix() if key is None else key, chosen, report, blank=blank):
        yield row.document


def read_rows(path: Path, key: str, reading: Reading, report: Report, *, blank: bool = False) -> Iterator[Row]:
    """`read_documents`, with the line on which each begins. A file that changes while it is read is a problem."""
    source = Source(path, key, reading, blank, report)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        source.problem(None, f"has an unknown type; expected {', '.join(READERS)}")
        return
    limit = reading.max_bytes or (MAX_ROW if path.suffix.lower() in ROW_SUFFIXES else MAX_FILE)
    try:
        file = open_regular(path)
    except SourceError as error:
        report(about(path, None, error))
        return
    with file:
        try:
            before = os.fstat(file.fileno())
            yield from reader(file, source, limit)
            after = os.fstat(file.fileno())
        except OSError as error:
            source.problem(None, f"cannot be read: {error.strerror}")
            return
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        source.problem(None, CHANGED)


def _read_text(file: BinaryIO, source: Source, limit: int) -> Iterator[Row]:
    size = os.fstat(file.fileno()).st_size
    raw = file.read(limit + 1) if size <= limit else b""
    if max(size, len(raw)) > limit:
        source.problem(None, f"has {max(size, len(raw)):,} bytes; a file of text may have {limit:,}")
        return
    try:
        text = decode(raw, source.reading.encoding)
    except UnicodeDecodeError as error:
        source.problem(raw[: error.start].count(b"\n") + 1, undecodable(error))
        return
    if "\x00" in text:
        source.problem(None, "holds NUL, as UTF-16 and files that are no text do; --encoding utf-16-le reads that")
        return
    metadata, body = split_front_matter(text) if source.path.suffix.lower() in MARKDOWN else ({}, text)
    if body.strip() or source.blank:
        own = "source_file" if "source" in metadata else "source"
        document = Document(source.key, body, {own: source.key, **metadata})
        try:
            check_document(document, "the file", blank=source.blank)
        except InputError as error:
            source.problem(None, f"cannot be stored: {error}")
        else:
            yield Row(document, None)


READERS: dict[str, Callable[[BinaryIO, Source, int], Iterator[Row]]] = {
    **dict.fromkeys((".txt", ".text", *MARKDOWN), _read_text),
    **dict.fromkeys((".jsonl", ".ndjson"), read_jsonl),
    **dict.fromkeys((".csv", ".tsv"), read_table),
}
