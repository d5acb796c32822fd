"""Comparing a query with the int8 codes of all passages: for `recall=1`, and where no less is enough.

Rows are read from the file and checked, some at a time: 0.3 s for 100,000 passages of 384 dimensions, in little memory.
"""

from collections.abc import Iterator

import numpy as np

from edge_embed_runtime.search.fusion import Ranking
from edge_embed_runtime.storage.rows import PASSAGES, StoredPassages, checked_passages
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.int8 import Ids, Vectors, score_int8

# Numbers of the rows that are in memory at a time: 2 MB where they are compared.
READ_NUMBERS, MOST_ROWS, LEAST_ROWS = 2**17, 2048, 16
# Where more than this part of all passages is allowed, all are read, in their order.
MANY = 0.25
# Documents more than asked for that are kept: damaged ones give way to them.
SPARE = 100


def nearest_documents(store: Store, vector: Vectors, count: int, allowed: Ids | None, damaged: set[int]) -> Ranking:
    """The `count` documents whose best passages have the largest dot products with a vector [dim], of equal ones those
    with the lowest ids, and others after them. Runs inside a snapshot.

    allowed: ids of passages, ascending; None for all
    damaged: gets the ids of those that were left out
    """
    kept = 2 * count + SPARE
    docs, ids, scores = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    for found in _passages(store, allowed):
        damaged.update(found.damaged)
        new = score_int8(found.codes, found.scales, vector)
        if len(scores) == kept:  # only what can come among them
            near = np.flatnonzero(new >= scores[-1])
            found_docs, found_ids, new = found.docs[near], found.ids[near], new[near]
        else:
            found_docs, found_ids = found.docs, found.ids
        docs, ids = np.concatenate([docs, found_docs]), np.concatenate([ids, found_ids])
        scores = np.concatenate([scores, new])
        best = first_of_each(docs, ids, scores)[:kept]
        docs, ids, scores = docs[best], ids[best], scores[best]
    best_passages = zip(docs.tolist(), scores.tolist(), ids.tolist(), strict=True)
    return {doc: (score, passage) for doc, score, passage in best_passages}


def first_of_each(docs: Ids, ids: Ids, scores: Vectors) -> Ids:
    """Where the best passage of each document is, best first; of equal scores the lowest id."""
    order = np.lexsort((ids, -scores))
    _, first = np.unique(docs[order], return_index=True)
    best: Ids = order[np.sort(first)]
    return best


def _passages(store: Store, allowed: Ids | None) -> Iterator[StoredPassages]:
    """Passages with their codes, many at a time, in ascending order of ids."""
    rows = max(LEAST_ROWS, min(MOST_ROWS, READ_NUMBERS // max(store.dim, 1)))
    if allowed is not None and len(allowed) <= MANY * store.last_ids()[1]:
        for start in range(0, len(allowed), rows):
            yield store.passages(allowed[start : start + rows])
        return
    cursor = store.connection.execute(f"{PASSAGES} ORDER BY id")
    while block := cursor.fetchmany(rows):
        if allowed is not None:
            ids = np.array([row[0] for row in block])
            among = np.isin(ids, allowed[slice(*np.searchsorted(allowed, (ids[0], ids[-1] + 1)))], assume_unique=True)
            block = [row for row, found in zip(block, among.tolist(), strict=True) if found]
        yield checked_passages(block, store.dim)
