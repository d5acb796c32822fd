"""What an index holds, read from its tables: bytes, lengths, the largest documents, those that take longest."""

import time
from collections import Counter
from dataclasses import dataclass

from edge_embed_runtime.embed.encoder import Encoder
from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.store import Store

# Names for people of what tables and their indexes are for.
PARTS = {
    "doc": "texts and metadata",
    "vec": "vectors",
    "bits": "binary codes",
    "fts": "words",
    "place": "places",
    "media": "pictures and sounds",
    "file": "files",
    "vec_sparse": "sparse vectors",
    "vec_multi": "vectors of tokens",
}
TOP = 10
BEGINNING = 100
# Passages of a document that are embedded to see how long it takes.
TIMED = 4


@dataclass(frozen=True)
class Slow:
    """seconds: of one passage"""

    key: str
    passages: int
    seconds: float


def bytes_by_part(store: Store) -> dict[str, int]:
    """Bytes of the file by what they are for; nothing where SQLite was built without the table that says so."""
    db = store.connection
    query = (
        "SELECT schema.tbl_name, sum(stat.pgsize) FROM dbstat AS stat JOIN sqlite_schema AS schema"
        " ON schema.name = stat.name WHERE stat.aggregate = 1 GROUP BY 1"
    )
    with translated(store.path):
        if not db.execute("SELECT 1 FROM pragma_module_list WHERE name = 'dbstat'").fetchone():
            return {}
        rows = db.execute(query).fetchall()
    parts: dict[str, int] = {}
    for table, size in rows:
        name = PARTS.get("fts" if table.startswith("fts") else table, "all else")
        parts[name] = parts.get(name, 0) + size
    return parts


def lengths(store: Store) -> list[tuple[str, int]]:
    """How many documents have so many characters, in steps of a factor of 4."""
    with translated(store.path):
        sizes = store.connection.execute("SELECT length(text) FROM doc")
        counts = Counter((size.bit_length() + 1) // 2 for (size,) in sizes)
    names = {0: "none"} | {power: f"{4 ** (power - 1):,} to {4**power - 1:,}" for power in counts if power}
    return [(names[power], counts[power]) for power in sorted(counts)]


def largest(store: Store) -> list[tuple[str, int, int, str]]:
    """Key, characters, passages and beginning of the longest documents: BEGINNING characters, and one more if any."""
    query = (
        "SELECT key, length(text), (SELECT count(*) FROM vec WHERE vec.doc = doc.id), substr(text, 1, ?) FROM doc"
        " WHERE length(text) > 0"
        " ORDER BY length(text) DESC, key LIMIT ?"
    )
    with translated(store.path):
        return store.connection.execute(query, (BEGINNING + 1, TOP)).fetchall()


def slowest(store: Store, embedder: Encoder) -> list[Slow]:
    """Documents with most passages, by the time that embedding takes here; the slowest first."""
    query = (
        "SELECT doc.id, key, count(*) FROM vec JOIN doc ON doc.id = vec.doc WHERE start >= 0"
        " GROUP BY doc.id ORDER BY count(*) DESC, length(text) DESC, key LIMIT ?"
    )
    cut = (
        "SELECT substr(text, start + 1, stop - start) FROM vec JOIN doc ON doc.id = vec.doc"
        " WHERE doc = ? AND start >= 0 ORDER BY start LIMIT ?"
    )
    found: list[Slow] = []
    with translated(store.path):
        for doc, key, passages in store.connection.execute(query, (TOP,)).fetchall():
            texts = [text for (text,) in store.connection.execute(cut, (doc, TIMED))]
            if not found:
                embedder.encode_document(texts)  # the first call prepares what all others share
            begun = time.perf_counter()
            embedder.encode_document(texts)
            found.append(Slow(key, passages, (time.perf_counter() - begun) / len(texts)))
    return sorted(found, key=lambda one: -one.seconds * one.passages)
