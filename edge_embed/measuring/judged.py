"""Judged sets in BEIR's layout: documents, questions, and which document answers which question."""

import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.system.files import open_unpacked, read_lines

# The keys of a corpus row under which the path of a picture, or of a sound, stands.
FILES = ("image", "audio")
TEXT = "text"
LAYOUT = "expected one with corpus.jsonl, queries.jsonl and qrels.tsv"


class File(NamedTuple):
    """A document that is a picture or a sound: "image" or "audio", and where it lies."""

    modality: str
    path: Path


@dataclass(frozen=True)
class JudgedSet:
    """Documents and queries by id; judgements[query][document] is the grade (0: not relevant).

    documents: their texts, "" of a file that has none
    files:     the pictures and sounds among them
    """

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    files: dict[str, File] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """Which part of a set is read.

    queries:   the file of the queries, a path from the folder; "" for queries.jsonl
    qrels:     the judgements qrels/NAME.tsv; "" for qrels.tsv or qrels/test.tsv
    kind:      only documents that are a "text", an "image" or "audio"; "" for all
    documents: (name, value) pairs that a document's metadata must have
    asked:     (name, value) pairs that a query's metadata must have
    """

    queries: str = ""
    qrels: str = ""
    kind: str = ""
    documents: Sequence[tuple[str, str]] = ()
    asked: Sequence[tuple[str, str]] = ()


def read_judged_set(folder: str | Path, chosen: Chosen = Chosen()) -> JudgedSet:
    """Read corpus.jsonl or corpus.jsonl.gz, queries.jsonl, and qrels.tsv or qrels/test.tsv. Queries without a
    judgement are left out. A document's text is its title and its text; a row with `image` or `audio`, a path from the
    folder, is a picture or a sound."""
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; {LAYOUT}", path=folder)
    documents: dict[str, str] = {}
    files: dict[str, File] = {}
    for row in _rows(_first(folder, "corpus.jsonl", "corpus.jsonl.gz")):
        file = _file(row, folder)
        if (chosen.kind or (file.modality if file else TEXT)) == (file.modality if file else TEXT) and _fits(
            row, chosen.documents
        ):
            key = str(row["_id"])
            documents[key] = f"{row.get('title') or ''} {row.get('text') or ''}".strip()
            if file is not None:
                files[key] = file
    named = _first(folder, chosen.queries) if chosen.queries else _first(folder, "queries.jsonl", "queries.jsonl.gz")
    queries = {str(row["_id"]): str(row["text"]) for row in _rows(named, queries=True) if _fits(row, chosen.asked)}
    qrels = (f"qrels/{chosen.qrels}.tsv",) if chosen.qrels else ("qrels.tsv", "qrels/test.tsv")
    judgements = _read_qrels(_first(folder, *qrels))
    if chosen.kind or chosen.documents:
        judgements = {q: {d: g for d, g in grades.items() if d in documents} for q, grades in judgements.items()}
    judged = {q: text for q, text in queries.items() if any(grade > 0 for grade in judgements.get(q, {}).values())}
    blank = [q for q, text in judged.items() if not text.strip()]
    if blank:
        raise SourceError(f"{folder}: the query {blank[0]!r} has no text", path=folder)
    if not documents or not judged:
        raise SourceError(f"{folder}: no documents, or no query that has a relevant document", path=folder)
    return JudgedSet(documents, judged, {q: judgements[q] for q in judged}, files)


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise SourceError(f"{folder} has no {' or '.join(names)}", path=folder)


def _file(row: Mapping[str, Any], folder: Path) -> File | None:
    for modality in FILES:
        if row.get(modality) is not None:
            return File(modality, folder / str(row[modality]))
    return None


def _fits(row: Mapping[str, Any], wanted: Sequence[tuple[str, str]]) -> bool:
    metadata = row.get("metadata") or {}
    return all(str(metadata.get(name)) == value for name, value in wanted)


def _rows(path: Path, *, queries: bool = False) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with open_unpacked(path) as raw, io.TextIOWrapper(cast("BinaryIO", raw), "utf-8") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 - used in the message below
                if line.strip():
                    row = json.loads(line)
                    _check(row, queries=queries)
                    yield row
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise SourceError(f"{path}, line {number}: {error}", path=path, line=number) from error


def _check(row: object, *, queries: bool) -> None:
    """Raises ValueError for what is no document, or no query."""
    if isinstance(row, dict) and "_id" in row and isinstance(row.get("metadata", {}), dict):
        given = [row[name] for name in FILES if row.get(name) is not None]
        if isinstance(row.get("text"), str) and not given:
            return
        if not queries and len(given) == 1 and isinstance(given[0], str) and isinstance(row.get("text", ""), str):
            return
    raise ValueError('expected {"_id": ..., "text": "..."}' + ("" if queries else ' or "image" or "audio": a path'))


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            query, document, grade = line.split("\t")
            judgements.setdefault(query, {})[document] = int(grade)
        except ValueError:
            if number == 1:  # the names of the columns
                continue
            raise SourceError(
                f"{path}, line {number}: expected query-id, corpus-id and score by tabs", path=path, line=number
            ) from None
    return judgements
