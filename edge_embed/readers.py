"""Files and folders as documents: .txt and .md (one each), .jsonl and .csv (one a row)."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from edge_embed_runtime.documents import Document, check_document
from edge_embed_runtime.errors import InputError, SourceError

TEXT_FILES = (".txt", ".md")
KEY_FIELDS = ("key", "_id", "id")
TITLE, TEXT = "title", "text"
# the csv module refuses longer fields; its own limit (128 KB) is shorter than a document may be
MAX_CSV_FIELD = 2**30


def find_files(paths: Iterable[str]) -> list[Path]:
    """Readable files among paths and, in order of name, inside the folders among them; hidden ones left out."""
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(os.path.normpath(given))
        try:
            path.lstat()
        except FileNotFoundError:
            raise SourceError(f"{path} does not exist") from None
        except OSError as error:
            raise SourceError(f"{str(path)[:200]} cannot be read: {error.strerror}") from error
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in READERS and p.is_file())
            visible = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
            if not visible:
                raise SourceError(f"{path} holds no {', '.join(READERS)} file")
            for inner in visible:
                _check_name(inner)
            found.update(dict.fromkeys(visible))
        elif path.suffix.lower() not in READERS or not path.is_file():
            raise SourceError(f"{path} is no file of a known type; expected {', '.join(READERS)} or a folder")
        else:
            found[path] = None
    return list(found)


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise SourceError(f"{str(path)!r}: the file's name is not UTF-8; rename it") from None


def read_documents(path: Path, *, blank: bool = False) -> Iterator[Document]:
    """The documents of one file; those without text are left out, or with `blank` given with an empty one.

    A .txt or .md file is one document; its key is its path. A row of .jsonl or .csv has its text in `text` (after its
    `title`, where there is one), its key in `key`, `_id` or `id` (else PATH:LINE); other fields are metadata.

    Raises SourceError with path and line for what cannot be read.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SourceError(f"{path} has an unknown type; expected {', '.join(READERS)}")
    yield from reader(path, blank)


def _read_text(path: Path, blank: bool) -> Iterator[Document]:
    text = "".join(line for _, line in _lines(path))
    if blank or text.strip():
        yield _checked(Document(path.as_posix(), text, {"source": path.as_posix()}), f"{path!s}", blank)


def _read_jsonl(path: Path, blank: bool) -> Iterator[Document]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}, line {number}: not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise SourceError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
        yield from _row(path, number, row, blank)


def _read_csv(path: Path, blank: bool) -> Iterator[Document]:
    csv.field_size_limit(MAX_CSV_FIELD)
    skipped = 0  # blank lines before the names of the fields

    def lines() -> Iterator[str]:
        nonlocal skipped
        for number, line in _lines(path):
            if skipped == number - 1 and not line.strip():
                skipped = number
            else:
                yield line

    rows = csv.DictReader(lines(), strict=True)
    try:
        names = list(rows.fieldnames or ())
        if len(set(names)) < len(names):
            raise SourceError(f"{path}, line {skipped + 1}: a field has the name of another: {', '.join(names)}")
        for row in rows:
            number = skipped + rows.line_num
            if None in row or None in row.values():
                raise SourceError(f"{path}, line {number}: expected {len(names)} fields, as in the first line")
            yield from _row(path, number, row, blank)
    except csv.Error as error:
        raise SourceError(f"{path}, line {skipped + rows.reader.line_num}: not valid CSV: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends; a byte order mark is taken off."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}, line {number}: not UTF-8 text ({error.reason}); convert it first") from error


def _row(path: Path, number: int, row: dict[str, Any], blank: bool) -> Iterator[Document]:
    if TEXT not in row and not blank:
        raise SourceError(f"{path}, line {number}: no field {TEXT!r}; fields: {', '.join(map(str, row)) or 'none'}")
    fields = dict(row)
    text, title = fields.pop(TEXT, ""), fields.pop(TITLE, None)
    if not isinstance(text, str) or not isinstance(title, str | None):
        raise SourceError(f"{path}, line {number}: {TEXT!r} and {TITLE!r} must be strings")
    name = next((name for name in KEY_FIELDS if fields.get(name) not in (None, "")), None)
    key = f"{path.as_posix()}:{number}" if name is None else fields.pop(name)
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise SourceError(f"{path}, line {number}: the key {name!r} is {type(key).__name__}, expected a string")
    whole = f"{title or ''} {text}".strip()
    if whole or blank:
        document = Document(str(key), whole, {"source": path.as_posix(), **fields})
        yield _checked(document, f"{path}, line {number}", blank)


def _checked(document: Document, place: str, blank: bool) -> Document:
    try:
        check_document(document, "the row", blank=blank)
    except InputError as error:
        raise SourceError(f"{place}: {error}") from error
    return document


READERS: dict[str, Callable[[Path, bool], Iterator[Document]]] = {
    **dict.fromkeys(TEXT_FILES, _read_text),
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
}
