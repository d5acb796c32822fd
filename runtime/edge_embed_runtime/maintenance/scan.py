"""Every row of an index, read in the order of the file, past look-up tables that may be damaged."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.rows import DOCUMENTS, PASSAGES
from edge_embed_runtime.storage.store import Store

# Documents, and about how many characters of them, that are embedded and stored in one transaction: what an
# interruption can cost.
BATCH = 256
CHARACTERS = 1_000_000

Row = tuple[Any, ...]
T = TypeVar("T")


def document_row(db: sqlite3.Connection, doc: Any) -> Row | None:
    """The row of a document by its id."""
    query = f"{DOCUMENTS} NOT INDEXED WHERE id = ?"
    row: Row | None = db.execute(query, (doc,)).fetchone() if isinstance(doc, int) else None
    return row


def document_rows(store: Store) -> Iterator[Row]:
    """Every row of `doc`."""
    with translated(store.path):
        rows = store.connection.execute(f"{DOCUMENTS} NOT INDEXED ORDER BY id")
        while row := rows.fetchone():  # no `yield from`: it would close the cursor, after the connection at times
            yield row


def grouped(db: sqlite3.Connection) -> Iterator[tuple[Any, Row | None, list[Row]]]:
    """(document id, its row or None, its passages), in the order of passages.

    Passages of a document have consecutive ids; where damage leads one elsewhere, a document comes in several groups.
    """
    query = f"{PASSAGES} NOT INDEXED ORDER BY id"
    for doc, passages in groupby(db.execute(query), key=itemgetter(1)):
        yield doc, document_row(db, doc), list(passages)


def shown_key(row: Row) -> str:
    """The key of a row that is not to be trusted, as text that can be printed."""
    return row[1].encode("utf-8", "replace").decode() if isinstance(row[1], str) else f"(row {row[0]})"


def batches(documents: Iterable[T], length: Callable[[T], int]) -> Iterator[list[T]]:
    """Documents in batches that fit into memory and one transaction. length: characters of a document"""
    batch: list[T] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += length(document)
        if len(batch) == BATCH or characters >= CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
