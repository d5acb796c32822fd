"""Documents are stored and deleted: their rows, words and binary codes in one transaction."""

import sys
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from edge_embed_runtime.batches import batches
from edge_embed_runtime.checks import shown
from edge_embed_runtime.errors import IndexDamagedError, InputError
from edge_embed_runtime.inputs.words import Span
from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.documents import Record, metadata_json
from edge_embed_runtime.storage.rows import (
    DOCUMENTS,
    NO_VECTOR,
    PASSAGES,
    Entry,
    Removed,
    checked,
    document_crc,
    packed,
    passage_row,
)
from edge_embed_runtime.storage.store import Store, damaged_document
from edge_embed_runtime.vectors.rotation import NONE
from edge_embed_runtime.vectors.types import Ids

# Documents to delete: their keys; or their ids, of which those of damaged ones are passed over.
Chosen = Iterable[str] | Ids
# Passages, and characters of them, whose rows are made before they are written.
INSERTED, INSERTED_CHARACTERS = 1024, 2**20


def write(store: Store, entries: Iterable[Entry], delete: Chosen = ()) -> Removed:
    """Delete documents, then store new ones, in one transaction. Returns what was deleted.

    entries: may be made while they are asked for, so that those of many passages need not be there all at a time
    """
    chosen = delete if isinstance(delete, np.ndarray) else list(delete)
    with store.transaction(deletes=len(chosen) > 0):
        return write_rows(store, entries, chosen)


def write_rows(store: Store, entries: Iterable[Entry], delete: Chosen) -> Removed:
    """`write`. The caller holds the transaction."""
    deleted, passages = 0, array("q")
    for one in delete:
        found = _delete(store, one)
        deleted += found is not None
        passages.extend(found or [])
    removed = np.array(passages, np.int64)
    store.blocks.remove(removed)
    last: Record | None = None
    for part in _slices(entries):
        _insert(store, part, last)
        last = part[-1].record
    _, deletions = store.counters()
    return Removed(removed, deletions, deleted)


def update(store: Store, ids: Ids, changes: Mapping[str, Any], remove: Collection[str], *, pass_damaged: bool) -> int:
    """Change the metadata of documents by id, in one transaction: fields are set and removed, vectors and words stay.

    Returns the number of those that have other metadata now. Damaged ones are passed over, or raise IndexDamagedError.
    """
    changed, rows = 0, _changed(store, ids, changes, remove, pass_damaged)
    with translated(store.path):
        first = next(rows, None)
    if first is None:
        return 0
    with store.transaction(deletes=False):
        for id_, old, metadata, crc in chain([first], rows):
            store.connection.execute("UPDATE doc SET metadata = ?, crc = ? WHERE id = ?", (metadata, crc, id_))
            store.count_document(-1, old)
            store.count_document(1, crc)
            changed += 1
    return changed


def _changed(
    store: Store, ids: Ids, changes: Mapping[str, Any], remove: Collection[str], pass_damaged: bool
) -> Iterator[tuple[int, int, str, int]]:
    """Documents whose metadata change: id, old checksum, new metadata as JSON, new checksum."""
    for id_ in ids.tolist():
        row = store.connection.execute(f"{DOCUMENTS} WHERE id = ?", (id_,)).fetchone()
        document = checked(row)
        if document is None and not pass_damaged:
            raise damaged_document(store.path, str(row[1]))
        if document is None:
            continue
        merged = {name: value for name, value in {**document.metadata, **changes}.items() if name not in remove}
        metadata = metadata_json(merged, f"document {shown(document.key)}")
        if metadata != row[3]:
            yield id_, row[4], metadata, document_crc(id_, document.key, document.text, metadata)


def set_dim(store: Store, dim: int) -> None:
    """Let an index of given vectors, which holds none yet, take those of so many numbers. Raises InputError."""
    if store.facts.space and dim == store.dim:
        return
    (some,) = store.connection.execute("SELECT EXISTS (SELECT 1 FROM vec WHERE length(code) > 0)").fetchone()
    if some or not store.facts.space:
        held = "holds vectors" if some else f"is for vectors of the bundle {store.facts.bundle!r}"
        raise InputError(f"{store.path} {held} of {store.dim} numbers: that can't be changed to {dim}", path=store.path)
    with store.transaction(deletes=True):  # so that searches read all codes again
        store.set_facts(replace(store.facts, dim=dim, frame=NONE))


def move(store: Store, moves: Iterable[tuple[str, Record]]) -> set[str]:
    """Give documents another key and metadata, in one transaction; their passages and vectors stay.

    moves: the old key and the new record. One whose text, places, picture or sound are not those of the stored
    document, or whose new key belongs to another document, is left as it is. Returns the new keys of the others
    """
    moved = set[str]()
    with store.transaction(deletes=False):
        for key, record in moves:
            row = store.connection.execute(f"{DOCUMENTS} WHERE key = ?", (key,)).fetchone()
            taken = key != record.key and bool(store.existing([record.key]))
            if row is None or taken or checked(row) is None or (row[1], row[2]) != (key, record.text):
                continue
            if store.places_of([row[0]]).get(row[0], ()) != record.places or not _same_media(store, row[0], record):
                continue
            crc = document_crc(row[0], record.key, record.text, record.metadata)
            store.connection.execute(
                "UPDATE doc SET key = ?, metadata = ?, crc = ? WHERE id = ?", (record.key, record.metadata, crc, row[0])
            )
            store.count_document(-1, row[4])
            store.count_document(1, crc)
            _move_media(store, row[0], record)
            moved.add(record.key)
    return moved


def _same_media(store: Store, doc: int, record: Record) -> bool:
    """Whether a document's picture or sound has the content that a record's has."""
    stored = store.media_of([doc]).get(doc, ())
    if record.media is None or not stored:
        return record.media is None and stored == ()
    return (stored.kind, stored.sha256) == (record.media.media.kind, record.media.media.sha256)


def _move_media(store: Store, doc: int, record: Record) -> None:
    """Its file has another name now."""
    if record.media is not None and store.media is not None:
        before, after = store.media.update(doc, record.media.media)
        store.count_more(before, after)


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
            store.count_document(1, crc + _insert_more(store, doc, entry))
            begun = record
        for span, code, scale in zip(entry.spans, entry.codes, entry.scales, strict=True):
            last += 1
            passages.append(passage_row(last, doc, span, NO_VECTOR if entry.bare else packed(code, scale)))
            if span[0] >= 0:
                words.append((last, record, span))
    store.connection.executemany("INSERT INTO vec VALUES (?, ?, ?, ?, ?, ?)", passages)
    store.words.insert((id_, store.words.normal(record.text[start:stop])) for id_, record, (start, stop) in words)
    for name, table in store.attached.items():
        rows = (row for entry in entries for row in entry.attached.get(name, ()))
        table.insert(zip((id_ for id_, _, _ in words), rows, strict=True))
    codes = np.concatenate([entry.codes for entry in entries])
    scales = np.concatenate([entry.scales for entry in entries])
    ids = np.arange(first, last + 1)
    if any(entry.bare for entry in entries):
        given = np.repeat([not entry.bare for entry in entries], [len(entry.spans) for entry in entries])
        ids, codes, scales = ids[given], codes[given], scales[given]
    store.blocks.add(ids, store.binary(codes, scales))


def _insert_more(store: Store, doc: int, entry: Entry) -> int:
    """Places, and what is known of a picture or sound. entry: the first of a document. Returns the sum of the
    checksums."""
    record, total = entry.record, 0
    if record.places:
        store.make_optional("place")
        total += 0 if store.places is None else store.places.insert(doc, record.places)
    if record.media is not None:
        store.make_optional("media")
        total += (
            0 if store.media is None else store.media.insert(doc, record.media.media, len(entry.spans), entry.thumbnail)
        )
    return total


def _delete(store: Store, chosen: str | np.int64) -> list[int] | None:
    """By key, or by id one that is whole. Returns the ids of its passages, None where nothing was deleted."""
    db, by_key = store.connection, isinstance(chosen, str)
    query = f"{DOCUMENTS} WHERE {'key' if by_key else 'id'} = ?"
    row = db.execute(query, (chosen if by_key else int(chosen),)).fetchone()
    if row is None:
        return None
    if by_key and row[1] != chosen:  # a damaged look-up table led to another document, which must not pay for it
        raise IndexDamagedError(
            f"{store.path} is damaged (the key {shown(chosen)} leads to another document)",
            path=store.path,
            keys=[str(chosen)],
        )
    doc, whole = row[0], checked(row)
    if whole is None and not by_key:  # whether it fits a condition is not known
        return None
    passages = db.execute(f"{PASSAGES} WHERE doc = ?", (doc,)).fetchall()
    # the words of a damaged passage are not known; their entries lead nowhere from now on
    store.words.remove(() if whole is None else store.words.of_passages(whole, passages))
    db.execute("DELETE FROM vec WHERE doc = ?", (doc,))
    places = 0 if store.places is None else store.places.sum(doc)
    media = 0 if store.media is None else store.media.crc(doc)
    db.execute("DELETE FROM doc WHERE id = ?", (doc,))  # with its places, and what is known of its picture
    known = whole is not None and places is not None and media is not None
    store.count_document(-1, row[4] + places + media if known else None)
    return [row[0] for row in passages]
