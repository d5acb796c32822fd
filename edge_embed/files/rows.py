"""Rows with names, of JSONL and CSV files, as documents."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from edge_embed.files.lines import lines
from edge_embed.files.problems import Problem, Report, about, ignore, shown
from edge_embed_runtime.errors import InputError, SourceError
from edge_embed_runtime.storage.documents import Document, check_document
from edge_embed_runtime.system.files import open_regular

if TYPE_CHECKING:
    from edge_embed_runtime.storage.media import Media

KEY_FIELDS = ("key", "_id", "id")
TITLE, TEXT = "title", "text"
SOURCE, SOURCE_FILE = "source", "source_file"
MAX_SHOWN_NAMES = 20
# Counted up by a release that makes other documents of the same file: files that have not changed are read again then.
READERS = 1


@dataclass(frozen=True)
class Reading:
    """How files are read.

    text:      fields that hold the text of a row, joined by newlines; () for `text`
    title:     the field that comes before it; None for `title`, where a row has one
    key:       the field whose values alone are the keys; None: the first of `key`, `_id` and `id`, see `scoped`
    encoding:  of files without a byte order mark; None for UTF-8
    delimiter: between the cells of a table; None: found in each file
    scoped:    ids are unique only in their file, and the key of a row is FILE#ID; otherwise the id alone is the key
    max_bytes: of a file of text, and of a row; None for MAX_FILE and MAX_ROW
    media:     of "image" and "audio", the fields of rows that name a file beside the table, to be embedded
    """

    text: tuple[str, ...] = ()
    title: str | None = None
    key: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    scoped: bool = True
    max_bytes: int | None = None
    media: tuple[str, ...] = ()


class Row(NamedTuple):
    """A document, and the line on which it begins; None if it is a whole file."""

    document: Document
    line: int | None


class Source(NamedTuple):
    """A file that is read: its path for messages, its key, how it is read, whether rows without text count, and what
    is called with each problem, and with what else is worth saying. `sheet` is that of several which has the row."""

    path: Path
    key: str
    reading: Reading
    blank: bool
    report: Report
    note: Callable[[str], None] = ignore
    sheet: str | None = None

    def problem(self, line: int | None, reason: str) -> None:
        self.report(Problem(shown(self.path), line, reason))


@dataclass(frozen=True)
class Columns:
    """The names that a row has for its text, title, key, and by modality for a picture or a sound."""

    text: tuple[str, ...]
    title: str | None
    keys: tuple[str, ...]
    media: tuple[tuple[str, str], ...] = ()


def find_columns(names: Iterable[str], reading: Reading) -> Columns:
    """{"ID", " Text"} -> text " Text", keys "ID": names may differ in case and in spaces around them.

    Raises InputError for a wanted name that matches two columns, and for a text column that is missing.
    """
    names = list(names)
    wanted = reading.text or (TEXT,)
    text = tuple(found for name in wanted if (found := _find(names, name)) is not None)
    media = tuple((kind, found) for kind in reading.media if (found := _find(names, kind)) is not None)
    if len(text) < len(wanted) and (reading.text or not media):
        missing = next(name for name in wanted if _find(names, name) is None)
        raise InputError(f"no field {missing!r}; fields: {listed(names)}; --text says which holds the text")
    title = _find(names, reading.title or TITLE)
    keys = (reading.key,) if reading.key else KEY_FIELDS
    found_keys = tuple(found for name in keys if (found := _find(names, name)) is not None)
    return Columns(text, None if title in text else title, found_keys, media)


def header_columns(names: list[str], reading: Reading, more: Iterable[str] = ()) -> Columns:
    """`find_columns` for the header of a table, which has to hold all names that were asked for.

    more: names that count as if the header had them, too
    """
    if len(set(names)) < len(names):
        raise InputError(f"a field has the name of another: {listed(names)}")
    columns = find_columns([*names, *more], reading)
    for option, wanted, found in (("--title", reading.title, columns.title), ("--key", reading.key, columns.keys)):
        if wanted is not None and not found:
            raise InputError(f"no field {wanted!r}, which {option} names; fields: {listed(names)}")
    return columns


def listed(names: Iterable[str]) -> str:
    """Names for a message; after MAX_SHOWN_NAMES only their number."""
    names = [name if len(name) <= 40 else f"{name[:39]}…" for name in names]
    more = f" and {len(names) - MAX_SHOWN_NAMES} more" if len(names) > MAX_SHOWN_NAMES else ""
    return (", ".join(names[:MAX_SHOWN_NAMES]) + more) or "none"


def _find(names: list[str], wanted: str) -> str | None:
    if wanted in names:
        return wanted
    plain = wanted.strip().casefold()
    alike = [name for name in names if name.strip().casefold() == plain]
    if len(alike) > 1:
        raise InputError(f"the fields {listed(alike)} are all called {wanted!r}; write one of them as it stands")
    return alike[0] if alike else None


def to_document(source: Source, line: int, row: Mapping[str, Any], columns: Columns) -> Document | None:
    """The document of a row; None without text. Raises InputError for a row that cannot be stored."""
    texts = [row[name] for name in columns.text if name in row]
    title = row.get(columns.title) if columns.title else None
    if not all(isinstance(text, str) for text in texts) or not isinstance(title, str | None):
        names = " and ".join(map(repr, [*(columns.text or [TEXT]), columns.title or TITLE]))
        raise InputError(f"{names} must be strings")
    body = "\n".join(texts)
    whole = f"{title or ''} {body}".strip()
    media = _media(source, row, columns)
    if not whole and not source.blank and not media:
        return None
    name = next((name for name in columns.keys if row.get(name) not in (None, "")), None)
    used = {*columns.text, columns.title, name}
    fields = {field: value for field, value in row.items() if field not in used}
    key = _key(source, line, name, None if name is None else row[name])
    document = Document(key, whole, {**_origin(source, fields), **fields}, **media)
    check_document(document, "the row", blank=source.blank)
    return document


def _media(source: Source, row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """The picture or the sound that a row names, in the folder of its table or below. Raises InputError or
    SourceError."""
    named = {kind: row[name] for kind, name in columns.media if row.get(name) not in (None, "")}
    if not named:
        return {}
    if len(named) > 1:
        raise InputError("names an image and an audio, one of which a document can have")
    ((kind, name),) = named.items()
    if not isinstance(name, str):
        raise InputError(f"{kind!r} is {type(name).__name__}, expected the path of a file")
    folder = os.path.realpath(source.path.parent)
    try:
        real = os.path.realpath(Path(folder, name.replace("\\", "/")))
    except ValueError as error:  # NUL
        raise InputError(f"{kind!r} is no path: {error}") from None
    if not real.startswith(folder.rstrip(os.sep) + os.sep):
        raise InputError(f"{kind!r} is {name!r:.100}, which does not lie in the folder of this table")
    if not Path(real).is_file():
        raise InputError(f"{kind!r} is {name!r:.100}, which is no file in the folder of this table")
    return {kind: known_file(kind, real)}


def known_file(kind: str, real: str) -> "Media":
    """The picture or sound in a file, absolute and without links, recognised by its hash. Raises SourceError."""
    from edge_embed_runtime.storage.media import Media  # most files name none

    with open_regular(real) as file:
        return Media("image" if kind == "image" else "audio", real, hashlib.file_digest(file, "sha256").hexdigest())


def _key(source: Source, line: int, name: str | None, value: object) -> str:
    """FILE#ID, or FILE:LINE without an id, or ID alone; see `Reading`."""
    if name is None:
        if source.reading.key is not None:
            raise InputError(f"no {source.reading.key!r}, which --key says is the key")
        return f"{source.key}:{line}" if source.sheet is None else f"{source.key}:{source.sheet}:{line}"
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"the key {name!r} is {type(value).__name__}, expected a string")
    return f"{source.key}#{value}" if source.reading.scoped and source.reading.key is None else str(value)


def _origin(source: Source, fields: Mapping[str, Any]) -> dict[str, str]:
    """Where a document comes from: `source`, or `source_file` where the row has a `source` of its own."""
    if SOURCE not in fields:
        return {SOURCE: source.key}
    if SOURCE_FILE in fields:
        raise InputError(f"has {SOURCE!r} and {SOURCE_FILE!r}, one of which is to hold the file's name; rename one")
    return {SOURCE_FILE: source.key}


def read_jsonl(file: BinaryIO, source: Source, limit: int) -> Iterator[Row]:
    for number, line, error in lines(file, source.reading.encoding, limit):
        if error:
            source.problem(number, error)
        elif line.strip():
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise InputError(f"expected an object, got {type(row).__name__}")
                document = to_document(source, number, row, _columns(row, source))
            except (InputError, SourceError) as found:
                source.report(about(source.path, number, found))
            except (ValueError, RecursionError) as found:
                source.problem(number, f"not valid JSON: {found}")
            else:
                if document is not None:
                    yield Row(document, number)


def _columns(row: Mapping[str, Any], source: Source) -> Columns:
    """Of one row. Some of several text fields may be missing; all of them only where the row belongs to a vector."""
    try:
        return find_columns(row, source.reading)
    except InputError:
        reading = source.reading
        present = tuple(name for name in reading.text if _find(list(row), name) is not None)
        if not present and not (source.blank and not reading.text):
            raise
        found = find_columns([*row, TEXT], replace(reading, text=present))
        return replace(found, text=present and found.text)
