"""Files as documents: which reader takes a file, and what becomes of what it reads."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from edge_embed.files.captions import NOTHING, Beside, Caption
from edge_embed.files.formats.content import Cells, Content, Request, UnreadableError
from edge_embed.files.formats.encodings import of_lines
from edge_embed.files.formats.filetypes import IMAGE, FileType, some_suffixes, type_of
from edge_embed.files.formats.filetypes import TEXT as TEXTS
from edge_embed.files.formats.media import TAKEN, iso_time
from edge_embed.files.formats.processes import READER
from edge_embed.files.lines import MAX_FILE, MAX_ROW
from edge_embed.files.problems import CHANGED, Problem, Report, about, ignore, refuse, shown, unreadable
from edge_embed.files.rows import SOURCE, SOURCE_FILE, TEXT, Reading, Row, Source
from edge_embed.files.sheetrows import Table
from edge_embed_runtime.errors import InputError, MediaError, SourceError
from edge_embed_runtime.extras import is_installed, missing
from edge_embed_runtime.storage.documents import Document, check_document
from edge_embed_runtime.storage.media import Media
from edge_embed_runtime.system.files import open_regular

# Bytes that reading a file in its own process may take; under a memory budget so many times what its text may have.
MEMORY, LEAST_MEMORY, TIMES = 2**30, 2**27, 64
# Copies of a text that comes from the process that read it.
COPIES = 4


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

    A file such as .txt, .pdf or .docx is one document with the file's key, by default its path. A row of .jsonl or .csv
    has its text in `text` (after its `title`, if it has one) and the key FILE#ID with its `key`, `_id` or `id`,
    otherwise FILE:LINE; other fields are metadata. `reading` names other fields.

    max_bytes: of a text or of a row; larger ones are a problem. None means 1 GiB for a text file, 64 MiB for others
    report:    called with each file or row that cannot be read; reading continues after it. By default such a problem
               raises SourceError with path and line
    """
    chosen = reading or Reading()
    chosen = chosen if max_bytes is None else replace(chosen, max_bytes=max_bytes)
    for row in read_rows(path, path.as_posix() if key is None else key, chosen, report, blank=blank):
        yield row.document


def read_rows(
    path: Path,
    key: str,
    reading: Reading,
    report: Report,
    *,
    blank: bool = False,
    note: Callable[[str], None] = ignore,
    beside: Beside = NOTHING,
) -> Iterator[Row]:
    """`read_documents`, with the line on which each begins. A file that changes while it is read is a problem.

    note:   called with what is worth saying of a file that can be read: "read as windows-1252"
    beside: the captions of a picture or a sound
    """
    source = Source(path, key, reading, blank, report, note)
    kind = type_of(path)
    if kind is None:
        source.problem(None, f"has an unknown type; expected {some_suffixes()}")
        return
    try:
        file = open_regular(path)
    except SourceError as error:
        report(about(path, None, error))
        return
    with file:
        try:
            before = os.fstat(file.fileno())
            yield from _read(file, source, kind) if kind.modality == TEXTS else _read_media(source, kind, beside)
            after = os.fstat(file.fileno())
        except UnreadableError as error:
            source.problem(error.line, str(error))
            return
        except MediaError as error:
            source.problem(None, unreadable(path, error))
            return
        except OSError as error:
            source.problem(None, f"cannot be read: {error.strerror}")
            return
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        source.problem(None, CHANGED)


def _read(file: BinaryIO, source: Source, kind: FileType) -> Iterator[Row]:
    most = source.reading.max_bytes
    if not os.fstat(file.fileno()).st_size:
        return  # an empty file of whatever kind
    if kind.rows:
        if source.reading.encoding is None and (found := of_lines(file, source.note)) is not None:
            source = source._replace(reading=replace(source.reading, encoding=found))
        yield from kind.load()(file, source, most or MAX_ROW)
        return
    suffix = source.path.suffix.lower()
    if kind.own_process:
        yield from _documents(_read_in_process(file, source, kind, suffix), source)
        return
    size, limit = os.fstat(file.fileno()).st_size, most or MAX_FILE
    if size > limit:
        raise UnreadableError(f"has {size:,} bytes; a file of text may have {limit:,}")
    request = Request(suffix, limit, source.reading.encoding, note=source.note)
    yield from _documents(kind.load()(file, request), source)


def _read_media(source: Source, kind: FileType, beside: Beside) -> Iterator[Row]:
    """A picture or a sound: a document whose text is what its captions and the file itself say of it."""
    for package in kind.needs:
        if not is_installed(package):
            raise UnreadableError(f"cannot be read: {missing(package, kind.modality)}")

    def problem(path: Path, reason: str) -> None:
        source.report(Problem(shown(path), None, f"is the caption of {shown(source.path)}, and {reason}"))

    facts = kind.load()(source.path)
    caption = beside.caption(source.reading.encoding, source.note, problem).joined(Caption(facts.text, facts.metadata))
    own = SOURCE_FILE if SOURCE in caption.metadata else SOURCE
    when = facts.time or iso_time(caption.metadata.get(TAKEN))
    if when is not None:
        caption = caption.joined(Caption("", {TAKEN: when}))
    metadata = {name: value for name, value in caption.metadata.items() if name != own}
    known = Media("image" if kind.modality == IMAGE else "audio", os.path.realpath(source.path), facts.sha256)
    file: dict[str, Any] = {kind.modality: known, "time": when}
    document = Document(source.key, caption.text, {own: source.key, **metadata}, **file)
    try:
        check_document(document, "the file")
    except InputError as error:
        raise UnreadableError(f"cannot be stored: {error}") from None
    yield Row(document, None)


def _read_in_process(file: BinaryIO, source: Source, kind: FileType, suffix: str) -> Iterator[Content | Cells]:
    """What the process that reads such files says of one."""
    for package in kind.needs:
        if not is_installed(package):
            raise UnreadableError(f"cannot be read: {missing(package, 'files')}")
    status, most = os.fstat(file.fileno()), source.reading.max_bytes
    job = {
        "suffix": suffix,
        "file": [status.st_dev, status.st_ino],
        "limit": MAX_ROW if most is None else min(MAX_ROW, max(1, most // COPIES)),
        "encoding": source.reading.encoding,
        "columns": list(source.reading.text or (TEXT,)),
    }
    memory = MEMORY if most is None else min(MEMORY, max(LEAST_MEMORY, most * TIMES))
    for message in READER.read(source.path, job, memory):
        if "problem" in message:
            source.problem(message.get("line"), message["problem"])
        elif "note" in message:
            source.note(message["note"])
        elif "text" in message:
            found = message["text"]
            yield Content(**{**found, "places": tuple((first, label) for first, label in found["places"])})
        elif "cells" in message:
            yield Cells(**message["cells"])


def _documents(found: Iterator[Content | Cells], source: Source) -> Iterator[Row]:
    table = Table(source)
    for item in found:
        row = table.row(item) if isinstance(item, Cells) else _document(item, source)
        if row is not None:
            yield row


def _document(content: Content, source: Source) -> Row | None:
    """None without text."""
    if not content.text.strip() and not source.blank:
        return None
    own = SOURCE_FILE if SOURCE in content.metadata else SOURCE
    key = source.key if content.part is None else f"{source.key}#{content.part}"
    document = Document(key, content.text, {own: source.key, **content.metadata}, content.places)
    try:
        check_document(document, "the file", blank=source.blank)
    except InputError as error:
        raise UnreadableError(f"cannot be stored: {error}") from None
    return Row(document, None)
