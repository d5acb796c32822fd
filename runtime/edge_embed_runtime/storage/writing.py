"""Documents are stored and deleted: their rows, words and binary codes in one transaction."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from edge_embed_runtime.batches import batches
from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import IndexDamagedError
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.rows import (
    DOCUMENTS,
    PASSAGES,
    Entry,
    Removed,
    checked,
    document_crc,
    passage_row,
)
from edge_embed_runtime.storage.store import Store

# Passages, and characters of them, whose rows are made before they are written.
INSERTED, INSERTED_CHARACTERS = 1024, 2**20


def write(store: Store, entries: Iterable[Entry], delete: Iterable[str] = ()) -> Removed:
    """Delete documents by key, then store new ones, in one transaction. Returns what was deleted.

    entries: may be made while they are asked for, so that those of many passages need not be there all at a time
    """
    keys = list(delete)
    with store.transaction(deletes=bool(keys)):
        removed = np.array([id_ for key in keys for id_ in _delete(store, key)], np.int64)
        store.blocks.remove(removed)
        last: Record | None = None
        for part in _slices(entries):
            _insert(store, part, last)
            last = part[-1].record
        _, deletions = store.counters()
    return Removed(removed, deletions)


def _slices(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries of about INSERTED passages at a time, or about INSERTED_CHARACTERS characters."""
    passages = (lambda entry: len(entry.spans)), INSERTED
    characters = (lambda entry: sum(stop - start for start, stop in entry.spans)), INSERTED_CHARACTERS
    return batches(entries, sys.maxsize, passages, characters)


def _insert(store: Store, entries: Sequence[Entry], begun: Record | None) -> None:
    """begun: the document stored last, of which there may be more passages."""
    doc, last = store.last_ids()
    first = last + 1
    passages: list[Any] = []
    words: list[tuple[int, Record, Span]] = []
    # ids are part of what the checksums cover, so they are fixed before the rows are written
    for entry in entries:
        record = entry.record
        if record is not begun:
            doc += 1
            crc = document_crc(doc, record.key, record.text, record.metadata)
            row = (doc, record.key, record.text, record.metadata, crc)
            store.connection.execute("INSERT INTO doc VALUES (?, ?, ?, ?, ?)", row)
            store.count_document(1, crc + (_insert_places(store, doc, record) if record.places else 0))
            begun = record
        for span, code, scale in zip(entry.spans, entry.codes, entry.scales.astype("<f4"), strict=True):
            last += 1
            passages.append(passage_row(last, doc, span, scale.tobytes() + code.tobytes()))
            words.append((last, record, span))
    store.connection.executemany("INSERT INTO vec VALUES (?, ?, ?, ?, ?, ?)", passages)
    store.words.insert((id_, store.words.normal(record.text[start:stop])) for id_, record, (start, stop) in words)
    for name, table in store.attached.items():
        table.insert(first, [row for entry in entries for row in entry.attached[name]])
    codes = np.concatenate([entry.codes for entry in entries])
    scales = np.concatenate([entry.scales for entry in entries])
    store.blocks.add(np.arange(first, last + 1), store.binary(codes, scales))


def _insert_places(store: Store, doc: int, record: Record) -> int:
    """Returns the sum of their checksums."""
    from edge_embed_runtime.storage.places import Places

    return Places.made(store.connection).insert(doc, record.places)


def _delete(store: Store, key: str) -> list[int]:
    """Returns the ids of the deleted passages."""
    db = store.connection
    query = f"{DOCUMENTS} WHERE key = ?"
    row = db.execute(query, (key,)).fetchone()
    if row is None:
        return []
    if row[1] != key:  # a damaged look-up table led to another document, which must not pay for it
        raise IndexDamagedError(
            f"{store.path} is damaged (the key {shown(key)} leads to another document)", path=store.path, keys=[key]
        )
    doc, whole = row[0], checked(row)
    query = f"{PASSAGES} WHERE doc = ?"
    passages = db.execute(query, (doc,)).fetchall()
    # the words of a damaged passage are not known; their entries lead nowhere from now on
    store.words.remove(() if whole is None else store.words.of_passages(whole, passages))
    db.execute("DELETE FROM vec WHERE doc = ?", (doc,))
    places = 0 if store.places is None else store.places.sum(doc)
    db.execute("DELETE FROM doc WHERE id = ?", (doc,))  # with its places
    store.count_document(-1, None if whole is None or places is None else row[4] + places)
    return [row[0] for row in passages]
