"""Captions of pictures and sounds: the text files beside them, and the tables of their folders.

Of "cat.jpg" these are "cat.txt", "cat.jpg.txt", "cat.json" and "cat.jpg.json", as Google Takeout writes it, and the
rows of "metadata.jsonl" or "metadata.csv" (or "captions.") that name it, as Hugging Face's folders of pictures have
them.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from edge_embed.files.formats.content import Request, UnreadableError
from edge_embed.files.formats.encodings import text_of
from edge_embed.files.formats.filetypes import AUDIO, IMAGE, modality_of
from edge_embed.files.lines import lines
from edge_embed_runtime.errors import EdgeEmbedError
from edge_embed_runtime.system.files import open_regular, read_regular

# Larger files beside a picture are documents of their own.
MAX_BYTES = 2**20
TABLES = ("metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.csv")
# Columns of a table that name a file, and fields that hold what is said about it.
FILE_FIELDS = ("file_name", "filename", "file", "image", "audio")
TEXT_FIELDS = ("text", "caption", "description", "alt", "alt_text", "transcript")
TITLE_FIELD = "title"
# What Google Takeout puts behind a picture's name, cut off where names get too long.
TAKEOUT = "supplemental-metadata"
NUMBERED = re.compile(r"(.*)(\(\d+\))(\.[^.]+)")
DIGEST_BYTES = 8


@dataclass(frozen=True)
class Caption:
    """What is said about a picture or a sound beside it."""

    text: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def joined(self, other: "Caption") -> "Caption":
        """Both texts, each once; of two values of a field the first."""
        texts = [self.text] if self.text else []
        texts += [other.text] if other.text and other.text not in texts else []
        return Caption("\n".join(texts), {**other.metadata, **self.metadata})


def sidecar_names(name: str) -> Iterator[str]:
    """The names that captions of a file may have, beside it.

    "cat.jpg" -> "cat.txt", "cat.jpg.txt", "cat.json", "cat.jpg.json", "cat.jpg.supplemental-metadata.json", ...
    """
    stem = os.path.splitext(name)[0]  # noqa: PTH122 - once a file
    yield from (f"{stem}.txt", f"{name}.txt", f"{stem}.json", f"{name}.json")
    for end in range(len(TAKEOUT), 0, -1):
        yield f"{name}.{TAKEOUT[:end]}.json"
    if numbered := NUMBERED.fullmatch(name):  # "cat(1).jpg" -> "cat.jpg(1).json"
        plain = f"{numbered[1]}{numbered[3]}"
        yield from (f"{plain}{numbered[2]}.json", f"{plain}.{TAKEOUT}{numbered[2]}.json")


def sidecars(name: str, folder: str, there: Callable[[str], bool]) -> tuple[str, ...]:
    """The names of those that a file has. there: whether the folder has a file of this name"""
    return tuple(found for found in sidecar_names(name) if there(found) and _is_caption(folder, found))


def related(path: str) -> set[str]:
    """What else has to be looked at where a file appeared, changed or went away: pictures and sounds whose caption it
    is, those of all its folder for a table, and captions of a picture or a sound.

    "/p/cat.txt" -> {"/p/cat.jpg"}, "/p/cat.jpg" -> {"/p/cat.txt"}, "/p/metadata.csv" -> {"/p"}
    """
    folder, name = os.path.split(path)
    if name in TABLES:
        return {folder}
    if modality_of(name) in (IMAGE, AUDIO):
        return {f"{folder}{os.sep}{found}" for found in sidecar_names(name) if Path(folder, found).is_file()}
    if not name.endswith((".txt", ".json")):
        return set()
    try:
        there = [found for found in os.listdir(folder) if modality_of(found) in (IMAGE, AUDIO)]  # noqa: PTH208
    except OSError:
        return set()
    alike = (found for found in there if name.startswith(found.rpartition(".")[0].partition("(")[0]))
    return {f"{folder}{os.sep}{found}" for found in alike if name in sidecar_names(found)}


def _is_caption(folder: str, name: str) -> bool:
    """Whether a file of this name can be one; whoever reads it says why it cannot be read."""
    path = Path(folder, name)
    try:
        if path.stat().st_size > MAX_BYTES:
            return False
    except OSError:
        return False
    return name.endswith(".txt") or _said(_json(path)) is not None


def _json(path: Path) -> Any:
    with suppress(ValueError, RecursionError, EdgeEmbedError, OSError):
        return json.loads(read_regular(path, MAX_BYTES), parse_constant=_no_number)
    return None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _said(found: Any) -> Caption | None:
    """What an object in JSON says; None where it has no field for that."""
    if not isinstance(found, dict):
        return None
    names = [name for name in (*TEXT_FIELDS, TITLE_FIELD) if isinstance(found.get(name), str)]
    if not names:
        return None
    takeout = _of_takeout(found)
    title = "" if takeout is not None else str(found.get(TITLE_FIELD) or "")  # there it is the file's name
    texts = [title, *(found[name] for name in names if name != TITLE_FIELD)]
    metadata = {name: value for name, value in found.items() if name not in names} if takeout is None else takeout
    return Caption("\n".join(dict.fromkeys(text.strip() for text in texts if text.strip())), metadata)


def _of_takeout(found: dict[str, Any]) -> dict[str, Any] | None:
    """What Google Takeout says besides the description; None for an object of another kind."""
    taken = found.get("photoTakenTime")
    if not isinstance(taken, dict):
        return None
    metadata: dict[str, Any] = {}
    with suppress(KeyError, ValueError, TypeError, OverflowError, OSError):
        metadata["taken"] = datetime.fromtimestamp(int(taken["timestamp"]), UTC).isoformat().replace("+00:00", "Z")
    people = found.get("people")
    names = (
        [one["name"] for one in people if isinstance(one, dict) and isinstance(one.get("name"), str)]
        if isinstance(people, list)
        else []
    )
    return {**metadata, **({"people": names} if names else {})}


@dataclass(frozen=True)
class Beside:
    """Where captions of a file stand.

    sidecars: their paths
    rows:     what a table says of it
    """

    sidecars: tuple[Path, ...] = ()
    rows: Caption = field(default_factory=Caption)

    @property
    def digest(self) -> bytes:
        """Another one where anything in them changed; b"" without any."""
        if not self.sidecars and not self.rows.text and not self.rows.metadata:
            return b""
        found = hashlib.blake2b(repr((self.rows.text, self.rows.metadata)).encode("utf-8", "surrogatepass"))
        for path in self.sidecars:
            try:
                found.update(hashlib.blake2b(read_regular(path, MAX_BYTES)).digest())
            except (EdgeEmbedError, OSError):  # whoever reads it says so
                found.update(b"?")
        return found.digest()[:DIGEST_BYTES]

    def caption(
        self, encoding: str | None, note: Callable[[str], None], problem: Callable[[Path, str], None]
    ) -> Caption:
        """All of them together. problem: called with a sidecar that cannot be read, and why"""
        found = Caption()
        for path in self.sidecars:
            try:
                found = found.joined(_read(path, encoding, note))
            except UnreadableError as error:
                problem(path, str(error))
            except EdgeEmbedError as error:
                problem(path, str(error).removeprefix(str(path)).lstrip(" ,:"))
        return found.joined(self.rows)


NOTHING = Beside()


def _read(path: Path, encoding: str | None, note: Callable[[str], None]) -> Caption:
    raw = read_regular(path, MAX_BYTES)
    if path.suffix.lower() == ".txt":
        return Caption(text_of(raw, Request(".txt", MAX_BYTES, encoding, note=note)).strip())
    said = _said(_json(path))
    if said is None:  # it was one a moment ago
        raise UnreadableError("changed while it was read; run again")
    return said


def tables_of(folder: str, names: Container[str]) -> tuple[str, ...]:
    """The tables of captions among the files of a folder, which is absolute and without links."""
    paths = [f"{folder.rstrip(os.sep)}{os.sep}{name}" for name in TABLES if name in names]
    return tuple(path for path in paths if table_columns(Path(path)) is not None)


@dataclass(frozen=True)
class TableColumns:
    """The column of a table that names files, that of texts, if any, and the delimiter of a .csv file."""

    file: str
    texts: tuple[str, ...]
    delimiter: str | None


def table_columns(path: Path) -> TableColumns | None:
    """None for a table of another kind: one whose first row names no file that lies there."""
    try:
        with open_regular(path) as file:
            first = [line.text for line in islice(lines(file, None, MAX_BYTES), 2) if not line.error]
    except (EdgeEmbedError, OSError):
        return None
    for row, delimiter in _first_rows(first, path.suffix):
        named = next((name for name in FILE_FIELDS if isinstance(row.get(name), str)), None)
        if named is not None and _lies_there(path.parent, row[named]):
            return TableColumns(named, tuple(name for name in TEXT_FIELDS if name in row)[:1], delimiter)
    return None


def _first_rows(first: list[str], suffix: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The first row of a table, in each of the ways to read it."""
    if suffix == ".jsonl":
        with suppress(ValueError, RecursionError):
            row = json.loads(first[0]) if first else None
            yield row if isinstance(row, dict) else {}, None
        return
    for delimiter in ",;\t|":
        with suppress(csv.Error):
            names, cells = (next(csv.reader([line], delimiter=delimiter), []) for line in (*first, "", "")[:2])
            yield {name.strip(): cell for name, cell in zip(names, cells, strict=False)}, delimiter


def _lies_there(folder: Path, name: str) -> bool:
    try:
        return Path(folder, name.replace("\\", "/")).is_file()
    except (OSError, ValueError):
        return False
