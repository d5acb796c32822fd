"""Which of many documents an index holds already: two queries for all of them; `Store.holds` asks two for each."""

import json
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from edge_embed_runtime.storage.database import translated
from edge_embed_runtime.storage.documents import Record
from edge_embed_runtime.storage.rows import DOCUMENTS, PASSAGES, is_whole, whole_document
from edge_embed_runtime.storage.store import Store


def unchanged(store: Store, records: Sequence[Record]) -> set[str]:
    """Keys of the records that are stored with this text and metadata, every row of them whole."""
    by_key = {record.key: record for record in records}
    found: dict[int, str] = {}
    with translated(store.path):
        query = f"{DOCUMENTS} WHERE key IN (SELECT value FROM json_each(?))"
        for row in store.connection.execute(query, (json.dumps(list(by_key)),)):
            record = by_key.get(row[1])
            same = record is not None and row[2] == record.text and row[3] == record.metadata
            if same and whole_document(row):
                found[row[0]] = row[1]
        query = f"{PASSAGES} WHERE doc IN (SELECT value FROM json_each(?)) ORDER BY doc"
        rows = store.connection.execute(query, (json.dumps(list(found)),))
        return {found[doc] for doc, passages in groupby(rows, key=itemgetter(1)) if _are_whole(store, list(passages))}


def _are_whole(store: Store, passages: list[tuple[int, int, int, int, bytes, int]]) -> bool:
    ids = [row[0] for row in passages]
    return all(map(is_whole, passages)) and all(len(t.rows(ids)) == len(ids) for t in store.attached.values())
