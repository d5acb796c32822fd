"""Retrieval quality on a judged set in BEIR's layout, at every storage tier."""

import io
import json
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from edge_embed_quantize.receipt import DEPTH, rank_tiers, score
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.errors import SourceError
from edge_embed_runtime.index.additions import entries
from edge_embed_runtime.index.embedders import Models
from edge_embed_runtime.index.index import Index
from edge_embed_runtime.maintenance import learn_rotation
from edge_embed_runtime.search.query import Mode
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.storage.writing import write
from edge_embed_runtime.system.files import open_unpacked, read_lines
from edge_embed_runtime.vectors.int8 import quantize_int8


@dataclass(frozen=True)
class JudgedSet:
    """Documents and queries by id; judgements[query][document] is the grade (0: not relevant)."""

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]


def read_judged_set(folder: str | Path) -> JudgedSet:
    """Read corpus.jsonl or corpus.jsonl.gz, queries.jsonl, and qrels.tsv or qrels/test.tsv. Queries without a
    judgement are left out. A document's text is its title and its text."""
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(
            f"{folder} is not a folder; expected one with corpus.jsonl, queries.jsonl and qrels.tsv", path=folder
        )
    corpus = _first(folder, "corpus.jsonl", "corpus.jsonl.gz")
    documents = {str(row["_id"]): f"{row.get('title') or ''} {row['text']}".strip() for row in _rows(corpus)}
    queries = {str(row["_id"]): str(row["text"]) for row in _rows(_first(folder, "queries.jsonl", "queries.jsonl.gz"))}
    judgements = _read_qrels(_first(folder, "qrels.tsv", "qrels/test.tsv"))
    judged = {q: text for q, text in queries.items() if any(grade > 0 for grade in judgements.get(q, {}).values())}
    blank = [q for q, text in judged.items() if not text.strip()]
    if blank:
        raise SourceError(f"{folder}: the query {blank[0]!r} has no text", path=folder)
    if not documents or not judged:
        raise SourceError(f"{folder}: no documents, or no query that has a relevant document", path=folder)
    return JudgedSet(documents, judged, {q: judgements[q] for q in judged})


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise SourceError(f"{folder} has no {' or '.join(names)}", path=folder)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with open_unpacked(path) as raw, io.TextIOWrapper(cast("BinaryIO", raw), "utf-8") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 - used in the message below
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict) or "_id" not in row or not isinstance(row.get("text"), str):
                        raise ValueError('expected {"_id": ..., "text": "..."}')
                    yield row
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise SourceError(f"{path}, line {number}: {error}", path=path, line=number) from error


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


def evaluate(
    judged: JudgedSet,
    embedder: Encoder,
    *,
    sparse: Embedder | None = None,
    multi: Embedder | None = None,
    show_progress: bool = False,
) -> dict[str, dict[str, float]]:
    """Figures of each tier: float, int8, binary, binary+int8, text, hybrid; each with `bytes_per_vector`.

    float, int8 and binary compare every document. binary+int8, text and hybrid are what `Index.search` returns in its
    modes, as are sparse and multi, with an embedder of that kind (see `Index.open`). Every document is one passage,
    truncated to the model's limit, as for published figures.
    """
    keys, queries = list(judged.documents), list(judged.queries)
    texts = [judged.documents[key] for key in keys]
    models = Models.of(embedder, sparse, multi)
    ranked: dict[str, tuple[Any, int]] = {}
    codes, scales, size = np.empty((len(keys), 0), np.int8), np.ones(len(keys), np.float32), 0
    if models.dense is not None:
        vectors = models.dense.encode_document(texts, show_progress=show_progress)
        asked = models.dense.encode_query([judged.queries[query] for query in queries])
        ranked = rank_tiers(keys, vectors, queries, asked, models.dense.frame)
        size = ranked["binary"][1] + ranked["int8"][1]
        codes, scales = quantize_int8(vectors)
    # the index refuses documents without text, which no query can find
    full = [i for i, text in enumerate(texts) if text]
    rows = models.rows([texts[i] for i in full])
    sizes = {name: sum(map(len, found)) // len(full) for name, found in rows.items()}
    tiers: dict[str, tuple[Mode, int]] = {"binary+int8": ("vector", size)} if models.dense else {}
    tiers |= {name: (cast("Mode", name), bytes_) for name, bytes_ in sizes.items()}
    tiers |= {"text": ("text", 0), "hybrid": ("hybrid", size + sizes.get("sparse", 0))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "eval.db"
        Index.open(path, embedder, sparse=sparse, multi=multi).close()
        with closing(Store(path, read_only=False)) as store:
            whole = [(Record(keys[i], texts[i], "{}"), [(0, len(texts[i]))]) for i in full]
            write(store, entries(whole, codes[full], scales[full], rows))
            learn_rotation.when_grown(store)
        with Index.open(path, embedder, sparse=sparse, multi=multi, read_only=True) as index:
            ranked |= {tier: (_search(index, judged, mode), bytes_) for tier, (mode, bytes_) in tiers.items()}
    return {
        tier: {**score(result, judged.judgements), "bytes_per_vector": bytes_}
        for tier, (result, bytes_) in ranked.items()
    }


def _search(index: Index, judged: JudgedSet, mode: Mode) -> dict[str, list[str]]:
    """The keys that each query finds, the best first."""
    return {name: [hit.key for hit in index.search(text, DEPTH, mode=mode)] for name, text in judged.queries.items()}
